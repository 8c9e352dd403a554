"""What a recording looks like before cleaning, from windows spread evenly over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuroloom.records import Array, Signal
from neuroloom.signals.filters import median_bias, window_starts

WINDOW_S, MAX_WINDOWS = 4.0, 100


@dataclass(frozen=True)
class Survey:
    """Figures of each channel.

    Attributes
    ----------
    level_C : array
        Median, in the channel's unit; 0 for a channel of NaN.
    missing_C : array
        Share of samples that are NaN.
    constant_C : bool array
        Whether all samples are equal.
    sd_C : array
        Median SD in 1 s.
    freqs_F, psd_CF : array
        Hz, and squared unit per Hz; the median over windows.
    """

    level_C: Array
    missing_C: Array
    constant_C: Array
    sd_C: Array
    freqs_F: Array
    psd_CF: Array


def survey(signal: Signal, sfreq: float) -> Survey:
    """Look at up to 100 windows of 4 s, one after the other.

    Parameters
    ----------
    signal : Signal
        May have gaps (NaN), which count as the channel's level in the window.
    sfreq : float
        Hz.
    """
    length = max(min(int(WINDOW_S * sfreq), signal.shape[1]), 1)
    starts = window_starts(signal.shape[1], length, MAX_WINDOWS)
    n_channels = signal.shape[0]
    taper = np.hanning(length + 1)[:-1] if length > 1 else np.ones(1)
    scale = 2.0 / (sfreq * (taper**2).sum())
    level_WC = np.empty((len(starts), n_channels))
    missing_WC, sd_WC = np.empty_like(level_WC), np.empty_like(level_WC)
    low_C, high_C = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
    power_WCF = np.empty((len(starts), n_channels, length // 2 + 1))
    for at, start in enumerate(starts):
        window_CT = np.array(signal[:, start : start + length], np.float64)
        lost_CT = np.isnan(window_CT)
        missing_WC[at] = lost_CT.mean(axis=1)
        low_C, high_C = np.fmin(low_C, np.fmin.reduce(window_CT, 1)), np.fmax(high_C, np.fmax.reduce(window_CT, 1))
        level_WC[at] = _median(window_CT, lost_CT)
        if lost_CT.any():
            window_CT = np.where(lost_CT, np.nan_to_num(level_WC[at])[:, None], window_CT)
        window_CT -= window_CT.mean(axis=1, keepdims=True)
        sd_WC[at] = _second_sd(window_CT, sfreq)
        power_WCF[at] = scale * np.abs(np.fft.rfft(window_CT * taper, axis=1)) ** 2
    level_C = np.nan_to_num(_median(level_WC.T, np.isnan(level_WC.T)))
    return Survey(
        level_C=level_C,
        missing_C=missing_WC.mean(axis=0),
        constant_C=~(high_C > low_C),
        sd_C=np.median(sd_WC, axis=0),
        freqs_F=np.fft.rfftfreq(length, 1 / sfreq),
        psd_CF=np.median(power_WCF, axis=0) / median_bias(len(starts)),
    )


def _median(signal_CT: Array, lost_CT: Array) -> Array:
    """Median of the samples that are there, NaN where none is."""
    if not lost_CT.any():
        return np.asarray(np.median(signal_CT, axis=1))
    return np.array(
        [np.median(row[~lost]) if not lost.all() else np.nan for row, lost in zip(signal_CT, lost_CT, strict=True)]
    )


def _second_sd(window_CT: Array, sfreq: float) -> Array:
    """Median over the seconds of a window of the SD of each channel."""
    length = max(min(int(sfreq), window_CT.shape[1]), 1)
    n_seconds = window_CT.shape[1] // length
    return np.asarray(
        np.median(window_CT[:, : n_seconds * length].reshape(len(window_CT), n_seconds, length).std(axis=2), axis=1)
    )
