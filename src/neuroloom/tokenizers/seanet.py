"""SEANet: a convolutional encoder and decoder of one-channel waveforms, with an LSTM in between.

Source: Tagliasacchi et al., arXiv 2009.02095, as EnCodec (arXiv 2210.13438) and BrainOmni (arXiv 2505.18185) use it:
residual blocks with a convolution as shortcut, ELU, normalised weights, reflected edges. Channels lie last in memory,
where a processor convolves two to three times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

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

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, n_in) to (B, T / stride, n_out), or T x stride."""
        weight, bias = self.weights()
        surplus = self.kernel - self.stride
        if self.transposed:
            y_BTC = _convolve(x_BTC, weight, bias, self.stride, transposed=True)
            return y_BTC[:, surplus - surplus // 2 : y_BTC.shape[1] - surplus // 2]
        if surplus:
            # the last stride has to be whole
            missing = -x_BTC.shape[1] % self.stride
            x_BTC = _reflect(x_BTC, surplus - surplus // 2, surplus // 2 + missing)
        if self.stride > 1 and x_BTC.dtype == torch.bfloat16 and x_BTC.device.type == "cpu":
            return _by_patches(x_BTC, weight, bias, self.stride)
        return _convolve(x_BTC, weight, bias, self.stride)


class ResidualBlock(nn.Module):
    """ELU, kernel of three, ELU, kernel of one at half the width; beside it a kernel of one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = NormedConv(width, width // 2, 3)
        self.widen = NormedConv(width // 2, width, 1)
        self.shortcut = NormedConv(width, width, 1)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Of the same shape."""
        return self.widen(F.elu(self.narrow(F.elu(x_BTC)))).add_(self.shortcut(x_BTC))


class SkipLstm(nn.Module):
    """Two LSTM layers over time, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, LSTM_LAYERS)
        self.folded: nn.LSTM | None = None

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Of the same shape."""
        x_TBC = x_BTC.transpose(0, 1)
        return ((self.folded or self.lstm)(x_TBC)[0] + x_TBC).transpose(0, 1)


class SeanetEncoder(nn.Module):
    """Waveforms to frames: (B, T, 1) to (B, T / product of ratios, embed_dim).

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

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Frames of waveforms."""
        return self.layers(x_BTC)


class SeanetDecoder(nn.Module):
    """Frames to waveforms, the mirror image of the encoder: (B, frames, embed_dim) to (B, T, 1)."""

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

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Waveforms of frames."""
        return self.layers(x_BTC)


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


def _convolve(x_BTC: Tensor, weight: Tensor, bias: Tensor, stride: int, *, transposed: bool = False) -> Tensor:
    """A convolution without edges; on a CPU as one of images of one row, whose channels may lie last in memory."""
    x_BCT = x_BTC.transpose(1, 2)
    if x_BTC.device.type == "cpu":
        convolve = F.conv_transpose2d if transposed else F.conv2d
        return convolve(x_BCT[:, :, None], weight[:, :, None], bias, (1, stride)).squeeze(2).transpose(1, 2)
    convolve = F.conv_transpose1d if transposed else F.conv1d
    return convolve(x_BCT, weight, bias, stride).transpose(1, 2)


def _by_patches(x_BTC: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """A convolution with a stride as one product of matrices.

    torch 2.13 on processors with AMX gives other numbers (error as large as the signal) for some strided convolutions
    in bf16, such as 16 channels, kernel 8, stride 4.
    """
    patches_BFK = x_BTC.unfold(1, weight.shape[-1], stride).flatten(2)
    return F.linear(patches_BFK, weight.flatten(1), bias)


def _reflect(x_BTC: Tensor, left: int, right: int) -> Tensor:
    """Mirrored ends."""
    missing = max(max(left, right) + 1 - x_BTC.shape[1], 0)
    if missing:  # too short to be mirrored: zeros lend a hand, as in EnCodec
        x_BTC = F.pad(x_BTC, (0, 0, 0, missing))
    padded_BTC: Tensor = _Mirror.apply(x_BTC, left, right)  # type: ignore[no-untyped-call]
    return padded_BTC[:, : padded_BTC.shape[1] - missing]


class _Mirror(torch.autograd.Function):
    """Mirrored ends by joining pieces, which takes a tenth of the time of torch's padding in half precision.

    Its gradient is written out: torch's would fill an array of zeros for each piece.
    """

    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, left: int, right: int) -> Tensor:
        ctx.ends = left, right
        ends = x_BTC[:, 1 : left + 1].flip(1), x_BTC[:, -right - 1 : -1].flip(1)
        return torch.cat([ends[0], x_BTC, ends[1]] if right else [ends[0], x_BTC], dim=1)

    @staticmethod
    def backward(ctx: Any, grad_BTC: Tensor) -> tuple[Tensor, None, None]:
        left, right = ctx.ends
        n_times = grad_BTC.shape[1] - left - right
        inner_BTC = grad_BTC[:, left : left + n_times].clone()
        inner_BTC[:, 1 : left + 1] += grad_BTC[:, :left].flip(1)
        inner_BTC[:, n_times - 1 - right : n_times - 1] += grad_BTC[:, left + n_times :].flip(1)
        return inner_BTC, None, None


def _lengths(weight: Tensor) -> Tensor:
    """Norm over all axes but the first."""
    return weight.flatten(1).norm(dim=1).reshape(-1, 1, 1)
