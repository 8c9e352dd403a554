from dataclasses import replace

import numpy as np
import pytest
from tests.unit.signals.test_components import contracted

from neuroloom.records import Events, Recording
from neuroloom.signals.scores import BOUNDS, Bound, score_bads, score_muscle, score_signal


def scores(
    before: Recording, after: Recording, truth_CT: np.ndarray, blink_T: np.ndarray | None = None
) -> dict[str, float]:
    if blink_T is None:
        blink_T = np.zeros(truth_CT.shape[1], np.float32)
        blink_T[:100] = 1e-9
    found = score_signal(
        after.signal_CT,
        plain_CT=before.signal_CT,
        filtered_CT=after.signal_CT,
        truth_CT=truth_CT,
        noise_psd_C=np.zeros(len(truth_CT)),
        blink_T=blink_T,
        sfreq=before.sfreq,
        line_freq=50.0,
    )
    return {score.what: score.value for score in found}


def hum(recording: Recording, size: float) -> Recording:
    """Mains that differs between channels: a common one would vanish in the average reference."""
    times = np.arange(recording.signal_CT.shape[1]) / recording.sfreq
    size_C = size * np.linspace(0.5, 1.5, len(recording.ch_names))[:, None]
    signal_CT = recording.signal_CT + size_C * np.sin(2 * np.pi * 50 * times)
    return replace(recording, signal_CT=signal_CT.astype(np.float32))


def test_recall_and_precision() -> None:
    found = {score.what: score.value for score in score_bads(["a", "b", "x"], list("abcd"), n_channels=20)}
    assert found == {"bads_recall": 0.5, "bads_precision": pytest.approx(2 / 3), "bads_false": 1 / 20}
    assert np.isnan(score_bads([], ["a"], n_channels=20)[1].value)


def test_perfect_cleaning_scores_perfectly(recording: Recording) -> None:
    found = scores(recording, recording, recording.signal_CT)
    assert found["alpha"] == pytest.approx(0, abs=1e-3)
    assert found["line_neighbours"] == pytest.approx(0, abs=0.01) or found["line_neighbours"] < 1


def test_mains_that_stays_is_no_drop_and_mains_that_goes_is(recording: Recording) -> None:
    loud = hum(recording, 20e-6)
    assert scores(loud, loud, recording.signal_CT)["line_drop"] == pytest.approx(0, abs=0.5)
    assert scores(loud, recording, recording.signal_CT)["line_drop"] > 10


def test_blinks_that_stay_are_seen(recording: Recording) -> None:
    blink_T = np.zeros(recording.signal_CT.shape[1], np.float32)
    blink_T[1000:1100] = 1
    spoilt_CT = recording.signal_CT.copy()
    spoilt_CT[0] += 2e-4 * blink_T
    spoilt = replace(recording, signal_CT=spoilt_CT)
    assert scores(spoilt, spoilt, recording.signal_CT, blink_T)["blink"] > 0.5
    assert scores(spoilt, recording, recording.signal_CT, blink_T)["blink"] < 0.3


def test_lost_alpha_is_seen(recording: Recording) -> None:
    weak = replace(recording, signal_CT=0.9 * recording.signal_CT)
    assert scores(recording, weak, recording.signal_CT)["alpha"] == pytest.approx(0.19, abs=0.01)


def test_bounds_are_floors_or_ceilings() -> None:
    assert Bound("", "", least=0.9).met(0.9)
    assert not Bound("", "", least=0.9).met(0.89)
    assert Bound("", "", most=0.1).met(0.1)
    assert not Bound("", "", most=0.1).met(0.11)
    assert not any(bound.met(np.nan) for bound in BOUNDS.values())


def muscle_scores(recording: Recording, *, left: float, alpha: float = 1.0) -> dict[str, float]:
    """Of bursts of which a share is left, and a share of the alpha rhythm."""
    muscle_CT = contracted(recording, "T7", starts=(4.0, 11.0))
    noise_CT = 2e-6 * np.random.default_rng(3).standard_normal(muscle_CT.shape)
    times = np.arange(muscle_CT.shape[1]) / recording.sfreq
    wave_CT = np.tile(2e-5 * np.sin(2 * np.pi * 10.3 * times), (19, 1))
    brain_CT = recording.signal_CT + wave_CT
    found = score_muscle(
        recording.signal_CT + alpha * wave_CT + noise_CT + left * muscle_CT,
        plain_CT=brain_CT + noise_CT + muscle_CT,
        brain_CT=brain_CT,
        bursts=Events(np.array([4.0, 11.0]), np.array([1.5, 1.5]), ["T7", "T7"]),
        sfreq=recording.sfreq,
    )
    return {score.what: score.value for score in found}


def test_muscle_is_measured_above_what_is_there_without_it(recording: Recording) -> None:
    assert muscle_scores(recording, left=1.0)["muscle"] == pytest.approx(0, abs=0.01)
    assert muscle_scores(recording, left=0.3)["muscle"] == pytest.approx(-20 * np.log10(0.3), abs=0.5)
    assert muscle_scores(recording, left=0.0)["muscle"] > 20


def test_the_brain_is_more_like_itself_without_muscle(recording: Recording) -> None:
    assert muscle_scores(recording, left=1.0)["muscle_r"] == pytest.approx(0, abs=1e-6)
    assert muscle_scores(recording, left=0.0)["muscle_r"] > 0
    assert muscle_scores(recording, left=2.0)["muscle_r"] < 0


def test_alpha_that_goes_with_muscle_is_seen(recording: Recording) -> None:
    assert muscle_scores(recording, left=0.0)["muscle_alpha"] < 0.01
    assert muscle_scores(recording, left=0.0, alpha=0.9)["muscle_alpha"] == pytest.approx(0.19, abs=0.04)
