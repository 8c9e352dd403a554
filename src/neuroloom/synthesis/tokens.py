"""Tokens of a pretrained encoder over a whole scan, and around the parcels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroloom.records import Array
from neuroloom.study.sensors import source_positions

RATE = 1.0  # Hz, at which tokens are read


@dataclass(frozen=True)
class ScanTokens:
    """Tokens of one scan.

    Attributes
    ----------
    tokens_LSD : float32 array
        Of each electrode (or latent source), on a regular grid in time.
    position_L3 : array or None
        m in the head frame; None for latent sources, which are nowhere.
    rate, start : float
        Hz, and s of the first one.
    """

    tokens_LSD: Array
    position_L3: Array | None
    rate: float
    start: float


@dataclass(frozen=True)
class Components:
    """What tokens are reduced to: their mean (D,) and directions (D, K)."""

    mean_D: Array
    direction_DK: Array


def scan_tokens(folder: Path, manifest: Path) -> ScanTokens:
    """Tokens of an encoder for one recording; where EEG was rejected, a straight line between those around it.

    Parameters
    ----------
    folder : Path
        Of the pretrained model.
    manifest : Path
        Of the preprocessed EEG.

    Raises
    ------
    UnusableRecording
        If nothing of the recording can be read.
    """
    import torch

    from neuroloom.artifacts import open_artifact
    from neuroloom.models.base import load_model
    from neuroloom.tokenizers.segments import Segments

    artifact, encoder = open_artifact(manifest), load_model(folder).eval()
    segments = Segments(artifact, sfreq=encoder.sfreq, preparation=encoder.preparation)
    sensors = tuple(torch.from_numpy(one) for one in segments.sensors(1))
    found = []
    for at in range(len(segments)):
        with torch.no_grad():
            found.append(encoder(*encoder.inputs(torch.from_numpy(segments.read(at)), *sensors))[0].numpy())
    tokenizer = getattr(encoder, "tokenizer", None)
    n_places = segments.n_channels if tokenizer is None else tokenizer.config.n_latents
    tokens_BLSD = np.stack(found).reshape(len(found), n_places, -1, found[0].shape[1])
    step = segments.duration / tokens_BLSD.shape[2]
    begin_B = segments.start_N / float(artifact.attrs["sfreq"])
    time_S = (begin_B[:, None] + step * (np.arange(tokens_BLSD.shape[2]) + 0.5)).ravel()
    tokens_LSD = tokens_BLSD.transpose(1, 0, 2, 3).reshape(n_places, len(time_S), -1)
    position_L3 = segments.positions_C6[:, :3] if tokenizer is None else None
    return ScanTokens(_regular(tokens_LSD, time_S), position_L3, RATE, float(time_S[0]))


def _regular(tokens_LSD: Array, time_S: Array) -> Array:
    """On a grid at `RATE` from the first token to the last, by straight lines."""
    grid_S = np.arange(time_S[0], time_S[-1] + 1e-9, 1 / RATE)
    after_S = np.clip(np.searchsorted(time_S, grid_S), 1, len(time_S) - 1)
    share_S1 = ((grid_S - time_S[after_S - 1]) / (time_S[after_S] - time_S[after_S - 1]))[:, None]
    return (tokens_LSD[:, after_S - 1] * (1 - share_S1) + tokens_LSD[:, after_S] * share_S1).astype(np.float32)


def fit_components(tokens: Sequence[Array], *, width: int) -> Components:
    """Principal components of the tokens of training, each direction at unit variance.

    Parameters
    ----------
    tokens : sequence of array (L, S, D)
    width : int
        Components at most.
    """
    all_ND = np.concatenate([one.reshape(-1, one.shape[-1]) for one in tokens]).astype(float)
    mean_D = all_ND.mean(axis=0)
    value_D, vector_DD = np.linalg.eigh(np.cov(all_ND - mean_D, rowvar=False))
    kept = np.flatnonzero(value_D > 1e-9 * value_D[-1])[::-1][:width]
    return Components(mean_D, vector_DD[:, kept] / np.sqrt(value_D[kept]))


def pooled_tokens(tokens: ScanTokens, components: Components, *, centroid_P3: Array, radius: float) -> Array:
    """Components of the tokens around each parcel, (P, K, S).

    Parameters
    ----------
    tokens : ScanTokens
    components : Components
    centroid_P3 : array
        mm MNI.
    radius : float
        m; tokens weigh exp(-(d / radius)^2 / 2), relative to the nearest. Those of latent sources all weigh the same.
    """
    reduced_LSK = (tokens.tokens_LSD - components.mean_D) @ components.direction_DK
    if tokens.position_L3 is None:
        weight_PL = np.full((len(centroid_P3), len(reduced_LSK)), 1 / len(reduced_LSK))
    else:
        apart_PL = np.linalg.norm(source_positions(centroid_P3)[:, None] - tokens.position_L3, axis=2)
        closeness_PL = -((apart_PL / radius) ** 2) / 2
        weight_PL = np.exp(closeness_PL - closeness_PL.max(axis=1, keepdims=True))
        weight_PL /= weight_PL.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("pl,lsk->pks", weight_PL, reduced_LSK, optimize=True))
