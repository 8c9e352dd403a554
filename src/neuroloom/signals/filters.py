"""Filters with a finite kernel: one symmetric FIR does band-pass and notches in a single pass.

A finite kernel makes the result of a chunk, read with half a kernel of overlap, equal to that of the whole recording.
The kernels are MNE's (`mne.filter.create_filter`, Hamming-windowed, zero phase); convolving them into one halves the
work of filtering twice.
"""

from __future__ import annotations

import warnings
from fractions import Fraction
from functools import lru_cache

import numpy as np

from neuroloom.records import Array, Signal

LINE_CANDIDATES = (50.0, 60.0)
NOTCH_REACH = 1.0  # Hz from the line to where the notch ends
NOTCH_TRANSITION = 0.5  # Hz of that are transition, so that a line that wanders by half a hertz is still stopped
HALF_KERNEL = 32  # samples, of interpolation
KAISER_BETA = 7.9  # 80 dB
PHASES = 4096  # from one sample to the next, at which its weights are tabled
_TAPS = np.arange(1 - HALF_KERNEL, HALF_KERNEL + 1)
TOGETHER = 16  # channels that are transformed at once: one by one takes twice as long, more leave the cache


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
    """Zero-phase filtering; beyond its ends the signal is continued as in `read_beyond`.

    Parameters
    ----------
    signal_CT : float32 array
    kernel : array
        Symmetric, of odd length.

    Returns
    -------
    filtered_CT : float32 array
    """
    half = len(kernel) // 2
    wide_CT = read_beyond(signal_CT, -half, signal_CT.shape[1] + half, reach=half)
    return convolve(wide_CT - signal_CT.mean(axis=1, keepdims=True), kernel)


def convolve(wide_CT: Array, kernel: Array) -> Array:
    """The part of a convolution that needs nothing from outside, (C, T - len(kernel) + 1), float32."""
    from scipy.signal import oaconvolve

    kernel = kernel.astype(np.float32)
    filtered_CT = np.empty((len(wide_CT), wide_CT.shape[1] - len(kernel) + 1), np.float32)
    for first in range(0, len(wide_CT), TOGETHER):
        some = slice(first, first + TOGETHER)
        filtered_CT[some] = oaconvolve(wide_CT[some], kernel[None], mode="valid", axes=1)
    return filtered_CT


def read_beyond(signal: Signal, first: int, stop: int, *, reach: int) -> Array:
    """Samples `first` to `stop`, which may lie outside: point reflection up to `reach` samples, then the last value."""
    n_times = signal.shape[1]
    if first >= 0 and stop <= n_times:
        return np.asarray(signal[:, first:stop], np.float32)
    reach = min(reach, n_times - 1)
    low, high = max(first, 0), min(stop, n_times)
    low = 0 if first < 0 else min(low, n_times - 1 - reach)
    high = n_times if stop > n_times else max(high, reach + 1)
    block_CT = np.asarray(signal[:, low:high], np.float32)
    left_CN, right_CN = np.empty((len(block_CT), 0), np.float32), np.empty((len(block_CT), 0), np.float32)
    if first < 0:
        at = np.minimum(np.arange(-first, max(-stop, 0), -1), reach)
        left_CN = 2 * block_CT[:, :1] - block_CT[:, at]
    if stop > n_times:
        at = np.minimum(np.arange(max(first - n_times, 0), stop - n_times) + 1, reach)
        right_CN = 2 * block_CT[:, -1:] - block_CT[:, -1 - at]
    inside = block_CT[:, max(first, 0) - low : max(min(stop, n_times) - low, 0)]
    return np.concatenate([left_CN, inside, right_CN], axis=1)


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


def welch_psd(signal_CT: Signal, sfreq: float, *, seconds: float = 4.0, max_windows: int = 40) -> tuple[Array, Array]:
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
        window_CT = np.nan_to_num(np.asarray(signal_CT[:, start : start + length], np.float64))
        window_CT -= window_CT.mean(axis=1, keepdims=True)
        power_CF[:] = scale * np.abs(np.fft.rfft(window_CT * taper, axis=1)) ** 2
    return np.fft.rfftfreq(length, 1 / sfreq), np.median(power_WCF, axis=0) / median_bias(len(starts))


def window_sd(signal_CT: Signal, sfreq: float, *, seconds: float = 1.0, max_windows: int = 120) -> Array:
    """Median over windows of the SD of each channel, (C,); windows are spread evenly over the recording.

    Missing samples (NaN) do not count; a channel without any sample in a window has no SD there.
    """
    length = max(min(int(seconds * sfreq), signal_CT.shape[1]), 2)
    starts = window_starts(signal_CT.shape[1], length, max_windows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of channels without any sample
        sd_WC = np.stack([_sd(np.asarray(signal_CT[:, at : at + length])) for at in starts])
        return np.asarray(np.nanmedian(sd_WC, axis=0))


def _sd(window_CT: Array) -> Array:
    """np.nanstd takes ten times as long as np.std."""
    return np.asarray((np.nanstd if np.isnan(window_CT).any() else np.std)(window_CT, axis=1, dtype=np.float64))


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


def interpolate_at(signal_CT: Array, position_J: Array) -> Array:
    """A band-limited signal between its samples, (C, J), by a Kaiser-windowed sinc.

    Parameters
    ----------
    signal_CT : array
    position_J : array
        Samples; `HALF_KERNEL` of the signal must lie on either side.

    Raises
    ------
    ValueError
        If they do not: the product below would read what lies in memory behind the signal.
    """
    from scipy.sparse import csr_array

    base_J = np.floor(position_J).astype(int)
    if base_J.min() < HALF_KERNEL - 1 or base_J.max() >= signal_CT.shape[1] - HALF_KERNEL:
        ends = f"{position_J.min():g} to {position_J.max():g} of {signal_CT.shape[1]}"
        raise ValueError(f"samples {ends} are asked for; give {HALF_KERNEL} more on either side")
    weight_JN = _between(position_J - base_J)
    starts = np.arange(len(base_J) + 1) * weight_JN.shape[1]
    index = (base_J[:, None] + _TAPS).ravel()
    matrix = csr_array((weight_JN.ravel(), index, starts), shape=(len(base_J), signal_CT.shape[1]))
    return np.ascontiguousarray((matrix @ np.ascontiguousarray(signal_CT.T)).T)


def _between(share_J: Array) -> Array:
    """Weights (J, N) of the samples around positions that lie so far (0 to 1) behind one: by a table, off by 3e-8."""
    table_PN = _weight_table()
    at_J = share_J * PHASES
    low_J = np.minimum(at_J.astype(int), PHASES - 1)
    weight_JN = table_PN[low_J]
    weight_JN += (at_J - low_J)[:, None] * (table_PN[low_J + 1] - weight_JN)
    return weight_JN


@lru_cache(maxsize=1)
def _weight_table() -> Array:
    """Weights (P, N) for `PHASES` steps from one sample to the next, both ends among them."""
    from scipy.special import i0

    apart_PN = np.linspace(0, 1, PHASES + 1)[:, None] - _TAPS
    window_PN = i0(KAISER_BETA * np.sqrt(np.clip(1 - (apart_PN / HALF_KERNEL) ** 2, 0, 1)))
    weight_PN = np.sinc(apart_PN) * window_PN
    return np.asarray(weight_PN / weight_PN.sum(axis=1, keepdims=True))
