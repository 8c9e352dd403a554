"""What every model of synthesis is: fitted to pieces of scans, it says mean and uncertainty of their BOLD.

A kind lives in a module of its own with `fit(config, parts, context)`, found by `KINDS`; so one more model is one more
module, and its settings in `config.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from neuroloom.records import Array
from neuroloom.synthesis.config import SynthesizeConfig
from neuroloom.synthesis.pieces import Piece

Parts = Mapping[str, Sequence[Piece]]
KINDS = {
    "mean": "neuroloom.synthesis.baselines:fit_mean",
    "ridge": "neuroloom.synthesis.baselines:fit_ridge_model",
    "artefact": "neuroloom.synthesis.baselines:fit_artefact",
    "haemodynamic": "neuroloom.synthesis.haemodynamic:fit",
    "cnn": "neuroloom.synthesis.networks:fit_cnn",
    "neurobolt": "neuroloom.synthesis.networks:fit_neurobolt",
}
Value = TypeVar("Value")


@dataclass(frozen=True)
class Context:
    """What models are given beside their own settings.

    Attributes
    ----------
    config : SynthesizeConfig
    rng : np.random.Generator
    eeg : mapping
        Scan -> manifest of its preprocessed EEG.
    encoder : Path or None
        Folder of the pretrained model that the settings name.
    kept : dict
        What was computed of a scan once, for all folds.
    """

    config: SynthesizeConfig
    rng: np.random.Generator
    eeg: Mapping[str, Path] = field(default_factory=dict)
    encoder: Path | None = None
    kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed when it is first asked for."""
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]


class Predictor(Protocol):
    """A fitted model."""

    facts: Mapping[str, Any]

    def predict(self, piece: Piece) -> tuple[Array, Array]:
        """Mean and SD of the target of a piece, (P, N) each; SD is NaN where a model has none."""
        ...


def fit_model(config: Any, parts: Parts, context: Context) -> Predictor:
    """Fit a model of any kind.

    Parameters
    ----------
    config : one of `config.SynthesizerConfig`
    parts : mapping
        `train` and `validation` -> pieces, scaled.
    context : Context
    """
    module, function = KINDS[config.kind].split(":")
    return getattr(import_module(module), function)(config, parts, context)


def no_uncertainty(mean_PN: Array) -> Array:
    """SD of a model that gives none."""
    return np.full(mean_PN.shape, np.nan)
