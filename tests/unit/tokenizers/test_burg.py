"""Burg's method: what it guards, how it scales, and features that lead back to their predictors."""

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from neuroloom.tokenizers.burg import METHODS, POWER_FLOOR, burg, lipcot_features, lipcot_inverse

SFREQ = 250.0
WARPS = (0.0, 0.2, -0.5)


def brainlike(rng: np.random.Generator, n_windows: int = 12, n_times: int = 600) -> np.ndarray:
    """1/f noise below 40 Hz, as preprocessing leaves it: its power is 1e8 times that of its prediction error."""
    noise_WT = np.cumsum(rng.standard_normal((n_windows, n_times + 300)), axis=1)
    return sosfilt(butter(4, 40, fs=SFREQ, output="sos"), noise_WT, axis=1)[:, 300:]


def poles(a_P: np.ndarray) -> np.ndarray:
    return np.roots(np.concatenate([[1.0], a_P]))


@pytest.mark.parametrize("warp", WARPS)
def test_all_poles_are_inside_the_unit_circle(rng: np.random.Generator, warp: float) -> None:
    a_WP, sigma_W = burg(brainlike(rng), 16, warp)
    assert max(np.abs(poles(a_P)).max() for a_P in a_WP) < 1
    assert (sigma_W > 0).all()


@pytest.mark.parametrize("warp", WARPS)
def test_gain_moves_nothing_but_the_power(rng: np.random.Generator, warp: float) -> None:
    x_WT, gain = brainlike(rng), 1e-6
    (a_WP, sigma_W), (quiet_a_WP, quiet_sigma_W) = burg(x_WT, 16, warp), burg(gain * x_WT, 16, warp)
    np.testing.assert_allclose(quiet_a_WP, a_WP, rtol=1e-7)
    np.testing.assert_allclose(np.log10(quiet_sigma_W) - np.log10(sigma_W), 2 * np.log10(gain), rtol=1e-8)


@pytest.mark.parametrize("warp", WARPS)
def test_a_window_does_not_depend_on_its_neighbours(rng: np.random.Generator, warp: float) -> None:
    x_WT = brainlike(rng, 500)
    a_WP, sigma_W = burg(x_WT, 16, warp)
    for at in (0, 333, 499):
        a_P, sigma = burg(x_WT[at : at + 1], 16, warp)
        np.testing.assert_array_equal(a_P[0], a_WP[at])
        np.testing.assert_array_equal(sigma[0], sigma_W[at])


def test_single_precision_is_computed_in_double(rng: np.random.Generator) -> None:
    x_WT = brainlike(rng).astype(np.float32)
    np.testing.assert_array_equal(burg(x_WT, 16, 0.2)[0], burg(x_WT.astype(np.float64), 16, 0.2)[0])


@pytest.mark.parametrize("warp", WARPS)
@pytest.mark.parametrize("value", [0.0, 3.0, 1e-12, -1e6])
def test_constant_windows_have_predictors_of_zeros(rng: np.random.Generator, warp: float, value: float) -> None:
    x_WT = brainlike(rng, 3)
    x_WT[1] = value
    a_WP, sigma_W = burg(x_WT, 16, warp)
    assert not a_WP[1].any()
    assert sigma_W[1] == 0
    np.testing.assert_array_equal(a_WP[[0, 2]], burg(x_WT[[0, 2]], 16, warp)[0])
    for method in METHODS:
        assert np.isfinite(lipcot_features(a_WP, sigma_W, SFREQ, method)).all()


@pytest.mark.parametrize("warp", WARPS)
def test_windows_that_can_be_predicted_without_error_stay_finite(warp: float) -> None:
    t = np.arange(1000) / SFREQ
    steps = np.where(t < 2, 1.0, 1.0 + 1e-9)
    x_WT = np.stack([np.sin(2 * np.pi * 10 * t), (-1.0) ** np.arange(1000), t, np.exp(-t), steps, 1e-150 * t])
    a_WP, sigma_W = burg(x_WT, 16, warp)
    for method in METHODS:
        assert np.isfinite(lipcot_features(a_WP, sigma_W, SFREQ, method)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_names_the_window_that_is_not_finite(rng: np.random.Generator, value: float) -> None:
    x_WT = brainlike(rng, 400)
    x_WT[321, 5] = value
    with pytest.raises(ValueError, match=r"1 of 400 windows are not finite .* the first is window 321"):
        burg(x_WT, 16)


def test_refuses_what_is_too_short_or_not_a_window(rng: np.random.Generator) -> None:
    x_WT = brainlike(rng, 2)
    with pytest.raises(ValueError, match="16 samples are too short for order 16"):
        burg(x_WT[:, :16], 16)
    assert np.isfinite(burg(x_WT[:, :17], 16, 0.2)[0]).all()
    with pytest.raises(ValueError, match="windows by samples"):
        burg(x_WT[0], 16)
    with pytest.raises(ValueError, match="between -1 and 1"):
        burg(x_WT, 16, 1.0)
    with pytest.raises(ValueError, match="real numbers"):
        burg(x_WT.astype(complex), 16)


@pytest.mark.parametrize(("method", "length"), [(1, 33), (2, 17), (3, 17)])
def test_features_lead_back_to_their_predictor(rng: np.random.Generator, method: int, length: int) -> None:
    a_WP, sigma_W = burg(rng.standard_normal((20, 300)), 16, 0.2)
    features_WD = lipcot_features(a_WP, sigma_W, SFREQ, method)
    assert features_WD.shape == (20, length)
    np.testing.assert_array_equal(features_WD, lipcot_features(a_WP, sigma_W, SFREQ, METHODS[method - 1]))
    back_a_WP, back_sigma_W = lipcot_inverse(features_WD, SFREQ, method)
    np.testing.assert_allclose(back_a_WP, a_WP, atol=1e-10)
    np.testing.assert_allclose(back_sigma_W, sigma_W, rtol=1e-10)


def test_of_a_pair_of_poles_the_positive_frequency_is_first(rng: np.random.Generator) -> None:
    features_WD = lipcot_features(*burg(brainlike(rng), 16, 0.2), SFREQ, "spectral")
    freqs_WP = features_WD[:, 16:32]
    assert (np.diff(np.abs(freqs_WP), axis=1) >= 0).all()
    signs_W = [np.sign(row[row % (SFREQ / 2) != 0]) for row in freqs_WP]
    assert all((signs[::2] == 1).all() and (signs[1::2] == -1).all() for signs in signs_W)


def test_a_power_of_zero_counts_as_the_floor() -> None:
    assert lipcot_features(np.zeros((1, 4)), np.zeros(1), SFREQ, 2)[0, -1] == pytest.approx(np.log10(POWER_FLOOR))


def test_refuses_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="give 1, 2, 3 or one of spectral"):
        lipcot_features(np.zeros((1, 4)), np.ones(1), SFREQ, 4)
