import numpy as np
import pytest

from neuroloom.signals.cardiac import (
    CardiacArtefact,
    CardiacCleaned,
    CardiacModel,
    Heartbeats,
    find_heartbeats,
    fit_cardiac,
    heartbeats_of_eeg,
)
from neuroloom.signals.filters import apply_kernel, design_kernel
from neuroloom.study.scanner import ScannerTruth, plant_scanner
from neuroloom.study.sensors import eeg_sensors

SFREQ, SECONDS = 200.0, 80.0
KERNEL = {"l_freq": 0.5, "h_freq": 70.0}


@pytest.fixture(scope="module")
def eeg() -> np.ndarray:
    """Coloured noise that neighbours share, 10 µV, band-passed."""
    rng = np.random.default_rng(7)
    white_CT = rng.standard_normal((19, int(SECONDS * SFREQ)))
    freqs_F = np.fft.rfftfreq(white_CT.shape[1], 1 / SFREQ)
    pink_CT = np.fft.irfft(np.fft.rfft(white_CT) / np.maximum(freqs_F, 1.0) ** 0.7, n=white_CT.shape[1])
    mixed_CT = rng.standard_normal((19, 19)) @ pink_CT
    scaled_CT = (10e-6 * mixed_CT / mixed_CT.std(axis=1, keepdims=True)).astype(np.float32)
    return apply_kernel(scaled_CT, design_kernel(SFREQ, **KERNEL))


@pytest.fixture(scope="module")
def beating(eeg: np.ndarray) -> tuple[np.ndarray, ScannerTruth]:
    place = np.array([[0.0, 0.02, 0.08]])
    cap = eeg_sensors(n_eeg=19, reference="average", sfreq=SFREQ, line_freq=50, position_P3=place)
    signal_CT = np.zeros_like(eeg)
    sizes = {"gradient_uv": 0.0, "cardiac_uv": 80.0, "clock_ppm": 0.0}
    grid = {"t_r": 2.0, "n_volumes": 40, "n_slices": 32}
    truth = plant_scanner(signal_CT, sensors=cap, **grid, **sizes, rng=np.random.default_rng(8))
    return eeg + apply_kernel(signal_CT, design_kernel(SFREQ, **KERNEL)), truth


def fit(signal_CT: np.ndarray, beats: Heartbeats, **changes) -> CardiacModel:
    return fit_cardiac(signal_CT, sfreq=SFREQ, beats=beats, rng=np.random.default_rng(0), **changes)


def test_r_peaks_are_found_within_a_sample(beating: tuple[np.ndarray, ScannerTruth]) -> None:
    _, truth = beating
    beats = find_heartbeats(truth.ecg_T, sfreq=SFREQ)
    inner = truth.r_peaks[(truth.r_peaks > 0.5) & (truth.r_peaks < SECONDS - 0.5)]
    assert np.array([np.abs(beats.onset_E - peak).min() for peak in inner]).max() < 1.5 / SFREQ
    assert abs(len(beats.onset_E) - len(truth.r_peaks)) <= 2
    assert beats.bpm == pytest.approx(66, rel=0.05)


def test_a_beat_that_an_artefact_hid_is_put_in_step(beating: tuple[np.ndarray, ScannerTruth]) -> None:
    _, truth = beating
    hidden = float(truth.r_peaks[40])
    ecg_T = truth.ecg_T.copy()
    lost = slice(int((hidden - 0.15) * SFREQ), int((hidden + 0.15) * SFREQ))
    ecg_T[lost] = 0.0
    ecg_T[lost.start - 8 : lost.start] = 4e-4 * np.array([1, -1, 1, -1, 1, -1, 1, -1])  # and something like a beat
    beats = find_heartbeats(ecg_T, sfreq=SFREQ)
    assert np.abs(beats.onset_E - hidden).min() < 0.05
    assert beats.guessed_E.sum() == 1
    assert "1 put in step" in beats.note
    assert not find_heartbeats(truth.ecg_T, sfreq=SFREQ).guessed_E.any()


def test_beats_are_found_without_an_ecg(beating: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = beating
    beats = heartbeats_of_eeg(signal_CT, sfreq=SFREQ, picks=np.arange(19))
    inner = truth.r_peaks[(truth.r_peaks > 1) & (truth.r_peaks < SECONDS - 2)]
    behind = np.array([(beats.onset_E - peak)[np.argmin(np.abs(beats.onset_E - peak - 0.25))] for peak in inner])
    assert behind.std() < 0.03
    assert "the EEG itself" in beats.note


def test_what_is_no_heart_is_refused_with_a_note(eeg: np.ndarray, rng: np.random.Generator) -> None:
    for ecg_T, reason in (
        (np.zeros(8000), "flat"),
        (rng.standard_normal(8000), "no believable heartbeat in the ECG"),
        (np.sin(2 * np.pi * 4 * np.arange(8000) / SFREQ), "no "),
    ):
        beats = find_heartbeats(ecg_T, sfreq=SFREQ)
        assert not len(beats.onset_E)
        assert reason in beats.note
    assert not len(heartbeats_of_eeg(eeg, sfreq=SFREQ, picks=np.arange(19)).onset_E)


def test_without_beats_nothing_is_done_and_the_note_says_so(eeg: np.ndarray) -> None:
    model = fit(eeg, Heartbeats(np.zeros(0), "no believable heartbeat in the ECG (31 beats a minute)"))
    assert model.note.startswith("no cardiac cleaning: no believable heartbeat in the ECG (31")
    np.testing.assert_array_equal(CardiacCleaned(eeg, model)[:, :], eeg)


def test_the_artefact_goes_and_the_eeg_stays(eeg: np.ndarray, beating: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = beating
    cleaned_CT = CardiacCleaned(signal_CT, fit(signal_CT, find_heartbeats(truth.ecg_T, sfreq=SFREQ)))[:, :]
    before, after = ((part - eeg).astype(float) for part in (signal_CT, cleaned_CT))
    assert (after**2).sum() < 0.05 * (before**2).sum()
    r_C = [np.corrcoef(one_T, other_T)[0, 1] for one_T, other_T in zip(cleaned_CT, eeg, strict=True)]
    assert np.median(r_C) > 0.95


def test_any_piece_equals_that_piece_of_the_whole(beating: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = beating
    cleaned = CardiacCleaned(signal_CT, fit(signal_CT, find_heartbeats(truth.ecg_T, sfreq=SFREQ)))
    whole_CT, n_times = cleaned[:, :], signal_CT.shape[1]
    for start, stop in ((0, 7), (0, 300), (1234, 5678), (9000, 9001), (n_times - 4, n_times)):
        piece_CT = cleaned[:, start:stop]
        np.testing.assert_allclose(piece_CT, whole_CT[:, start:stop], atol=1e-6 * whole_CT.std(), rtol=0)
    np.testing.assert_array_equal(cleaned[2:4, 100:300:3], whole_CT[2:4, 100:300:3])


def test_channels_that_were_not_picked_are_left_alone(beating: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = beating
    with_ecg_CT = np.concatenate([signal_CT, truth.ecg_T[None]])
    beats = find_heartbeats(truth.ecg_T, sfreq=SFREQ)
    artefact = CardiacArtefact(with_ecg_CT, fit(with_ecg_CT, beats, picks=np.arange(19)))
    assert not artefact[:, :][19].any()
    alone = CardiacArtefact(signal_CT, fit(signal_CT, beats))
    np.testing.assert_allclose(artefact[:, :][:19], alone[:, :], atol=0.05 * alone[:, :].std())


def test_missing_samples_stay_missing(beating: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = beating
    holes_CT = signal_CT.copy()
    holes_CT[3, 4000:4050] = np.nan
    cleaned_CT = CardiacCleaned(holes_CT, fit(holes_CT, find_heartbeats(truth.ecg_T, sfreq=SFREQ)))[:, :]
    assert np.isnan(cleaned_CT).sum() == 50
