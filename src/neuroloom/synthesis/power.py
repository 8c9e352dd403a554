"""Power over time, of electrodes and of the sources of parcels, and what the haemodynamic response makes of it.

Sources: a minimum-variance filter for the three directions of each parcel, whitened so that deep and shallow ones, and
caps with few and with many electrodes, are alike (after Sekihara & Nagarajan 2008, Adaptive spatial filters, ch. 4).
What is kept is the covariance of the three over time, six series a parcel: the power in any direction is a weighted sum
of them, so that a linear model finds the direction of the cortex by itself.
"""

from __future__ import annotations

import numpy as np

from neuroloom.bold.hrf import hrf_response, read_at
from neuroloom.records import Array
from neuroloom.synthesis.config import Bands

RATE = 10.0  # Hz, of power over time
SMOOTH_S = 1.0  # Hann window
RIDGE = 0.05  # of the mean eigenvalue of the covariance of the electrodes
_PAIRS = np.triu_indices(3)
_DIAGONAL = np.flatnonzero(_PAIRS[0] == _PAIRS[1])


def electrode_power(signal_CT: Array, *, sfreq: float, bands: Bands) -> Array:
    """Power of each electrode in each band over its mean, less 1, (F * C, G) at `RATE`; bands one after the other.

    Parameters
    ----------
    signal_CT : array
        Any unit.
    sfreq : float
        Hz.
    bands : dict
        Name -> Hz.
    """
    power = [_over_time(in_band(signal_CT, sfreq=sfreq, band=band) ** 2, sfreq) for band in bands.values()]
    return np.concatenate([one_CG / _mean(one_CG) - 1 for one_CG in power])


def source_covariance(signal_CT: Array, *, sfreq: float, bands: Bands, gain_CP3: Array) -> Array:
    """Covariance of the three directions of each parcel over time, (P, F * 6, G) at `RATE`, over its mean power.

    Parameters
    ----------
    signal_CT : array
        To the average reference, any unit.
    sfreq : float
        Hz.
    bands : dict
        Name -> Hz.
    gain_CP3 : array
        `head_model.leadfield`.
    """
    gain_P3C = gain_CP3.transpose(1, 2, 0)
    found = []
    for band in bands.values():
        filtered_CT = in_band(signal_CT, sfreq=sfreq, band=band)
        filter_KC = _spatial_filters(filtered_CT, gain_P3C).reshape(-1, len(signal_CT))
        source_P3T = (filter_KC.astype(np.float32) @ filtered_CT.astype(np.float32)).reshape(len(gain_P3C), 3, -1)
        product_P6T = source_P3T[:, _PAIRS[0]] * source_P3T[:, _PAIRS[1]]
        covariance_P6G = _over_time(product_P6T.reshape(-1, product_P6T.shape[2]), sfreq).reshape(len(gain_P3C), 6, -1)
        total_P11 = covariance_P6G[:, _DIAGONAL].mean(axis=2).sum(axis=1)[:, None, None]
        found.append(covariance_P6G / total_P11)
    return np.concatenate(found, axis=1)


def _spatial_filters(signal_CT: Array, gain_P3C: Array) -> Array:
    """Whitened minimum-variance filters, (P, 3, C): G' = (L' C^-1 L)^-1/2 L' C^-1."""
    covariance_CC = np.cov(signal_CT)
    ridge_CC = RIDGE * np.trace(covariance_CC) / len(covariance_CC) * np.eye(len(covariance_CC))
    seen_P3C = gain_P3C @ np.linalg.inv(covariance_CC + ridge_CC)
    value_P3, vector_P33 = np.linalg.eigh(seen_P3C @ gain_P3C.transpose(0, 2, 1))
    root_P33 = vector_P33 / np.sqrt(np.maximum(value_P3, 1e-12 * value_P3[:, -1:]))[:, None]
    return np.asarray(root_P33 @ vector_P33.transpose(0, 2, 1) @ seen_P3C)


def in_band(signal_CT: Array, *, sfreq: float, band: tuple[float, float]) -> Array:
    """Butterworth of order 4, forward and back; a band that reaches beyond Nyquist ends below it."""
    from scipy.signal import sosfiltfilt

    return np.asarray(sosfiltfilt(_band_pass(sfreq, band), signal_CT, axis=1))


def share_in_band(sfreq: float, band: tuple[float, float]) -> float:
    """Share of the power of white noise that `in_band` leaves."""
    from scipy.signal import sosfreqz

    _, gain_F = sosfreqz(_band_pass(sfreq, band), worN=4096)
    return float(np.mean(np.abs(gain_F) ** 4))


def _band_pass(sfreq: float, band: tuple[float, float]) -> Array:
    from scipy.signal import butter

    return np.asarray(butter(4, (band[0], min(band[1], 0.49 * sfreq)), "bandpass", fs=sfreq, output="sos"))


def _over_time(product_KT: Array, sfreq: float) -> Array:
    """Mean over `SMOOTH_S` around each point of the slow grid, (K, G)."""
    from scipy.ndimage import convolve1d

    step = max(round(sfreq / RATE), 1)
    n_grid = product_KT.shape[1] // step
    coarse_KG = product_KT[:, : n_grid * step].reshape(len(product_KT), n_grid, step).mean(axis=2)
    hann = np.hanning(round(SMOOTH_S * RATE) + 2)[1:-1]
    return np.asarray(convolve1d(coarse_KG, hann / hann.sum(), axis=1, mode="nearest"))


def _mean(series_KG: Array) -> Array:
    mean_K1 = series_KG.mean(axis=1, keepdims=True)
    return np.where(mean_K1 > 0, mean_K1, 1.0)


def grid_rate(sfreq: float) -> float:
    """Hz of the slow grid, which consists of whole samples."""
    return sfreq / max(round(sfreq / RATE), 1)


def response_at(series_KG: Array, *, rate: float, time_V: Array, lag: float = 0.0) -> Array:
    """Series through the haemodynamic response, `lag` (s) later than Glover's, read at the volumes, (K, V)."""
    return read_at(hrf_response(series_KG, rate=rate), rate=rate, time_V=time_V - lag)


def lagged_at(series_KG: Array, *, rate: float, time_V: Array, lags: tuple[float, ...]) -> Array:
    """Series some seconds before the volumes, (K * L, V); lags one after the other."""
    return np.concatenate([read_at(series_KG, rate=rate, time_V=time_V - lag) for lag in lags])
