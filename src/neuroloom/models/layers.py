"""Parts of a transformer: attention, a gated feed-forward layer, and a stack of both.

No biases, norms before each part in single precision, no dropout, as in REVE (arXiv 2510.21585). Attention is torch's
own; in half precision on a CPU, whose kernel for it is slow in training, the products are written out. Weights start
with the published SD at the published width; narrower layers start with more, or they would let nothing through.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.tokenizers.sources import RMSNorm

WRITTEN_OUT = 1024  # tokens up to which attention is written out: its weights stay in memory for the gradient
ALIGNED = 16  # rows of another width make products slow, but for half precision on a CPU
START_SD, START_DIM = 0.02, 512


def attend(queries_BNF: Tensor, keys_BNF: Tensor, values_BNF: Tensor, num_heads: int) -> Tensor:
    """Scaled dot-product attention in heads.

    Parameters
    ----------
    queries_BNF : tensor (B, queries, heads x head width)
    keys_BNF, values_BNF : tensor (B, tokens, heads x head width)
    num_heads : int

    Returns
    -------
    tensor (B, queries, heads x head width)
    """
    parts = [x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (queries_BNF, keys_BNF, values_BNF)]
    half_on_cpu = queries_BNF.device.type == "cpu" and queries_BNF.dtype == torch.bfloat16
    if half_on_cpu and keys_BNF.shape[1] <= WRITTEN_OUT:
        attended = _written_out(*parts)
    else:
        attended = F.scaled_dot_product_attention(*parts)
    return attended.transpose(1, 2).flatten(2)


def _written_out(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Of (B, heads, N, F) each; the softmax adds up in single precision."""
    shape = queries.shape
    queries, keys, values = (x.flatten(0, 1) for x in (queries, keys, values))
    nothing = queries.new_empty(()).expand(len(queries), queries.shape[1], keys.shape[1])
    scores = torch.baddbmm(nothing, queries, keys.mT, beta=0, alpha=shape[-1] ** -0.5)
    return torch.bmm(torch.softmax(scores, dim=-1, dtype=scores.dtype), values).view(shape)


class Attention(nn.Module):
    """Every token attends to all; heads together may be wider than a token."""

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, dim, bias=False)

    @torch.no_grad()
    def start_local(self, gain: float) -> None:
        """Queries become keys, and both so many times as large."""
        queries_FD, keys_FD, _ = self.qkv.weight.chunk(3)
        queries_FD.mul_(gain)
        keys_FD.copy_(queries_FD)

    def forward(self, x_BND: Tensor, start: int = 0) -> Tensor:
        """What is added to the tokens from `start` on."""
        normed_BND = self.norm(x_BND)
        if start:
            inner = self.out.in_features
            weight = self.qkv.weight
            queries = F.linear(normed_BND[:, start:], weight[:inner])
            keys, values = F.linear(normed_BND, weight[inner:]).chunk(2, dim=-1)
        else:
            queries, keys, values = self.qkv(normed_BND).chunk(3, dim=-1)
        return self.out(attend(queries, keys, values, self.num_heads))


class FeedForward(nn.Module):
    """To a wider layer and back, gated: values times the GELU of gates (GEGLU, Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim)
        self.widen = nn.Linear(dim, 2 * hidden, bias=False)
        self.narrow = nn.Linear(hidden, dim, bias=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        """What is added to the tokens."""
        missing = -self.narrow.in_features % ALIGNED
        widen, narrow = self.widen.weight, self.narrow.weight
        if missing and not (x_BND.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            # rows of zeros: a gate of zero lets nothing through, so the result is the same
            widen = F.pad(widen.unflatten(0, (2, -1)), (0, 0, 0, missing)).flatten(0, 1)
            narrow = F.pad(narrow, (0, missing))
        values, gates = F.linear(self.norm(x_BND), widen).chunk(2, dim=-1)
        return F.linear(F.gelu(gates) * values, narrow)


class Layer(nn.Module):
    """Attention and feed-forward, each added to what it reads."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(dim, num_heads, head_dim)
        self.feed_forward = FeedForward(dim, hidden)

    def forward(self, x_BND: Tensor, start: int = 0) -> Tensor:
        """Tokens from `start` on, which have read all."""
        x_BND = x_BND[:, start:] + self.attention(x_BND, start)
        return x_BND + self.feed_forward(x_BND)


class Transformer(nn.Module):
    """Layers one after the other, without a norm at the end.

    Parameters
    ----------
    dim : int
        Width of a token.
    depth, num_heads, head_dim : int
    mlp_ratio : float
        Width of the feed-forward layer over that of a token, cut to a whole number.
    local_start : float
        Above 0, queries and keys start alike, and so many times as large: a token first looks at those whose place has
        a like code. From chance, attention over channels around their average sees nothing at all, and takes long to
        find out where to look.
    """

    def __init__(
        self, dim: int, *, depth: int, num_heads: int, head_dim: int, mlp_ratio: float, local_start: float = 0.0
    ) -> None:
        super().__init__()
        hidden = int(mlp_ratio * dim)
        self.layers = nn.ModuleList(Layer(dim, num_heads, head_dim, hidden) for _ in range(depth))
        for part in self.modules():
            if isinstance(part, nn.Linear):
                start_normal(part.weight, START_SD * (START_DIM / dim) ** 0.5)
        for part in self.modules():
            if local_start and isinstance(part, Attention):
                part.start_local(local_start)

    def states(self, x_BND: Tensor, *, start: int = 0) -> Iterator[Tensor]:
        """The tokens, then those after each layer; the last layer makes only those from `start` on."""
        yield x_BND
        for layer in self.layers[:-1]:
            x_BND = layer(x_BND)
            yield x_BND
        yield self.layers[-1](x_BND, start)

    def forward(self, x_BND: Tensor, *, start: int = 0) -> Tensor:
        """Tokens after the last layer, from `start` on."""
        for state_BND in self.states(x_BND, start=start):
            x_BND = state_BND
        return x_BND


def start_normal(weight: Tensor, sd: float = START_SD) -> None:
    """Normal numbers, none beyond three SDs, in place; draws from torch's generator."""
    nn.init.trunc_normal_(weight, std=sd, a=-3 * sd, b=3 * sd)
