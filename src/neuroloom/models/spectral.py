"""The spectral branch of NeuroBOLT: magnitudes at several lengths of window, read by linear attention.

A window of EEG is cut into pieces of 0.5, 1, 2 and 4 s; the magnitude spectrum of each piece becomes a vector, and the
vectors of one length are mixed over time into as many tokens for every length, which add up. Codes of the electrode and
of the time are added, and all tokens of all channels read each other by attention whose cost is linear in their number.

Source: Li et al., NeurIPS 2024, arXiv 2410.05341; linear attention of Shen et al. 2021 (arXiv 1812.01243): softmax of
queries over a head's width and of keys over tokens, queries divided by the root of that width. Against the authors'
code: one transform for each length, of all channels at once; electrodes by name; pieces of all lengths are mixed in one
product; what a head has gathered is multiplied into the output's weights, which are fewer than tokens; in the last
layer the average is taken before the last product.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from neuroloom.models.config import NeuroBOLTConfig
from neuroloom.models.labram import Mlp, draw_lost, dropped

EPSILON = 1e-5  # of its norms
LONGEST_TURN = 10_000.0  # tokens over 2 pi, of the slowest sine in the code of time


class LinearAttention(nn.Module):
    """Attention without a map of tokens by tokens, then an Mlp; each is added to what it reads."""

    def __init__(self, config: NeuroBOLTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.num_heads, self.dropout = config.spectral_heads, config.spectral_dropout
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.mlp = Mlp(dim, 4 * dim, EPSILON)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens that have read each other."""
        x_BND = self.attend(x_BND)
        return x_BND + self.mlp(x_BND)

    def average(self, x_BND: Tensor) -> Tensor:
        """The average (B, D) of what `forward` gives."""
        x_BND = self.attend(x_BND)
        return x_BND.mean(dim=1) + self.mlp.narrow(self.mlp.hidden(x_BND).mean(dim=1))

    def attend(self, x_BND: Tensor) -> Tensor:
        """Tokens with what they have read of the others."""
        queries_BND, keys_BND, values_BND = self.qkv(self.norm(x_BND)).chunk(3, dim=-1)
        # in single precision: of rows as short as a head, torch's softmax in half precision is seven times slower
        heads_BNHF = queries_BND.float().unflatten(-1, (self.num_heads, -1))
        share_BND = torch.softmax(heads_BNHF, dim=-1).flatten(2).to(values_BND.dtype)
        gathered_BHFF = self._gathered(torch.softmax(keys_BND, dim=1).to(values_BND.dtype), values_BND)
        out_HFD = self.out.weight.T.unflatten(0, (self.num_heads, -1)).to(gathered_BHFF.dtype)
        weight_BFD = (gathered_BHFF @ out_HFD).flatten(1, 2)
        if not (self.training and self.dropout):
            return x_BND + (share_BND @ weight_BFD + self.out.bias)
        left = 1 - self.dropout
        added_BND = share_BND @ (weight_BFD / left) + self.out.bias / left
        return x_BND + added_BND.masked_fill(draw_lost(added_BND.shape, self.dropout, x_BND.device), 0)

    def _gathered(self, keys_BND: Tensor, values_BND: Tensor) -> Tensor:
        """What each head's keys gather of its values, divided by the root of its width."""
        keys_BHFN = keys_BND.unflatten(-1, (self.num_heads, -1)).permute(0, 2, 3, 1)
        values_BHNF = values_BND.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return (keys_BHFN @ values_BHNF) * keys_BHFN.shape[2] ** -0.5


class SpectralBranch(nn.Module):
    """The branch.

    Parameters
    ----------
    config : NeuroBOLTConfig
    """

    index_C: Tensor
    time_ND: Tensor

    def __init__(self, config: NeuroBOLTConfig) -> None:
        super().__init__()
        self.scales, self.dropout, dim = config.scales, config.position_dropout, config.embed_dim
        n_tokens = config.n_times // config.scales[0]
        self.frequencies = nn.ModuleList(nn.Linear(size // 2 + 1, dim) for size in config.scales)
        self.mixes = nn.ModuleList(nn.Linear(config.n_times // size, n_tokens) for size in config.scales)
        self.electrode = nn.Embedding(config.n_electrodes, dim)
        self.register_buffer("index_C", torch.arange(config.n_electrodes))
        self.register_buffer("time_ND", code_of_time(n_tokens, dim), persistent=False)
        self.layers = nn.ModuleList(LinearAttention(config) for _ in range(config.spectral_depth))

    def forward(self, eeg_BCT: Tensor, rows_C: Tensor) -> Tensor:
        """One vector (B, D) of each segment.

        Parameters
        ----------
        eeg_BCT : tensor
            uV / 100, of the length that the config says.
        rows_C : int tensor
            Places of the channels among the electrodes that it knows.
        """
        x_BND = self.tokens(eeg_BCT, rows_C)
        for layer in self.layers[:-1]:
            x_BND = layer(x_BND)
        last: Any = self.layers[-1]
        return last.average(x_BND)

    def tokens(self, eeg_BCT: Tensor, rows_C: Tensor) -> Tensor:
        """What the first layer reads (B, C * tokens, D), channel by channel."""
        spectra = [magnitudes(eeg_BCT, size) for size in self.scales]
        pieces_BCWD = torch.cat([part(x) for part, x in zip(self.frequencies, spectra, strict=True)], dim=2)
        mixes: list[Any] = list(self.mixes)
        mixed_BCND = torch.cat([part.weight for part in mixes], dim=1).to(pieces_BCWD.dtype) @ pieces_BCWD
        bias_ND = torch.stack([part.bias for part in mixes]).sum(dim=0)[:, None] + self.time_ND
        code_CND = self.electrode(self.index_C[rows_C])[:, None] + bias_ND
        return dropped((mixed_BCND + code_CND).flatten(1, 2), self.dropout, training=self.training)


def magnitudes(eeg_BCT: Tensor, n_fft: int) -> Tensor:
    """Magnitude spectra (B, C, W, F) of pieces that follow each other, with a rectangular window, not scaled."""
    return torch.fft.rfft(eeg_BCT.float().unflatten(-1, (-1, n_fft))).abs()


def code_of_time(n_tokens: int, dim: int) -> Tensor:
    """Sines and cosines in turn, slower and slower, (N, D) (Vaswani et al. 2017, arXiv 1706.03762)."""
    rate_F = torch.exp(torch.arange(0, dim, 2) * (-math.log(LONGEST_TURN) / dim))
    phase_NF = torch.arange(n_tokens)[:, None] * rate_F
    return torch.stack([phase_NF.sin(), phase_NF.cos()], dim=-1).flatten(1)
