import numpy as np
import pytest

from neuroloom.records import Events
from neuroloom.signals.scanner_scores import erd_change, harmonic_drop, kept_r

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
