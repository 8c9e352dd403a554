import numpy as np
import pytest

from neuroloom.study.scanner import ScannerTruth, beat_times, plant_scanner
from neuroloom.study.sensors import Sensors, eeg_sensors

T_R, N_SLICES = 2.0, 32
SOURCE = np.array([[0.0, 0.02, 0.08]])


def cap(sfreq: float) -> Sensors:
    return eeg_sensors(n_eeg=32, reference="average", sfreq=sfreq, line_freq=50, position_P3=SOURCE)


def plant(sfreq: float = 250.0, *, seconds: float = 40.0, n_volumes: int = 20, **changes) -> ScannerTruth:
    sensors = cap(sfreq)
    settings = {"gradient_uv": 4000.0, "cardiac_uv": 80.0, "clock_ppm": 20.0, "heart_bpm": 66.0, **changes}
    silence_CT = np.zeros((32, int(seconds * sfreq)), np.float32)
    grid = {"t_r": T_R, "n_volumes": n_volumes, "n_slices": N_SLICES}
    truth = plant_scanner(silence_CT, sensors=sensors, **grid, **settings, rng=np.random.default_rng(0))
    np.testing.assert_allclose(silence_CT, truth.gradient_CT + truth.cardiac_CT, atol=1e-9)
    return truth


@pytest.mark.parametrize("sfreq", [160.0, 250.0, 500.0, 1000.0])
def test_gradients_are_sized_and_within_the_band_of_the_amplifier(sfreq: float) -> None:
    truth = plant(sfreq)
    assert np.abs(truth.gradient_CT).max() == pytest.approx(4e-3, rel=1e-3)
    power_F = (np.abs(np.fft.rfft(truth.gradient_CT * np.hanning(truth.gradient_CT.shape[1]))) ** 2).sum(axis=0)
    freqs_F = np.fft.rfftfreq(truth.gradient_CT.shape[1], 1 / sfreq)
    assert power_F[freqs_F > 0.485 * sfreq].sum() < 1e-6 * power_F.sum()
    harmonic_F = np.abs(freqs_F - truth.slice_rate * np.round(freqs_F / truth.slice_rate)) < 0.6
    assert power_F[harmonic_F & (freqs_F > 1)].sum() > 0.95 * power_F.sum()


def test_clocks_drift_and_triggers_are_whole_samples() -> None:
    truth = plant(clock_ppm=50.0)
    np.testing.assert_allclose(np.diff(truth.volume_onset), T_R * (1 + 50e-6), rtol=1e-12)
    assert truth.slice_rate == pytest.approx(16 / (1 + 50e-6))
    samples = truth.triggers.onset * 250
    np.testing.assert_allclose(samples, np.round(samples), atol=1e-9)
    assert np.abs(truth.triggers.onset - truth.volume_onset).max() <= 0.5 / 250 + 1e-12
    assert truth.triggers.label == ["volume"] * 20


def test_volumes_repeat_where_the_clocks_agree_and_are_silent_outside() -> None:
    truth = plant(clock_ppm=0.0, n_volumes=15)
    volume_VCT = truth.gradient_CT[:, 1 : 1 + 15 * 500].reshape(32, 15, 500).swapaxes(0, 1)
    first, last = volume_VCT[2], volume_VCT[12]
    assert np.corrcoef(first.ravel(), last.ravel())[0, 1] > 0.99
    assert 1e-3 < np.linalg.norm(first - last) / np.linalg.norm(first) < 0.2  # the head moves
    assert np.abs(truth.gradient_CT[:, int(30.3 * 250) :]).max() < 1e-8


def test_channels_have_gradients_of_their_own_sign_and_size() -> None:
    gradient_CT = plant().gradient_CT
    r_CC = np.corrcoef(gradient_CT)
    assert r_CC.min() < -0.5
    rms_C = np.sqrt((gradient_CT**2).mean(axis=1))
    assert rms_C.max() > 2 * rms_C.min()


def test_heart_varies_and_its_artefact_follows_the_r_peaks() -> None:
    truth = plant()
    assert truth.r_peaks.min() >= 0  # what a detector is asked for
    interval = np.diff(truth.r_peaks)
    assert 60 / interval.mean() == pytest.approx(66, rel=0.03)
    assert 0.02 < interval.std() / interval.mean() < 0.12
    size_T = np.sqrt((truth.cardiac_CT**2).mean(axis=0))
    after, before = (np.mean([size_T[int((peak + at) * 250)] for peak in truth.r_peaks[1:-1]]) for at in (0.25, -0.1))
    assert after > 5 * before
    assert 80e-6 < np.abs(truth.cardiac_CT).max() < 160e-6
    peaks = np.array([np.abs(truth.cardiac_CT[:, int(p * 250) : int((p + 0.6) * 250)]).max() for p in truth.r_peaks])
    assert 0.05 < peaks[:-1].std() / peaks[:-1].mean() < 0.35


def test_left_and_right_move_against_each_other() -> None:
    sensors, truth = cap(250.0), plant()
    left, right = (sensors.ch_names.index(name) for name in ("T7", "T8"))
    assert np.corrcoef(truth.cardiac_CT[left], truth.cardiac_CT[right])[0, 1] < -0.5


def test_the_ecg_has_beats_and_its_share_of_the_gradients() -> None:
    truth, quiet = plant(), plant(gradient_uv=0.0)
    at = np.round(quiet.r_peaks * 250).astype(int)
    at = at[at < len(quiet.ecg_T)]
    assert np.median(quiet.ecg_T[at]) == pytest.approx(1e-3, rel=0.15)
    assert 0.03 < np.abs(truth.ecg_T - quiet.ecg_T).max() / 4e-3 < 0.3


def test_facts_say_what_was_planted() -> None:
    truth = plant()
    values = {kind: [f for f in truth.facts if f.kind == kind] for kind in {f.kind for f in truth.facts}}
    assert {kind: len(found) for kind, found in values.items()} == {
        "gradient": 32,
        "cardiac": 32,
        "heartbeat": len(truth.r_peaks),
        "volume": 20,
        "clock_drift": 1,
    }
    assert values["clock_drift"][0].value == pytest.approx(20e-6)
    rms_C = np.sqrt((truth.gradient_CT.astype(float) ** 2).mean(axis=1))
    np.testing.assert_allclose([fact.value for fact in values["gradient"]], rms_C, rtol=1e-5)


def test_nothing_asked_for_is_nothing_planted() -> None:
    truth = plant(gradient_uv=0.0, cardiac_uv=0.0)
    assert not truth.gradient_CT.any()
    assert not truth.cardiac_CT.any()


@pytest.mark.parametrize("bpm", [50.0, 90.0])
def test_beats_come_at_the_rate_that_was_asked_for(bpm: float) -> None:
    peaks = beat_times(120.0, bpm, np.random.default_rng(1))
    assert len(peaks) == pytest.approx(2 * bpm, rel=0.05)
    assert np.all((peaks > -0.8) & (peaks < 120))
    assert -0.8 < peaks[0] < 0  # the heart beat before the recording began, and what that did lasts into it
