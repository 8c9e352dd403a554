"""Scanner artefacts in simulated EEG: how far they go, what the EEG loses, and MNE's methods beside ours."""

from dataclasses import dataclass

import mne
import numpy as np
import pytest

from neuroloom.config import RecordingRow, SimulateConfig, SimulatedSite
from neuroloom.records import Events
from neuroloom.signals.cardiac import CardiacArtefact, CardiacCleaned, Heartbeats, find_heartbeats, fit_cardiac
from neuroloom.signals.filters import apply_kernel, design_kernel, resample
from neuroloom.signals.gradient import WINDOW, GradientCleaned, fit_gradient
from neuroloom.signals.scanner_scores import erd_change, harmonic_drop, kept_r
from neuroloom.signals.triggers import volume_onsets
from neuroloom.study.scanner import ScannerTruth, plant_scanner
from neuroloom.study.simulate import Lab
from neuroloom.study.sources import draw_traits

Array = np.ndarray
N_EEG = 32
NOISE = 2e-6


@dataclass(frozen=True)
class Scanned:
    """EEG in a scanner: without it, with it, what was planted, and the task."""

    clean_CT: Array
    signal_CT: Array
    truth: ScannerTruth
    sfreq: float
    t_r: float
    task: Events


def scan(
    sfreq: float, seconds: float, ppm: float, *, t_r: float = 2.0, task: str = "imagery", **sizes: float
) -> Scanned:
    machine = SimulatedSite(
        n_subjects=1, modalities=("eeg", "bold"), n_eeg=N_EEG, sfreq=sfreq, line_freq=50, eeg_noise=2.0, t_r=t_r
    )
    config = SimulateConfig(sites={"a": machine}, duration=seconds)
    lab = Lab(study="scanner", seed=3, config=config, machine=machine)
    row = RecordingRow(study="scanner", site="a", subject="01", task=task, modality="eeg", path="")
    brain = lab.brain(row, draw_traits(lab.rng("person")))
    rng = np.random.default_rng([int(sfreq), int(seconds), int(ppm)])
    clean_CT = lab.leadfield(lab.eeg) @ brain.source_PT
    clean_CT += (NOISE * rng.standard_normal(clean_CT.shape)).astype(np.float32)
    signal_CT = clean_CT.copy()
    grid = {"t_r": t_r, "n_volumes": int(seconds / t_r + 1e-6), "n_slices": round(16 * t_r)}
    sizes = {"gradient_uv": 4000.0, "cardiac_uv": 60.0, **sizes}
    truth = plant_scanner(signal_CT, sensors=lab.eeg, clock_ppm=ppm, rng=rng, **grid, **sizes)
    return Scanned(clean_CT, signal_CT, truth, sfreq, t_r, brain.events)


def clean_gradients(scanned: Scanned, *, window: int = WINDOW, other: CardiacArtefact | None = None) -> GradientCleaned:
    onset_V, _ = volume_onsets(scanned.truth.triggers, t_r=scanned.t_r, file="x")
    settings = {"sfreq": scanned.sfreq, "onset_V": onset_V, "t_r": scanned.t_r, "window": window}
    model = fit_gradient(scanned.signal_CT, **settings, rng=np.random.default_rng(0))
    return GradientCleaned(scanned.signal_CT, model, other=other)


def slice_harmonics(scanned: Scanned) -> Array:
    freqs = scanned.truth.slice_rate * np.arange(1, 10)
    return freqs[freqs < min(70.0, scanned.sfreq / 2)]


@pytest.mark.parametrize("seconds", [40.0, 150.0])
@pytest.mark.parametrize(
    ("sfreq", "ppm", "t_r"),
    [(160.0, 20.0, 2.0), (160.0, 50.0, 1.5), (250.0, 0.0, 1.5), (250.0, 20.0, 2.0), (500.0, 50.0, 2.0)],
)
def test_slice_harmonics_fall_by_forty_decibels_and_the_eeg_stays(
    sfreq: float, ppm: float, t_r: float, seconds: float
) -> None:
    scanned = scan(sfreq, seconds, ppm, t_r=t_r)
    unscanned_CT = scanned.clean_CT + scanned.truth.cardiac_CT
    cleaned_CT = clean_gradients(scanned)[:, :]
    settings = {"truth_CT": unscanned_CT, "sfreq": sfreq}
    assert harmonic_drop(scanned.signal_CT, cleaned_CT, freqs=slice_harmonics(scanned), **settings) >= 40
    assert kept_r(cleaned_CT, unscanned_CT, sfreq=sfreq) >= 0.95


@pytest.mark.parametrize("sfreq", [160.0, 250.0])
def test_eeg_without_gradients_hardly_changes(sfreq: float) -> None:
    scanned = scan(sfreq, 60.0, 0.0, gradient_uv=0.0, cardiac_uv=0.0)
    cleaned_CT = clean_gradients(scanned)[:, :]
    assert kept_r(cleaned_CT, scanned.clean_CT, sfreq=sfreq) >= 0.95


def average_subtraction(scanned: Scanned) -> Array:
    """MNE's, over 24 volumes."""
    raw = mne.io.RawArray(
        scanned.signal_CT.astype(float), mne.create_info(N_EEG, scanned.sfreq, "eeg"), verbose="error"
    )
    onsets = np.round(scanned.truth.triggers.onset * scanned.sfreq).astype(int)
    spacing = round(scanned.t_r * scanned.sfreq)
    onsets = onsets[onsets + spacing + 1 < raw.n_times]
    options = {"window": (12, 12), "tr_tol": 1, "verbose": "error"}
    return mne.preprocessing.remove_fmri_gradient_artifact(raw, onsets, **options).get_data()


@pytest.mark.parametrize(("ppm", "least_gain"), [(0.0, 1.0), (50.0, 2.0)])
def test_the_error_is_below_that_of_mnes_average_subtraction(ppm: float, least_gain: float) -> None:
    """Averages of as many volumes; at least as good where the clocks agree, half the error (RMS) where they drift."""
    scanned = scan(250.0, 100.0, ppm)
    unscanned_CT = scanned.clean_CT + scanned.truth.cardiac_CT
    middle = slice(30 * 250, 70 * 250)  # MNE leaves the first and last 12 volumes as they are
    kernel = design_kernel(250.0, l_freq=1.0, h_freq=40.0)
    rms = [
        np.sqrt(np.mean(apply_kernel((part - unscanned_CT).astype(np.float32)[:, middle], kernel) ** 2))
        for part in (clean_gradients(scanned, window=25)[:, :], average_subtraction(scanned))
    ]
    assert rms[1] >= least_gain * rms[0]


def at_200_hz(signal_CT: Array, sfreq: float) -> Array:
    kernel = design_kernel(sfreq, l_freq=0.5, h_freq=min(70.0, 0.45 * sfreq))
    return resample(apply_kernel(np.asarray(signal_CT, np.float32), kernel), sfreq=sfreq, new_sfreq=200.0)


def heart_harmonics(scanned: Scanned) -> Array:
    return np.arange(1, 6) / np.median(np.diff(scanned.truth.r_peaks))


@pytest.mark.parametrize(("seconds", "task"), [(40.0, "imagery"), (150.0, "imagery"), (150.0, "rest")])
def test_heartbeats_fall_by_fifteen_decibels_and_the_tasks_contrast_stays(seconds: float, task: str) -> None:
    scanned = scan(250.0, seconds, 0.0, task=task, gradient_uv=0.0)
    before_CT, truth_CT = (at_200_hz(part, 250.0) for part in (scanned.signal_CT, scanned.clean_CT))
    beats = find_heartbeats(scanned.truth.ecg_T, sfreq=250.0)
    after_CT = CardiacCleaned(
        before_CT, fit_cardiac(before_CT, sfreq=200.0, beats=beats, rng=np.random.default_rng(0))
    )[:, :]
    settings = {"truth_CT": truth_CT, "sfreq": 200.0}
    assert harmonic_drop(before_CT, after_CT, freqs=heart_harmonics(scanned), **settings) >= 15
    labels = {"imagery": ("left_hand", None), "rest": ("eyes_closed", "eyes_open")}[task]
    assert erd_change(after_CT, events=scanned.task, task=labels[0], rest=labels[1], **settings) <= 0.10


def test_heartbeats_are_removed_at_least_as_well_as_by_mnes_optimal_basis_set() -> None:
    scanned = scan(200.0, 100.0, 0.0, gradient_uv=0.0)
    peaks = scanned.truth.r_peaks
    beats = Heartbeats(peaks, "")
    ours_CT = CardiacCleaned(
        scanned.signal_CT, fit_cardiac(scanned.signal_CT, sfreq=200.0, beats=beats, rng=np.random.default_rng(0))
    )[:, :]
    raw = mne.io.RawArray(scanned.signal_CT.astype(float), mne.create_info(N_EEG, 200.0, "eeg"), verbose="error")
    inner = slice(400, -400)
    ours = kept_r(ours_CT[:, inner], scanned.clean_CT[:, inner], sfreq=200.0)
    for n_components in (1, 4):  # Niazy's delay of 0.21 s brings the artefact to the middle of MNE's window
        theirs_CT = mne.preprocessing.apply_pca_obs(
            raw, picks=raw.ch_names, qrs_times=peaks + 0.21, n_components=n_components, verbose="error"
        ).get_data()
        assert ours > kept_r(theirs_CT[:, inner], scanned.clean_CT[:, inner], sfreq=200.0)


def test_a_second_pass_without_heartbeats_in_the_averages_keeps_more_of_the_eeg() -> None:
    scanned = scan(250.0, 60.0, 20.0)
    first = clean_gradients(scanned)
    beats = find_heartbeats(scanned.truth.ecg_T, sfreq=250.0)
    heart = CardiacArtefact(first, fit_cardiac(first, sfreq=250.0, beats=beats, rng=np.random.default_rng(0)))
    second = clean_gradients(scanned, other=heart)
    one, two = (
        kept_r(cleaned[:, :] - scanned.truth.cardiac_CT, scanned.clean_CT, sfreq=250.0) for cleaned in (first, second)
    )
    assert two > one
