"""Blocks that attend over time and over latent sources at once, each with one half of the width.

Source: BrainOmni, Xiao et al., NeurIPS 2025, arXiv 2505.18185. Against the authors' code: dropout rests in evaluation
everywhere (theirs goes on within attention); the phase of the rotation is computed for the length at hand, in single
precision whatever the weights are in, and is no weight; on a CPU attention is made of products of matrices, because
with heads this small the gradient of the fused kernel takes three times as long in half precision, and norms and
dropout are written with fewer passes over memory.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.tokenizers.sources import EPSILON, RMSNorm

ROTATION_BASE = 10_000.0
LONGEST_TABLE = 512  # places of a sequence whose attention map is held in memory
CHANCES = 2**15  # steps that a probability of dropout is drawn in on a CPU


def rotation(n_steps: int, num_heads: int, head_dim: int, *, device: Any = None) -> Tensor:
    """Turn of each pair of elements at each step: complex64 (S, H, head_dim / 2).

    Frequencies fall over the width of all heads together, so that each head has a band of its own.

    Notes
    -----
    Source: Su et al. 2021, arXiv 2104.09864; the bands are BrainOmni's.
    """
    dim = num_heads * head_dim
    freqs_N = ROTATION_BASE ** -(torch.arange(0, dim, 2, device=device).float() / dim)
    phase_SN = torch.outer(torch.arange(n_steps, device=device).float(), freqs_N)
    return torch.polar(torch.ones_like(phase_SN), phase_SN).unflatten(1, (num_heads, -1))


class Norm(RMSNorm):
    """The same; on a CPU in fewer passes over memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape and type."""
        if not _by_hand(x):
            return super().forward(x)
        normed: Tensor = _Normed.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return normed


class Attention(nn.Module):
    """Self-attention in heads.

    Parameters
    ----------
    dim, num_heads : int
    dropout : float
        Share of the attention map that training leaves out.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x_NSD: Tensor, turn_SHD: Tensor | None = None) -> Tensor:
        """Of the same shape; `turn_SHD` as `rotation` makes it, where the order of places counts."""
        dropout = self.dropout if self.training else 0.0
        return self.out(attend_within(self.qkv(x_NSD), turn_SHD, num_heads=self.num_heads, dropout=dropout))


class Block(nn.Module):
    """One layer: attention over time and over sources, then each token by itself."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.mix_norm, self.feed_norm = Norm(dim), Norm(dim)
        self.time = Attention(dim // 2, num_heads // 2, dropout)
        self.space = Attention(dim // 2, num_heads // 2, dropout)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x_BLSD: Tensor, turn_SHD: Tensor) -> Tensor:
        """Of the same shape."""
        return self.feed(self.mix(x_BLSD, turn_SHD))

    def mix(self, x_BLSD: Tensor, turn_SHD: Tensor) -> Tensor:
        """Attention; its halves come back in the other order, as published."""
        first_BLSD, second_BLSD = self.mix_norm(x_BLSD).chunk(2, dim=-1)
        n_rows, n_latents = x_BLSD.shape[:2]
        over_time = self.time(first_BLSD.flatten(0, 1), turn_SHD).unflatten(0, (n_rows, n_latents))
        over_space = self.space(second_BLSD.transpose(1, 2).flatten(0, 1)).unflatten(0, (n_rows, -1)).transpose(1, 2)
        return x_BLSD + torch.cat([over_space, over_time], dim=-1)

    def feed(self, x: Tensor) -> Tensor:
        """Tokens by themselves, (..., D)."""
        wide = F.selu(self.widen(self.feed_norm(x)), inplace=True)
        return x + drop(self.narrow(wide), self.dropout if self.training else 0.0)


def attend_within(qkv_NSD: Tensor, turn_SHD: Tensor | None, *, num_heads: int, dropout: float = 0.0) -> Tensor:
    """Attention within sequences, between places that may be turned.

    Parameters
    ----------
    qkv_NSD : tensor
        Queries, keys and values behind one another, each of all heads.
    turn_SHD : tensor or None
        As `rotation` makes it.
    num_heads : int
    dropout : float

    Returns
    -------
    tensor (N, S, width of the values)
    """
    # without gradients the fused kernel is as fast, and holds no map
    if _by_hand(qkv_NSD) and torch.is_grad_enabled() and qkv_NSD.shape[1] <= LONGEST_TABLE:
        found: Tensor = _Products.apply(qkv_NSD, turn_SHD, num_heads, dropout)  # type: ignore[no-untyped-call]
        return found
    heads_NS3HD = qkv_NSD.unflatten(-1, (3, num_heads, -1))
    if turn_SHD is not None:
        turned = _turned(heads_NS3HD[:, :, :2], turn_SHD).to(qkv_NSD.dtype)
        heads_NS3HD = torch.cat([turned, heads_NS3HD[:, :, 2:]], dim=2)
    query, key, value = heads_NS3HD.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout).transpose(1, 2).flatten(2)


def drop(x: Tensor, p: float) -> Tensor:
    """Dropout; on a CPU with numbers that are drawn two bytes at a time, in a fifth of the time of torch's."""
    if not p:
        return x
    if not _by_hand(x):
        return F.dropout(x, p)
    dropped: Tensor = _Dropped.apply(x, p)  # type: ignore[no-untyped-call]
    return dropped


class _Products(torch.autograd.Function):
    """Attention as products of matrices, which hold the map; gradients as of softmax, written out."""

    @staticmethod
    def forward(ctx: Any, qkv_NSD: Tensor, turn_SHD: Tensor | None, num_heads: int, dropout: float) -> Tensor:
        heads_NS3HD = qkv_NSD.unflatten(-1, (3, num_heads, -1))
        qk_NS2HD = heads_NS3HD[:, :, :2] if turn_SHD is None else _turned(heads_NS3HD[:, :, :2], turn_SHD)
        query, key = (_by_head(qk_NS2HD[:, :, at], qkv_NSD.dtype) for at in (0, 1))
        value = _by_head(heads_NS3HD[:, :, 2], qkv_NSD.dtype)
        scale = 1 / math.sqrt(query.shape[-1])
        map_MSS = torch.softmax(_scaled_product(query, key.transpose(1, 2), scale), dim=-1)
        keep, gain = (_draw_kept(map_MSS, dropout), 1 / (1 - dropout)) if dropout else (None, 1.0)
        ctx.save_for_backward(query, key, value, map_MSS, turn_SHD, keep)
        ctx.scale, ctx.gain, ctx.num_heads = scale, gain, num_heads
        return _in_places(_scaled_product(_kept(map_MSS, keep), value, gain), num_heads).flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NSD: Tensor) -> tuple[Tensor, None, None, None]:
        query, key, value, map_MSS, turn_SHD, keep = ctx.saved_tensors
        grad_MSD = _by_head(grad_NSD.unflatten(-1, (ctx.num_heads, -1)), map_MSS.dtype)
        of_value = _scaled_product(_kept(map_MSS, keep).transpose(1, 2), grad_MSD, ctx.gain)
        of_map = _kept(_scaled_product(grad_MSD, value.transpose(1, 2), ctx.gain), keep)
        of_scores = torch._softmax_backward_data(of_map, map_MSS, -1, map_MSS.dtype)
        of_query = _scaled_product(of_scores, key, ctx.scale)
        of_key = _scaled_product(of_scores.transpose(1, 2), query, ctx.scale)
        parts = torch.stack([_in_places(part, ctx.num_heads) for part in (of_query, of_key, of_value)], dim=2)
        if turn_SHD is not None:
            parts[:, :, :2] = _turned(parts[:, :, :2], turn_SHD.conj())
        return parts.flatten(2), None, None, None


class _Normed(torch.autograd.Function):
    """x / rms(x) * weight in single precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor) -> Tensor:
        x_ND = x.float().flatten(0, -2)
        length_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True)
        scale_N1 = (length_N1.square() / x.shape[-1] + EPSILON).rsqrt()
        ctx.save_for_backward(x, weight_D, scale_N1)
        return (x_ND * scale_N1).mul_(weight_D).view(x.shape).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight_D, scale_N1 = ctx.saved_tensors
        unit_ND = x.float().flatten(0, -2) * scale_N1
        grad_ND = grad.float().flatten(0, -2)
        of_weight_ND = grad_ND * unit_ND
        # no product of matrices, which autocast would take to half precision
        along_N1 = (of_weight_ND * weight_D).sum(-1, keepdim=True) / x.shape[-1]
        of_x_ND = torch.addcmul(grad_ND * weight_D, unit_ND, along_N1, value=-1).mul_(scale_N1)
        return of_x_ND.view(x.shape).to(x.dtype), of_weight_ND.sum(0).to(weight_D.dtype)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keep, ctx.gain = _draw_kept(x, p), 1 / (1 - p)
        ctx.save_for_backward(keep)
        return _kept(x, keep).mul_(ctx.gain)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _kept(grad, ctx.saved_tensors[0]).mul_(ctx.gain), None


def _by_hand(x: Tensor) -> bool:
    """Whether this is computed with gradients written out: on a CPU, where nobody else fuses it."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _turned(x_NS2HD: Tensor, turn_SHD: Tensor) -> Tensor:
    """Neighbouring elements as complex numbers, turned, in single precision."""
    pairs = torch.view_as_complex(x_NS2HD.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn_SHD[:, None]).flatten(-2)


def _by_head(x_NSHD: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, S, H, D) to (N x H, S, D), in one piece of memory."""
    x_NHSD = x_NSHD.transpose(1, 2)
    return x_NHSD.to(dtype, memory_format=torch.contiguous_format).flatten(0, 1)


def _in_places(x_MSD: Tensor, num_heads: int) -> Tensor:
    """(N x H, S, D) to (N, S, H, D)."""
    return x_MSD.unflatten(0, (-1, num_heads)).transpose(1, 2)


def _scaled_product(a_MXI: Tensor, b_MIY: Tensor, scale: float) -> Tensor:
    return torch.baddbmm(a_MXI.new_empty(1), a_MXI, b_MIY, beta=0, alpha=scale)


def _draw_kept(x: Tensor, p: float) -> Tensor:
    """For each element all bits set, or none with probability `p`, from torch's own generator."""
    count = x.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    # of 15 bits the sign is free, so that a difference cannot overflow
    bits = drawn.view(torch.int16)[:count].bitwise_and_(CHANCES - 1).sub_(round((1 - p) * CHANCES))
    return bits.bitwise_right_shift_(15).view(x.shape)


def _kept(x: Tensor, keep: Tensor | None) -> Tensor:
    if keep is None:
        return x
    bits = torch.int16 if x.element_size() == 2 else torch.int32
    return x.contiguous().view(bits).bitwise_and(keep.to(bits)).view(x.dtype)
