"""Codebooks: nearest codes, their start, their moving averages, gradients through them, several processes."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode

from neuroloom.tokenizers import quantize
from neuroloom.tokenizers.quantize import COMMITMENT, EPSILON, Codebook, ResidualQuantizer, draw, rotate_to


@pytest.fixture
def generator() -> torch.Generator:
    torch.manual_seed(11)
    return torch.Generator().manual_seed(12)


def blobs(n: int, n_blobs: int, dim: int = 8) -> tuple[Tensor, Tensor]:
    """Vectors close to some centres, and the centre of each."""
    centres_KD = 3 * torch.randn(n_blobs, dim)
    kind_N = torch.arange(n) % n_blobs
    return centres_KD[kind_N] + 0.05 * torch.randn(n, dim), kind_N


def book(codebook_size: int, dim: int = 8, **changes: Any) -> Codebook:
    return Codebook(codebook_size, dim, **{"decay": 0.99, "dead_below": 2.0, **changes})


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that an operation gives back."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else (out,):
            if isinstance(part, Tensor):
                self.elements = max(self.elements, part.numel())
        return out


def test_the_nearest_code_is_that_of_brute_force(generator: torch.Generator) -> None:
    codebook, x_ND = book(37), torch.randn(40_000, 8, generator=generator)  # more than are looked at in one piece
    distance_NK = torch.cdist(x_ND.double(), codebook.embed_KD.double())
    codes_N = codebook.nearest(x_ND)
    chosen_N = distance_NK.gather(1, codes_N[:, None])[:, 0]
    torch.testing.assert_close(chosen_N, distance_NK.min(dim=1).values, rtol=0, atol=1e-6)
    assert (codes_N == distance_NK.argmin(dim=1)).float().mean() > 0.9999
    assert len(codes_N.unique()) == 37


def test_a_tie_goes_to_the_first_code() -> None:
    codebook = book(4, 2)
    codebook.embed_KD.copy_(torch.tensor([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0], [0.0, 9.0]]))
    assert codebook.nearest(torch.tensor([[1.0, 0.1]])).tolist() == [1]


def test_the_start_finds_the_clusters(generator: torch.Generator) -> None:
    x_ND, kind_N = blobs(3000, 6)
    codebook = book(24)
    codebook.start(x_ND, generator)
    codes_N = codebook.nearest(x_ND)
    assert bool(codebook.started)
    assert len(codes_N.unique()) >= 0.8 * 24
    assert (x_ND - codebook.embed_KD[codes_N]).pow(2).mean() < 0.05**2  # closer than to the true centres
    for code in codes_N.unique():
        assert len(kind_N[codes_N == code].unique()) == 1
    assert codebook.counts_K.sum() == 3000 or codebook.counts_K.sum() == 4096
    torch.testing.assert_close(codebook.sums_KD, codebook.embed_KD * codebook.counts_K[:, None])


def test_the_start_needs_no_table_of_differences(generator: torch.Generator) -> None:
    codebook, x_ND = book(512, 64), torch.randn(6000, 64, generator=generator)
    with LargestTensor() as largest:
        codebook.start(x_ND, generator)
    assert largest.elements <= 4096 * 512
    assert len(codebook.nearest(x_ND).unique()) > 0.95 * 512


def test_a_start_from_fewer_vectors_than_codes_has_no_nan(generator: torch.Generator) -> None:
    codebook, x_ND = book(64), torch.randn(5, 8, generator=generator)
    codebook.start(x_ND, generator)
    assert torch.isfinite(codebook.embed_KD).all()
    torch.testing.assert_close(codebook.embed_KD[codebook.nearest(x_ND)], x_ND, rtol=0, atol=1e-4)


def test_codes_that_one_vector_has_for_itself_are_that_vector(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "KMEANS_SAMPLES", 12)
    codebook, x_ND = book(12), torch.randn(12, 8, generator=generator)
    codebook.start(x_ND, generator)
    torch.testing.assert_close(codebook.embed_KD[codebook.nearest(x_ND)], x_ND)
    assert torch.equal(codebook.counts_K, torch.ones(12))


def test_one_step_is_the_moving_average_of_the_paper(generator: torch.Generator) -> None:
    codebook, x_ND = book(5, decay=0.9, dead_below=0.0), torch.randn(60, 8, generator=generator)
    codebook.counts_K.copy_(torch.tensor([3.0, 8.0, 5.0, 20.0, 4.0]))
    codebook.sums_KD.copy_(codebook.embed_KD * codebook.counts_K[:, None])
    codes_N = codebook.nearest(x_ND)
    counts_K = torch.stack([0.9 * codebook.counts_K[k] + 0.1 * (codes_N == k).sum() for k in range(5)])
    sums_KD = torch.stack([0.9 * codebook.sums_KD[k] + 0.1 * x_ND[codes_N == k].sum(0) for k in range(5)])
    smooth_K = (counts_K + EPSILON) / (counts_K.sum() + 5 * EPSILON) * counts_K.sum()
    before_KD = codebook.embed_KD.clone()
    codebook.follow(x_ND, codes_N, generator)
    torch.testing.assert_close(codebook.counts_K, counts_K)
    torch.testing.assert_close(codebook.embed_KD, sums_KD / smooth_K[:, None])
    assert (codebook.embed_KD - before_KD).abs().max() > 0.01


def test_a_dead_code_is_replaced_and_stays_where_it_was_put(generator: torch.Generator) -> None:
    x_ND, _ = blobs(200, 3)
    codebook = book(4)
    codebook.embed_KD.copy_(torch.cat([x_ND[:3], torch.full((1, 8), 100.0)]))  # the last one is far from everything
    codebook.counts_K.copy_(torch.tensor([60.0, 60.0, 60.0, 1.9]))
    codebook.sums_KD.copy_(codebook.embed_KD * codebook.counts_K[:, None])
    codebook.follow(x_ND, codebook.nearest(x_ND), generator)
    fresh_D = codebook.embed_KD[3].clone()
    assert (x_ND - fresh_D).abs().max(dim=1).values.min() < 1e-4
    assert codebook.counts_K[3] == 2.0
    others_ND = x_ND[(x_ND - fresh_D).norm(dim=1) > 1.0]  # a batch without anything near it
    codebook.follow(others_ND, codebook.nearest(others_ND), generator)
    assert (x_ND - codebook.embed_KD[3]).abs().max(dim=1).values.min() < 1e-4
    living = codebook.nearest(x_ND)
    assert 3 in living


def test_a_draw_does_not_repeat_where_there_are_enough(generator: torch.Generator) -> None:
    x_ND = torch.arange(10.0)[:, None]
    assert sorted(draw(x_ND, 10, generator)[:, 0].tolist()) == list(range(10))
    assert len(draw(x_ND, 25, generator)) == 25


def test_levels_quantize_what_is_left_over(generator: torch.Generator) -> None:
    quantizer, x = ResidualQuantizer(3, 16, 8).eval(), torch.randn(2, 5, 8, generator=generator)
    codes, features = quantizer.encode(7 * x)
    left = F.normalize(x, dim=-1)
    for level, codebook in enumerate(quantizer.levels):
        nearest = torch.cdist(left.reshape(-1, 8), codebook.embed_KD).argmin(1)
        assert torch.equal(codes[..., level].reshape(-1), nearest)
        left = left - codebook.embed_KD[nearest].reshape(left.shape)
    torch.testing.assert_close(features, F.normalize(x, dim=-1) - left)
    torch.testing.assert_close(quantizer.embed(codes), features)


def test_training_looks_like_encoding_and_knows_its_commitment(generator: torch.Generator) -> None:
    quantizer, x = ResidualQuantizer(2, 16, 8).train(), torch.randn(4, 9, 8, generator=generator)
    codes, features = quantizer.encode(x)
    made, same, commitment = quantizer(x)  # without a generator nothing follows
    assert torch.equal(same, codes)
    torch.testing.assert_close(made, features, rtol=0, atol=1e-6)
    left, losses = F.normalize(x, dim=-1), []
    for level, codebook in enumerate(quantizer.levels):
        chosen = codebook.embed_KD[codes[..., level]]
        losses.append(((left - chosen) ** 2).mean())
        left = left - chosen
    torch.testing.assert_close(commitment, COMMITMENT * torch.stack(losses).mean())
    assert torch.equal(quantizer.levels[0].counts_K, torch.zeros(16))


def test_codebooks_follow_in_training_only(generator: torch.Generator) -> None:
    quantizer, x = ResidualQuantizer(2, 16, 8), torch.randn(400, 8, generator=generator)
    before = [level.embed_KD.clone() for level in quantizer.levels]
    quantizer.eval()(x, generator)
    assert all(torch.equal(a, level.embed_KD) for a, level in zip(before, quantizer.levels, strict=True))
    quantizer.train()(x, generator)
    assert all(bool(level.started) for level in quantizer.levels)
    assert not any(torch.equal(a, level.embed_KD) for a, level in zip(before, quantizer.levels, strict=True))


def test_codes_are_valid_for_zeros(generator: torch.Generator) -> None:
    codes, features = ResidualQuantizer(2, 16, 8).encode(torch.zeros(3, 8))
    assert codes.max() < 16
    assert torch.isfinite(features).all()


def test_the_gradient_is_that_of_the_rotation_matrix(generator: torch.Generator) -> None:
    x_ND, target_ND, weight_ND = (torch.randn(20, 6, generator=generator).double() for _ in range(3))
    x_ND.requires_grad_()
    made_ND = rotate_to(x_ND, target_ND)
    torch.testing.assert_close(made_ND, target_ND, rtol=0, atol=1e-6)
    (found_ND,) = torch.autograd.grad((made_ND * weight_ND).sum(), x_ND)
    for x_D, target_D, weight_D, found_D in zip(x_ND.detach(), target_ND, weight_ND, found_ND, strict=True):
        rotation_DD = plane_rotation(x_D / x_D.norm(), target_D / target_D.norm())
        torch.testing.assert_close(rotation_DD @ rotation_DD.T, torch.eye(6, dtype=torch.double))
        scale = target_D.norm() / x_D.norm()
        torch.testing.assert_close(found_D, scale * rotation_DD.T @ weight_D, rtol=1e-5, atol=1e-6)


def plane_rotation(u_D: Tensor, q_D: Tensor) -> Tensor:
    """Rotation of u onto q in their plane, the rest left alone: by cosine and sine, not by reflections."""
    cosine = u_D @ q_D
    across_D = q_D - cosine * u_D
    sine, across_D = across_D.norm(), across_D / across_D.norm()
    turn = torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])
    plane_D2 = torch.stack([u_D, across_D], dim=1)
    return torch.eye(len(u_D), dtype=u_D.dtype) + plane_D2 @ (turn - torch.eye(2, dtype=u_D.dtype)) @ plane_D2.T


def test_vectors_that_point_the_other_way_are_rotated_too() -> None:
    x_ND = torch.eye(4, requires_grad=True)
    made_ND = rotate_to(x_ND, -2 * torch.eye(4))
    torch.testing.assert_close(made_ND, -2 * torch.eye(4))
    made_ND.sum().backward()
    assert x_ND.grad is not None
    assert torch.isfinite(x_ND.grad).all()


def test_what_equals_its_code_leaves_the_next_level_a_zero_that_does_no_harm() -> None:
    quantizer = ResidualQuantizer(2, 16, 8).train()
    x_ND = quantizer.levels[0].embed_KD[:5].clone().requires_grad_()
    made_ND, codes_NQ, _ = quantizer(x_ND)
    torch.testing.assert_close(made_ND, quantizer.embed(codes_NQ), rtol=0, atol=1e-6)
    made_ND.sum().backward()
    assert x_ND.grad is not None
    assert x_ND.grad.abs().max() < 10


@pytest.mark.parametrize("rotation_trick", [True, False])
def test_gradients_pass_in_the_way_that_was_asked_for(generator: torch.Generator, rotation_trick: bool) -> None:
    quantizer = ResidualQuantizer(1, 16, 8, rotation_trick=rotation_trick).train()
    x_ND, weight_ND = (torch.randn(30, 8, generator=generator) for _ in range(2))
    unit_ND = F.normalize(x_ND, dim=-1).requires_grad_()
    (found_ND,) = torch.autograd.grad((quantizer(unit_ND)[0] * weight_ND).sum(), unit_ND)
    chosen_ND = quantizer.encode(unit_ND.detach())[1]
    passed_ND = F.normalize(unit_ND, dim=-1)
    expected = rotate_to(passed_ND, chosen_ND) if rotation_trick else passed_ND
    (expected_ND,) = torch.autograd.grad((expected * weight_ND).sum(), unit_ND)
    torch.testing.assert_close(found_ND, expected_ND)


TWO_PROCESSES = """
import sys, torch
from safetensors.torch import save_file
from neuroloom.tokenizers.quantize import ResidualQuantizer
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
torch.manual_seed(0)
quantizer = ResidualQuantizer(2, 32, 8, decay=0.8).train()
generator = torch.Generator().manual_seed(5)
own = torch.Generator().manual_seed(100 + rank)
for step in range(3):
    quantizer(torch.randn(4200 + 150 * rank, 8, generator=own), generator)
save_file(quantizer.state_dict(), f"{folder}/{rank}.safetensors")
codebook = ResidualQuantizer(1, 6, 8, decay=0.8, dead_below=0.0).levels[0]
codebook.embed_KD.copy_(torch.eye(6, 8))
codebook.sums_KD.copy_(codebook.embed_KD)
codebook.counts_K.fill_(1)
x_ND = torch.linspace(-1, 1, 80).reshape(10, 8).sin()[rank * 4 : 4 + rank * 6]
codebook.follow(x_ND, codebook.nearest(x_ND), generator)
save_file(codebook.state_dict(), f"{folder}/mean{rank}.safetensors")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_two_processes_have_one_codebook(tmp_path: Path) -> None:
    runs = [subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert {name: torch.equal(first[name], second[name]) for name in first} == dict.fromkeys(first, True)
    whole = book(6, decay=0.8, dead_below=0.0)
    whole.embed_KD.copy_(torch.eye(6, 8))
    whole.sums_KD.copy_(whole.embed_KD)
    whole.counts_K.fill_(1)
    x_ND = torch.linspace(-1, 1, 80).reshape(10, 8).sin()
    whole.follow(x_ND, whole.nearest(x_ND), torch.Generator())
    for rank in range(2):
        torch.testing.assert_close(load_file(tmp_path / f"mean{rank}.safetensors")["embed_KD"], whole.embed_KD)
