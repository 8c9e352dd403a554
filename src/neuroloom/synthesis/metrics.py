"""Scores of predicted BOLD for each parcel of a scan, and what a correlation of two slow series is worth.

Series are (..., P, V): leading axes, such as draws of a null, are broadcast. A score that does not exist is NaN: the
correlation of a constant prediction, anything of a parcel that holds NaN.
"""

from __future__ import annotations

import numpy as np

from neuroloom.records import Array

BAND = (0.01, 0.1)  # Hz, of BOLD at rest
FLAT = 1e-6  # of the largest value: what varies less is float32 rounding
LEVELS = (0.5, 0.8, 0.95)
SEGMENT_S = 100.0  # longest segment of Welch's method: resolves the lower end of the band
SEGMENTS = 3  # how many would fit side by side at least; half overlapping, that gives five
SHORTEST_SEGMENT, SHORTEST_SEGMENT_S = 8, 20.0  # volumes, s: two frequencies of the band
FEWEST_EFFECTIVE = 3.0


def correlation(true_PV: Array, predicted_PV: Array) -> Array:
    """Pearson's r of each parcel, (..., P); NaN where a series is constant."""
    true_PV, true_P = centred(true_PV)
    predicted_PV, predicted_P = centred(predicted_PV)
    return np.clip(np.einsum("...v,...v->...", true_PV, predicted_PV) / (true_P * predicted_P), -1.0, 1.0)


def centred(series_PV: Array) -> tuple[Array, Array]:
    """Series without their means, (..., P, V), and their norms, (..., P), NaN where there is no variation."""
    series_PV = np.asarray(series_PV, float)
    size_P = np.abs(series_PV).max(axis=-1, initial=0.0) * np.sqrt(series_PV.shape[-1])
    centred_PV = series_PV - series_PV.mean(axis=-1, keepdims=True)
    norm_P = np.linalg.norm(centred_PV, axis=-1)
    return centred_PV, np.where(norm_P > FLAT * size_P, norm_P, np.nan)


def mean_squared_error(true_PV: Array, predicted_PV: Array) -> Array:
    """Mean over volumes of the squared error, (..., P), in the squared unit of the series."""
    return ((np.asarray(true_PV, float) - predicted_PV) ** 2).mean(axis=-1)


def r_squared(true_PV: Array, predicted_PV: Array) -> Array:
    """Share of the variance of the scan that is explained, (..., P); below zero where its own mean is nearer."""
    norm_P = centred(true_PV)[1]
    return 1 - mean_squared_error(true_PV, predicted_PV) * np.shape(true_PV)[-1] / norm_P**2


def without_nuisance(series_PV: Array, nuisance_VM: Array) -> Array:
    """Rest of each series after least squares on the nuisance and a constant, (P, V); NaN where nothing is left.

    Parameters
    ----------
    series_PV : array
    nuisance_VM : array
        A missing value counts as the mean of its column.
    """
    known_VM = np.isfinite(nuisance_VM)
    total_M = np.where(known_VM, nuisance_VM, 0.0).sum(axis=0)
    mean_M = total_M / np.maximum(known_VM.sum(axis=0), 1)
    design_VM = np.column_stack([np.ones(len(nuisance_VM)), np.where(known_VM, nuisance_VM, mean_M) - mean_M])
    # an orthonormal basis of the columns, so that nuisance in any units, and columns that repeat, do no harm
    scale_M = np.linalg.norm(design_VM, axis=0)
    basis_VM, size_M, _ = np.linalg.svd(design_VM / np.where(scale_M > 0, scale_M, 1.0), full_matrices=False)
    basis_VM = basis_VM[:, size_M > FLAT * size_M[0]]
    centred_PV, norm_P = centred(series_PV)
    rest_PV = centred_PV - (centred_PV @ basis_VM) @ basis_VM.T
    left_P = np.linalg.norm(rest_PV, axis=-1) > FLAT * norm_P
    # in a single dimension that is left, everything correlates at -1 or 1
    enough = basis_VM.shape[1] + 2 <= len(nuisance_VM)
    return np.where(left_P[..., None] & enough, rest_PV, np.nan)


def partial_correlation(true_PV: Array, predicted_PV: Array, nuisance_VM: Array) -> Array:
    """Pearson's r after the nuisance was regressed out of both series, (P,).

    What the global signal and motion explain is the easy part, and no sign that a parcel was predicted.
    """
    return correlation(without_nuisance(true_PV, nuisance_VM), without_nuisance(predicted_PV, nuisance_VM))


def segment_length(n_volumes: int, t_r: float) -> int:
    """Volumes of a segment of Welch's method, 0 for a series that is too short.

    One segment alone has a coherence of 1 with anything: at least five half-overlapping ones have to fit.
    """
    width = min(n_volumes // SEGMENTS, round(SEGMENT_S / t_r))
    return width if width >= SHORTEST_SEGMENT and width * t_r >= SHORTEST_SEGMENT_S else 0


def coherence(true_PV: Array, predicted_PV: Array, *, t_r: float, band: tuple[float, float] = BAND) -> Array:
    """Magnitude-squared coherence, mean over the band, (..., P).

    Unrelated series reach about 1 over the number of segments: read it next to that of a null. Source: Welch 1967, IEEE
    Trans Audio Electroacoust 15:70; Carter, Knapp and Nuttall 1973, the same journal 21:337 (bias).

    Parameters
    ----------
    true_PV, predicted_PV : array
    t_r : float
        s.
    band : tuple of float
        Hz.

    Returns
    -------
    coherence_P : array
        NaN for series without five segments of 20 s (`segment_length`).
    """
    from scipy.signal import coherence as welch_coherence

    shape = np.broadcast_shapes(np.shape(true_PV), np.shape(predicted_PV))
    width = segment_length(shape[-1], t_r)
    if not width:
        return np.full(shape[:-1], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        frequency_F, coherence_PF = welch_coherence(true_PV, predicted_PV, fs=1 / t_r, nperseg=width, axis=-1)
    inside_F = (frequency_F >= band[0]) & (frequency_F <= band[1])
    varies_P = np.isfinite(centred(true_PV)[1] + centred(predicted_PV)[1])
    return np.where(varies_P, coherence_PF[..., inside_F].mean(axis=-1), np.nan)


def effective_size(true_PV: Array, predicted_PV: Array, *, max_lag: int | None = None) -> Array:
    """How many independent pairs of values two autocorrelated series are worth, (..., P), from 3 to V.

    1 / n* = 1 / n + 2 / n sum_j (n - j) / n r_xx(j) r_yy(j) for j to n / 5, of autocorrelations times n / (n - j).
    Source: Bartlett 1946, Suppl J R Stat Soc 8:27; Pyper and Peterman 1998, Can J Fish Aquat Sci 55:2127 (cut-off).

    Parameters
    ----------
    true_PV, predicted_PV : array
    max_lag : int, optional
        Volumes; a fifth of the series by default: autocorrelations of longer lags are noise.
    """
    n = np.shape(true_PV)[-1]
    lags_L = np.arange(1, (n // 5 if max_lag is None else min(max_lag, n - 2)) + 1)
    products_PL = _autocorrelation(true_PV, lags_L) * _autocorrelation(predicted_PV, lags_L)
    inflation_P = 1 + 2 * (products_PL * (n - lags_L) / n).sum(axis=-1)
    # noise of the estimate may say more values than there are
    return np.maximum(n / np.maximum(inflation_P, 1.0), FEWEST_EFFECTIVE)


def _autocorrelation(series_PV: Array, lags_L: Array) -> Array:
    centred_PV, norm_P = centred(series_PV)
    n = centred_PV.shape[-1]
    products = [(centred_PV[..., :-lag] * centred_PV[..., lag:]).sum(axis=-1) * n / (n - lag) for lag in lags_L]
    return np.stack(products, axis=-1) / norm_P[..., None] ** 2 if products else np.zeros((*norm_P.shape, 0))


def correlation_p(r_P: Array, size_P: Array) -> Array:
    """One-sided p of a correlation above zero of so many independent pairs, by Student's t."""
    from scipy.stats import t

    with np.errstate(divide="ignore"):
        t_P = r_P * np.sqrt((size_P - 2) / (1 - np.asarray(r_P) ** 2))
    return t.sf(t_P, size_P - 2)


def calibration(true_PV: Array, predicted_PV: Array, std_PV: Array) -> dict[str, float]:
    """Whether the uncertainty of a model is as large as its errors.

    Returns
    -------
    scores : dict of float
        `coverage50`, `coverage80`, `coverage95`: share of the measured values inside the central interval of a normal
        with the predicted mean and standard deviation; `nll`: mean negative log likelihood under it. NaN for a model
        that gives no standard deviation above zero. Source: Gneiting and Raftery 2007, J Am Stat Assoc 102:359.
    """
    from scipy.stats import norm

    true_PV, predicted_PV, std_PV = (np.asarray(part_PV, float) for part_PV in (true_PV, predicted_PV, std_PV))
    known_PV = np.isfinite(true_PV) & np.isfinite(predicted_PV) & (std_PV > 0) & np.isfinite(std_PV)
    names = [f"coverage{round(100 * level)}" for level in LEVELS]
    if not known_PV.any():
        return dict.fromkeys([*names, "nll"], float("nan"))
    std_N = std_PV[known_PV]
    error_N = (true_PV - predicted_PV)[known_PV] / std_N
    inside = [float((np.abs(error_N) <= norm.ppf(0.5 + level / 2)).mean()) for level in LEVELS]
    likelihood_N = norm.logpdf(error_N) - np.log(std_N)
    return dict(zip(names, inside, strict=True)) | {"nll": float(-likelihood_N.mean())}
