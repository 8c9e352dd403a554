"""The haemodynamic response: Glover's kernel, what it makes of a feature, and the lag that explains BOLD best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuroloom.records import Array

KERNEL_S = 32.0
TREND_ORDER = 4  # polynomials that are taken out of BOLD and prediction before they are compared


def hrf_kernel(rate: float, lag: float = 0.0) -> Array:
    """Haemodynamic response of Glover (1999, NeuroImage 9, 416) as nilearn samples it, (G,), sum 1.

    Parameters
    ----------
    rate : float
        Of the samples, Hz. nilearn's response begins one sample after its onset.
    lag : float
        By how much the response comes later, s. A negative lag cuts off the first seconds, which are small.

    Raises
    ------
    ValueError
        If there is no rate, or the lag is as long as the response.
    """
    from nilearn.glm.first_level import glover_hrf

    if rate <= 0 or abs(lag) >= KERNEL_S:
        raise ValueError(f"rate {rate:g} Hz, lag {lag:g} s: give a rate above 0 and a lag shorter than {KERNEL_S:g} s")
    return np.asarray(glover_hrf(1 / rate, oversampling=1, time_length=KERNEL_S + max(lag, 0.0), onset=lag))


def hrf_response(feature_NG: Array, *, rate: float, lag: float = 0.0) -> Array:
    """What a haemodynamic response makes of features, (N, G): before the first sample they are at their mean.

    Parameters
    ----------
    feature_NG : array
        N features at `rate`; their means are taken off.
    rate, lag : float
        Hz and s; see `hrf_kernel`.
    """
    from scipy.signal import oaconvolve

    centred_NG = feature_NG - feature_NG.mean(axis=1, keepdims=True)
    return np.asarray(oaconvolve(centred_NG, hrf_kernel(rate, lag)[None], axes=1)[:, : feature_NG.shape[1]])


def read_at(series_NG: Array, *, rate: float, time_V: Array, start: float = 0.0) -> Array:
    """Series between their samples by straight lines, (N, V); beyond the ends the nearest sample.

    Parameters
    ----------
    series_NG : array
        N series at `rate` (Hz).
    time_V : array
        When to read them, s.
    start : float
        Time of the first sample, s.
    """
    grid_G = start + np.arange(series_NG.shape[1]) / rate
    return np.stack([np.interp(time_V, grid_G, series_G) for series_G in series_NG])


@dataclass(frozen=True)
class LagEstimate:
    """At which haemodynamic lag features explain BOLD best.

    Attributes
    ----------
    lag : float
        s; between two lags that were tried, at the top of a parabola.
    lag_L : array
        Lags that were tried, s.
    score_L : array
        Mean over the parcels of the squared correlation.
    at_edge : bool
        The best lag is the first or last one: look further out.
    """

    lag: float
    lag_L: Array
    score_L: Array
    at_edge: bool


def estimate_lag(
    feature_PG: Array,
    bold_PV: Array,
    *,
    rate: float,
    onset_V: Array,
    kept_V: Array | None = None,
    lags: tuple[float, float, float] = (-2.0, 4.0, 0.1),
) -> LagEstimate:
    """The lag of the haemodynamic response with which features explain BOLD best.

    Each feature is convolved with the response at each lag and read at the volumes; slow trends (polynomials) are
    taken out of both; the score is the squared correlation, so that a feature may go down where BOLD goes up.

    Parameters
    ----------
    feature_PG : array
        One for each parcel, such as band power, at `rate` on the clock of the EEG.
    bold_PV : array
        NaN parcels do not count.
    rate : float
        Hz.
    onset_V : array
        s on the clock of the EEG (`Alignment.onset_V`).
    kept_V : bool array, optional
        Volumes that count.
    lags : tuple of float
        First, last and step, s.

    Raises
    ------
    ValueError
        If shapes do not fit, or no parcel has values in all volumes that count.
    """
    if len(feature_PG) != len(bold_PV) or bold_PV.shape[1] != len(onset_V):
        shapes = f"feature_PG {feature_PG.shape}, bold_PV {bold_PV.shape}, onset_V {onset_V.shape}"
        raise ValueError(f"{shapes}: give one feature for each parcel and one onset for each volume")
    keep_V = np.ones(len(onset_V), bool) if kept_V is None else kept_V
    whole_P = np.isfinite(bold_PV[:, keep_V]).all(axis=1) & np.isfinite(feature_PG).all(axis=1)
    if not whole_P.any():
        raise ValueError(
            f"bold_PV {bold_PV.shape}: no parcel with values in all {int(keep_V.sum())} volumes that count"
        )
    time_V = onset_V[keep_V]
    measured_PV = _without_trend(bold_PV[whole_P][:, keep_V], time_V)
    first, last, step = lags
    lag_L = first + step * np.arange(round((last - first) / step) + 1)
    score_L = np.array([_explained(feature_PG[whole_P], measured_PV, rate, time_V, float(lag)) for lag in lag_L])
    best = int(score_L.argmax())
    at_edge = best in (0, len(lag_L) - 1)
    top = 0.0 if at_edge else _top(score_L[best - 1 : best + 2])
    return LagEstimate(float(lag_L[best] + top * step), lag_L, score_L, at_edge)


def _explained(feature_PG: Array, measured_PV: Array, rate: float, time_V: Array, lag: float) -> float:
    response_PG = hrf_response(feature_PG, rate=rate, lag=lag)
    predicted_PV = _without_trend(read_at(response_PG, rate=rate, time_V=time_V), time_V)
    return float(np.mean(np.sum(predicted_PV * measured_PV, axis=1) ** 2))


def _without_trend(series_PV: Array, time_V: Array) -> Array:
    """Without polynomials of time, and of length 1."""
    place_V = 2 * (time_V - time_V[0]) / (time_V[-1] - time_V[0]) - 1
    order = min(TREND_ORDER, max(len(time_V) // 10, 1))
    trend_VN, _ = np.linalg.qr(np.polynomial.legendre.legvander(place_V, order))
    rest_PV = series_PV - series_PV @ trend_VN @ trend_VN.T
    return rest_PV / np.maximum(np.linalg.norm(rest_PV, axis=1, keepdims=True), 1e-30)


def _top(score_N: Array) -> float:
    """Where a parabola through three points has its top, in steps from the middle one."""
    before, middle, after = score_N.tolist()
    bend = before - 2 * middle + after
    return 0.0 if bend >= 0 else 0.5 * (before - after) / bend
