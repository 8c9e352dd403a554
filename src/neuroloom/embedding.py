"""Features of one recording by a fitted model or tokenizer, one row a window."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroloom.artifacts import Artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import check_contamination
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.base import kind_of, load_tokenizer
from neuroloom.training.checkpoint import CARD, SETTINGS, read_card

if TYPE_CHECKING:
    import pandas as pd

    from neuroloom.tokenizers.segments import Segments

TOKENIZERS = ("lipcot", "braintokenizer")
Seen = str  # yes, no or unknown


def embed_recording(artifact: Artifact, folder: Path, *, window: float | None = None) -> pd.DataFrame:
    """Mean features of each usable window.

    Parameters
    ----------
    artifact : Artifact
        A `recording` of preprocess_meeg.
    folder : Path
        Of a model or a tokenizer.
    window : float, optional
        s; default: the windows of the store.

    Returns
    -------
    DataFrame
        `recording`, `start` (s), and `feature0`, `feature1`, ...

    Raises
    ------
    ConfigError
        If the folder holds neither a model nor a tokenizer.
    UnusableRecording
        If nothing of the recording can be read.
    """
    import pandas as pd

    segments, features = _reader(artifact, folder, window)
    feature_ND = np.stack([features(segments, at) for at in range(len(segments))])
    table = pd.DataFrame(feature_ND, columns=[f"feature{at}" for at in range(feature_ND.shape[1])])
    start_N = segments.start_N / float(artifact.attrs["sfreq"])
    table.insert(0, "start", start_N)
    table.insert(0, "recording", segments.recording)
    return table


def _reader(
    artifact: Artifact, folder: Path, window: float | None
) -> tuple[Segments, Callable[[Segments, int], Array]]:
    """Segments as the network wants them, and its function from one of them to (D,)."""
    from neuroloom.tokenizers.segments import Segments

    if not (folder / SETTINGS).exists():
        raise ConfigError(
            f"{folder}: no model there (no {SETTINGS}); name a folder such as results/<study>/pretrain/<model>/fold-0, "
            "results/<study>/tokenize/<tokenizer>/fold-0, or one of `neuroloom import-weights`"
        )
    if kind_of(folder) in TOKENIZERS:
        tokenizer = load_tokenizer(folder)
        return Segments(artifact, sfreq=tokenizer.sfreq, duration=window), _by_tokenizer(tokenizer)
    from neuroloom.models.base import load_model

    encoder = load_model(folder).eval()
    prepared = Segments(artifact, sfreq=encoder.sfreq, preparation=encoder.preparation, duration=window)
    return prepared, _by_encoder(encoder)


def _by_tokenizer(tokenizer: Any) -> Callable[[Segments, int], Array]:
    def features(segments: Segments, at: int) -> Array:
        tokens_BLSD = np.asarray(tokenizer.encode(segments.read(at), *segments.sensors(1)).features)
        return np.asarray(tokens_BLSD[0].reshape(-1, tokens_BLSD.shape[-1]).mean(axis=0), np.float32)

    return features


def _by_encoder(encoder: Any) -> Callable[[Segments, int], Array]:
    import torch

    def features(segments: Segments, at: int) -> Array:
        given = [torch.from_numpy(np.ascontiguousarray(one)) for one in (segments.read(at), *segments.sensors(1))]
        with torch.no_grad():
            return np.asarray(encoder(*encoder.inputs(*given))[0].mean(dim=0).numpy(), np.float32)

    return features


def has_seen(folder: Path, row: RecordingRow | None) -> Seen:
    """Whether the card of a model names the person of a recording; unknown where there is no card, or no row."""
    if row is None or not (folder / CARD).exists():
        return "unknown"
    met = check_contamination(read_card(folder), [row], allow_seen_subjects=True, file=str(folder / CARD))
    return "yes" if any(met.values()) else "no"


def write_features(table: pd.DataFrame, path: Path, *, facts: dict[str, Any]) -> None:
    """Write Parquet; `facts` stand as JSON under `neuroloom` in its metadata."""
    import pyarrow
    import pyarrow.parquet

    values = pyarrow.Table.from_pandas(table, preserve_index=False)
    metadata = {**(values.schema.metadata or {}), b"neuroloom": json.dumps(facts, sort_keys=True).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(values.replace_schema_metadata(metadata), path)
