"""Gradients that no single person can be read from: one clipped gradient for each person, summed under Gaussian noise.

Source: Abadi et al. 2016, arXiv 1607.00133 (clip, sum, add noise), with a person in place of an example, as in McMahan
et al. 2018, arXiv 1710.06963. `accounting` says what a step costs.

What is protected is what follows from these gradients alone, the number of people being known to all. Not protected:
buffers that are computed from data (batch norm, means and SDs that inputs are standardised with), weights of classes
counted in the labels, numbers of windows, losses and accuracies that a site tells, and settings chosen by looking at
data. Whoever asks for privacy keeps these constant, or at the site. Rounding of floating-point numbers, which can tell
more than the noise hides (Mironov 2012, CCS), is not dealt with.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from math import hypot, isfinite
from typing import TYPE_CHECKING

import numpy as np

from neuroloom.records import Array
from neuroloom.schema import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

logger = logging.getLogger(__name__)


def check_private(network: nn.Module) -> None:
    """Refuse a network with layers that keep statistics of a batch.

    These statistics mix the people of a batch, so that clipping one's gradient does not bound one's influence, and
    they leave the site without noise.

    Raises
    ------
    ConfigError
        Naming the layer.
    """
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.instancenorm import _InstanceNorm

    for name, module in network.named_modules():
        running = isinstance(module, _InstanceNorm) and module.track_running_stats
        if running or isinstance(module, _BatchNorm):
            raise ConfigError(
                f"{name or 'network'} ({type(module).__name__}) keeps statistics of a batch, which no noise covers; "
                f"train it without privacy, or take a network with layer, group or RMS norm"
            )


def noise_generator(seed: int | None) -> torch.Generator | None:
    """What the noise is drawn from: a seeded generator, or None for the random numbers of the operating system.

    A seed is for simulations. Whoever knows it, and it stands in the config, draws the same noise and takes it off. Nor
    would a secret seed do: torch uses 32 bits of it on a CPU, so that all noises there can be are soon tried.
    """
    import torch

    return None if seed is None else torch.Generator().manual_seed(seed)


def sampling_generator(seed: int | None) -> np.random.Generator:
    """What people are drawn from: `None` takes 128 bits of the operating system.

    Accounting counts on nobody knowing who was in a step. With a known seed the rate has to be accounted as 1.
    """
    return np.random.default_rng(seed)


def sample_subjects(n_subjects: int, rate: float, rng: np.random.Generator) -> Array:
    """People of a step, each drawn on its own with the same chance (Poisson), as accounting takes it; maybe nobody.

    Returns
    -------
    drawn_N : int array
        Sorted numbers below `n_subjects`.

    Raises
    ------
    ValueError
        If there is nobody to draw from, or the rate is no chance.
    """
    if n_subjects < 1 or not 0 < rate <= 1:
        raise ValueError(f"{n_subjects} subjects at a rate of {rate}: give one or more, and a rate above 0 and up to 1")
    return np.flatnonzero(rng.random(n_subjects) < rate)


def private_gradient(
    subject_losses: Iterable[Callable[[], Tensor]],
    parameters: Iterable[nn.Parameter],
    *,
    clip_norm: float,
    noise_multiplier: float,
    expected: float,
    generator: torch.Generator | None,
) -> None:
    """Write a gradient to `.grad` of the parameters that moves little, whoever of the people had been left out.

    Parameters
    ----------
    subject_losses : iterable of callable
        Of each person drawn: makes the mean loss over the windows of this person alone. Called one after the other,
        so that one graph is in memory.
    parameters : iterable of Parameter
        Those that are trained; the norm is over all of them together.
    clip_norm : float
        Largest norm of one person's gradient; longer ones are shortened to it.
    noise_multiplier : float
        SD of the noise over `clip_norm`; 0 is no protection.
    expected : float
        What the sum is divided by: rate x number of people. A constant, because the number drawn tells of who is there.
    generator : torch.Generator or None
        Of `noise_generator`.

    Raises
    ------
    ValueError
        If a number is out of its range or nothing is trained.

    Notes
    -----
    A gradient that is not finite counts as zero, which keeps the bound, and is said in the log of the site.
    """
    import torch

    weights = list(parameters)
    if not (weights and clip_norm > 0 and noise_multiplier >= 0 and expected > 0):
        raise ValueError(
            f"{len(weights)} parameters, clip_norm {clip_norm}, noise_multiplier {noise_multiplier}, expected "
            f"{expected}: give some parameters, a norm and a divisor above 0, and noise of 0 or more"
        )
    # in double precision a sum of clipped gradients is as long as was promised
    totals = [torch.zeros_like(weight, dtype=torch.float64, requires_grad=False) for weight in weights]
    for subject_loss in subject_losses:
        _add_clipped(totals, subject_loss(), weights, clip_norm)
    for weight, total in zip(weights, totals, strict=True):
        if noise_multiplier:
            total += noise_multiplier * clip_norm * _noise(total.shape, generator).to(total.device)
        weight.grad = (total / expected).to(weight.dtype)


def _add_clipped(totals: Sequence[Tensor], loss: Tensor, weights: Sequence[nn.Parameter], clip_norm: float) -> None:
    import torch

    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = zip(totals, gradients, strict=True)
    found = [(total, gradient.double()) for total, gradient in pairs if gradient is not None]
    norm = hypot(*(float(gradient.norm()) for _, gradient in found))
    if not isfinite(norm):
        logger.warning("the gradient of one person is not finite and counts as zero; look for broken windows")
        return
    for total, gradient in found:
        total.add_(gradient, alpha=min(1.0, clip_norm / norm) if norm else 1.0)


def _noise(shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers in double precision."""
    import torch

    if generator is not None:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
    from scipy.special import ndtri

    bits_N = np.frombuffer(os.urandom(8 * shape.numel()), np.uint64) >> np.uint64(12)
    # the middle of one of 2 ** 52 cells of (0, 1): the ends, where the normal is infinite, are never reached
    return torch.from_numpy(ndtri((bits_N + 0.5) * 2.0**-52)).reshape(shape)
