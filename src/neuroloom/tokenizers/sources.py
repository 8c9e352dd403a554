"""Between sensors and latent sources: what a sensor is, and attention across sensors in both directions.

Source: BrainOmni (arXiv 2505.18185), sections on the sensor encoder and on backward and forward solution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

N_SENSOR_TYPES = 3
EPSILON = 1e-6


class RMSNorm(nn.Module):
    """To unit root mean square, in single precision, times a learnt weight."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape and type."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), EPSILON).to(x.dtype)


class SensorEmbedding(nn.Module):
    """A vector for each sensor, of its position, orientation and type."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.place = nn.Sequential(nn.Linear(6, dim // 2), nn.SELU(), nn.Linear(dim // 2, dim))
        self.kind = nn.Embedding(N_SENSOR_TYPES, dim)
        self.mix = nn.Sequential(nn.Linear(dim, 4 * dim), nn.SELU(), nn.Linear(4 * dim, dim))
        self.norm = RMSNorm(dim)

    def forward(self, positions_BC6: Tensor, sensor_type_BC: Tensor) -> Tensor:
        """(B, C, 6) and (B, C) to (B, C, D)."""
        x_BCD = self.place(positions_BC6) + self.kind(sensor_type_BC)
        return self.norm(x_BCD + self.mix(x_BCD))


class Gather(nn.Module):
    """Latent sources from sensors: learnt queries attend to all of them, whatever their number or order."""

    def __init__(self, dim: int, n_latents: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.latents_LD = nn.Parameter(torch.randn(n_latents, dim))
        self.key, self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, frames_NCD: Tensor, sensors_NCD: Tensor) -> Tensor:
        """Frames of all sensors (N, C, D) to frames of all latents (N, L, D)."""
        queries_NLD = self.latents_LD.to(frames_NCD.dtype).expand(len(frames_NCD), -1, -1)
        keys_NCD, values_NCD = self.key(frames_NCD + sensors_NCD), self.value(frames_NCD)
        return self.out(attend(queries_NLD, keys_NCD, values_NCD, self.num_heads))


class Scatter(nn.Module):
    """Sensors from latent sources: each sensor asks with its embedding."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.key_value, self.out = nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, sensors_NCD: Tensor, latents_NLD: Tensor) -> Tensor:
        """Frames of all latents (N, L, D) to frames of all sensors (N, C, D)."""
        keys_NLD, values_NLD = self.key_value(latents_NLD).chunk(2, dim=-1)
        return self.out(attend(sensors_NCD, keys_NLD, values_NLD, self.num_heads))


def attend(queries_NXD: Tensor, keys_NYD: Tensor, values_NYD: Tensor, num_heads: int) -> Tensor:
    """Scaled dot-product attention in heads: (N, X, D) and (N, Y, D) to (N, X, D)."""
    split = [x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (queries_NXD, keys_NYD, values_NYD)]
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
