"""One person moves the gradient by no more than was promised, and the noise is as large as was promised."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neuroloom.config import ConfigError
from neuroloom.federated.private import (
    check_private,
    noise_generator,
    private_gradient,
    sample_subjects,
    sampling_generator,
)

PLAIN = {"clip_norm": 1e12, "noise_multiplier": 0.0, "generator": None}


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).double()


def people(net: nn.Module, rng: np.random.Generator, sizes: tuple[int, ...]) -> list[Callable[[], Tensor]]:
    """Mean loss of each person, who have windows in different numbers."""
    data = [(torch.from_numpy(rng.standard_normal((n, 6))), torch.from_numpy(rng.integers(0, 3, n))) for n in sizes]
    return [lambda x=x, y=y: cross_entropy(net(x), y) for x, y in data]


def gradient(net: nn.Module) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in net.parameters() if weight.grad is not None])


def test_without_noise_and_clipping_it_is_the_mean_over_people(rng: np.random.Generator) -> None:
    net = network()
    losses = people(net, rng, (5, 1, 12, 3))
    torch.stack([loss() for loss in losses]).mean().backward()
    plain = gradient(net)
    private_gradient(losses, net.parameters(), expected=4, **PLAIN)
    torch.testing.assert_close(gradient(net), plain, rtol=1e-12, atol=1e-15)
    net.zero_grad()
    losses[2]().backward()
    plain = gradient(net)
    private_gradient(losses[2:3], net.parameters(), expected=1, **PLAIN)
    assert torch.equal(gradient(net), plain)


def test_float32_parameters_get_the_mean_gradient_in_their_own_type(rng: np.random.Generator) -> None:
    net = nn.Linear(4, 2)
    x = torch.from_numpy(rng.standard_normal((3, 4)).astype(np.float32))
    private_gradient(
        [lambda at=at: net(x[at]).square().sum() for at in range(3)], net.parameters(), expected=3, **PLAIN
    )
    assert net.weight.grad is not None
    found = net.weight.grad.clone()
    net.zero_grad()
    (net(x).square().sum() / 3).backward()
    torch.testing.assert_close(found, net.weight.grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6, 1e150])
def test_leaving_one_person_out_moves_the_sum_by_the_clipping_norm_at_most(
    rng: np.random.Generator, size: float
) -> None:
    net = network()
    losses = people(net, rng, (4, 4, 4))
    planted = [*losses[:2], lambda: size * losses[2]()]
    given = {"clip_norm": 0.1, "noise_multiplier": 0.0, "generator": None, "expected": 1}
    sums = []
    for some in (planted, planted[:2]):
        private_gradient(some, net.parameters(), **given)
        sums.append(gradient(net))
    moved = float((sums[0] - sums[1]).norm())
    assert moved <= 0.1 * (1 + 1e-12)
    if size >= 1:
        assert moved == pytest.approx(0.1)  # all of the people are clipped here, and keep their direction
        alone = torch.autograd.grad(losses[2](), list(net.parameters()))
        direction = torch.cat([each.flatten() for each in alone])
        assert float((sums[0] - sums[1]) @ direction) == pytest.approx(0.1 * float(direction.norm()))


def test_a_gradient_that_is_not_finite_counts_as_nothing_and_is_said(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    net = network()
    losses = people(net, rng, (4, 4))
    private_gradient(losses, net.parameters(), expected=2, **PLAIN)
    without = gradient(net)
    private_gradient([losses[0], lambda: losses[0]() * float("nan"), losses[1]], net.parameters(), expected=2, **PLAIN)
    assert torch.equal(gradient(net), without)
    assert "not finite" in caplog.text


def _noises(seed: int | None, n: int, **given: float) -> Tensor:
    """Gradients of steps that nobody was drawn for."""
    net, generator = nn.Linear(50, 40), noise_generator(seed)
    found = []
    for _ in range(n):
        private_gradient([], net.parameters(), generator=generator, **given)
        found.append(gradient(net))
    return torch.stack(found)


@pytest.mark.parametrize("seed", [7, None])
def test_nobody_drawn_still_gives_noise_of_the_size_that_was_promised(seed: int | None) -> None:
    noise = _noises(seed, 20, clip_norm=0.5, noise_multiplier=3.0, expected=6.0).double()
    standard = (noise * 6.0 / (3.0 * 0.5)).flatten().numpy()  # 40800 numbers
    assert standard.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * len(standard)))
    assert standard.mean() == pytest.approx(0.0, abs=5 / np.sqrt(len(standard)))
    assert kstest(standard, "norm").pvalue > 1e-6
    assert len(np.unique(noise.numpy())) > 40_000  # each step and each number has its own


def test_the_noise_hides_behind_nothing_that_can_be_repeated_unless_a_seed_is_given() -> None:
    given = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected": 1.0}
    assert torch.equal(_noises(3, 2, **given), _noises(3, 2, **given))
    assert not torch.equal(_noises(3, 2, **given), _noises(4, 2, **given))
    torch.manual_seed(0)
    first = _noises(None, 2, **given)
    torch.manual_seed(0)
    assert not torch.equal(first, _noises(None, 2, **given))
    # why a seed of torch is no secret: it keeps 32 bits of what it is given
    both = [torch.randn(3, generator=noise_generator(seed)) for seed in (5, 5 + 2**32)]
    assert torch.equal(*both)


def test_parameters_that_a_loss_does_not_reach_get_noise_too(rng: np.random.Generator) -> None:
    net, other = network(), nn.Linear(3, 3)
    given = {"clip_norm": 1.0, "expected": 1.0, "generator": noise_generator(0)}
    private_gradient(people(net, rng, (4,)), [*net.parameters(), other.weight], noise_multiplier=1.0, **given)
    assert other.weight.grad is not None
    assert (other.weight.grad != 0).all()


def test_each_person_is_drawn_alone_at_the_rate(rng: np.random.Generator) -> None:
    drawn = np.zeros((4000, 10))
    for row in drawn:
        row[sample_subjects(10, 0.3, rng)] = 1
    assert np.abs(drawn.mean(axis=0) - 0.3).max() < 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert drawn.sum(axis=1).var() == pytest.approx(10 * 0.3 * 0.7, rel=0.1)  # binomial: no one waits for another
    assert sample_subjects(5, 1.0, rng).tolist() == [0, 1, 2, 3, 4]
    assert sum(len(sample_subjects(2, 0.01, rng)) == 0 for _ in range(20)) > 10
    for wrong in ((0, 0.5), (3, 0.0), (3, 1.5)):
        with pytest.raises(ValueError, match="give one or more"):
            sample_subjects(*wrong, rng)
    assert sampling_generator(1).integers(1 << 60) == sampling_generator(1).integers(1 << 60)
    assert sampling_generator(None).integers(1 << 60) != sampling_generator(None).integers(1 << 60)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.BatchNorm1d(4), "BatchNorm1d"),
        (nn.LazyBatchNorm2d(), "LazyBatchNorm2d"),
        (nn.SyncBatchNorm(4), "SyncBatchNorm"),
        (nn.BatchNorm1d(4, track_running_stats=False), "BatchNorm1d"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "InstanceNorm1d"),
    ],
)
def test_statistics_of_a_batch_are_refused_by_name(layer: nn.Module, name: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.GELU(), layer))
    with pytest.raises(ConfigError, match=rf"^1\.1 \({name}\) keeps statistics of a batch"):
        check_private(net)
    with pytest.raises(ConfigError, match=rf"^network \({name}\)"):
        check_private(layer)


def test_norms_of_one_window_are_allowed() -> None:
    check_private(nn.Sequential(nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4), nn.InstanceNorm1d(4)))


@pytest.mark.parametrize("wrong", [{"clip_norm": 0.0}, {"noise_multiplier": -1.0}, {"expected": 0.0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    given = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected": 1.0, "generator": None} | wrong
    with pytest.raises(ValueError, match="give some parameters"):
        private_gradient([], nn.Linear(2, 2).parameters(), **given)
    with pytest.raises(ValueError, match="0 parameters"):
        private_gradient([], [], **(given | {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected": 1.0}))


def test_a_step_of_many_people_learns_under_noise(rng: np.random.Generator) -> None:
    """A planted rule is learned from people at epsilon 2.1 (delta 1e-3), and not from noise alone."""
    net = nn.Linear(6, 2)
    truth = rng.standard_normal(6)
    x = torch.from_numpy(rng.standard_normal((300, 8, 6)).astype(np.float32))
    y = torch.from_numpy((x.numpy() @ truth > 0).astype(int))
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
    accuracy = []
    for reach in (0.0, 1.0):
        nn.init.zeros_(net.weight)
        generator = noise_generator(1)
        for _ in range(30):
            drawn = sample_subjects(300, 0.2, rng)
            losses = [lambda at=at, reach=reach: reach * cross_entropy(net(x[at]), y[at]) for at in drawn]
            private_gradient(
                losses, net.parameters(), clip_norm=1.0, noise_multiplier=2.0, expected=60.0, generator=generator
            )
            optimizer.step()
        accuracy.append(float((net(x).argmax(dim=-1) == y).float().mean()))
    assert accuracy[0] < 0.8 < 0.9 < accuracy[1]


def test_more_noise_moves_the_gradient_further(rng: np.random.Generator) -> None:
    net = network()
    losses = people(net, rng, (4, 4))
    private_gradient(losses, net.parameters(), expected=2, **(PLAIN | {"clip_norm": 1.0}))
    plain, away = gradient(net), []
    for noise in (0.1, 1.0, 10.0):
        given = {"clip_norm": 1.0, "noise_multiplier": noise, "generator": noise_generator(0), "expected": 2}
        private_gradient(losses, net.parameters(), **given)
        away.append(float((gradient(net) - plain).norm()))
    assert all(more / less == pytest.approx(10) for less, more in pairwise(away))
