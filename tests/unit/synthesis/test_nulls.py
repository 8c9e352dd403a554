"""Nulls keep what makes BOLD slow, and their p are what they say, where those of a t test are not."""

import numpy as np
import pytest
from scipy.signal import lfilter

from neuroloom.bold.hrf import hrf_kernel
from neuroloom.synthesis.metrics import correlation, correlation_p
from neuroloom.synthesis.nulls import (
    OTHER,
    PHASE,
    SHIFT,
    draw_nulls,
    far_shifts,
    mates,
    p_values,
    phase_null,
    phase_randomised,
    random_phases,
    shift_null,
)
from neuroloom.synthesis.predicted import Predicted

T_R = 2.1
N_SETS, N_PARCELS = 40, 50


def bold_like(rng: np.random.Generator, n: int, n_volumes: int) -> np.ndarray:
    """Scale-free (1/f) neural drive through the haemodynamic response, cut from longer series."""
    rate, n_times = 3 / T_R, 3 * (n_volumes + 100)
    spectrum_NF = np.fft.rfft(rng.standard_normal((n, n_times)))
    spectrum_NF /= np.sqrt(np.maximum(np.fft.rfftfreq(n_times, 1 / rate), rate / n_times))
    drive_NT = np.fft.irfft(spectrum_NF, n_times)
    return lfilter(hrf_kernel(rate), [1], drive_NT)[:, 180::3][:, :n_volumes]


def predicted(true_PV: np.ndarray, said_PV: np.ndarray, **facts: str | float) -> Predicted:
    n_parcels, n_volumes = true_PV.shape
    named = {"scan": "a_rest", "participant": "a", "site": "s", "task": "rest", "t_r": T_R} | facts
    return Predicted(
        **named,
        parcels=[f"p{at}" for at in range(n_parcels)],
        centroid_P3=np.zeros((n_parcels, 3)),
        onset_V=np.arange(n_volumes) * T_R,
        bold_true_PV=true_PV,
        bold_pred_PV=said_PV,
        bold_std_PV=np.full(true_PV.shape, np.nan),
        nuisance_VM=np.zeros((n_volumes, 0)),
    )


@pytest.mark.parametrize("n_volumes", [46, 47])
def test_random_phases_keep_spectra_and_covariances(rng: np.random.Generator, n_volumes: int) -> None:
    bold_PV = bold_like(rng, 8, n_volumes) + 5.0
    draws_RPV = phase_randomised(bold_PV, n=10, rng=rng)
    spectra = np.abs(np.fft.rfft(draws_RPV)), np.abs(np.fft.rfft(bold_PV))
    np.testing.assert_allclose(spectra[0], np.broadcast_to(spectra[1], spectra[0].shape), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose([np.cov(draw_PV) for draw_PV in draws_RPV], [np.cov(bold_PV)] * 10, rtol=1e-8)
    assert np.abs(correlation(draws_RPV, bold_PV)).max() < 0.95
    assert draws_RPV.std(axis=0).min() > 0


@pytest.mark.parametrize("n_volumes", [46, 47])
def test_correlations_without_the_copies_are_those_with_them(rng: np.random.Generator, n_volumes: int) -> None:
    true_PV, said_PV = bold_like(rng, 5, n_volumes), bold_like(rng, 5, n_volumes)
    copies_RPV = phase_randomised(true_PV, n=30, rng=np.random.default_rng(7))
    found_RP = phase_null(true_PV, said_PV, n=30, rng=np.random.default_rng(7))
    np.testing.assert_allclose(found_RP, correlation(copies_RPV, said_PV), atol=1e-12)


def test_phases_of_real_series_are_real_where_they_have_to_be(rng: np.random.Generator) -> None:
    factors_RF = random_phases(20, n=50, rng=rng)
    np.testing.assert_allclose(np.abs(factors_RF), 1.0)
    assert (factors_RF[:, 0] == 1).all()
    assert set(factors_RF[:, -1].tolist()) == {1.0, -1.0}


def test_shifts_are_far_and_reversed_series_join_them(rng: np.random.Generator) -> None:
    true_PV, said_PV = bold_like(rng, 3, 30), bold_like(rng, 3, 30)
    far_R = far_shifts(30, min_shift=12)
    assert far_R.tolist() == list(range(12, 19))
    shifts = [np.roll(true_PV, at, axis=1) for at in far_R]
    shifts += [np.roll(true_PV[:, ::-1], at, axis=1) for at in range(30)]
    null_RP = shift_null(true_PV, said_PV, far_R=far_R, n=1000, rng=rng)
    expected_RP = correlation(np.stack(shifts), said_PV)
    np.testing.assert_allclose(np.sort(null_RP, axis=0), np.sort(expected_RP, axis=0), atol=1e-12)
    assert len(shift_null(true_PV, said_PV, far_R=far_R, n=9, rng=rng)) == 9
    assert not len(far_shifts(30, min_shift=16))


def test_unrelated_slow_series_reach_high_correlations(rng: np.random.Generator) -> None:
    one_NV, other_NV = bold_like(rng, 4000, 47), bold_like(rng, 4000, 47)
    share = (np.abs(correlation(one_NV, other_NV)) > 0.5).mean()
    assert share == pytest.approx(0.05, abs=0.015)


def test_p_of_the_nulls_are_uniform_and_those_of_a_t_test_are_not(rng: np.random.Generator) -> None:
    p: dict[str, list[np.ndarray]] = {PHASE: [], SHIFT: [], OTHER: [], "t test": []}
    for _ in range(N_SETS):
        scans = [
            predicted(bold_like(rng, N_PARCELS, 47), bold_like(rng, N_PARCELS, 47), scan=f"{at}", participant=f"{at}")
            for at in range(20)
        ]
        nulls = draw_nulls(scans[0], scans[1:], n_draws=199, min_shift=20.0, rng=rng)
        r_P = correlation(scans[0].bold_true_PV, scans[0].bold_pred_PV)
        for target, null in nulls.items():
            p[target].append(p_values(r_P, null.r_RP))
        p["t test"].append(correlation_p(r_P, np.full(N_PARCELS, 47.0)))
    shares = {
        name: np.array([(np.concatenate(found) <= at).mean() for at in (0.05, 0.25, 0.5)]) for name, found in p.items()
    }
    error = 3 * np.sqrt(np.array([0.05 * 0.95, 0.25 * 0.75, 0.25]) / (N_SETS * N_PARCELS))
    for target in (PHASE, OTHER):
        np.testing.assert_array_less(np.abs(shares[target] - [0.05, 0.25, 0.5]), error)
    # shifts are few, and p has coarse steps: it may be less often below a level than the level says
    np.testing.assert_array_less(shares[SHIFT] - [0.05, 0.25, 0.5], error)
    assert shares[SHIFT][0] > 0.02
    assert shares["t test"][0] > 0.13


@pytest.mark.parametrize("n_volumes", [57, 75])
def test_a_real_relation_is_found(rng: np.random.Generator, n_volumes: int) -> None:
    true_PV = bold_like(rng, 200, n_volumes)
    noise_PV = bold_like(rng, 200, n_volumes)
    strong, none = predicted(true_PV, true_PV + noise_PV), predicted(true_PV, noise_PV)
    for target in (PHASE, SHIFT):
        found, chance = (
            p_values(
                correlation(scan.bold_true_PV, scan.bold_pred_PV),
                draw_nulls(scan, [], n_draws=200, min_shift=20.0, rng=rng)[target].r_RP,
            )
            for scan in (strong, none)
        )
        assert (found <= 0.05).mean() > 0.9
        assert (chance <= 0.05).mean() < 0.12


def test_p_is_one_sided_and_never_zero(rng: np.random.Generator) -> None:
    true_PV = bold_like(rng, 4, 60)
    null_RP = phase_null(true_PV, true_PV, n=99, rng=rng)
    assert p_values(correlation(true_PV, true_PV), null_RP).tolist() == [0.01] * 4
    assert p_values(correlation(true_PV, -true_PV), -null_RP).tolist() == [1.0] * 4
    assert np.isnan(p_values(np.ones(4), np.zeros((0, 4)))).all()


def test_mates_are_others_with_the_same_clock_and_the_same_task_if_possible(rng: np.random.Generator) -> None:
    bold_PV = bold_like(rng, 2, 30)
    facts = [("a", "rest", 2.0), ("a", "tones", 2.0), ("b", "rest", 2.0), ("c", "tones", 2.0), ("d", "rest", 1.5)]
    scans = [
        predicted(bold_PV, bold_PV, scan=f"{who}_{task}", participant=who, task=task, t_r=t_r)
        for who, task, t_r in facts
    ]
    assert [scan.scan for scan in mates(scans[0], scans)] == ["b_rest"]
    assert [scan.scan for scan in mates(scans[1], scans)] == ["c_tones"]
    movie = predicted(bold_PV, bold_PV, scan="e_movie", participant="e", task="movie", t_r=2.0)
    assert len(mates(movie, scans)) == 4
    assert mates(scans[4], scans) == []


def test_scans_of_other_lengths_are_cut_to_the_shorter(rng: np.random.Generator) -> None:
    scan = predicted(bold_like(rng, 3, 50), bold_like(rng, 3, 50))
    others = [predicted(bold_like(rng, 3, n), bold_like(rng, 3, n), participant="b") for n in (40, 60, 19)]
    null = draw_nulls(scan, others, n_draws=10, min_shift=20.0, rng=rng)[OTHER]
    expected = [
        correlation(others[0].bold_true_PV, scan.bold_pred_PV[:, :40]),
        correlation(others[1].bold_true_PV[:, :50], scan.bold_pred_PV),
    ]
    np.testing.assert_allclose(np.sort(null.r_RP, axis=0), np.sort(expected, axis=0))


def test_a_null_that_does_not_exist_says_why(rng: np.random.Generator) -> None:
    short = predicted(bold_like(rng, 3, 15), bold_like(rng, 3, 15))
    for null in draw_nulls(short, [], n_draws=10, min_shift=20.0, rng=rng).values():
        assert null.r_RP.shape == (0, 3)
        assert np.isnan(null.coherence_P).all()
        assert "15 volumes" in null.note or "nobody else" in null.note
    medium = predicted(bold_like(rng, 3, 40), bold_like(rng, 3, 40))
    nulls = draw_nulls(medium, [], n_draws=10, min_shift=60.0, rng=rng)
    assert not nulls[PHASE].note
    assert "60 s" in nulls[SHIFT].note
    assert len(draw_nulls(medium, [], n_draws=10, min_shift=20.0, rng=rng)[SHIFT].r_RP) == 10
