"""What every foundation model is, and how one is found by its kind.

A model lives in `neuroloom.models.<kind>`, which names its class `MODEL`; its settings are a class in `config.py`. What
evaluation and fine-tuning need of it stands here, so that another model, or another modality, is one module more.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from neuroloom.quarantine import UnusableRecording
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Preparation, Segments
from neuroloom.tokenizers.tokens import TokenSet
from neuroloom.training.checkpoint import CARD, SETTINGS, read_card


@dataclass(frozen=True)
class Corpus:
    """Recordings that a model is pretrained or validated on.

    Attributes
    ----------
    segments : sequence of Segments
        Signals, as the model wants them prepared; empty for a model that reads tokens.
    tokens : sequence of TokenSet
        Codes of the devices, for a model that reads tokens; only recordings in `recordings` may be used.
    recordings : frozenset of str
        Which of them belong to this part of the split.
    """

    segments: Sequence[Segments] = ()
    tokens: Sequence[TokenSet] = ()
    recordings: frozenset[str] = frozenset()


class Encoder(nn.Module):
    """An encoder of segments of any sensors: signals in, tokens out.

    Work is divided in two, so that what never changes in fine-tuning is computed once: `inputs` (a frozen tokenizer,
    or nothing at all) and `forward` (what is trained).

    Attributes
    ----------
    config : ReveConfig or the like
    preparation : str
        How segments are prepared for it.
    lora_targets : tuple of str
        Last parts of the names of the linear layers that LoRA adapts.
    sfreq : float
        Rate of the signals, Hz.
    embed_dim : int
        Width of a token.
    """

    config: Any
    preparation: ClassVar[Preparation]
    lora_targets: ClassVar[tuple[str, ...]]
    sfreq: float
    embed_dim: int

    @abstractmethod
    def inputs(self, signal_BCT: Tensor, positions_BC6: Tensor, sensor_type_BC: Tensor) -> tuple[Tensor, ...]:
        """What `forward` reads, one row for each segment, without gradient.

        Parameters
        ----------
        signal_BCT : tensor
            As `preparation` says, at `sfreq`.
        positions_BC6 : tensor
            Position and orientation, as `preparation` says.
        sensor_type_BC : int tensor
            0 EEG, 1 magnetometer or axial gradiometer, 2 planar gradiometer.
        """

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Tokens (B, N, D) of rows of `inputs`."""

    @abstractmethod
    def pretrain(
        self, corpus: Corpus, validation: Corpus, *, rng: np.random.Generator, folder: Path | None = None
    ) -> dict[str, Any]:
        """Learn from recordings without labels; facts for the card. `folder` gets checkpoints and `metrics.parquet`."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Weights as safetensors, settings as JSON."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote."""

    @classmethod
    @abstractmethod
    def create(cls, config: Any, *, sfreq: float, tokenizer: Any = None, seed: int = 0) -> Self:
        """A model with weights as training starts with them; `tokenizer` is the fitted one that its config names."""

    def restarted(self, seed: int) -> Self:
        """The same architecture with weights as training starts with them."""
        tokenizer = getattr(self, "tokenizer", None)
        return self.create(self.config, sfreq=self.sfreq, tokenizer=tokenizer, seed=seed)


def model_class(kind: str) -> type[Encoder]:
    """The class of a kind of model."""
    return import_module(f"neuroloom.models.{kind}").MODEL


def load_model(folder: Path) -> Encoder:
    """A pretrained model of any kind, from the folder that it was saved in.

    Raises
    ------
    ConfigError
        If the folder holds none.
    UnusableRecording
        If there was nothing to train it on.
    ArtifactError
        If the weights are not those that its card names.
    """
    path = folder / SETTINGS
    if not path.exists():
        raise ConfigError(f"{folder}: no model there (no {SETTINGS}); name the folder that pretrain_model wrote")
    settings = json.loads(path.read_text())
    if "unusable" in settings:
        raise UnusableRecording(**settings["unusable"])
    if (folder / CARD).exists():
        read_card(folder)
    return model_class(settings["kind"]).load(folder)
