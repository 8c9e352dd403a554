"""Functional connectivity of measured and predicted BOLD, of a scan and in sliding windows, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuroloom.records import Array
from neuroloom.synthesis.metrics import centred, correlation

HIGHEST = 1 - 1e-6  # of |r|: two parcels that are predicted to be one and the same have no finite z
FEWEST_PARCELS = 5  # ten pairs
FEWEST_VOLUMES = 10  # of a window


def static_fc(bold_PV: Array) -> Array:
    """Fisher z of the correlation of each pair of parcels, (P, P); NaN on the diagonal and for constant parcels."""
    return dynamic_fc(bold_PV, width=bold_PV.shape[1], step=1)[0]


def dynamic_fc(bold_PV: Array, *, width: int, step: int) -> Array:
    """Connectivity in sliding windows, Fisher z (W, P, P).

    Source: Allen et al. 2014, Cereb Cortex 24:663; Leonardi and Van De Ville 2015, NeuroImage 104:430 (a window shorter
    than the longest wave of the BOLD, 100 s at 0.01 Hz, fluctuates by itself).

    Parameters
    ----------
    bold_PV : array
    width, step : int
        Volumes.

    Returns
    -------
    z_WPP : array
        No window where the scan is shorter than one.
    """
    n_parcels, n_volumes = bold_PV.shape
    if n_volumes < width:
        return np.zeros((0, n_parcels, n_parcels))
    # a view: overlapping windows are copied once, when they are centred
    windows_PWV = np.lib.stride_tricks.sliding_window_view(bold_PV, width, axis=1)[:, ::step]
    centred_WPV, norm_WP = centred(windows_PWV.transpose(1, 0, 2))
    standard_WPV = centred_WPV / norm_WP[..., None]
    r_WPP = standard_WPV @ standard_WPV.transpose(0, 2, 1)
    return np.stack([fisher_z(r_PP) for r_PP in r_WPP])


def fisher_z(r_PP: Array) -> Array:
    """Fisher z of a correlation matrix, NaN on its diagonal."""
    z_PP = np.arctanh(np.clip(r_PP, -HIGHEST, HIGHEST))
    np.fill_diagonal(z_PP, np.nan)
    return z_PP


def window_of(window: float, *, t_r: float) -> int:
    """Volumes of a sliding window of so many seconds, at least ten."""
    return max(round(window / t_r), FEWEST_VOLUMES)


def fluctuation(z_WPP: Array) -> Array:
    """Connectivity of each window less its mean over the windows, (W, P, P): what static connectivity does not say."""
    return z_WPP - z_WPP.mean(axis=0, keepdims=True) if len(z_WPP) > 1 else z_WPP[:0]


def agreement(true_WPP: Array, predicted_WPP: Array) -> float:
    """Correlation over the pairs of parcels of measured and predicted connectivity, mean over windows.

    Parameters
    ----------
    true_WPP, predicted_WPP : array
        Fisher z of the same windows; one window for static connectivity.

    Returns
    -------
    r : float
        NaN without windows, or with fewer than five parcels that are known in both.
    """
    known_P = known_parcels(true_WPP, predicted_WPP)
    if not len(known_P):
        return float("nan")
    return float(correlation(_edges(true_WPP, known_P), _edges(predicted_WPP, known_P)).mean())


def known_parcels(true_WPP: Array, predicted_WPP: Array) -> Array:
    """Indices of the parcels whose connectivity is known in all windows of both; empty if there are fewer than five."""
    if not len(true_WPP):
        return np.zeros(0, int)
    # a constant parcel has no connectivity with any other one
    seen_P = np.isfinite(true_WPP).any(axis=2).all(axis=0) & np.isfinite(predicted_WPP).any(axis=2).all(axis=0)
    known_P = np.flatnonzero(seen_P)
    return known_P if len(known_P) >= FEWEST_PARCELS else known_P[:0]


def label_null(true_WPP: Array, predicted_WPP: Array, *, n: int, rng: np.random.Generator) -> Array:
    """Agreements after the labels of the measured parcels were shuffled, the same way in all windows, (R,).

    It asks whether the right parcels are connected, not only as many as there should be. Source: Mantel 1967, Cancer
    Res 27:209.

    Parameters
    ----------
    true_WPP, predicted_WPP : array
    n : int
        Draws; none of them where there is no agreement.
    rng : np.random.Generator
    """
    known_P = known_parcels(true_WPP, predicted_WPP)
    if not len(known_P):
        return np.zeros(0)
    true_WN, predicted_WN = _edges(true_WPP, known_P), _edges(predicted_WPP, known_P)
    one_N, other_N = np.triu_indices(len(known_P), k=1)
    pair_PP = np.zeros((len(known_P), len(known_P)), int)
    pair_PP[one_N, other_N] = pair_PP[other_N, one_N] = np.arange(len(one_N))
    # pairs keep their mean and spread under a new order: they are standardised once
    (true_WN, true_W), (predicted_WN, predicted_W) = centred(true_WN), centred(predicted_WN)
    weight_WN = predicted_WN / (true_W * predicted_W)[:, None] / len(true_WN)
    draws = []
    for _ in range(n):
        order_P = rng.permutation(len(known_P))
        draws.append(np.vdot(true_WN[:, pair_PP[order_P[one_N], order_P[other_N]]], weight_WN))
    return np.array(draws)


def other_null(others: Sequence[Array], predicted_WPP: Array) -> Array:
    """Agreements of the predicted connectivity with that of other people, (R,); windows are cut to the shorter scan.

    People have much of their connectivity in common: a model that has learned the mean brain scores here as well.

    Parameters
    ----------
    others : sequence of array (W, P, P)
        Measured in scans of other participants.
    predicted_WPP : array
    """
    pairs = [(other_WPP, min(len(other_WPP), len(predicted_WPP))) for other_WPP in others]
    found = [agreement(other_WPP[:n], predicted_WPP[:n]) for other_WPP, n in pairs]
    return np.array([r for r in found if np.isfinite(r)])


def _edges(z_WPP: Array, known_P: Array) -> Array:
    """Upper triangle of the known parcels, (W, N pairs)."""
    one_N, other_N = np.triu_indices(len(known_P), k=1)
    return z_WPP[:, known_P[one_N], known_P[other_N]]
