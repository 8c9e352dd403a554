"""What every tokenizer does, and how one is found by its kind.

A tokenizer lives in `neuroloom.tokenizers.<kind>`, which names its class `TOKENIZER`. Its settings are a class in
`config.py`, which imports nothing heavy, so that a config is checked before any job without importing torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from neuroloom.quarantine import UnusableRecording
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Segments
from neuroloom.training.checkpoint import CARD, SETTINGS, read_card


@dataclass(frozen=True)
class Tokens:
    """Discrete tokens of a batch of segments.

    Attributes
    ----------
    codes : int array or tensor (B, latents, steps, quantizers)
        Index into each codebook.
    features : float array or tensor (B, latents, steps, D)
        What the codes stand for, as models read it.
    """

    codes: Any
    features: Any


class Tokenizer(Protocol):
    """Turns prepared segments into tokens and back."""

    sfreq: float
    """Hz; what it was fitted on."""

    @property
    def step(self) -> float:
        """Time between two tokens of one latent, s."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of each quantizer's codebook."""

    def fit(
        self,
        corpus: Sequence[Segments],
        *,
        rng: np.random.Generator,
        validation: Sequence[Segments] = (),
        scheduler: Any = "threads",
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Learn from training recordings; facts for the card are returned.

        `scheduler` is Dask's, for corpus passes; `folder` keeps what a run that was killed goes on from.
        """

    def encode(self, signal_BCT: Any, positions_BC6: Any, sensor_type_BC: Any, overlap: float = 0.0) -> Tokens:
        """Codes and features of segments."""

    def embed(self, codes: Any) -> Any:
        """Features that codes stand for: (..., quantizers) to (..., D)."""

    def decode(self, features: Any, positions_BC6: Any, sensor_type_BC: Any) -> Any:
        """Signal that features stand for: (B, C, T), or windows that follow one another, (B, C, windows, samples)."""

    def save(self, folder: Path) -> None:
        """Weights as safetensors, settings as JSON."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote."""


def tokenizer_class(kind: str) -> type[Tokenizer]:
    """The class of a kind of tokenizer."""
    return import_module(f"neuroloom.tokenizers.{kind}").TOKENIZER


def kind_of(folder: Path) -> str:
    """Kind of the tokenizer that a folder holds.

    Raises
    ------
    ConfigError
        If the folder holds none.
    UnusableRecording
        If there was nothing to fit it on.
    """
    path = folder / SETTINGS
    if not path.exists():
        raise ConfigError(f"{folder}: no tokenizer there (no config.json); name the folder that fit_tokenizer wrote")
    settings = json.loads(path.read_text())
    if "unusable" in settings:
        raise UnusableRecording(**settings["unusable"])
    return str(settings["kind"])


def load_tokenizer(folder: Path) -> Tokenizer:
    """A fitted tokenizer of any kind, from the folder that it was saved in.

    Raises
    ------
    ArtifactError
        If the weights are not those that its card names.
    """
    kind = kind_of(folder)
    if (folder / CARD).exists():
        read_card(folder)
    return tokenizer_class(kind).load(folder)
