import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import firwin
from tests.unit.signals.test_components import contracted

from neuroloom.config import MeegConfig
from neuroloom.records import Recording
from neuroloom.signals.components import find_components
from neuroloom.signals.filters import apply_kernel, design_kernel
from neuroloom.signals.muscle import MuscleFit, fit_muscle, without_muscle
from neuroloom.signals.preprocess import preprocess_meeg

STARTS = (4.0, 11.0)


def plus(recording: Recording, added_CT: np.ndarray) -> Recording:
    return replace(recording, signal_CT=(recording.signal_CT + added_CT).astype(np.float32))


def fit(recording: Recording, *, taken: tuple[int, ...] = (), h_freq: float = 70.0) -> MuscleFit:
    pieces = [recording.signal_CT]
    components = find_components(recording, pieces, {}, fast=True, seed=1)
    return fit_muscle(recording, pieces, components, taken=taken, h_freq=h_freq)


def fast(signal_CT: np.ndarray, sfreq: float = 250.0) -> np.ndarray:
    return apply_kernel(signal_CT.astype(np.float32), design_kernel(sfreq, l_freq=20.0, h_freq=70.0))


@pytest.fixture
def tense(recording: Recording) -> Recording:
    return plus(recording, contracted(recording, "T7", starts=STARTS))


def test_bursts_go_and_the_rest_of_the_recording_is_not_touched(tense: Recording, recording: Recording) -> None:
    found = fit(tense)
    assert len(found.found) == 1
    assert found.found[0].startswith("T7 (")
    assert found.found[0].endswith("% of the time)")
    clean_CT = without_muscle(tense.signal_CT, found)[:, :]
    during = np.r_[1050:1300, 2800:3050]
    left, planted = (fast(part_CT - recording.signal_CT)[:, during] for part_CT in (clean_CT, tense.signal_CT))
    assert 10 * np.log10((planted**2).sum() / (left**2).sum()) > 12
    far = np.r_[0:900, 1600:2600, 3300:5000]
    np.testing.assert_array_equal(clean_CT[:, far], tense.signal_CT[:, far])


def test_rhythms_below_15_hz_stay_in_bursts(tense: Recording) -> None:
    clean_CT = without_muscle(tense.signal_CT, fit(tense))[:, :]
    kernel = design_kernel(250.0, l_freq=1.0, h_freq=11.0)
    slow_CT, before_CT = (apply_kernel(part_CT, kernel) for part_CT in (clean_CT, tense.signal_CT))
    during = np.r_[1000:1375, 2750:3125]
    assert (slow_CT - before_CT)[:, during].std() < 0.01 * before_CT[:, during].std()


def test_a_muscle_that_never_rests_is_always_taken_out(recording: Recording) -> None:
    effort_T = np.repeat(np.exp(np.random.default_rng(1).normal(0, 0.5, 100)), 50)
    muscle_CT = effort_T * contracted(recording, "T8", starts=tuple(np.arange(0.0, 20.0, 1.5)))
    tonic = plus(recording, muscle_CT)
    found = fit(tonic)
    assert found.found == ["T8 (always)"]
    clean_CT = without_muscle(tonic.signal_CT, found)[:, :]
    left_CT = fast(clean_CT - recording.signal_CT)
    assert 10 * np.log10((fast(muscle_CT) ** 2).sum() / (left_CT**2).sum()) > 12


def test_a_recording_without_muscle_is_left_alone(recording: Recording) -> None:
    found = fit(recording)
    assert found.found == []
    assert without_muscle(recording.signal_CT, found) is recording.signal_CT


@pytest.mark.parametrize("band", [(8.0, 12.0), (13.0, 18.0)], ids=["alpha", "spindles"])
def test_rhythms_that_come_in_bursts_are_no_muscle(recording: Recording, band: tuple[float, float]) -> None:
    burst_CT = contracted(recording, "Pz", starts=STARTS)
    kernel = firwin(501, band, fs=250.0, pass_zero=False)
    wave_T = np.convolve(np.random.default_rng(0).standard_normal(5000), kernel, mode="same")
    envelope_T = burst_CT.any(axis=0)
    map_C = np.abs(burst_CT).max(axis=1)
    assert fit(plus(recording, np.outer(map_C, wave_T / wave_T.std() * envelope_T))).found == []


@pytest.mark.parametrize("seed", range(3))
def test_white_noise_is_no_muscle(recording: Recording, seed: int) -> None:
    noise_CT = 1e-5 * np.random.default_rng(seed).standard_normal((19, 20_000))
    assert fit(replace(recording, signal_CT=noise_CT.astype(np.float32))).found == []


def test_a_jolt_of_all_channels_is_no_muscle(recording: Recording) -> None:
    jolt_CT = np.zeros((19, 5000))
    for at in (1010, 2760):
        jolt_CT[:, at : at + 100] = 3e-4 * np.random.default_rng(at).standard_normal((19, 100))
    assert fit(plus(recording, jolt_CT)).found == []


def test_what_has_gone_with_the_eyes_is_not_looked_at_again(tense: Recording) -> None:
    assert fit(tense, taken=tuple(range(18))).found == []


def test_a_recording_without_high_frequencies_says_so(tense: Recording) -> None:
    found = fit(tense, h_freq=40.0)
    assert found.note == "no muscle cleaning: the recording ends at 40 Hz, 45 Hz needed"
    assert len(found.components) == 0


def test_pieces_equal_the_whole(tense: Recording) -> None:
    stream = without_muscle(tense.signal_CT, fit(tense))
    whole_CT = stream[:, :]
    parts_CT = np.concatenate([stream[:, at : at + 437] for at in range(0, 5000, 437)], axis=1)
    assert np.abs(parts_CT - whole_CT).max() <= 1e-6 * np.abs(whole_CT).max()


def test_limits_learnt_from_pieces_find_the_same_muscle(tense: Recording) -> None:
    pieces = [tense.signal_CT[:, at : at + 1000] for at in range(0, 5000, 1000)]
    components = find_components(tense, pieces, {}, fast=True, seed=1)
    found = fit_muscle(tense, pieces, components, taken=(), h_freq=70.0)
    assert [name.split()[0] for name in found.found] == ["T7"]


def test_the_step_can_be_switched_off_and_says_what_it_did(tense: Recording) -> None:
    power, found = {}, {}
    for method in ("ica", "none"):
        config = MeegConfig(muscle=method, mantissa_bits=None, sfreq=250.0)
        rng = np.random.default_rng(0)
        clean, qc = preprocess_meeg(recording=tense, config=config, window=5.0, file="a", rng=rng)
        power[method] = (fast(clean.load().signal_CT)[:, 1050:1300] ** 2).sum()
        found[method] = json.loads(qc.row()["muscle"])
        assert qc.row()["n_muscle"] == len(found[method])
    assert found["none"] == []
    assert found["ica"][0].startswith("T7 (")
    assert power["ica"] < 0.25 * power["none"]
