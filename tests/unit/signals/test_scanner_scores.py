import numpy as np
import pytest

from neuroloom.records import Events
from neuroloom.signals.scanner_scores import (
    FROM_START,
    FROM_STOP,
    Curve,
    erd_change,
    harmonic_drop,
    kept_r,
    kept_r_by_second,
    power_ratio,
)

SFREQ = 200.0
TIME = np.arange(int(40 * SFREQ)) / SFREQ


@pytest.fixture
def brain(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((4, len(TIME))).astype(np.float32)


def test_drop_is_that_of_the_worst_harmonic(brain: np.ndarray) -> None:
    artefact_CT = 50 * (np.sin(2 * np.pi * 10 * TIME) + np.sin(2 * np.pi * 20 * TIME))
    left_CT = 0.5 * np.sin(2 * np.pi * 10 * TIME) + 0.05 * np.sin(2 * np.pi * 20 * TIME)
    settings = {"truth_CT": brain, "sfreq": SFREQ}
    drop = harmonic_drop(brain + artefact_CT, brain + left_CT, freqs=np.array([10.0, 20.0]), **settings)
    assert drop == pytest.approx(40, abs=0.1)
    assert harmonic_drop(brain + artefact_CT, brain + left_CT, freqs=np.array([20.0]), **settings) > 55


def test_taking_the_brain_away_counts_as_well(brain: np.ndarray) -> None:
    artefact_CT = 50 * np.sin(2 * np.pi * 10 * TIME)
    drop = harmonic_drop(brain + artefact_CT, 0 * brain, truth_CT=brain, sfreq=SFREQ, freqs=np.array([10.0]))
    assert drop < 60


def test_r_is_one_for_the_truth_and_falls_with_noise_in_the_band(brain: np.ndarray, rng: np.random.Generator) -> None:
    assert kept_r(brain, brain, sfreq=SFREQ) == pytest.approx(1.0)
    noisy_CT = brain + rng.standard_normal(brain.shape)
    assert kept_r(noisy_CT, brain, sfreq=SFREQ) == pytest.approx(np.sqrt(0.5), abs=0.03)
    far_CT = brain + 20 * np.sin(2 * np.pi * 70 * TIME) * np.hanning(len(TIME))  # no jump at the ends
    assert kept_r(far_CT, brain, sfreq=SFREQ) > 0.98


def test_contrast_of_alpha_is_compared(brain: np.ndarray) -> None:
    events = Events(np.array([10.0]), np.array([10.0]), ["task"])
    in_task = (TIME >= 10) & (TIME < 20)
    alpha_T = np.sin(2 * np.pi * 10 * TIME) * np.where(in_task, 1.0, 2.0)
    truth_CT = 0.01 * brain + alpha_T
    same = {"truth_CT": truth_CT, "sfreq": SFREQ, "events": events, "task": "task"}
    assert erd_change(3 * truth_CT, **same) == pytest.approx(0, abs=1e-3)
    flat_CT = 0.01 * brain + np.sin(2 * np.pi * 10 * TIME)
    assert erd_change(flat_CT, **same) == pytest.approx(3.0, rel=0.1)


def test_the_ratio_of_powers_has_a_value_for_each_harmonic(brain: np.ndarray) -> None:
    over_CT = 1e-6 * brain + 10 * np.sin(2 * np.pi * 10 * TIME) + 2 * np.sin(2 * np.pi * 20 * TIME)
    under_CT = 1e-6 * brain + np.sin(2 * np.pi * 10 * TIME) + 4 * np.sin(2 * np.pi * 20 * TIME)
    ratio_N = power_ratio(over_CT, under_CT, sfreq=SFREQ, freqs=np.array([10.0, 20.0]))
    np.testing.assert_allclose(ratio_N, [20.0, 20 * np.log10(0.5)], atol=0.01)
    (together,) = power_ratio(over_CT, under_CT, sfreq=SFREQ, freqs=np.array([10.0, 20.0]), together=True)
    assert together == pytest.approx(10 * np.log10(104 / 17), abs=0.01)


def by_second(after_CT: np.ndarray, truth_CT: np.ndarray, still_T: np.ndarray) -> dict[tuple[str, str], Curve]:
    curves = kept_r_by_second(after_CT, truth_CT, sfreq=SFREQ, still_T=still_T, start=3.002, stop=35.0)
    return {(curve.what, curve.x_unit): curve for curve in curves}


@pytest.mark.parametrize(
    ("wrong_s", "unit", "x"), [(2.0, FROM_START, -0.5), (0.0, FROM_START, -2.5), (34.0, FROM_STOP, -0.5)]
)
def test_the_second_that_is_wrong_is_found_and_costs_what_is_lost(
    brain: np.ndarray, rng: np.random.Generator, wrong_s: float, unit: str, x: float
) -> None:
    after_CT = brain.copy()
    wrong = slice(int((wrong_s + 0.1) * SFREQ), int((wrong_s + 0.9) * SFREQ))
    after_CT[:, wrong] += 5 * rng.standard_normal(after_CT[:, wrong].shape)
    curves = by_second(after_CT, brain, np.ones(len(TIME), bool))
    within, without = curves["scanner_r_second", unit], curves["scanner_r_without", unit]
    assert within.x_N[within.value_N.argmin()] == x
    assert without.x_N[without.value_N.argmax()] == x
    whole = kept_r(after_CT, brain, sfreq=SFREQ)
    assert without.value_N.max() > 0.99 > 0.9 > whole
    far = np.abs(without.x_N - x) > 2
    np.testing.assert_allclose(without.value_N[far], whole, atol=0.01)


def test_a_second_that_does_not_count_has_no_r_and_takes_nothing_away(
    brain: np.ndarray, rng: np.random.Generator
) -> None:
    after_CT, still_T = brain + rng.standard_normal(brain.shape), (TIME < 10) | (TIME >= 12)
    curves = by_second(after_CT, brain, still_T)
    within, without = curves["scanner_r_second", FROM_START], curves["scanner_r_without", FROM_START]
    assert set(without.x_N) - set(within.x_N) == {7.5, 8.5}  # 10.002 to 12.002 s
    whole = kept_r(after_CT[:, still_T], brain[:, still_T], sfreq=SFREQ)
    assert without.value_N[without.x_N == 7.5] == pytest.approx(whole, abs=2e-4)


def test_every_second_is_in_one_curve_and_slivers_are_in_none(brain: np.ndarray) -> None:
    curves = by_second(brain, brain, np.ones(len(TIME), bool))
    early, late = curves["scanner_r_without", FROM_START].x_N, curves["scanner_r_without", FROM_STOP].x_N
    np.testing.assert_array_equal(early, np.arange(-2.5, 16))
    np.testing.assert_array_equal(late, np.arange(-15.5, 5))
    assert min(curve.value_N.min() for curve in curves.values()) == pytest.approx(1)
