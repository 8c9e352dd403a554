"""One recording with its tokens: what a tokenizer is judged by that needs its signals or all of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroloom.artifacts import open_artifact
from neuroloom.config import RecordingRow
from neuroloom.records import Array, Recording
from neuroloom.tokenizers.base import Tokenizer
from neuroloom.tokenizers.scores import (
    Reconstruction,
    code_counts,
    score_reconstruction,
    segment_labels,
    token_features,
)
from neuroloom.tokenizers.segments import Segments
from neuroloom.tokenizers.tokens import open_tokens

SHOWN = 8  # segments of each recording that codes are shown by


@dataclass(frozen=True)
class Asked:
    """A recording that has tokens, as workers are told of it.

    Attributes
    ----------
    row : RecordingRow
    manifest, tokens : Path
        Of the recording, and of the tokens of its device; absolute.
    digest : str
        Of these tokens.
    tested : bool
        Whether its signals are compared with what comes back.
    """

    row: RecordingRow
    manifest: Path
    tokens: Path
    digest: str
    tested: bool


@dataclass(frozen=True)
class Tokenized:
    """What is found out about a recording with its tokens.

    Attributes
    ----------
    row : RecordingRow
    segments : Segments
        Signals, at the tokenizer's rate.
    start_N : int array
        First sample of each segment that has tokens.
    events : list of str
        What happens in it (`segment_labels`).
    codes_BLSQ : int array
        Of the first `SHOWN` of `segments`.
    n_latents : int
    counts : list of arrays
        How often each code of each level occurs.
    features : dict of arrays
        What probes read (`token_features`).
    reconstruction : Reconstruction or None
    """

    row: RecordingRow
    segments: Segments
    start_N: Array
    events: list[str]
    codes_BLSQ: Array
    n_latents: int
    counts: list[Array]
    features: dict[str, Array]
    reconstruction: Reconstruction | None


def judge_recording(load: Callable[[], Tokenizer], limit: int, asked: Asked) -> Tokenized:
    """Everything about one recording that needs its signals or all of its tokens.

    Parameters
    ----------
    load : callable
        Gives the tokenizer.
    limit : int
        Segments that are reconstructed at most; 0 takes all.
    asked : Asked
    """
    tokenizer, tokens = load(), open_tokens(asked.tokens, asked.digest)
    artifact = open_artifact(asked.manifest, kind="recording")
    segments = Segments(artifact, sfreq=tokenizer.sfreq, limit=limit)
    recording, codes_NLSQ = Recording.from_artifact(artifact), tokens.codes_of(asked.row.recording)
    start_N = tokens.start_N[tokens.recording_N == tokens.recordings.index(asked.row.recording)]
    return Tokenized(
        row=asked.row,
        segments=segments,
        start_N=start_N,
        events=segment_labels(recording, start_N, round(segments.duration * recording.sfreq)),
        codes_BLSQ=codes_NLSQ[np.isin(start_N, segments.start_N[:SHOWN])],
        n_latents=codes_NLSQ.shape[1],
        counts=code_counts(codes_NLSQ, tokenizer.codebook_sizes),
        features=token_features(codes_NLSQ, tokenizer),
        reconstruction=score_reconstruction(tokenizer, segments) if asked.tested else None,
    )
