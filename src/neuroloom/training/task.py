"""What the training loop is given to learn, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

B_contra = TypeVar("B_contra", contravariant=True)


class Task(Protocol[B_contra]):
    """What is learned; a class that names this one as its base gets the two methods that follow `loss`."""

    def loss(self, model: Any, batch: B_contra, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss over the rows of a batch, a scalar with gradient, and further scalars to be written down.

        `generator` is on the device and starts anew at each step, equal on every process: numbers for single rows
        are drawn for all of `batch.rows` and cut.
        """
        ...

    def after_step(self, model: Any) -> None:
        """What changes by itself after an optimizer step; default nothing."""
        return

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        """Groups of the optimizer, with what differs from the config in each; default one group of all."""
        return [{"params": [param for param in model.parameters() if param.requires_grad]}]


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes
    ----------
    step, tokens : int
        Steps done and tokens seen.
    weights : dict of Tensor
        Averaged ones where the config has `ema`, else the last ones, which `model` also holds.
    metrics : DataFrame
        One row for each step: step, tokens, lr, seconds, waiting_seconds, grad_norm, loss, the task's metrics, and
        `validation_*` at the steps that were validated. Seconds are the host's, which a GPU lags behind. After a resume
        only the first process has the rows of before.
    """

    step: int
    tokens: int
    weights: dict[str, Tensor]
    metrics: pd.DataFrame

    @property
    def last(self) -> dict[str, float]:
        """The last row of the metrics, without what was not measured then."""
        return {str(name): float(value) for name, value in self.metrics.iloc[-1].dropna().items()}


def groups_by_decay(model: Any, plain: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Two groups of the trained parameters: those that decay as the config says, and the `plain` ones, which do not."""
    trained = {name: param for name, param in model.named_parameters() if param.requires_grad}
    return [
        {"params": [param for name, param in trained.items() if not plain(name)]},
        {"params": [param for name, param in trained.items() if plain(name)], "weight_decay": 0.0},
    ]
