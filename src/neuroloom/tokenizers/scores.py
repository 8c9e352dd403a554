"""How good tokens are: what comes back from them, how the codebook is used, what they cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroloom.records import Array
from neuroloom.tokenizers.base import Tokenizer
from neuroloom.tokenizers.segments import Segments
from neuroloom.tokenizers.tokens import PADDING, batches, encode_segments

WINDOW = 2.0  # s, in which waveforms are compared
BAND = (1.0, 45.0)  # Hz, in which spectra are compared


@dataclass(frozen=True)
class Reconstruction:
    """What came back of one recording; each figure beside that of the codes of another segment.

    Attributes
    ----------
    correlation, correlation_null : float
        Mean Pearson r of windows of 2 s over sensors and windows.
    spectral_db, spectral_db_null : float
        Mean absolute difference of the spectra from 1 to 45 Hz, each at unit power there, dB.
    encode_speed : float
        Seconds of recording encoded in one second.
    n_segments : int
    """

    correlation: float
    correlation_null: float
    spectral_db: float
    spectral_db_null: float
    encode_speed: float
    n_segments: int


def score_reconstruction(tokenizer: Tokenizer, segments: Segments) -> Reconstruction:
    """Encode a recording, decode it, and compare.

    Parameters
    ----------
    tokenizer : Tokenizer
    segments : Segments
        Of the tokenizer's rate.
    """
    signals, features, seconds = [], [], 0.0
    for first, count in batches(segments):
        start = time.perf_counter()
        signal_BCT, tokens = encode_segments(tokenizer, segments, first, count)
        seconds += time.perf_counter() - start
        signals.append(signal_BCT)
        features.append(np.asarray(tokenizer.embed(tokens.codes)))  # what is kept is the codes
    signal_BCT, features_BLSD = np.concatenate(signals), np.concatenate(features)
    true = _compare(tokenizer, signal_BCT, features_BLSD, segments)
    other_BLSD = elsewhere(tokenizer, features_BLSD)
    null = (float("nan"),) * 2
    if other_BLSD is not None:
        null = _compare(tokenizer, signal_BCT, other_BLSD, segments)
    speed = len(segments) * segments.duration / seconds
    return Reconstruction(true[0], null[0], true[1], null[1], speed, len(segments))


def elsewhere(tokenizer: Tokenizer, features_BLSD: Array) -> Array | None:
    """Features of the segment before, and of the window before: what codes that know nothing would give.

    None where there is only one window of one segment.
    """
    n_steps = max(round(WINDOW / tokenizer.step), 1)
    if len(features_BLSD) == 1 and features_BLSD.shape[2] <= n_steps:
        return None
    return np.roll(np.roll(features_BLSD, 1, axis=0), n_steps, axis=2)


def _compare(tokenizer: Tokenizer, signal_BCT: Array, features_BLSD: Array, segments: Segments) -> tuple[float, float]:
    made_BCT = np.asarray(tokenizer.decode(features_BLSD, *segments.sensors(len(signal_BCT))))
    made_BCT = made_BCT.reshape(*signal_BCT.shape[:2], -1)  # windows follow one another
    signal_BCT = signal_BCT[..., : made_BCT.shape[-1]]
    return (
        waveform_correlation(made_BCT, signal_BCT, window=round(WINDOW * segments.sfreq)),
        spectral_difference(made_BCT, signal_BCT, sfreq=segments.sfreq),
    )


def waveform_correlation(made_BCT: Array, true_BCT: Array, *, window: int) -> float:
    """Mean Pearson r over sensors and windows; windows in which nothing moves do not count."""
    n_windows = true_BCT.shape[-1] // window
    made, true = (
        x[..., : n_windows * window].reshape(*x.shape[:2], n_windows, window).astype(np.float64)
        for x in (made_BCT, true_BCT)
    )
    made, true = (x - x.mean(axis=-1, keepdims=True) for x in (made, true))
    size = np.linalg.norm(made, axis=-1) * np.linalg.norm(true, axis=-1)
    moved = size > 0
    return float(((made * true).sum(axis=-1)[moved] / size[moved]).mean()) if moved.any() else float("nan")


def spectral_difference(made_BCT: Array, true_BCT: Array, *, sfreq: float) -> float:
    """Mean absolute difference of spectra in dB, each at unit power between 1 and 45 Hz."""
    made_BCF, true_BCF = (unit_spectrum(x, sfreq=sfreq)[1] for x in (made_BCT, true_BCT))
    moved = (made_BCF.sum(axis=-1) > 0) & (true_BCF.sum(axis=-1) > 0)
    tiny = np.finfo(float).tiny
    difference_BCF = 10 * np.abs(np.log10(made_BCF + tiny) - np.log10(true_BCF + tiny))
    return float(difference_BCF[moved].mean()) if moved.any() else float("nan")


def unit_spectrum(x_BCT: Array, *, sfreq: float) -> tuple[Array, Array]:
    """Frequencies and Welch's spectra (windows of 2 s) between 1 and 45 Hz, each adding up to one."""
    from scipy.signal import welch

    freqs_F, psd_BCF = welch(x_BCT.astype(np.float64), sfreq, nperseg=min(round(WINDOW * sfreq), x_BCT.shape[-1]))
    within_F = (freqs_F >= BAND[0]) & (freqs_F <= BAND[1])
    psd_BCF = psd_BCF[..., within_F]
    total = psd_BCF.sum(axis=-1, keepdims=True)
    return freqs_F[within_F], np.divide(psd_BCF, total, out=np.zeros_like(psd_BCF), where=total > 0)


def code_counts(codes_NLSQ: Array, codebook_sizes: Sequence[int]) -> list[Array]:
    """How often each code of each level occurs."""
    levels = [codes_NLSQ[..., level].ravel() for level in range(len(codebook_sizes))]
    return [
        np.bincount(codes[codes != PADDING].astype(np.int64), minlength=size)
        for codes, size in zip(levels, codebook_sizes, strict=True)
    ]


def code_usage(counts: Sequence[Array], *, tokens_per_second: float) -> dict[str, Any]:
    """What the codebooks are used for.

    Parameters
    ----------
    counts : sequence of arrays
        Of `code_counts`.
    tokens_per_second : float
        Of all latents together.

    Returns
    -------
    dict
        `usage_<level>` (share of the codes that occur), `perplexity_<level>`, `bits_per_second` (as stored) and
        `entropy_bits_per_second` (as a coder that knows the frequencies would need), levels from 1.
    """
    row: dict[str, Any] = {}
    stored = entropy = 0.0
    for level, count_K in enumerate(counts, start=1):
        share_K = count_K[count_K > 0] / max(count_K.sum(), 1)
        bits = float(-(share_K * np.log2(share_K)).sum())
        row |= {f"usage_{level}": len(share_K) / len(count_K), f"perplexity_{level}": 2**bits}
        stored, entropy = stored + float(np.log2(len(count_K))), entropy + bits
    return {
        **row,
        "bits_per_second": stored * tokens_per_second,
        "entropy_bits_per_second": entropy * tokens_per_second,
    }


def count_rows(codes_NX: Array, size: int) -> Array:
    """How often each code occurs in each row: (N, X) to (N, K)."""
    cells_NX = codes_NX.astype(np.int64) + size * np.arange(len(codes_NX))[:, None]
    return np.bincount(cells_NX.ravel(), minlength=size * len(codes_NX)).reshape(len(codes_NX), size)


def token_features(codes_NLSQ: Array, tokenizer: Tokenizer) -> dict[str, Array]:
    """What a probe reads of each segment, of the same length for any montage.

    Parameters
    ----------
    codes_NLSQ : int array
        Without padding.
    tokenizer : Tokenizer

    Returns
    -------
    dict
        `histogram`: share of each code of each level (N, K x Q); `embedding`: mean and SD of the features over
        latents and steps (N, 2 D).
    """
    n_segments = len(codes_NLSQ)
    rows_NXQ = codes_NLSQ.reshape(n_segments, -1, codes_NLSQ.shape[-1])
    shares = [
        count_rows(rows_NXQ[..., level], size) / rows_NXQ.shape[1]
        for level, size in enumerate(tokenizer.codebook_sizes)
    ]
    means = []
    for first in range(0, n_segments, 64):
        features = np.asarray(tokenizer.embed(codes_NLSQ[first : first + 64])).astype(np.float64)
        means.append(np.concatenate([features.mean(axis=(1, 2)), features.std(axis=(1, 2))], axis=1))
    return {"histogram": np.concatenate(shares, axis=1), "embedding": np.concatenate(means)}


def segment_labels(recording: Any, start_N: Array, n_times: int, *, share: float = 0.6) -> list[str]:
    """The event that covers most of each segment, or nothing where none covers enough of it.

    Parameters
    ----------
    recording : Recording
        Events are in s from its first sample.
    start_N : int array
        First sample of each segment.
    n_times : int
        Samples of a segment, at the recording's rate.
    share : float
        Of the segment that has to be covered.
    """
    begin_N, length = start_N / recording.sfreq, n_times / recording.sfreq
    onset_E, end_E = recording.events.onset, recording.events.onset + recording.events.duration
    labels = []
    for begin in begin_N:
        covered: dict[str, float] = {}
        overlap_E = np.minimum(end_E, begin + length) - np.maximum(onset_E, begin)
        for label, seconds in zip(recording.events.label, overlap_E, strict=True):
            if seconds > 0:
                covered[label] = covered.get(label, 0.0) + float(seconds)
        best = max(covered, key=lambda label: covered[label], default="")
        labels.append(best if best and covered[best] >= share * length else "")
    return labels
