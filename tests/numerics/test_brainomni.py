"""BrainOmni equals the authors' model, and its fast parts equal their formulas.

The numbers are held twice: by the authors' small model (../shared/reference, skipped where absent), and by a second
writing of the published computation in this file (`published_logits`), which that model also has to equal.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.models import crisscross
from neuroloom.models.brainomni import BrainOmni
from neuroloom.models.brainomni_pretraining import CodeBatch, MaskedPrediction, Nulls
from neuroloom.models.config import BRAINOMNI_SIZES, BrainOmniConfig
from neuroloom.models.crisscross import Norm, attend_within, drop, rotation
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig

SFREQ = 256.0


def published_logits(model: BrainOmni, features_BLSD: Tensor, *, depth: int) -> Tensor:
    """The output of the first blocks as the paper and its code describe them, with nothing of `crisscross.py`."""
    x = model.project(features_BLSD + model.tokenizer.gather.latents_LD[None, :, None])
    for block in list(model.blocks)[:depth]:
        y = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * block.mix_norm.weight
        half = y.shape[-1] // 2
        over_time = published_attention(block.time, y[..., :half], turned=True)
        over_space = published_attention(block.space, y[..., half:].transpose(1, 2), turned=False).transpose(1, 2)
        x = x + torch.cat([over_space, over_time], dim=-1)
        y = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * block.feed_norm.weight
        x = x + block.narrow(F.selu(block.widen(y)))
    return x


def published_attention(part: Any, x: Tensor, *, turned: bool) -> Tensor:
    """Softmax of products of queries and keys, pairs of neighbouring elements turned by step x frequency."""
    width, heads = x.shape[-1], part.num_heads
    query, key, value = part.qkv(x).split(width, dim=-1)
    if turned:
        steps, pairs = torch.arange(x.shape[-2]).double(), torch.arange(width // 2).double()
        angle = steps[:, None] * 10_000.0 ** (-2 * pairs / width)
        query, key = (turn(one, angle) for one in (query, key))
    made = []
    for head in range(heads):
        own = slice(head * width // heads, (head + 1) * width // heads)
        scores = query[..., own] @ key[..., own].transpose(-1, -2) / math.sqrt(width / heads)
        made.append(scores.softmax(-1) @ value[..., own])
    return part.out(torch.cat(made, dim=-1))


def turn(x: Tensor, angle: Tensor) -> Tensor:
    even, odd, cos, sin = x[..., ::2].double(), x[..., 1::2].double(), angle.cos(), angle.sin()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).float()


def small(**changes: Any) -> BrainOmni:
    """With weights of a size at which attention chooses, and norms and biases that are not those of the start."""
    torch.manual_seed(2)
    tokenizer = BrainTokenizer(BrainTokenizerConfig(n_filters=4, embed_dim=16, codebook_size=32, overlap=0.25), SFREQ)
    config = BrainOmniConfig(**{"embed_dim": 32, "depth": 3, "num_heads": 4, "dropout": 0.0, **changes})
    model = BrainOmni.create(config, sfreq=SFREQ, tokenizer=tokenizer, seed=1).eval()
    for name, param in model.blocks.named_parameters():
        if name.endswith("bias") or "norm" in name:
            param.data.normal_(1.0 if "norm" in name else 0.0, 0.3)
        elif "qkv" in name:
            param.data.mul_(2)
    return model


@pytest.fixture(scope="module")
def reference(repository: Path) -> dict[str, Any]:
    folder = Path(os.environ.get("NEUROLOOM_REFERENCE", repository / ".." / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"no reference vectors in {folder}; set NEUROLOOM_REFERENCE")
    path = folder / "brainomni.safetensors"
    with safe_open(path, "pt") as file:
        model_cfg = json.loads(file.metadata()["config"])
    tensors = load_file(path)
    state = {name[6:]: value for name, value in tensors.items() if name.startswith("state/")}
    given = [tensors[f"in/{name}"] for name in ("x", "pos", "sensor_type")]
    return {"model": BrainOmni.from_official(state, model_cfg), "given": given, "state": state, **tensors}


def test_tokens_and_logits_are_the_authors(reference: dict[str, Any]) -> None:
    model, given = reference["model"], reference["given"]
    with torch.no_grad():
        tokens, logits = model.encode(*given), model.logits(*given)
    torch.testing.assert_close(tokens, reference["out/encode"], rtol=0, atol=1e-4)
    torch.testing.assert_close(logits, reference["out/logits_unmasked"], rtol=0, atol=1e-4)
    assert reference["out/logits_unmasked"].std() > 0.1
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(tokens.shape[:-1]))
    features = model.inputs(*given)[0]
    torch.testing.assert_close(model.head(published_logits(model, features, depth=3)), logits, rtol=0, atol=1e-4)


def test_the_second_writing_equals_the_model() -> None:
    model = small()
    features = torch.randn(2, 16, 24, 16)
    with torch.no_grad():
        expected = published_logits(model, features, depth=2)
        torch.testing.assert_close(model.tokens(features), F.normalize(expected, dim=-1), rtol=0, atol=1e-5)
        expected = model.head(published_logits(model, features, depth=3))
        hidden_BLS = torch.rand(2, 16, 24) < 0.5
        found = model.predict(features, hidden_BLS.flatten().nonzero()[:, 0])
    assert found.shape == (int(hidden_BLS.sum()), 4, 32)
    torch.testing.assert_close(found.flatten(1), expected[hidden_BLS], rtol=0, atol=1e-4)
    assert expected.std() > 0.01


@pytest.mark.parametrize(
    ("size", "trained", "without_head", "total"),
    [("tiny", 8_424_704, 7_898_368, 13_475_042), ("base", 32_707_328, 31_656_704, 37_757_666)],
)
def test_parameters_of_the_published_sizes(size: str, trained: int, without_head: int, total: int) -> None:
    tokenizer = BrainTokenizer(BrainTokenizerConfig())
    with torch.random.fork_rng():
        model = BrainOmni(BrainOmniConfig(**BRAINOMNI_SIZES[size]), tokenizer)
    learnt = sum(param.numel() for param in model.parameters() if param.requires_grad)
    head = sum(param.numel() for param in model.head.parameters())
    counts = (learnt, learnt - head, sum(param.numel() for param in model.parameters()))
    assert counts == (trained, without_head, total)


@pytest.mark.parametrize("n_channels", [4, 19, 64])
def test_thirty_seconds_are_2560_tokens_of_any_sensors(n_channels: int) -> None:
    model = small()
    types = torch.zeros(1, n_channels, dtype=torch.long)
    given = torch.randn(1, n_channels, int(30 * SFREQ)), torch.randn(1, n_channels, 6), types
    with torch.no_grad():
        assert model.encode(*given).shape == (1, 16, 160, 32)
        assert model(*model.inputs(*given)).shape == (1, 2560, 32)
        assert model.tokenizer.encode(*given, model.overlap).codes.shape == (1, 16, 160, 4)


@pytest.mark.parametrize("n_steps", [160, 241, 1000])
def test_tokens_of_any_length_are_right(n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(embed_dim=16, depth=2)
    features = torch.randn(1, 16, n_steps, 16)
    expected = F.normalize(published_logits(model, features, depth=1), dim=-1)
    torch.testing.assert_close(model.tokens(features), expected, rtol=0, atol=1e-4)
    monkeypatch.setattr(crisscross, "LONGEST_TABLE", 10_000)
    torch.testing.assert_close(model.tokens(features), expected, rtol=0, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model.tokens(features), expected, rtol=0, atol=1e-4)


def test_the_turn_between_two_steps_depends_on_their_distance() -> None:
    turn_SHD = rotation(5000, 4, 32)
    assert turn_SHD.shape == (5000, 4, 16)
    assert turn_SHD.dtype == torch.complex64
    torch.testing.assert_close(turn_SHD.abs(), torch.ones(5000, 4, 16))
    between = turn_SHD[40:] * turn_SHD[:-40].conj()
    torch.testing.assert_close(between, turn_SHD[40].expand_as(between), rtol=0, atol=2e-3)
    per_step = turn_SHD[1].angle()
    assert per_step[0, 0].item() == pytest.approx(1.0)
    assert per_step[0, -1].item() == pytest.approx(10_000 ** (-30 / 128), rel=1e-5)
    assert per_step[3].tolist() == pytest.approx([10_000 ** (-i / 64) for i in range(48, 64)], rel=1e-4)


def test_half_precision_weights_do_not_touch_the_turns() -> None:
    model = small().bfloat16()
    with torch.no_grad():
        tokens = model.tokens(torch.randn(1, 16, 300, 16))
        _, turn_SHD = model._prepared(torch.randn(1, 16, 300, 16))
    assert torch.isfinite(tokens).all()
    assert torch.equal(turn_SHD, rotation(300, 2, 8))
    assert len(torch.view_as_real(turn_SHD).flatten(1).unique(dim=0)) == 300
    assert not [name for name in model.state_dict() if "turn" in name or "freq" in name]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("turned", [True, False])
def test_attention_and_its_gradient_are_torchs(
    dtype: torch.dtype, close: float, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(7)
    given = torch.randn(3, 20, 96, generator=generator).to(dtype)
    wanted = torch.randn(3, 20, 32, generator=generator).to(dtype)
    turn_SHD = rotation(20, 4, 8) if turned else None
    found = []
    for longest in (512, 0):
        monkeypatch.setattr(crisscross, "LONGEST_TABLE", longest)
        qkv_NSD = given.clone().requires_grad_()
        made = attend_within(qkv_NSD, turn_SHD, num_heads=4)
        made.backward(wanted)
        found.append((made, qkv_NSD.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=close)
    other_order = attend_within(given.flip(1), turn_SHD, num_heads=4).flip(1)
    assert torch.allclose(other_order, found[0][0], atol=0.05) is not turned


def test_dropout_of_attention_leaves_out_a_share_and_has_its_gradient() -> None:
    def attended(qkv_NSD: Tensor) -> Tensor:
        torch.manual_seed(3)
        return attend_within(qkv_NSD, rotation(30, 2, 4), num_heads=2, dropout=0.4)

    qkv_NSD = torch.randn(2, 30, 24).double().float().requires_grad_()
    along = torch.randn(2, 30, 24)
    loss = (attended(qkv_NSD) ** 2).sum()
    loss.backward()
    moved = (attended(qkv_NSD + step * along).detach() for step in (5e-3, -5e-3))
    ahead, behind = ((made**2).sum().double() for made in moved)
    assert qkv_NSD.grad is not None
    slope = float((qkv_NSD.grad * along).sum())
    assert float((ahead - behind) / 1e-2) == pytest.approx(slope, rel=0.02, abs=0.2)
    # with values of one, what comes out is the share of the map that was kept, gained
    same = torch.cat([torch.randn(50, 30, 16), torch.ones(50, 30, 8)], dim=-1)
    kept = attend_within(same, None, num_heads=2, dropout=0.4).detach()
    assert kept.mean().item() == pytest.approx(1.0, abs=0.02)
    assert kept.std() > 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_passes_the_same_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    x = torch.ones(1001, 999, dtype=dtype, requires_grad=True)
    dropped = drop(x, 0.1)
    dropped.backward(torch.ones_like(x))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.001)
    assert dropped.max().item() == pytest.approx(1 / 0.9, rel=0.01)
    assert x.grad is not None
    assert torch.equal(x.grad, dropped)
    rows, columns = ((dropped == 0).float().mean(dim) for dim in (1, 0))
    assert rows.std().item() == pytest.approx(math.sqrt(0.09 / 999), rel=0.15)
    assert columns.std().item() == pytest.approx(math.sqrt(0.09 / 1001), rel=0.15)
    assert not torch.equal(drop(x, 0.1), dropped)
    torch.manual_seed(4)
    assert torch.equal(drop(x, 0.1), dropped)
    assert drop(x, 0.0) is x


def test_the_norm_and_its_gradients_are_torchs() -> None:
    generator = torch.Generator().manual_seed(8)
    given, wanted = (torch.randn(3, 5, 16, generator=generator) for _ in range(2))
    norm, torchs = Norm(16), nn.RMSNorm(16, eps=1e-6)
    norm.weight.data.normal_(generator=generator)
    torchs.weight.data.copy_(norm.weight)
    found = []
    for part in (norm, torchs):
        x = given.clone().requires_grad_()
        made = part(x)
        made.backward(wanted)
        found.append((made, x.grad, part.weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert norm(given.bfloat16()).dtype == torch.bfloat16
    assert torch.isfinite(norm(torch.zeros(2, 16, requires_grad=True))).all()


def test_the_loss_is_the_mean_cross_entropy_of_hidden_codes() -> None:
    model = small()
    codes_BLSQ = torch.randint(32, (2, 16, 24, 4))
    batch = CodeBatch(codes_BLSQ, ("a", "b"), (0, 2, 2))
    task = MaskedPrediction(Nulls(torch.ones(16, 4, 32).numpy()))
    loss, metrics = task.loss(model, batch, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    hidden_BLS, fate_BLS = torch.rand((2, 2, 16, 24), generator=generator)
    hidden_BLS, replaced_BLS = hidden_BLS < 0.5, fate_BLS < 0.2
    donor_BN = torch.randint(16 * 24, (2, 16 * 24), generator=generator)
    features = model.tokenizer.embed(codes_BLSQ)
    for sample, latent, step in hidden_BLS.nonzero().tolist():
        donor = int(donor_BN[sample, latent * 24 + step])
        other = model.tokenizer.embed(codes_BLSQ[sample, donor // 24, donor % 24])
        features[sample, latent, step] = other if replaced_BLS[sample, latent, step] else model.mask_D.detach()
    logits = model.head(published_logits(model, features, depth=3)).unflatten(-1, (4, 32))[hidden_BLS]
    chances = logits.log_softmax(-1).gather(-1, codes_BLSQ[hidden_BLS][..., None])
    assert loss.item() == pytest.approx(-chances.mean().item(), rel=1e-5)
    right = (logits.argmax(-1) == codes_BLSQ[hidden_BLS]).float().mean(0)
    assert [metrics[f"accuracy_{level}"].item() for level in range(4)] == pytest.approx(right.tolist(), abs=1e-6)
    assert metrics["unigram"].item() == pytest.approx(math.log(32), rel=1e-5)


def test_half_precision_follows_the_loss_curve() -> None:
    curves = [loss_curve(precision, 200) for precision in (torch.float32, torch.bfloat16)]
    assert sum(curves[0][-20:]) / 20 < 0.85 * curves[0][0]
    off = [abs(half / full - 1) for full, half in zip(*curves, strict=True)]
    assert 0 < max(off) < 0.01


def loss_curve(precision: torch.dtype, n_steps: int) -> list[float]:
    """Losses of a small model on codes that stay for a while, some more often than others; equal batches and masks."""
    torch.manual_seed(0)
    small = {"window_length": 64, "n_filters": 4, "ratios": (4, 2), "embed_dim": 32, "num_heads": 2, "n_latents": 4}
    tokenizer = BrainTokenizer(BrainTokenizerConfig(**small, codebook_size=32, num_quantizers=2), SFREQ)
    config = BrainOmniConfig(embed_dim=32, depth=2, num_heads=4, dropout=0.1)
    model = BrainOmni.create(config, sfreq=SFREQ, tokenizer=tokenizer).train()
    task, data = MaskedPrediction(Nulls(torch.ones(4, 2, 32).numpy())), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(task.parameter_groups(model), lr=2e-3, fused=True)
    losses = []
    for step in range(n_steps):
        torch.manual_seed(step)
        batch = CodeBatch(staying_codes((4, 4, 20, 2), data), ("r",) * 4, (0, 4, 4))
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            loss, _ = task.loss(model, batch, torch.Generator().manual_seed(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def staying_codes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Of 32, each for five steps on average."""
    codes_BLSQ = (32 * torch.rand(shape, generator=generator) ** 3).long()
    fresh_BLS1 = torch.rand((*shape[:3], 1), generator=generator) < 0.2
    first_BLS1 = torch.where(fresh_BLS1, torch.arange(shape[2])[:, None], 0).cummax(dim=2).values
    return codes_BLSQ.gather(2, first_BLS1.expand(shape))
