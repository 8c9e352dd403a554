"""Residual vector quantization with codebooks that follow their data.

Sources: van den Oord et al. 2017 (VQ-VAE; moving averages in its appendix), Zeghidour et al. 2021 (residual, k-means
start, dead codes), Fifty et al. 2024, arXiv 2410.06424 (gradients by rotation).

Against BrainOmni's code: the start by k-means takes products instead of a table of all differences (6 ms for 2.6 s an
iteration, a thousandth of the memory); a code that is replaced also starts anew in its moving averages, so that it is
not pulled back; nothing but the nearest code is computed when only codes are wanted.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

EPSILON = 1e-6
KMEANS_SAMPLES, KMEANS_ITERATIONS = 4096, 10
COMMITMENT = 0.25
ROWS = 16384  # vectors whose distances to all codes are in memory at once


class Codebook(nn.Module):
    """Codes that are moving averages of the vectors nearest to them.

    Parameters
    ----------
    codebook_size, dim : int
    decay : float
        Of the moving averages.
    dead_below : float
        A code whose moving count is below this is replaced by a vector of the batch.
    """

    embed_KD: Tensor
    sums_KD: Tensor
    counts_K: Tensor
    started: Tensor

    def __init__(self, codebook_size: int, dim: int, *, decay: float, dead_below: float) -> None:
        super().__init__()
        self.decay, self.dead_below = decay, dead_below
        start_KD = F.normalize(torch.randn(codebook_size, dim), dim=-1)
        self.register_buffer("embed_KD", start_KD)
        self.register_buffer("sums_KD", start_KD.clone())
        self.register_buffer("counts_K", torch.zeros(codebook_size))
        self.register_buffer("started", torch.zeros(1))

    def nearest(self, x_ND: Tensor) -> Tensor:
        """Index of the nearest code of each vector, in single precision."""
        half_K = self.embed_KD.pow(2).sum(dim=1) / 2
        parts = x_ND.float().split(ROWS)
        return torch.cat([torch.addmm(half_K, part, self.embed_KD.t(), alpha=-1).argmin(dim=1) for part in parts])

    @torch.no_grad()
    def start(self, x_ND: Tensor, generator: torch.Generator) -> None:
        """First codes: k-means of the first batch."""
        x_ND = _from_first(draw(x_ND.float(), KMEANS_SAMPLES, generator))
        # where processes have batches of different sizes, their generators are apart by now
        self.embed_KD.copy_(_from_first(draw(x_ND, len(self.embed_KD), generator)))
        for _ in range(KMEANS_ITERATIONS):
            sums_KD, counts_K = self._gather(x_ND, self.nearest(x_ND))
            means_KD = sums_KD / counts_K.clamp(min=1)[:, None]
            self.embed_KD.copy_(torch.where(counts_K[:, None] > 0, means_KD, self.embed_KD))
        counts_K = self._gather(x_ND, self.nearest(x_ND))[1]
        self.sums_KD.copy_(self.embed_KD * counts_K[:, None])
        self.counts_K.copy_(counts_K)
        self.started.fill_(1)

    @torch.no_grad()
    def follow(self, x_ND: Tensor, codes_N: Tensor, generator: torch.Generator) -> None:
        """One step of the moving averages; codes that died start anew from vectors of the batch."""
        sums_KD, counts_K = _over_processes(*self._gather(x_ND.float(), codes_N))
        self.sums_KD.lerp_(sums_KD, 1 - self.decay)
        self.counts_K.lerp_(counts_K, 1 - self.decay)
        dead_K = self.counts_K < self.dead_below
        if dead_K.any():
            fresh_ND = _from_first(draw(x_ND.float(), int(dead_K.sum()), generator))
            self.sums_KD[dead_K] = fresh_ND * max(self.dead_below, 1.0)
            self.counts_K[dead_K] = max(self.dead_below, 1.0)
        total = self.counts_K.sum()
        smooth_K = (self.counts_K + EPSILON) / (total + len(self.counts_K) * EPSILON) * total
        self.embed_KD.copy_(self.sums_KD / smooth_K[:, None])

    def _gather(self, x_ND: Tensor, codes_N: Tensor) -> tuple[Tensor, Tensor]:
        sums_KD = torch.zeros_like(self.embed_KD).index_add_(0, codes_N, x_ND)
        return sums_KD, torch.bincount(codes_N, minlength=len(self.embed_KD)).to(sums_KD.dtype)


class ResidualQuantizer(nn.Module):
    """Codebooks in a row: each quantizes what the ones before left over of a unit vector.

    Parameters
    ----------
    num_quantizers, codebook_size, dim : int
    decay, dead_below : float
        As in `Codebook`.
    rotation_trick : bool
        Gradients by rotation; else straight through.
    """

    def __init__(
        self,
        num_quantizers: int,
        codebook_size: int,
        dim: int,
        *,
        decay: float = 0.99,
        dead_below: float = 2.0,
        rotation_trick: bool = True,
    ) -> None:
        super().__init__()
        self.rotation_trick = rotation_trick
        books = [Codebook(codebook_size, dim, decay=decay, dead_below=dead_below) for _ in range(num_quantizers)]
        self.levels = nn.ModuleList(books)

    @property
    def codebooks(self) -> list[Codebook]:
        """The codebook of each level."""
        return [cast(Codebook, level) for level in self.levels]

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (..., Q) and what they add up to (..., D), of vectors (..., D) of any length."""
        left_ND = F.normalize(x.float(), dim=-1).reshape(-1, x.shape[-1])
        sum_ND, codes = torch.zeros_like(left_ND), []
        for level in self.codebooks:
            codes.append(level.nearest(left_ND))
            chosen_ND = level.embed_KD[codes[-1]]
            sum_ND += chosen_ND
            left_ND = left_ND - chosen_ND
        return torch.stack(codes, dim=-1).reshape(*x.shape[:-1], -1), sum_ND.reshape(x.shape)

    def embed(self, codes: Tensor) -> Tensor:
        """What codes (..., Q) add up to (..., D)."""
        return torch.stack([F.embedding(codes[..., q], level.embed_KD) for q, level in enumerate(self.codebooks)]).sum(
            0
        )

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize with gradients; in training the codebooks follow.

        Parameters
        ----------
        x : tensor (..., D)
        generator : torch.Generator, optional
            For the start and for dead codes; needed in training.

        Returns
        -------
        quantized (..., D), codes (..., Q), commitment loss
        """
        left_ND = F.normalize(x.float(), dim=-1).reshape(-1, x.shape[-1])
        total_ND, codes, losses = torch.zeros_like(left_ND), [], []
        for level in self.codebooks:
            if self.training and generator is not None and not bool(level.started):
                level.start(left_ND.detach(), generator)
            codes.append(level.nearest(left_ND.detach()))
            chosen_ND = level.embed_KD[codes[-1]]
            losses.append(COMMITMENT * F.mse_loss(left_ND, chosen_ND))
            if self.training and generator is not None:
                level.follow(left_ND.detach(), codes[-1], generator)
            passed_ND = self._passed(left_ND, chosen_ND) if self.training else chosen_ND
            total_ND = total_ND + passed_ND
            left_ND = left_ND - passed_ND.detach()
        shape = x.shape[:-1]
        return total_ND.reshape(x.shape), torch.stack(codes, -1).reshape(*shape, -1), torch.stack(losses).mean()

    def _passed(self, x_ND: Tensor, chosen_ND: Tensor) -> Tensor:
        return rotate_to(x_ND, chosen_ND) if self.rotation_trick else x_ND + (chosen_ND - x_ND).detach()


def rotate_to(x_ND: Tensor, target_ND: Tensor) -> Tensor:
    """The target, as the vector rotated and scaled onto it: gradients keep their angle to it.

    Source: arXiv 2410.06424, section 4.2: R = I - 2 w w' + 2 q u', with unit vectors u of the input, q of the target,
    and w of their sum; R and the scale are constants for the gradient.
    """
    with torch.no_grad():
        length_N1 = x_ND.norm(dim=-1, keepdim=True).clamp(min=EPSILON)
        target_length_N1 = target_ND.norm(dim=-1, keepdim=True).clamp(min=EPSILON)
        u_ND, q_ND = x_ND / length_N1, target_ND / target_length_N1
        w_ND = F.normalize(u_ND + q_ND, dim=-1, eps=EPSILON)
        scale_N1 = target_length_N1 / length_N1
    along_w, along_u = (x_ND * w_ND).sum(-1, keepdim=True), (x_ND * u_ND).sum(-1, keepdim=True)
    rotated_ND = scale_N1 * (x_ND - 2 * along_w * w_ND + 2 * along_u * q_ND)
    # a vector of no length has no angle to keep, and its scale would drown all other gradients
    return torch.where(length_N1 > EPSILON, rotated_ND, x_ND + (target_ND - x_ND).detach())


def draw(x_ND: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """That many rows; without repeating where there are enough."""
    if len(x_ND) >= count:
        chosen = torch.randperm(len(x_ND), generator=generator, device=generator.device)[:count]
    else:
        chosen = torch.randint(len(x_ND), (count,), generator=generator, device=generator.device)
    return x_ND[chosen.to(x_ND.device)]


def _many() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _over_processes(*sums: Tensor) -> tuple[Tensor, ...]:
    """Added up over the processes of a run."""
    if _many():
        for part in sums:
            torch.distributed.all_reduce(part)
    return sums


def _from_first(x_ND: Tensor) -> Tensor:
    """What the first process drew, on all, so that all have the same codebook."""
    if _many():
        torch.distributed.broadcast(x_ND, 0)
    return x_ND
