"""Scores of predicted BOLD equal their formulas, and are NaN where they do not exist."""

import numpy as np
import pytest
from scipy.stats import linregress, norm, pearsonr

from neuroloom.synthesis.metrics import (
    calibration,
    coherence,
    correlation,
    correlation_p,
    effective_size,
    mean_squared_error,
    partial_correlation,
    r_squared,
    segment_length,
    without_nuisance,
)

T_R = 2.0


def pair(rng: np.random.Generator, n_parcels: int = 6, n_volumes: int = 90) -> tuple[np.ndarray, np.ndarray]:
    true_PV = rng.standard_normal((n_parcels, n_volumes))
    return true_PV, 0.6 * true_PV + rng.standard_normal(true_PV.shape) + 3.0


def slow(rng: np.random.Generator, n: int, n_volumes: int, memory: float) -> np.ndarray:
    """AR(1) series whose autocorrelation at lag 1 is `memory`, from their stationary start."""
    noise_NV = rng.standard_normal((n, n_volumes)) * np.sqrt(1 - memory**2)
    series_NV = np.empty_like(noise_NV)
    series_NV[:, 0] = rng.standard_normal(n)
    for at in range(1, n_volumes):
        series_NV[:, at] = memory * series_NV[:, at - 1] + noise_NV[:, at]
    return series_NV


def test_r_is_pearsons(rng: np.random.Generator) -> None:
    true_PV, predicted_PV = pair(rng)
    expected_P = [pearsonr(true_V, said_V).statistic for true_V, said_V in zip(true_PV, predicted_PV, strict=True)]
    np.testing.assert_allclose(correlation(true_PV, predicted_PV), expected_P, rtol=1e-12)


def test_r2_is_the_square_of_r_for_the_best_line_and_zero_for_the_mean(rng: np.random.Generator) -> None:
    true_PV, predicted_PV = pair(rng)
    fits = [linregress(said_V, true_V) for true_V, said_V in zip(true_PV, predicted_PV, strict=True)]
    lines_PV = np.stack([fit.intercept + fit.slope * said_V for fit, said_V in zip(fits, predicted_PV, strict=True)])
    np.testing.assert_allclose(r_squared(true_PV, lines_PV), [fit.rvalue**2 for fit in fits], rtol=1e-10)
    means_PV = np.broadcast_to(true_PV.mean(axis=1, keepdims=True), true_PV.shape)
    np.testing.assert_allclose(r_squared(true_PV, means_PV), 0.0, atol=1e-12)


def test_a_constant_prediction_has_an_error_but_no_correlation(rng: np.random.Generator) -> None:
    true_PV = pair(rng)[0]
    said_PV = np.full(true_PV.shape, 0.1, np.float32)
    said_PV[0, ::2] = np.nextafter(np.float32(0.1), np.float32(1))  # rounding is no variation
    assert np.isnan(correlation(true_PV, said_PV)).all()
    assert np.isnan(coherence(true_PV, said_PV, t_r=T_R)).all()
    assert np.isnan(partial_correlation(true_PV, said_PV, np.zeros((90, 0)))).all()
    assert np.isfinite(mean_squared_error(true_PV, said_PV)).all()
    assert (r_squared(true_PV, said_PV) < 1e-9).all()


def test_a_parcel_that_is_not_known_stays_so(rng: np.random.Generator) -> None:
    true_PV, predicted_PV = pair(rng)
    true_PV[2] = np.nan
    scores = [
        correlation(true_PV, predicted_PV),
        mean_squared_error(true_PV, predicted_PV),
        r_squared(true_PV, predicted_PV),
        coherence(true_PV, predicted_PV, t_r=T_R),
        partial_correlation(true_PV, predicted_PV, rng.standard_normal((90, 3))),
        effective_size(true_PV, predicted_PV),
    ]
    for score_P in scores:
        assert np.flatnonzero(np.isnan(score_P)).tolist() == [2]


def test_partial_r_is_that_of_the_residuals_and_of_the_formula(rng: np.random.Generator) -> None:
    true_PV, predicted_PV = pair(rng)
    nuisance_V1 = (true_PV[:1] + predicted_PV[:1] + rng.standard_normal((1, 90))).T
    r_xy, r_xz, r_yz = (
        pearsonr(*both).statistic
        for both in (
            (true_PV[0], predicted_PV[0]),
            (true_PV[0], nuisance_V1[:, 0]),
            (predicted_PV[0], nuisance_V1[:, 0]),
        )
    )
    expected = (r_xy - r_xz * r_yz) / np.sqrt((1 - r_xz**2) * (1 - r_yz**2))
    assert partial_correlation(true_PV, predicted_PV, nuisance_V1)[0] == pytest.approx(expected)


def test_partial_r_takes_no_harm_from_units_repeats_and_gaps(rng: np.random.Generator) -> None:
    true_PV, predicted_PV = pair(rng)
    nuisance_VM = rng.standard_normal((90, 3))
    expected_P = partial_correlation(true_PV, predicted_PV, nuisance_VM)
    assert np.abs(expected_P - correlation(true_PV, predicted_PV)).max() > 0.01
    scaled_VM = np.column_stack([nuisance_VM * [1e-5, 1.0, 1e4] + 7.0, nuisance_VM[:, 0], np.full(90, np.nan)])
    np.testing.assert_allclose(partial_correlation(true_PV, predicted_PV, scaled_VM), expected_P, rtol=1e-6)
    plain_P = partial_correlation(true_PV, predicted_PV, np.zeros((90, 0)))
    np.testing.assert_allclose(plain_P, correlation(true_PV, predicted_PV), rtol=1e-10)


def test_a_prediction_of_the_global_signal_has_no_partial_r(rng: np.random.Generator) -> None:
    global_V = rng.standard_normal(90)
    true_PV = global_V + 0.5 * rng.standard_normal((5, 90))
    predicted_PV = np.tile(2 * global_V, (5, 1))
    assert (correlation(true_PV, predicted_PV) > 0.8).all()
    assert np.isnan(partial_correlation(true_PV, predicted_PV, global_V[:, None])).all()


def test_as_many_confounds_as_volumes_leave_nothing(rng: np.random.Generator) -> None:
    assert np.isnan(without_nuisance(rng.standard_normal((2, 20)), rng.standard_normal((20, 19)))).all()


def test_coherence_finds_what_is_shared_in_the_band_alone(rng: np.random.Generator) -> None:
    times_V = np.arange(300) * T_R
    inside_V, outside_V = (np.sin(2 * np.pi * frequency * times_V) for frequency in (0.05, 0.2))
    noise_2PV = rng.standard_normal((2, 40, 300))
    within_P = coherence(noise_2PV[0] + 2 * inside_V, noise_2PV[1] + 2 * inside_V, t_r=T_R, band=(0.04, 0.06))
    without_P = coherence(noise_2PV[0] + 2 * outside_V, noise_2PV[1] + 2 * outside_V, t_r=T_R, band=(0.04, 0.06))
    assert within_P.mean() > 0.8
    assert without_P.mean() < 0.3


def test_coherence_of_a_shifted_copy_is_high_where_r_is_low(rng: np.random.Generator) -> None:
    series_PV = slow(rng, 30, 400, 0.5)
    ahead_PV, behind_PV = series_PV[:, 4:], series_PV[:, :-4]
    assert correlation(ahead_PV, behind_PV).mean() < 0.15
    assert coherence(ahead_PV, behind_PV, t_r=T_R).mean() > 0.7


@pytest.mark.parametrize(("n_volumes", "t_r", "width"), [(23, 2.0, 0), (57, 2.0, 19), (600, 2.0, 50), (60, 0.7, 0)])
def test_segments_fit_five_times_or_there_is_no_coherence(
    rng: np.random.Generator, n_volumes: int, t_r: float, width: int
) -> None:
    assert segment_length(n_volumes, t_r) == width
    found_P = coherence(*pair(rng, n_volumes=n_volumes), t_r=t_r)
    assert np.isfinite(found_P).all() if width else np.isnan(found_P).all()
    if width:
        assert (found_P < 0.9).all()


def test_the_effective_size_is_that_of_the_spread_of_r(rng: np.random.Generator) -> None:
    for memory in (0.0, 0.6, 0.8):
        one_NV, other_NV = slow(rng, 3000, 120, memory), slow(rng, 3000, 120, memory)
        expected = 1 / np.var(correlation(one_NV, other_NV))
        lags_L = np.arange(1, 120)
        bartlett = 120 / (1 + 2 * ((1 - lags_L / 120) * memory ** (2 * lags_L)).sum())
        assert expected == pytest.approx(bartlett, rel=0.1)
        # of one pair it is an estimate; its mean may be off by what estimating autocorrelations costs
        assert np.median(effective_size(one_NV, other_NV)) == pytest.approx(expected, rel=0.2)


def test_the_effective_size_stays_within_bounds(rng: np.random.Generator) -> None:
    trend_PV = np.arange(30.0) + 0.01 * rng.standard_normal((4, 30))
    alternating_V = np.tile([1.0, -1.0], 15)
    assert (effective_size(trend_PV, trend_PV) >= 3).all()
    assert (effective_size(trend_PV, trend_PV) < 8).all()
    assert effective_size(trend_PV[:1], alternating_V[None]) == pytest.approx(30)
    assert effective_size(rng.standard_normal((1, 4)), rng.standard_normal((1, 4))) == pytest.approx(4)


def test_p_of_independent_pairs_is_that_of_scipy(rng: np.random.Generator) -> None:
    true_PV, predicted_PV = pair(rng)
    for true_V, said_V in zip(true_PV, predicted_PV, strict=True):
        expected = pearsonr(true_V, said_V, alternative="greater")
        assert correlation_p(np.array([expected.statistic]), np.array([90.0]))[0] == pytest.approx(expected.pvalue)


def test_effective_sizes_give_honest_p_where_the_number_of_volumes_does_not(rng: np.random.Generator) -> None:
    one_NV, other_NV = slow(rng, 3000, 75, 0.8), slow(rng, 3000, 75, 0.8)
    r_N = correlation(one_NV, other_NV)
    error = 3 * np.sqrt(0.05 * 0.95 / 3000)
    honest = (correlation_p(r_N, effective_size(one_NV, other_NV)) < 0.05).mean()
    naive = (correlation_p(r_N, np.full(3000, 75.0)) < 0.05).mean()
    assert honest == pytest.approx(0.05, abs=error + 0.01)  # what estimating autocorrelations costs
    assert naive > 0.12


def test_calibration_tells_a_right_deviation_from_one_that_is_too_small(rng: np.random.Generator) -> None:
    mean_PV, std_PV = rng.standard_normal((20, 200)), np.exp(0.3 * rng.standard_normal((20, 200)))
    true_PV = mean_PV + std_PV * rng.standard_normal(mean_PV.shape)
    right, bold = calibration(true_PV, mean_PV, std_PV), calibration(true_PV, mean_PV, std_PV / 2)
    for level in (50, 80, 95):
        share = level / 100
        assert right[f"coverage{level}"] == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
    assert bold["coverage80"] == pytest.approx(2 * norm.cdf(norm.ppf(0.9) / 2) - 1, abs=0.03)
    assert right["nll"] == pytest.approx(-norm.logpdf(true_PV, mean_PV, std_PV).mean())
    assert bold["nll"] > right["nll"]


def test_a_model_without_uncertainty_has_no_calibration(rng: np.random.Generator) -> None:
    true_PV, predicted_PV = pair(rng)
    for std in (np.nan, 0.0):
        assert np.isnan(list(calibration(true_PV, predicted_PV, np.full(true_PV.shape, std)).values())).all()
