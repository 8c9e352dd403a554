"""SEANet: a convolutional encoder and decoder of one-channel waveforms, with an LSTM in between.

Source: Tagliasacchi et al., arXiv 2009.02095, as EnCodec (arXiv 2210.13438) and BrainOmni (arXiv 2505.18185) use it:
residual blocks with a convolution as shortcut, ELU, normalised weights, reflected edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

LSTM_LAYERS = 2


class NormedConv(nn.Module):
    """Convolution (or its transpose) whose weight is a direction and a length, and which keeps or divides the length.

    Parameters
    ----------
    n_in, n_out : int
    kernel : int
        Samples.
    stride : int
    transposed : bool
        Multiply the length by the stride instead of dividing it.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, transposed: bool = False) -> None:
        super().__init__()
        layer = (nn.ConvTranspose1d if transposed else nn.Conv1d)(n_in, n_out, kernel, stride)
        self.stride, self.transposed, self.kernel = stride, transposed, kernel
        self.weight_v = nn.Parameter(layer.weight.detach().clone())
        self.weight_g = nn.Parameter(_lengths(self.weight_v.detach()))
        self.bias = nn.Parameter(layer.bias.detach().clone())  # type: ignore[union-attr]
        self.folded: tuple[Tensor, Tensor] | None = None

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weight and bias: the direction at its length."""
        if self.folded is not None:
            return self.folded
        return self.weight_v * (self.weight_g / _lengths(self.weight_v)), self.bias

    def forward(self, x_BCT: Tensor) -> Tensor:
        """(B, n_in, T) to (B, n_out, T / stride), or T x stride."""
        weight, bias = self.weights()
        surplus = self.kernel - self.stride
        if self.transposed:
            y_BCT = F.conv_transpose1d(x_BCT, weight, bias, stride=self.stride, padding=surplus // 2)
            return y_BCT[..., surplus % 2 :]
        if surplus:
            # the last stride has to be whole
            missing = -x_BCT.shape[-1] % self.stride
            x_BCT = _reflect(x_BCT, surplus - surplus // 2, surplus // 2 + missing)
        if self.stride > 1 and x_BCT.dtype == torch.bfloat16 and x_BCT.device.type == "cpu":
            return _by_patches(x_BCT, weight, bias, self.stride)
        return F.conv1d(x_BCT, weight, bias, stride=self.stride)


class ResidualBlock(nn.Module):
    """ELU, kernel of three, ELU, kernel of one at half the width; beside it a kernel of one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = NormedConv(width, width // 2, 3)
        self.widen = NormedConv(width // 2, width, 1)
        self.shortcut = NormedConv(width, width, 1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Of the same shape."""
        return self.widen(F.elu(self.narrow(F.elu(x_BCT)))).add_(self.shortcut(x_BCT))


class SkipLstm(nn.Module):
    """Two LSTM layers over time, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, LSTM_LAYERS)
        self.folded: nn.LSTM | None = None

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Of the same shape."""
        x_TBC = x_BCT.permute(2, 0, 1)
        return ((self.folded or self.lstm)(x_TBC)[0] + x_TBC).permute(1, 2, 0)


class SeanetEncoder(nn.Module):
    """Waveforms to frames: (B, 1, T) to (B, embed_dim, T / product of ratios).

    Parameters
    ----------
    n_filters : int
        Width after the first convolution; doubled at each stride.
    ratios : sequence of int
        Strides in the decoder's order.
    kernel_size, last_kernel_size : int
    embed_dim : int
    """

    def __init__(
        self, *, n_filters: int, ratios: Sequence[int], kernel_size: int, last_kernel_size: int, embed_dim: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [NormedConv(1, n_filters, kernel_size)]
        width = n_filters
        for ratio in reversed(ratios):
            layers += [ResidualBlock(width), nn.ELU(), NormedConv(width, 2 * width, 2 * ratio, stride=ratio)]
            width *= 2
        layers += [SkipLstm(width), nn.ELU(), NormedConv(width, embed_dim, last_kernel_size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Frames of waveforms."""
        return self.layers(x_BCT)


class SeanetDecoder(nn.Module):
    """Frames to waveforms, the mirror image of the encoder: (B, embed_dim, frames) to (B, 1, T)."""

    def __init__(
        self, *, n_filters: int, ratios: Sequence[int], kernel_size: int, last_kernel_size: int, embed_dim: int
    ) -> None:
        super().__init__()
        width = n_filters * 2 ** len(ratios)
        layers: list[nn.Module] = [NormedConv(embed_dim, width, kernel_size), SkipLstm(width)]
        for ratio in ratios:
            up = NormedConv(width, width // 2, 2 * ratio, stride=ratio, transposed=True)
            layers += [nn.ELU(), up, ResidualBlock(width // 2)]
            width //= 2
        layers += [nn.ELU(), NormedConv(width, 1, last_kernel_size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Waveforms of frames."""
        return self.layers(x_BCT)


@contextmanager
def folded(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """While it lasts, convolutions and LSTMs below a module compute with fixed weights in one precision."""
    parts = [part for part in module.modules() if isinstance(part, NormedConv | SkipLstm)]
    try:
        for part in parts:
            if isinstance(part, SkipLstm):
                part.folded = deepcopy(part.lstm).to(dtype)
            else:
                weight, bias = (value.detach().to(dtype).contiguous() for value in part.weights())
                part.folded = weight, bias
        yield
    finally:
        for part in parts:
            part.folded = None


def _by_patches(x_BCT: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """A convolution with a stride as one product of matrices.

    torch 2.13 on processors with AMX gives other numbers (error as large as the signal) for some strided convolutions
    in bf16, such as 16 channels, kernel 8, stride 4.
    """
    patches_BFK = x_BCT.unfold(-1, weight.shape[-1], stride).transpose(1, 2).flatten(2)
    return F.linear(patches_BFK, weight.flatten(1), bias).transpose(1, 2)


def _reflect(x_BCT: Tensor, left: int, right: int) -> Tensor:
    """Mirrored ends; by joining pieces, which takes a tenth of the time of torch's padding in half precision."""
    missing = max(max(left, right) + 1 - x_BCT.shape[-1], 0)
    if missing:  # too short to be mirrored: zeros lend a hand, as in EnCodec
        x_BCT = F.pad(x_BCT, (0, missing))
    ends = x_BCT[..., 1 : left + 1].flip(-1), x_BCT[..., -right - 1 : -1].flip(-1)
    padded_BCT = torch.cat([ends[0], x_BCT, ends[1]] if right else [ends[0], x_BCT], dim=-1)
    return padded_BCT[..., : padded_BCT.shape[-1] - missing]


def _lengths(weight: Tensor) -> Tensor:
    """Norm over all axes but the first."""
    return weight.flatten(1).norm(dim=1).reshape(-1, 1, 1)
