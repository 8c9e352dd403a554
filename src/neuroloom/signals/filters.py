"""Filters with a finite kernel: one symmetric FIR does band-pass and notches in a single pass.

A finite kernel makes the result of a chunk, read with half a kernel of overlap, equal to that of the whole recording.
The kernels are MNE's (`mne.filter.create_filter`, Hamming-windowed, zero phase); convolving them into one halves the
work of filtering twice.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from neuroloom.records import Array

LINE_CANDIDATES = (50.0, 60.0)
NOTCH_REACH = 1.0  # Hz from the line to where the notch ends
NOTCH_TRANSITION = 0.5  # Hz of that are transition, so that a line that wanders by half a hertz is still stopped


def design_kernel(sfreq: float, *, l_freq: float, h_freq: float, notch_freqs: tuple[float, ...] = ()) -> Array:
    """Symmetric FIR kernel of odd length.

    Parameters
    ----------
    sfreq, l_freq, h_freq : float
        Hz.
    notch_freqs : tuple of float
        Hz; each must lie inside the band.

    Returns
    -------
    kernel : float64 array
    """
    from mne.filter import create_filter
    from scipy.signal import fftconvolve

    options = {"phase": "zero", "fir_design": "firwin", "verbose": "error"}
    kernel = create_filter(None, sfreq, l_freq, h_freq, **options)
    for freq in notch_freqs:
        edges = {"l_freq": freq + NOTCH_REACH, "h_freq": freq - NOTCH_REACH}
        widths = {"l_trans_bandwidth": NOTCH_TRANSITION, "h_trans_bandwidth": NOTCH_TRANSITION}
        kernel = fftconvolve(kernel, create_filter(None, sfreq, **edges, **widths, **options))
    return kernel


def apply_kernel(signal_CT: Array, kernel: Array) -> Array:
    """Zero-phase filtering; the ends are continued by their point reflection, and by their last value beyond that.

    Parameters
    ----------
    signal_CT : float32 array
    kernel : array
        Symmetric, of odd length.

    Returns
    -------
    filtered_CT : float32 array
    """
    from scipy.signal import oaconvolve

    half = len(kernel) // 2
    reach = min(half, signal_CT.shape[1] - 1)
    filtered_CT = np.empty(signal_CT.shape, np.float32)
    kernel = kernel.astype(np.float32)
    for at, signal_T in enumerate(signal_CT):
        left = 2 * signal_T[0] - signal_T[reach:0:-1]
        right = 2 * signal_T[-1] - signal_T[-2 : -reach - 2 : -1]
        padded = np.pad(np.concatenate([left, signal_T, right]), half - reach, mode="edge")
        filtered_CT[at] = oaconvolve(padded - padded.mean(), kernel, mode="valid")
    return filtered_CT


def resample(signal_CT: Array, *, sfreq: float, new_sfreq: float) -> Array:
    """Polyphase resampling of a band-limited signal, (C, ceil(T * new_sfreq / sfreq)).

    The ratio is a fraction with a denominator of at most 10,000, which is off by less than 1e-8.
    """
    from scipy.signal import resample_poly

    ratio = Fraction(new_sfreq / sfreq).limit_denominator(10_000)
    if ratio == 1:
        return signal_CT
    return resample_poly(signal_CT, ratio.numerator, ratio.denominator, axis=1, padtype="line").astype(np.float32)


def window_starts(n_times: int, length: int, max_windows: int) -> Array:
    """First samples of at most `max_windows` windows that lie side by side, spread evenly over a recording."""
    n_windows = max(n_times // length, 1)
    return np.unique(np.linspace(0, n_windows - 1, min(n_windows, max_windows)).astype(int)) * length


def welch_psd(signal_CT: Array, sfreq: float, *, seconds: float = 4.0, max_windows: int = 40) -> tuple[Array, Array]:
    """Power spectral density from windows spread evenly over the recording.

    The median over windows, divided by its bias for Gaussian noise (Allen et al. 2012, gr-qc/0509116), so that a few
    samples gone wrong do not drown the spectrum of the rest.

    Returns
    -------
    freqs_F : array
        Hz.
    psd_CF : array
        Squared unit of the signal per Hz.
    """
    length = min(int(seconds * sfreq), signal_CT.shape[1])
    taper = np.hanning(length + 1)[:-1] if length > 1 else np.ones(1)
    starts = window_starts(signal_CT.shape[1], length, max_windows)
    power_WCF = np.empty((len(starts), signal_CT.shape[0], length // 2 + 1))
    scale = 2.0 / (sfreq * (taper**2).sum())
    for power_CF, start in zip(power_WCF, starts, strict=True):
        window_CT = signal_CT[:, start : start + length].astype(np.float64)
        window_CT -= window_CT.mean(axis=1, keepdims=True)
        power_CF[:] = scale * np.abs(np.fft.rfft(window_CT * taper, axis=1)) ** 2
    return np.fft.rfftfreq(length, 1 / sfreq), np.median(power_WCF, axis=0) / median_bias(len(starts))


def median_bias(n_windows: int) -> float:
    """Expected median of `n_windows` exponential variables of mean 1; ln 2 for many."""
    pairs = 2.0 * np.arange(1, (n_windows - 1) // 2 + 1)
    return float(1 + (1 / (pairs + 1) - 1 / pairs).sum())


def line_ratio(freqs_F: Array, psd_CF: Array, line_freq: float) -> float:
    """Mains above its surroundings, dB: power within 1 Hz of the line against that 2 to 5 Hz away, median channel."""
    distance_F = np.abs(freqs_F - line_freq)
    peak, around = distance_F <= 1.0, (distance_F >= 2.0) & (distance_F <= 5.0)
    if not peak.any() or not around.any():
        return float("nan")
    ratio_C = psd_CF[:, peak].max(axis=1) / np.maximum(psd_CF[:, around].mean(axis=1), np.finfo(float).tiny)
    return float(10 * np.log10(max(np.median(ratio_C), np.finfo(float).tiny)))


def detect_line_freq(freqs_F: Array, psd_CF: Array, *, threshold_db: float = 6.0) -> float | None:
    """The mains frequency that stands out of the spectrum, None where neither does."""
    ratios = {freq: line_ratio(freqs_F, psd_CF, freq) for freq in LINE_CANDIDATES if freq < freqs_F[-1] - 1.0}
    best = max(ratios, key=lambda freq: ratios[freq], default=None)
    return best if best is not None and ratios[best] >= threshold_db else None
