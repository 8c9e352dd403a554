"""What to look at: the spectrum that each code stands for, and pieces of recordings beside what comes back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neuroloom.evaluation.splits import device_of
from neuroloom.records import Array
from neuroloom.tokenizers.base import Tokenizer
from neuroloom.tokenizers.scores import WINDOW, count_rows, unit_spectrum
from neuroloom.tokenizers.tokenized import SHOWN, Tokenized
from neuroloom.tokenizers.tokens import encode_segments

MOST_USED = 24
SECONDS = 4.0


def atlas_table(tokenizer: Tokenizer, tested: Sequence[Tokenized]) -> pd.DataFrame:
    """Spectra of the most used codes of the first level, in dB above the mean of all.

    The spectrum of a code is the mean unit spectrum (in dB) of the signal in the windows of 2 s in which it occurs,
    weighted by how often; of its own channel where a latent is a channel, else of all sensors.

    Returns
    -------
    DataFrame
        level, code, share, frequency, power_db.
    """
    size = tokenizer.codebook_sizes[0]
    totals_KF, counts_K = np.zeros((0, 0)), np.zeros(size)
    freqs_F = np.zeros(0)
    for one in tested:
        signal_BCT = one.segments.read(0, min(len(one.segments), SHOWN))
        codes_BLS = one.codes_BLSQ[..., 0]
        freqs_F, weights_XK, spectra_XF = _windows(tokenizer, signal_BCT, codes_BLS, one.segments.sfreq)
        if not totals_KF.size:
            totals_KF = np.zeros((size, len(freqs_F)))
        totals_KF += weights_XK.T @ _db(spectra_XF)  # a mean of dB, so that a few strong rhythms are not all of it
        counts_K += weights_XK.sum(axis=0)
    mean_F = totals_KF.sum(axis=0) / counts_K.sum()
    lines = []
    for code in np.argsort(-counts_K, kind="stable")[:MOST_USED]:
        if counts_K[code]:
            decibel_F = totals_KF[code] / counts_K[code] - mean_F
            facts = {"level": 1, "code": int(code), "share": counts_K[code] / counts_K.sum()}
            lines.append(pd.DataFrame({**facts, "frequency": freqs_F, "power_db": decibel_F}))
    return pd.concat(lines, ignore_index=True)


def _windows(tokenizer: Tokenizer, signal_BCT: Array, codes_BLS: Array, sfreq: float) -> tuple[Array, Array, Array]:
    """Counts of codes and unit spectra of each window (and channel, where a latent is one)."""
    own = codes_BLS.shape[1] == signal_BCT.shape[1] and tokenizer.step >= WINDOW
    seconds = tokenizer.step if own else WINDOW
    length, per_window = round(seconds * sfreq), max(round(seconds / tokenizer.step), 1)
    n_windows = min(signal_BCT.shape[-1] // length, codes_BLS.shape[-1] // per_window)
    pieces_BCWT = signal_BCT[..., : n_windows * length].reshape(*signal_BCT.shape[:2], n_windows, length)
    freqs_F, spectra_BCWF = unit_spectrum(pieces_BCWT, sfreq=sfreq)
    codes_BLWX = codes_BLS[..., : n_windows * per_window].reshape(*codes_BLS.shape[:2], n_windows, per_window)
    if not own:
        spectra_BCWF = spectra_BCWF.mean(axis=1, keepdims=True)
        codes_BLWX = codes_BLWX.transpose(0, 2, 1, 3).reshape(len(codes_BLS), 1, n_windows, -1)
    counts_XK = count_rows(codes_BLWX.reshape(-1, codes_BLWX.shape[-1]), tokenizer.codebook_sizes[0])
    return freqs_F, counts_XK.astype(float), spectra_BCWF.reshape(-1, len(freqs_F))


def example_tables(
    tokenizer: Tokenizer, tested: Sequence[Tokenized], *, held_out: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A few seconds of one sensor of one test recording of each device, and what comes back of them.

    Returns
    -------
    examples : DataFrame
        device, held_out, recording, channel, time (s), true, made (SDs).
    spectra : DataFrame
        device, held_out, channel, frequency (Hz), true_db, made_db (unit power between 1 and 45 Hz).
    """
    waves, spectra, seen = [], [], set()
    for one in tested:
        device = device_of(one.row)
        if device in seen:
            continue
        seen.add(device)
        true_CT, made_CT = _first_segment(tokenizer, one)
        at, sfreq = true_CT.shape[0] // 2, one.segments.sfreq
        names = {"device": device, "held_out": device in held_out, "recording": one.row.recording}
        names["channel"] = one.segments.ch_names[at]
        count = min(round(SECONDS * sfreq), true_CT.shape[1])
        parts = {"true": true_CT[at, :count], "made": made_CT[at, :count]}
        parts = {name: (x - x.mean()) / (x.std() or 1.0) for name, x in parts.items()}
        waves.append(pd.DataFrame({**names, "time": np.arange(count) / sfreq, **parts}))
        freqs_F, true_F = unit_spectrum(true_CT[at][None, None], sfreq=sfreq)
        made_F = unit_spectrum(made_CT[at][None, None], sfreq=sfreq)[1]
        decibels = {"true_db": _db(true_F[0, 0]), "made_db": _db(made_F[0, 0])}
        spectra.append(pd.DataFrame({**names, "frequency": freqs_F, **decibels}))
    return pd.concat(waves, ignore_index=True), pd.concat(spectra, ignore_index=True)


def _first_segment(tokenizer: Tokenizer, one: Tokenized) -> tuple[Array, Array]:
    signal_BCT, tokens = encode_segments(tokenizer, one.segments, 0, 1)
    made = np.asarray(tokenizer.decode(tokenizer.embed(tokens.codes), *one.segments.sensors(1)))
    made_CT = made.reshape(signal_BCT.shape[1], -1)
    return signal_BCT[0, :, : made_CT.shape[1]], made_CT


def _db(power_F: Array) -> Array:
    return 10 * np.log10(np.maximum(power_F, np.finfo(float).tiny))
