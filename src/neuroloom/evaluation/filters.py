"""The first layer of `ShallowFBCSPNet` with the channels of the recording as those of the convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class FirstLayer(nn.Module):
    """Filters over time, then over all channels: (B, 1, T, C) -> (B, F, T - kernel + 1, 1).

    braindecode convolves images of one colour, whose kernel is as wide as there are channels; a processor takes five
    times as long for it.

    Parameters
    ----------
    combined : braindecode.modules.CombinedConv
        Whose weights are used, and stay under their names.
    """

    def __init__(self, combined: Any) -> None:
        super().__init__()
        self.conv_time, self.conv_spat = combined.conv_time, combined.conv_spat

    def forward(self, x_B1TC: Tensor) -> Tensor:
        """Filtered signals."""
        time_IK, space_FIC = self.conv_time.weight[:, 0, :, 0], self.conv_spat.weight[:, :, 0]
        weight_FCK, bias_F = joined(space_FIC, time_IK, self.conv_time.bias)
        if self.conv_spat.bias is not None:
            bias_F = bias_F + self.conv_spat.bias
        return F.conv2d(x_B1TC.permute(0, 3, 1, 2), weight_FCK[:, :, None], bias_F).transpose(2, 3)


def joined(space_FIC: Tensor, time_IK: Tensor, bias_I: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (F, C, K) and bias (F) of filters over time, with their bias, and then over channels, as one step."""
    return torch.einsum("fic,ik->fck", space_FIC, time_IK), torch.einsum("fic,i->f", space_FIC, bias_I)
