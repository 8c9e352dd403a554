"""Linear prediction by Burg's method, plain and frequency-warped, of all windows at once; features and spectra of it.

Sources: Burg 1975 (lattice, reflection coefficients); Andersen 1978 (the recursion of the denominator); Härmä et al.
2000 (the warped lattice: a first-order all-pass in place of the unit delay), with the start of LiPCoT's code.

What makes it fast: a step of the lattice is one small matrix product for each window, which reads and writes the
errors once; the denominator follows from the one before; and the all-pass, which is a recursion over time, is done in
blocks of a few samples, as a product with its impulse response and a carry from block to block.
"""

from __future__ import annotations

import numpy as np

from neuroloom.records import Array

SAMPLES_AT_ONCE = 160_000  # over the windows of a block: its arrays (5 MB) stay in the cache
ALL_PASS_BLOCK = 16
STALE = 1e-2  # the denominator's recursion loses digits as it falls; below this share it is summed anew
ROUNDING = 1e-28  # of the power: residues below it are rounding, which has nothing to predict
LARGEST = 1 - 2.0**-52
METHODS = ("spectral", "coefficients", "cepstrum")
POWER_FLOOR = 1e-40  # squared unit: below the noise of any sensor, in V and in T


def burg(x_WT: Array, order: int, warp: float = 0.0) -> tuple[Array, Array]:
    """Coefficients of linear prediction of each window.

    The prediction error is ``e[t] = x[t] + a[1] x1[t] + ... + a[P] xP[t]``, where `xm` is x delayed by m samples, or
    passed m times through the all-pass ``(z^-1 - warp) / (1 - warp z^-1)``.

    Parameters
    ----------
    x_WT : array (W, T)
        Windows, in any unit; computed in float64. No mean is taken off and no taper is applied.
    order : int
    warp : float
        Frequency warping (lambda), between -1 and 1; 0 is plain Burg.

    Returns
    -------
    a_WP : float64 array (W, order)
        Coefficients without the leading 1; all poles are inside the unit circle. Zero for a constant window.
    sigma_W : float64 array (W,)
        Power of the prediction error, squared unit. Zero for a constant window.

    Raises
    ------
    ValueError
        If a window is not finite, or shorter than order + 1, or the warp is out of range.
    """
    x_WT = np.asarray(x_WT)
    _check(x_WT, order, warp)
    n_windows, n_times = x_WT.shape
    at_once = max(SAMPLES_AT_ONCE // n_times, 1)
    length = -(-n_times // ALL_PASS_BLOCK) * ALL_PASS_BLOCK + 1
    buffers = np.zeros((2, min(at_once, n_windows), 3, length))
    k_WP, power_W = np.empty((n_windows, order)), np.empty(n_windows)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told of below, by name
        for first in range(0, n_windows, at_once):
            block = slice(first, first + at_once)
            part_WT = x_WT[block]
            k_WP[block], power_W[block] = _reflections(part_WT, order, warp, buffers[:, : len(part_WT)])
    _check_finite(power_W)
    constant_W = x_WT[:, 0] == x_WT[:, -1]
    constant_W[constant_W] = np.ptp(x_WT[constant_W], axis=1) == 0
    k_WP[constant_W] = power_W[constant_W] = 0
    return _levinson(k_WP), power_W * np.prod(1 - k_WP**2, axis=1)


def _check(x_WT: Array, order: int, warp: float) -> None:
    if x_WT.ndim != 2:
        raise ValueError(f"x_WT has shape {x_WT.shape}; give windows by samples")
    if not -1 < warp < 1:
        raise ValueError(f"warp is {warp}; it must be between -1 and 1")
    if order < 1 or x_WT.shape[1] < order + 1:
        raise ValueError(f"windows of {x_WT.shape[1]} samples are too short for order {order}; give order + 1 or more")
    if x_WT.dtype.kind not in "fiu":
        raise ValueError(f"x_WT has dtype {x_WT.dtype}; give real numbers")


def _reflections(x_WT: Array, order: int, warp: float, buffers: Array) -> tuple[Array, Array]:
    """Reflection coefficients (W, order) and mean squares (W,) of windows that fit the buffers."""
    n_windows, n_times = x_WT.shape
    here, there = buffers  # rows: forward error, backward error, delayed backward error
    here[:, :2, :n_times] = x_WT[:, None]
    whole_W = np.vecdot(here[:, 0, :n_times], here[:, 0, :n_times])
    energy_W, summed_W, least_W = 2 * whole_W, 2 * whole_W, ROUNDING * whole_W + np.finfo(float).tiny
    k_WP, step_W22 = np.empty((n_windows, order)), np.ones((n_windows, 2, 2))
    for at in range(order):
        pair_W2T, lost_W = _delayed(here, n_times - at, warp)
        energy_W -= lost_W
        if (energy_W < STALE * summed_W).any():
            _sum_stale(pair_W2T, energy_W, summed_W)
        k_W = np.vecdot(pair_W2T[:, 0], pair_W2T[:, 1])
        k_W *= -2 / np.maximum(energy_W, least_W)
        k_WP[:, at] = step_W22[:, 0, 1] = step_W22[:, 1, 0] = k_W
        if at < order - 1:  # the last errors are not needed
            np.matmul(step_W22, pair_W2T, out=there[:, :2, : pair_W2T.shape[2]])
            energy_W *= 1 - k_W * k_W
            here, there = there, here
    return np.clip(k_WP, -LARGEST, LARGEST), whole_W / n_times


def _check_finite(power_W: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(power_W))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(power_W)} windows are not finite (NaN or infinite), the first is window {bad[0]};"
            " clean them or leave them out"
        )


def _sum_stale(pair_W2T: Array, energy_W: Array, summed_W: Array) -> None:
    """Sum the energies anew that have fallen far since the last sum."""
    stale_W = energy_W < STALE * summed_W
    pair = pair_W2T[stale_W]
    energy_W[stale_W] = summed_W[stale_W] = np.vecdot(pair, pair).sum(axis=1)


def _delayed(here: Array, n: int, warp: float) -> tuple[Array, Array]:
    """Forward and delayed backward error (W, 2, n - 1), and the energy that is lost at the ends."""
    n_windows, _, length = here.shape
    first_W, last_W = here[:, 0, 0], here[:, 1, n - 1]
    lost_W = first_W * first_W
    if warp == 0:
        # the end of the forward row runs into the backward row: one sample on, rows are aligned by their delay
        ahead_W2T = here[:, :2].reshape(n_windows, -1)[:, 1:-1].reshape(n_windows, 2, length - 1)
        return ahead_W2T[:, :, : n - 1], lost_W + last_W * last_W
    square_W, left_W = here[:, 1, 0] ** 2, last_W.copy()
    _all_pass(here[:, 1, :-1], here[:, 2, :-1], n, warp)
    left_W += warp * here[:, 2, n - 1]  # the state that the all-pass is left in
    return here[:, ::2, 1:n], lost_W + square_W + (left_W * left_W - square_W) / (1 - warp**2)


def _all_pass(b_WT: Array, out_WT: Array, n: int, warp: float) -> None:
    """The first n samples through the all-pass, in blocks; sample 0 of the result is of no use.

    What a block starts with is the carry `z[s] = x[s - 1] + warp y[s - 1]`. It is given to the block as a change of its
    first sample, since all that follows it then comes out of the same product. `b_WT` is changed.
    """
    n_blocks = -(-n // ALL_PASS_BLOCK)
    blocks_WNT = b_WT[:, : n_blocks * ALL_PASS_BLOCK].reshape(len(b_WT), n_blocks, ALL_PASS_BLOCK)
    out_WNT = out_WT[:, : n_blocks * ALL_PASS_BLOCK].reshape(blocks_WNT.shape)
    power_T = warp ** np.arange(ALL_PASS_BLOCK + 1)
    rest = 1 - warp**2
    blocks_WNT[:, 0, 0] /= rest  # as published: silence before the second sample, not before the first
    carry_WN = blocks_WNT[:, :-1] @ (rest * power_T[-2::-1])
    decay, reach = power_T[-1], 1
    while abs(decay) > 1e-20 and reach < n_blocks - 1:
        carry_WN[:, reach:] += decay * carry_WN[:, :-reach]
        decay, reach = decay * decay, 2 * reach
    blocks_WNT[:, 1:, 0] += warp / rest * carry_WN
    np.matmul(blocks_WNT, _response(power_T, warp), out=out_WNT)
    out_WNT[:, 1:, 0] += carry_WN / rest


def _response(power_T: Array, warp: float) -> Array:
    """Impulse responses of the all-pass to each sample of a block, one in a row."""
    ahead_TT = np.arange(ALL_PASS_BLOCK) - np.arange(ALL_PASS_BLOCK)[:, None]
    after = (1 - warp**2) * power_T[np.maximum(ahead_TT - 1, 0)]
    return np.where(ahead_TT > 0, after, np.where(ahead_TT == 0, -warp, 0.0))


def _levinson(k_WP: Array) -> Array:
    """Coefficients of prediction from reflection coefficients (W, P)."""
    a_WP = np.zeros_like(k_WP)
    for at in range(k_WP.shape[1]):
        a_WP[:, :at] += k_WP[:, at : at + 1] * a_WP[:, :at][:, ::-1]
        a_WP[:, at] = k_WP[:, at]
    return a_WP


def power_response(a_WP: Array, sigma_W: Array, freqs_F: Array, sfreq: float, warp: float = 0.0) -> Array:
    """Spectrum that predictors stand for: one-sided power density.

    A warped predictor whitens the signal on the warped axis; what it leaves over on the true one is a first-order
    spectrum of the same power, ``(1 - warp^2) / |1 - warp z^-1|^2``, which is put back here.

    Parameters
    ----------
    a_WP, sigma_W : arrays
        As `burg` gives them, with the same warp.
    freqs_F : array
        Hz.
    sfreq : float
        Hz.
    warp : float

    Returns
    -------
    float64 array (W, F)
        Squared unit per Hz; its integral from 0 to `sfreq` / 2 is the variance.
    """
    back_F = np.exp(-2j * np.pi * np.asarray(freqs_F, np.float64) / sfreq)
    all_pass_F = (back_F - warp) / (1 - warp * back_F)
    error_WF = 1 + a_WP @ all_pass_F ** np.arange(1, a_WP.shape[1] + 1)[:, None]
    residue_F = (1 - warp**2) / np.abs(1 - warp * back_F) ** 2
    gain_WF = np.maximum(np.abs(error_WF) ** 2, np.finfo(float).tiny)
    return 2 / sfreq * sigma_W[:, None] * residue_F / gain_WF


def lipcot_features(a_WP: Array, sigma_W: Array, sfreq: float, method: int | str) -> Array:
    """Features of predictors by one of the three published methods.

    Parameters
    ----------
    a_WP, sigma_W : arrays
        As `burg` gives them; warped coefficients are taken as they are, as published.
    sfreq : float
        Hz; only the frequencies of method 1 depend on it.
    method : 1, 2, 3 or name
        1 "spectral": for poles by rising |frequency|, ``-2 log10(1 - |pole|)`` of each, then the frequency (Hz) of
        each, then ``log10 sigma``; of a pair, the positive frequency is first. 2 "coefficients": a, ``log10 sigma``.
        3 "cepstrum": ``ln sigma``, then ``sqrt(n) c_n``, whose Euclidean distance is the cepstral distance.

    Returns
    -------
    float64 array (W, D)
        D is 2 P + 1, P + 1 and P + 1. Powers below `POWER_FLOOR` count as that.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    sigma_W = np.maximum(sigma_W, POWER_FLOOR)
    name = _method(method)
    if name == "cepstrum":
        scale_P = np.sqrt(np.arange(1, a_WP.shape[1] + 1))
        return np.column_stack([np.log(sigma_W), scale_P * _cepstrum(a_WP)])
    if name == "coefficients":
        return np.column_stack([a_WP, np.log10(sigma_W)])
    poles_WP = _poles(a_WP)
    away_WP = np.maximum(1 - np.abs(poles_WP), np.finfo(float).eps)
    return np.column_stack([-2 * np.log10(away_WP), np.angle(poles_WP) * sfreq / (2 * np.pi), np.log10(sigma_W)])


def lipcot_inverse(features_WD: Array, sfreq: float, method: int | str) -> tuple[Array, Array]:
    """Predictors that features stand for; the inverse of `lipcot_features`.

    The poles of a mean of features need not come in pairs; the real part of their polynomial is taken.

    Returns
    -------
    a_WP, sigma_W : float64 arrays
    """
    features_WD = np.asarray(features_WD, np.float64)
    name = _method(method)
    if name == "cepstrum":
        scale_P = np.sqrt(np.arange(1, features_WD.shape[1]))
        return _from_cepstrum(features_WD[:, 1:] / scale_P), np.exp(features_WD[:, 0])
    sigma_W = 10 ** features_WD[:, -1]
    if name == "coefficients":
        return features_WD[:, :-1].copy(), sigma_W
    order = features_WD.shape[1] // 2
    radius_WP = 1 - 10 ** (-features_WD[:, :order] / 2)
    return _polynomial(radius_WP * np.exp(2j * np.pi / sfreq * features_WD[:, order:-1])), sigma_W


def _method(method: int | str) -> str:
    name = METHODS[method - 1] if method in (1, 2, 3) and isinstance(method, int) else method
    if name not in METHODS:
        raise ValueError(f"features by method {method!r}: give 1, 2, 3 or one of {', '.join(METHODS)}")
    return str(name)


def _poles(a_WP: Array) -> Array:
    """Poles (W, P) by rising |frequency|, of a pair the positive one first."""
    order = a_WP.shape[1]
    companion_WPP = np.zeros((len(a_WP), order, order))
    companion_WPP[:, 1:, :-1] = np.eye(order - 1)
    companion_WPP[:, 0] = -a_WP
    poles_WP = np.linalg.eigvals(companion_WPP).astype(complex)
    angle_WP = np.angle(poles_WP)
    ranks_WP = np.lexsort((-angle_WP, -np.abs(poles_WP), np.abs(angle_WP)), axis=1)
    return np.take_along_axis(poles_WP, ranks_WP, axis=1)


def _polynomial(poles_WP: Array) -> Array:
    """Coefficients (W, P), without the leading 1, of polynomials with these roots."""
    order = poles_WP.shape[1]
    a_WP = np.zeros((len(poles_WP), order + 1), complex)
    a_WP[:, 0] = 1
    for at in range(order):
        a_WP[:, 1 : at + 2] -= poles_WP[:, at : at + 1] * a_WP[:, : at + 1]
    return np.ascontiguousarray(a_WP[:, 1:].real)


def _cepstrum(a_WP: Array) -> Array:
    """Cepstrum c_1 to c_P of the all-pole filter."""
    c_WP, rank_P = np.empty_like(a_WP), np.arange(1, a_WP.shape[1] + 1)
    for at in range(a_WP.shape[1]):
        past_W = (rank_P[:at] * c_WP[:, :at] * a_WP[:, :at][:, ::-1]).sum(axis=1)
        c_WP[:, at] = -a_WP[:, at] - past_W / (at + 1)
    return c_WP


def _from_cepstrum(c_WP: Array) -> Array:
    a_WP, rank_P = np.empty_like(c_WP), np.arange(1, c_WP.shape[1] + 1)
    for at in range(c_WP.shape[1]):
        past_W = (rank_P[:at] * c_WP[:, :at] * a_WP[:, :at][:, ::-1]).sum(axis=1)
        a_WP[:, at] = -c_WP[:, at] - past_W / (at + 1)
    return a_WP
