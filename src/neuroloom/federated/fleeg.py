"""FLEEG's network: lower layers of each device, upper layers that all of them share.

Liu et al. 2024, Neural Netw 172:106100, arXiv 2308.11636. A DeepConvNet (Schirrmeister et al. 2017, HBM 38:5391) whose
pools and kernels suit the length of a site's windows, so that its classifier sees seven steps at every site. Three
tensors cross the wire, `SHARED`; batch norms never do. Signals should have an SD of about one: a batch norm adds 1e-5
to the variance, which would hide volts.

Changed against its code:
- Logits come out. There, log-softmax and the negative log-likelihood follow, which together are cross-entropy.
- Both steps of the first layer, over time and over channels, are one convolution with the product of their weights:
  the same sum, without a map of every channel for every filter. No dimension of size one is kept.
- The bound of a filter's norm is a projection of the weights, in place, whenever they are used in training, as there:
  a weight that were only bounded on its way would go on growing, and have other gradients. Evaluation here bounds a
  copy and leaves the weights alone; and a filter is put a few roundings below its bound.
- Pools and kernels of lengths that were not published are searched for (`shape_for`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.evaluation.filters import joined
from neuroloom.schema import ConfigError

Four = tuple[int, int, int, int]

WIDTHS = (25, 50, 100, 200)  # filters of the four layers
STEPS = 7  # that the classifier sees
GLOBAL_KERNEL, GLOBAL_POOL = 10, 3
KERNELS = range(6, 23)  # of local layers, as published
USUAL_KERNEL = 10
SHORTEST = 45  # samples: every length from here on leads to seven steps
DROPOUT = 0.5
MAX_NORM, CLASSIFIER_MAX_NORM = 2.0, 0.5  # of a filter
ROUNDINGS = 8  # of a number, that a filter is put below its bound: a second look finds nothing to do
SHARED: tuple[str, ...] = ("shared_conv.weight", "classifier.weight", "classifier.bias")


@dataclass(frozen=True)
class FleegShape:
    """Sizes of one site's network.

    Attributes
    ----------
    n_chans, n_times : int
        Of its windows.
    pools, kernels : tuple of int
        Samples, of the three local layers and of the shared one.

    Raises
    ------
    ConfigError
        For sizes whose shared tensors could not be averaged with those of other sites.
    """

    n_chans: int
    n_times: int
    pools: Four
    kernels: Four

    def __post_init__(self) -> None:
        if self.n_chans < 1 or min(self.pools) < 1 or min(self.kernels) < 1:
            raise ConfigError(f"{self}: channels, pools and kernels start at 1. Correct them, or use shape_for")
        if self.kernels[-1] != GLOBAL_KERNEL or self.n_steps != STEPS:
            raise ConfigError(
                f"{self}: the shared kernel has {self.kernels[-1]} samples and the classifier sees {self.n_steps} "
                f"steps; all sites need {GLOBAL_KERNEL} and {STEPS}. Change pools and kernels, or use shape_for"
            )

    @property
    def n_steps(self) -> int:
        """Time steps that the classifier sees."""
        return _steps(self.n_times, self.pools, self.kernels)

    def n_parameters(self, n_outputs: int = 2) -> int:
        """Numbers that are trained: filters, their norms, and two biases."""
        time, second, third, fourth = self.kernels
        first, wide, wider, widest = WIDTHS
        local = first * (time + 1) + first * first * self.n_chans + first * wide * second + wide * wider * third
        return local + wider * widest * fourth + 2 * sum(WIDTHS) + n_outputs * (widest * STEPS + 1)


def _steps(n_times: int, pools: Four, kernels: Four) -> int:
    for pool, kernel in zip(pools, kernels, strict=True):
        n_times = max(n_times - kernel + 1, 0) // pool
    return n_times


PUBLISHED: dict[str, FleegShape] = {
    "KoreaU_MI": FleegShape(62, 1000, (3, 3, 3, 3), (10, 10, 10, 10)),
    "Shin_MI": FleegShape(30, 2000, (5, 4, 3, 3), (8, 8, 8, 10)),
    "ShanghaiU_MI": FleegShape(32, 1000, (3, 3, 3, 3), (10, 10, 10, 10)),
    "BCI2a_MI": FleegShape(22, 1000, (3, 3, 3, 3), (10, 10, 10, 10)),
    "Weibo2014": FleegShape(60, 800, (2, 3, 4, 3), (8, 8, 8, 10)),
    "Cho2017": FleegShape(64, 1536, (4, 3, 3, 3), (22, 22, 22, 10)),
    "MunichMI": FleegShape(128, 1750, (4, 4, 3, 3), (10, 10, 10, 10)),
    "Schirrmeister2017": FleegShape(128, 2000, (6, 3, 3, 3), (20, 20, 10, 10)),
    "Murat2018": FleegShape(22, 200, (1, 2, 3, 3), (6, 6, 6, 10)),
}


def shape_for(n_chans: int, n_times: int) -> FleegShape:
    """Pools and kernels for a site's windows: kernels near 10 samples, and pools as like each other as can be.

    Parameters
    ----------
    n_chans, n_times : int
        Of its windows.

    Returns
    -------
    FleegShape
        The same for the same numbers.

    Raises
    ------
    ConfigError
        For windows that are too short.
    """
    found = min(_fitting(n_times), default=None) if n_times >= SHORTEST else None
    if found is None:
        raise ConfigError(
            f"FLEEG: windows of {n_times} samples are too short for {STEPS} steps, which take {SHORTEST} or more. Use "
            "longer windows, a higher rate, or another strategy"
        )
    _, _, kernel, (first, second, third) = found
    kernels, pools = (kernel, kernel, kernel, GLOBAL_KERNEL), (-first, -second, -third, GLOBAL_POOL)
    return FleegShape(n_chans, n_times, pools, kernels)


def _fitting(n_times: int) -> Iterator[tuple[int, int, int, tuple[int, int, int]]]:
    """What leads to seven steps: how unlike the published choices, sum of pools, kernel, pools with their sign turned.

    The least is the best one; of two that are equal otherwise, the one that pools more at first, as published.
    """
    pools = range(1, round((n_times / 30) ** (1 / 3)) + 3)  # about 30 samples reach the shared layer
    for kernel, first, second, third in product(KERNELS, pools, pools, pools):
        local = (first, second, third)
        if _steps(n_times, (*local, GLOBAL_POOL), (kernel, kernel, kernel, GLOBAL_KERNEL)) == STEPS:
            unlike = abs(kernel - USUAL_KERNEL) + max(local) - min(local)
            yield unlike, sum(local), kernel, (-first, -second, -third)


class BoundedConv(nn.Conv1d):
    """A convolution over time whose filters have an L2 norm of at most `max_norm`."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, bias: bool = False, max_norm: float = MAX_NORM) -> None:
        super().__init__(n_in, n_out, kernel, bias=bias)
        self.max_norm = max_norm

    def bounded(self) -> Tensor:
        """The weight (outputs, inputs, kernel) within its bound; in training, what is kept is put there, too."""
        with torch.no_grad():
            norm_F = torch.linalg.vector_norm(self.weight, dim=(1, 2), keepdim=True)
            inside = self.max_norm * (1 - ROUNDINGS * torch.finfo(norm_F.dtype).eps)
            scale_F = torch.where(norm_F > self.max_norm, inside / norm_F, 1.0)
            if bool((scale_F == 1).all()):  # an edit would spoil the gradient of a forward pass before this one
                return self.weight
            if self.training and self.weight.requires_grad:
                self.weight.mul_(scale_F)
                return self.weight
        return self.weight * scale_F

    def forward(self, x_BFT: Tensor) -> Tensor:
        """(B, inputs, T) -> (B, outputs, T - kernel + 1)."""
        return F.conv1d(x_BFT, self.bounded(), self.bias)


class FirstLayer(nn.Module):
    """Filters over time, then over all channels: (B, C, T) -> (B, 25, T / pool)."""

    def __init__(self, n_chans: int, *, kernel: int, pool: int) -> None:
        super().__init__()
        self.time = BoundedConv(1, WIDTHS[0], kernel, bias=True)
        self.space = BoundedConv(WIDTHS[0], WIDTHS[0], n_chans)
        self.norm = nn.BatchNorm1d(WIDTHS[0])
        self.pool = pool

    def filters(self) -> tuple[Tensor, Tensor]:
        """Weight (outputs, channels, kernel) and bias of both steps together."""
        bias_I: Tensor = self.time.bias  # type: ignore[assignment]  # it has one
        return joined(self.space.bounded(), self.time.bounded()[:, 0], bias_I)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Filter, norm, ELU, pool."""
        return F.max_pool1d(F.elu(self.norm(F.conv1d(x_BCT, *self.filters()))), self.pool)


class LocalLayer(nn.Module):
    """Dropout, filters over time, norm, ELU, pool: (B, inputs, T) -> (B, outputs, T / pool)."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int, pool: int) -> None:
        super().__init__()
        self.conv = BoundedConv(n_in, n_out, kernel)
        self.norm = nn.BatchNorm1d(n_out)
        self.pool = pool

    def forward(self, x_BFT: Tensor) -> Tensor:
        """What the next layer reads."""
        x_BFT = self.conv(F.dropout(x_BFT, DROPOUT, self.training))
        return F.max_pool1d(F.elu(self.norm(x_BFT)), self.pool)


class FleegNet(nn.Module):
    """Three local layers, a shared one whose norm is local, and a shared classifier: (B, C, T) -> logits (B, L).

    Starting weights are torch's, drawn from its global generator.

    Parameters
    ----------
    shape : FleegShape
    n_outputs : int
        Classes.
    """

    def __init__(self, shape: FleegShape, n_outputs: int = 2) -> None:
        super().__init__()
        self.shape = shape
        first, wide, wider, widest = WIDTHS
        self.local1 = FirstLayer(shape.n_chans, kernel=shape.kernels[0], pool=shape.pools[0])
        self.local2 = LocalLayer(first, wide, kernel=shape.kernels[1], pool=shape.pools[1])
        self.local3 = LocalLayer(wide, wider, kernel=shape.kernels[2], pool=shape.pools[2])
        self.shared_conv = BoundedConv(wider, widest, shape.kernels[3])
        self.local4_norm = nn.BatchNorm1d(widest)
        self.classifier = BoundedConv(widest, n_outputs, STEPS, bias=True, max_norm=CLASSIFIER_MAX_NORM)

    def features(self, x_BCT: Tensor) -> Tensor:
        """What the classifier sees: (B, 200, 7).

        Raises
        ------
        ValueError
            For windows of another size.
        """
        if tuple(x_BCT.shape[1:]) != (wanted := (self.shape.n_chans, self.shape.n_times)):
            raise ValueError(
                f"FLEEG: windows are {tuple(x_BCT.shape[1:])} (channels, samples), the network was made for {wanted}. "
                "Make it with shape_for of this site's windows"
            )
        x_BFT = self.shared_conv(F.dropout(self.local3(self.local2(self.local1(x_BCT))), DROPOUT, self.training))
        return F.max_pool1d(F.elu(self.local4_norm(x_BFT)), self.shape.pools[3])

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Logits of the classes."""
        return self.classifier(self.features(x_BCT))[:, :, 0]
