"""What is put on an encoder, and into it, to answer a question: a pooling head, low-rank adapters, and their count.

Head: one learned query attends to all tokens, then RMSNorm and a linear layer (REVE, arXiv 2510.21585, its code).
Changed against it: tokens are standardised by what they are in training at the start, which a few epochs could not
learn; the query starts at zero, where attention is the mean over tokens; no dropout.
Adapters: LoRA (Hu et al. 2021, arXiv 2106.09685), as a parametrization of the weight, so that they are there wherever a
model reads it. Scale 1, as REVE's alpha = rank.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuroloom.evaluation.examples import AT_ONCE, Group
from neuroloom.models.base import Encoder
from neuroloom.records import Array
from neuroloom.schema import ConfigError

RANK = 16  # of adapters, as published for REVE
EPS = 1e-6


class AttentiveHead(nn.Module):
    """Attention pooling and a linear reader: tokens (B, N, D) -> (B, L).

    Parameters
    ----------
    mean_D, sd_D : Tensor
        Of tokens in training; they stay as they are.
    n_outputs : int
    """

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, mean_D: Tensor, sd_D: Tensor, *, n_outputs: int) -> None:
        super().__init__()
        width = len(mean_D)
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("scale_D", torch.ones(width))
        self.standardise(mean_D, sd_D)
        self.query_D = nn.Parameter(torch.zeros(width))
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.linear = nn.Linear(width, n_outputs)

    def standardise(self, mean_D: Tensor, sd_D: Tensor) -> None:
        """Read tokens in units of their SD from their mean, from here on."""
        self.mean_D.copy_(mean_D)
        # a feature that never changes in training says nothing, and would be blown up where it does later
        self.scale_D.copy_(torch.where(sd_D > 0, 1 / sd_D.clamp_min(1e-12), 0.0))

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Logits of the classes, or a value."""
        scaled_BND = (tokens_BND - self.mean_D) * self.scale_D
        weight_BN = (scaled_BND @ self.query_D / len(self.query_D) ** 0.5).softmax(dim=1)
        return self.linear(self.norm(torch.einsum("bn,bnd->bd", weight_BN, scaled_BND)))


class Reader(nn.Module):
    """An encoder with a head; with `frozen`, the encoder stays in evaluation mode and has no gradient."""

    def __init__(self, encoder: Encoder, head: AttentiveHead, *, frozen: bool = False) -> None:
        super().__init__()
        self.encoder, self.head, self._frozen = encoder, head, frozen

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits of the classes, or a value."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            tokens_BND = self.encoder(*inputs)
        return self.head(tokens_BND)

    def train(self, mode: bool = True) -> Reader:
        """Dropout of a frozen encoder would make its tokens others than those of the probe."""
        super().train(mode)
        self.encoder.train(mode and not self._frozen)
        return self


class LowRank(nn.Module):
    """A weight plus a product of two thin matrices, of which the second starts at zero.

    Parameters
    ----------
    shape : tuple of int
        Outputs (F) and inputs (I).
    rank : int
        N.
    """

    def __init__(self, shape: tuple[int, int], rank: int) -> None:
        super().__init__()
        self.down_NI = nn.Parameter(torch.randn(rank, shape[1]) / shape[1] ** 0.5)
        self.up_FN = nn.Parameter(torch.zeros(shape[0], rank))

    def forward(self, weight_FI: Tensor) -> Tensor:
        """The adapted weight."""
        return weight_FI + self.up_FN @ self.down_NI


def targets(encoder: Encoder, used: Collection[str]) -> Iterator[tuple[str, nn.Linear]]:
    """Linear layers that `lora_targets` names and that the tokens depend on."""
    for name, module in encoder.named_modules():
        named = any(name == end or name.endswith(f".{end}") for end in encoder.lora_targets)
        if named and isinstance(module, nn.Linear) and f"{name}.weight" in used:
            yield name, module


def add_adapters(encoder: Encoder, used: Collection[str], *, rank: int = RANK) -> None:
    """Adapters into an encoder, in place; all else of it is frozen. Draws from torch's generator.

    Raises
    ------
    ConfigError
        If no layer has one of the names.
    """
    encoder.requires_grad_(False)
    found = list(targets(encoder, used))
    if not found:
        raise ConfigError(
            f"lora: {type(encoder).__name__} has no linear layer named {' or '.join(encoder.lora_targets)} that its "
            "tokens depend on; mend lora_targets of the class"
        )
    for _, module in found:
        shape = (module.out_features, module.in_features)
        adapter = LowRank(shape, min(rank, *shape)).to(module.weight.device)
        parametrize.register_parametrization(module, "weight", adapter)


def tokens_of(read: nn.Module, group: Group, rows_N: Array, device: str = "cpu") -> Iterator[tuple[Array, Tensor]]:
    """Tokens of some rows of a group without gradient, a few at a time; `read` is an encoder's forward."""
    for at in range(0, len(rows_N), AT_ONCE):
        batch_N = rows_N[at : at + AT_ONCE]
        with torch.no_grad():
            yield batch_N, read(*group.rows(batch_N, device))


def token_statistics(
    read: nn.Module, groups: Sequence[Group], windows_N: Array, *, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Mean and SD (D,) of the tokens of some windows, on the CPU."""
    total_D, square_D, count = torch.zeros(1).double(), torch.zeros(1).double(), 0
    for group in groups:
        rows_N = np.flatnonzero(np.isin(group.windows_N, windows_N))
        for _, tokens_BND in tokens_of(read, group, rows_N, device):
            tokens_ND = tokens_BND.flatten(0, 1).double().cpu()
            total_D, square_D = total_D + tokens_ND.sum(dim=0), square_D + (tokens_ND**2).sum(dim=0)
            count += len(tokens_ND)
    mean_D = total_D / count
    return mean_D, (square_D / count - mean_D**2).clamp_min(0).sqrt()


def used_parameters(encoder: Encoder, inputs: tuple[Tensor, ...]) -> frozenset[str]:
    """Names of the parameters that the tokens of these inputs depend on, frozen or not.

    Not all of a pretrained model serves its tokens: decoders, heads of the pretraining, a tokenizer that `inputs` uses.
    """
    named = {name: value for name, value in encoder.named_parameters() if value.is_floating_point()}
    before = {name: value.requires_grad for name, value in named.items()}
    # flags cannot be asked: whether they are right is what the count is to find out
    for value in named.values():
        value.requires_grad_(True)
    with torch.enable_grad():
        total = encoder(*inputs).float().sum()
        reached = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    for name, value in named.items():
        value.requires_grad_(before[name])
    return frozenset(name for name, gradient in zip(named, reached, strict=True) if gradient is not None)


def expected_trainable(
    regime: str, encoder: Encoder, n_outputs: int, *, used: Collection[str], rank: int = RANK
) -> int:
    """Numbers that a regime trains, from the shapes of the encoder as it was pretrained.

    Parameters
    ----------
    regime : str
        `linear`, `attentive`, `lora`, `full` or `scratch`.
    encoder : Encoder
        Without adapters.
    n_outputs : int
        Classes, or 1 for a value.
    used : collection of str
        Parameters that the tokens depend on.
    rank : int
        Of the adapters, or the smaller side of a weight where that is less.
    """
    width = encoder.embed_dim
    if regime == "linear":
        return linear_size(width, n_outputs)
    head = 2 * width + n_outputs * (width + 1)
    shapes = {name: tuple(value.shape) for name, value in encoder.named_parameters() if name in used}
    if regime == "lora":
        adapted = [shapes[f"{name}.weight"] for name, _ in targets(encoder, used)]
        return head + sum(min(rank, *shape) * sum(shape) for shape in adapted)
    return head + (0 if regime == "attentive" else sum(prod(shape) for shape in shapes.values()))


def linear_size(n_features: int, n_outputs: int) -> int:
    """Weights of logistic (ridge) regression: two classes need one set."""
    return (1 if n_outputs == 2 else n_outputs) * (n_features + 1)


def trainable(module: nn.Module) -> int:
    """Numbers of a network that require a gradient."""
    return sum(value.numel() for value in module.parameters() if value.requires_grad)


def check_trainable(regime: str, module: nn.Module, expected: int, *, beside: int = 0) -> int:
    """The number of trained parameters, if it is that of the declared regime.

    Parameters
    ----------
    regime : str
    module : nn.Module
        Encoder, adapters and head.
    expected : int
        By `expected_trainable`.
    beside : int
        Trained outside of the network.

    Raises
    ------
    ConfigError
        With both numbers and a tensor that is trained.
    """
    found = trainable(module) + beside
    if found != expected:
        names = [name for name, value in module.named_parameters() if value.requires_grad]
        raise ConfigError(
            f"regime {regime}: {found:,} parameters would be trained, it has {expected:,}; the first of "
            f"{len(names)} tensors is {names[0] if names else '(none)'}: freeze what does not belong to it, or free "
            "what does, with requires_grad_"
        )
    return found
