"""Weights that let signals through from the first step.

With torch's own start, each of the thirteen convolutions halves the signal, so that what reaches the latents is their
biases: all codes are one, and hundreds of steps go by before they part. Here convolutions keep the power of what comes
in, biases are zero, and queries and keys are of a size at which attention chooses. A published checkpoint, which brings
all its weights, is not touched by this.

Source of the idea: He et al. 2015, arXiv 1502.01852; Salimans and Kingma 2016, arXiv 1602.07868, section 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from neuroloom.tokenizers.seanet import NormedConv, ResidualBlock

if TYPE_CHECKING:
    from neuroloom.tokenizers.braintokenizer import BrainTokenizer

ELU_GAIN = 1.25  # what an ELU takes from the standard deviation of a normal signal


@torch.no_grad()
def start_weights(model: BrainTokenizer) -> None:
    """Set all weights but the codebooks, in place."""
    dim = model.config.embed_dim
    for part in model.modules():
        if isinstance(part, NormedConv):
            start_convolution(part)
    for part in model.modules():
        if isinstance(part, ResidualBlock):
            part.widen.weight_g.mul_(math.sqrt(0.5))
            part.shortcut.weight_g.mul_(math.sqrt(0.5))
    for linear in (model.gather.key, model.gather.value, model.gather.out, model.scatter.out):
        _start_linear(linear, 1 / math.sqrt(dim))
    # what is scattered has the length of one, so its elements are small
    _start_linear(model.scatter.key_value, 1.0)
    for part in model.sensors.modules():
        if isinstance(part, nn.Linear):
            _start_linear(part, 1 / math.sqrt(part.in_features))
    first = model.sensors.place[0]
    nn.init.normal_(first.weight, 0, 1.0)  # type: ignore[arg-type]


def start_convolution(conv: NormedConv, gain: float = ELU_GAIN) -> None:
    """Outputs as large as inputs, where these are ELUs of unit size; zero bias."""
    conv.weight_v.normal_()
    n_first, n_second = conv.weight_v.shape[:2]
    length = math.sqrt(n_second * conv.stride / n_first) if conv.transposed else 1.0
    conv.weight_g.fill_(gain * length)
    conv.bias.zero_()


def _start_linear(linear: nn.Linear, sd: float) -> None:
    linear.weight.normal_(0, sd)
    linear.bias.zero_()
