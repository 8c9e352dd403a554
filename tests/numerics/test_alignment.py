"""One clock for EEG and BOLD: planted start, drift and haemodynamic lag come back, with made and simulated scans."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma

from neuroloom.bold.hrf import estimate_lag, hrf_kernel, hrf_response, read_at
from neuroloom.bold.parcels import template_parcels
from neuroloom.bold.preprocess import preprocess_bold
from neuroloom.bold.reading import read_bold
from neuroloom.config import BoldConfig, IngestConfig, MeegConfig, RecordingRow, SimulateConfig, SourceConfig
from neuroloom.records import Confounds, Events, ParcelSeries, Recording, Volumes
from neuroloom.signals.ingest import to_recording
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.signals.reading import read_raw
from neuroloom.study.bold_model import bold_response
from neuroloom.study.lab import LEAD_S, Lab
from neuroloom.study.scoring import open_truth
from neuroloom.study.simulate import simulate_site, simulated_rows
from neuroloom.study.sources import GRID_RATE, draw_traits
from neuroloom.synthesis.alignment import Alignment, align

Array = np.ndarray
SITE: dict[str, Any] = {
    "n_subjects": 1,
    "modalities": ["eeg", "bold"],
    "n_eeg": 19,
    "sfreq": 160,
    "line_freq": 60,
    "eeg_noise": 2.0,
    "t_r": 1.5,
}


def lab(duration: float, *, machine: dict[str, Any] | None = None, **simulate: Any) -> Lab:
    sites = {"a": SITE | (machine or {})}
    values = {"sites": sites, "tasks": ["rest"], "duration": duration, "voxel_mm": 8, "n_parcels": 32, **simulate}
    config = SimulateConfig.model_validate(values)
    return Lab(study="clock", seed=5, config=config, machine=config.sites["a"])


def row(modality: str) -> RecordingRow:
    return RecordingRow(study="clock", site="a", subject="01", task="rest", modality=modality, path="")


@pytest.mark.parametrize("lag", [0.0, 0.8, -0.5])
@pytest.mark.parametrize("rate", [5.0, 10.0])
def test_the_kernel_is_nilearns_and_the_formula(rate: float, lag: float) -> None:
    from nilearn.glm.first_level import glover_hrf

    length = 32.0 + max(lag, 0.0)
    kernel_G = hrf_kernel(rate, lag)
    np.testing.assert_array_equal(kernel_G, glover_hrf(1 / rate, oversampling=1, time_length=length, onset=lag))
    time_G = np.linspace(0, length, round(length * rate)) - lag - 1 / rate
    formula_G = gamma.pdf(time_G, 6 / 0.9, scale=0.9) - 0.48 * gamma.pdf(time_G, 12 / 0.9, scale=0.9)
    np.testing.assert_allclose(kernel_G, formula_G / formula_G.sum(), atol=1e-12)


def test_the_response_is_that_of_the_simulated_study(rng: np.random.Generator) -> None:
    drive_PG = rng.standard_normal((4, 1200))
    drive_PG -= drive_PG.mean(axis=1, keepdims=True)
    expected_PV = bold_response(drive_PG, t_r=1.5, n_volumes=70, hrf_lag=0.8, start=3.0)
    found_PV = read_at(hrf_response(drive_PG, rate=10.0, lag=0.8), rate=10.0, time_V=3.0 + 1.5 * np.arange(70))
    found_PV = (found_PV - found_PV.mean(axis=1, keepdims=True)) / found_PV.std(axis=1, keepdims=True)
    np.testing.assert_allclose(found_PV, expected_PV, atol=1e-10)


def recorded(onset_V: Array, seconds: float, *, sfreq: float) -> Recording:
    """EEG without any signal, whose triggers stand on its samples."""
    noted = Events(np.round(onset_V * sfreq) / sfreq, np.zeros(len(onset_V)), ["R128"] * len(onset_V))
    return Recording(
        signal_CT=np.zeros((1, int(seconds * 200)), np.float32),
        sfreq=200.0,
        ch_names=["Cz"],
        ch_types=["eeg"],
        units=["V"],
        status=["good"],
        coil_C=np.ones(1, np.int32),
        loc_C12=np.zeros((1, 12), np.float32),
        events=noted,
    )


def parcels(bold_PV: Array, t_r: float) -> ParcelSeries:
    n_parcels, n_volumes = bold_PV.shape
    return ParcelSeries(
        bold_PV=bold_PV,
        parcels=[f"p{at}" for at in range(n_parcels)],
        centroid_P3=np.zeros((n_parcels, 3)),
        n_voxels_P=np.ones(n_parcels, int),
        t_r=t_r,
        atlas="made",
        atlas_sha256="0",
        space="MNI152",
        confounds=Confounds.none(n_volumes),
    )


@pytest.mark.parametrize("start", [0.4321, 7.7777])
@pytest.mark.parametrize("ppm", [-50.0, 0.0, 20.0, 200.0])
@pytest.mark.parametrize("sfreq", [250.0, 5000.0])
def test_planted_start_and_drift_come_back(start: float, ppm: float, sfreq: float) -> None:
    onset_V = start + 2.0 * (1 + ppm * 1e-6) * np.arange(150)
    found = align(recorded(onset_V, 320, sfreq=sfreq), parcels(np.zeros((1, 150)), 2.0), file="x")
    assert found.start == pytest.approx(start, abs=0.5 / sfreq)
    assert found.drift * 1e6 == pytest.approx(ppm, abs=2.0)
    assert found.jitter < 0.5 / sfreq
    np.testing.assert_allclose(found.onset_V, onset_V, atol=0.5 / sfreq)


@pytest.mark.parametrize("ppm", [20.0, 200.0])
@pytest.mark.parametrize("lag", [0.0, 0.8, -0.5])
def test_a_planted_lag_comes_back_to_fifty_milliseconds(lag: float, ppm: float, rng: np.random.Generator) -> None:
    site = lab(120.0)
    brain = site.brain(row("eeg"), draw_traits(site.rng("person")))
    onset_V = 3.3333 + 1.5 * (1 + ppm * 1e-6) * np.arange(76)
    response_PG = hrf_response(brain.drive_PG, rate=GRID_RATE, lag=lag)
    bold_PV = read_at(response_PG, rate=GRID_RATE, time_V=onset_V)
    bold_PV += 0.3 * bold_PV.std() * rng.standard_normal(bold_PV.shape)
    found = align(recorded(onset_V, 120, sfreq=5000.0), parcels(bold_PV, 1.5), file="x")
    assert found.drift * 1e6 == pytest.approx(ppm, abs=2.0), "one sample over the length of the scan"
    estimate = estimate_lag(brain.drive_PG, bold_PV, rate=GRID_RATE, onset_V=found.onset_V, kept_V=found.kept_V)
    assert estimate.lag == pytest.approx(lag, abs=0.05)
    assert not estimate.at_edge


def test_a_clock_that_is_off_by_a_second_is_seen_in_the_lag(rng: np.random.Generator) -> None:
    site = lab(120.0)
    brain = site.brain(row("eeg"), draw_traits(site.rng("person")))
    onset_V = 3.0 + 1.5 * np.arange(76)
    bold_PV = read_at(hrf_response(brain.drive_PG, rate=GRID_RATE), rate=GRID_RATE, time_V=onset_V)
    estimate = estimate_lag(brain.drive_PG, bold_PV, rate=GRID_RATE, onset_V=onset_V + 1.0)
    assert estimate.lag == pytest.approx(1.0, abs=0.05)


@dataclass(frozen=True)
class Simulated:
    """A simulated scan after ingest and preprocessing, on one clock, and what was planted."""

    recording: Recording
    series: ParcelSeries
    alignment: Alignment
    drive_PG: Array
    facts: pd.DataFrame


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Slices one after the other, brought to the middle of a volume, 200 ppm apart, 0.8 s late."""
    folder = tmp_path_factory.mktemp("clock") / "a"
    site = lab(
        120.0, hrf_lag=0.8, artefacts={"clock_ppm": 200, "motion_mm": 0.0}, machine={"slice_order": "interleaved"}
    )
    simulate_site(site="a", config=site.config, study="clock", seed=5, folder=folder)
    eeg_row, bold_row = simulated_rows("clock", site.config)
    path, source = folder.parent / eeg_row.path, SourceConfig(scanner_t_r=1.5)
    raw_eeg, _ = to_recording(read_raw(path, source=source), path=path, source=source, config=IngestConfig())
    quick = MeegConfig(ocular="none", muscle="none", cardiac="none", gradient="none", burst_z=None)
    recording, _ = preprocess_meeg(recording=raw_eeg, config=quick, window=10.0, file="x", rng=np.random.default_rng(0))
    volumes = read_bold(folder.parent / bold_row.path, source=SourceConfig())
    assert isinstance(volumes, Volumes)
    middle = BoldConfig(atlas="template32", slice_timing="middle")
    series, _ = preprocess_bold(volumes=volumes, parcellation=template_parcels(32), config=middle)
    truth, facts = open_truth(folder, bold_row.recording)
    _, eeg_facts = open_truth(folder, eeg_row.recording)
    found = align(recording, series, file="x")
    return Simulated(recording, series, found, truth.read("drive"), pd.concat([facts, eeg_facts]))


def test_the_simulated_scan_starts_and_drifts_as_planted(simulated: Simulated) -> None:
    planted = simulated.facts.set_index("kind")
    onset_V, found = planted.loc["volume", "onset"].to_numpy(), simulated.alignment
    np.testing.assert_allclose(found.onset_V - simulated.series.start_time, onset_V, atol=0.5 / SITE["sfreq"])
    assert found.start == pytest.approx(LEAD_S, abs=1 / SITE["sfreq"])
    assert found.drift == pytest.approx(planted.loc["clock_drift", "value"], abs=10e-6)
    assert simulated.recording.sfreq == 200.0


def test_the_lag_of_the_simulated_study_comes_back_from_its_measured_bold(simulated: Simulated) -> None:
    change_PV, found = simulated.series.change_PV, simulated.alignment
    assert change_PV is not None
    assert simulated.series.start_time == 0.75
    estimate = estimate_lag(simulated.drive_PG, change_PV, rate=GRID_RATE, onset_V=found.onset_V)
    assert estimate.lag == pytest.approx(0.8, abs=0.05)
