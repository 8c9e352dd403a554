"""What every tokenizer does, and how one is found by its kind.

A tokenizer lives in `neuroloom.tokenizers.<kind>`, which names its class `TOKENIZER`. Its settings are a class in
`config.py`, which imports nothing heavy, so that a config is checked before any job without importing torch.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from neuroloom.manifest import ArtifactError
from neuroloom.passes.mapping import CorpusMap
from neuroloom.provenance import file_digest
from neuroloom.quarantine import UnusableRecording
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Segments
from neuroloom.training.checkpoint import CARD, SETTINGS, read_card

_LOADED = threading.local()  # the last tokenizer of each thread


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
        over: CorpusMap = map,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Learn from training recordings; facts for the card are returned.

        `over` takes passes over the corpus; `folder` keeps what a run that was killed goes on from.
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


@dataclass(frozen=True)
class TokenizerFolder:
    """A fitted tokenizer as workers are told of it: they load it by themselves, once in each process.

    Attributes
    ----------
    folder : Path
        Absolute.
    digest : str
        Of its card, which names the sha256 of the weights.
    """

    folder: Path
    digest: str

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The tokenizer in a folder, as it is now; errors as in `kind_of`."""
        kind_of(folder)
        return cls(folder.absolute(), file_digest(folder / CARD))

    def load(self) -> Tokenizer:
        """The tokenizer; each thread has its own, because a network is not for several at once.

        Raises
        ------
        ArtifactError
            If another one is there than was asked for.
        """
        if getattr(_LOADED, "asked", None) != self:
            if file_digest(self.folder / CARD) != self.digest:
                raise ArtifactError(f"{self.folder / CARD}: not the one this job began with. Run snakemake again")
            _LOADED.tokenizer, _LOADED.asked = load_tokenizer(self.folder), self
        return _LOADED.tokenizer
