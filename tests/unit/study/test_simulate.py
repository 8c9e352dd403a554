"""A tiny study in every format: what is planted must be in the files that a reader opens."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mne_bids
import nibabel
import numpy as np
import pandas as pd
import pytest
from mne.filter import filter_data
from scipy.signal import hilbert, welch

from neuroloom.artifacts import Artifact, open_artifact, verify
from neuroloom.bold.parcels import template_parcels
from neuroloom.config import ConfigError, RecordingRow, SimulateConfig
from neuroloom.provenance import file_digest
from neuroloom.study.bold_model import bold_response, voxel_grid
from neuroloom.study.lab import LEAD_S
from neuroloom.study.simulate import simulate_site, simulated_rows
from neuroloom.study.sources import BANDS, near

STUDY = "tiny"
SITES: dict[str, dict[str, Any]] = {
    "north": {
        "n_subjects": 2,
        "modalities": ["eeg", "bold"],
        "n_eeg": 32,
        "sfreq": 250,
        "line_freq": 50,
        "reference": "Cz",
        "eeg_format": "edf",
        "eeg_unit": "mV",
        "eeg_noise": 1.0,
        "t_r": 1.0,
    },
    "south": {
        "n_subjects": 1,
        "modalities": ["eeg"],
        "n_eeg": 19,
        "sfreq": 160,
        "line_freq": 60,
        "reference": "ears",
        "eeg_format": "brainvision",
        "eeg_unit": "mV",
        "eeg_noise": 2.0,
    },
    "west": {
        "n_subjects": 1,
        "modalities": ["eeg", "meg"],
        "n_eeg": 64,
        "sfreq": 200,
        "line_freq": 60,
        "eeg_format": "eeglab",
        "eeg_noise": 1.0,
        "n_meg": 20,
    },
    "east": {
        "n_subjects": 1,
        "modalities": ["meg"],
        "sfreq": 200,
        "line_freq": 50,
        "eeg_noise": 1.0,
        "meg_system": "ctf",
        "n_meg": 30,
    },
}
CONFIG = SimulateConfig.model_validate(
    {"sites": SITES, "duration": 40, "voxel_mm": 8, "n_parcels": 32, "invisible_parcels": 2, "hrf_lag": 1.0}
    | {"artefacts": {"motion_mm": 0.2}}
)
ROWS = simulated_rows(STUDY, CONFIG)
SENSOR_ROWS = [row for row in ROWS if row.modality != "bold"]
BOLD_ROWS = [row for row in ROWS if row.modality == "bold"]
NAMES = [row.recording for row in SENSOR_ROWS]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for site in SITES:
        simulate_site(site=site, config=CONFIG, study=STUDY, seed=1, folder=folder / site)
    return folder


def read_all(study: Path, row: RecordingRow) -> Any:
    path = mne_bids.get_bids_path_from_fname(study / row.path, verbose="error")
    raw = mne_bids.read_raw_bids(path, verbose="error").load_data(verbose="error")
    return raw.rename_channels(lambda name: name.removeprefix("EEG "))


def read(study: Path, row: RecordingRow, *, references: bool = False) -> Any:
    """The electrodes, or the coils, without what scanner and room added."""
    raw, found = read_all(study, row), truth(study, row)
    raw.pick([name for name in raw.ch_names if name in set(found.read("channel"))])
    if found.has("added_kind"):
        added_CT = found.read("added_map") @ found.read("added_course")
        at = dict(zip(found.read("channel"), added_CT, strict=True))
        raw._data -= np.stack([at[name] for name in raw.ch_names])
    if not references:
        raw.pick(["eeg", "meg"], exclude=[])
    raw.set_annotations(raw.annotations[[label != "volume" for label in raw.annotations.description]])
    return raw


def truth(study: Path, row: RecordingRow) -> Artifact:
    return open_artifact(study / row.site / "truth" / f"{row.recording}.zarr", kind="truth")


def facts(study: Path, row: RecordingRow, *kinds: str) -> pd.DataFrame:
    table = pd.read_parquet(study / row.site / "truth.parquet")
    return table[(table.recording == row.recording) & table.kind.isin(kinds)]


def good(study: Path, row: RecordingRow, ch_names: list[str]) -> np.ndarray:
    return ~np.isin(ch_names, facts(study, row, "dead", "flat", "noisy", "loose", "bridged").channel)


def series(study: Path, row: RecordingRow) -> np.ndarray:
    """Parcel means (P, V) straight from the file, as a share of their mean, without line and cosine drift."""
    grid = voxel_grid(CONFIG.voxel_mm, CONFIG.n_parcels)
    voxels_XV = nibabel.load(study / row.path).get_fdata()[grid.field_XYZ]
    means_PV = np.stack([voxels_XV[grid.labels_X == label].mean(axis=0) for label in range(1, CONFIG.n_parcels + 1)])
    return detrended(means_PV / means_PV.mean(axis=1, keepdims=True))


def detrended(series_PV: np.ndarray) -> np.ndarray:
    time_V = np.linspace(-1, 1, series_PV.shape[1])
    nuisance_VM = np.stack([np.ones_like(time_V), time_V, np.cos(np.pi * time_V)], axis=1)
    return series_PV - (nuisance_VM @ np.linalg.lstsq(nuisance_VM, series_PV.T, rcond=None)[0]).T


# --- what is written -------------------------------------------------------------------------------------------------


def test_rows_are_the_files(study: Path) -> None:
    wanted = {(study / row.path).resolve() for row in ROWS}
    endings = (".edf", ".vhdr", ".set", ".fif", "_bold.nii.gz")
    found = {path for path in study.rglob("sub-*") if path.name.endswith(endings)}
    assert found == wanted
    assert len({row.recording for row in ROWS}) == len(ROWS) == 2 * 2 * 2 + 2 + 4 + 2


def test_rows_need_no_run_and_name_everything() -> None:
    row = ROWS[0]
    assert row.recording == "tiny_north_sub-01_task-rest_eeg"
    assert row.path == "north/bids/sub-01/eeg/sub-01_task-rest_eeg.edf"
    assert (row.session, row.run) == (None, None)


@pytest.mark.parametrize("site", SITES)
def test_the_official_validator_finds_no_error(study: Path, site: str) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run(
        [validator, study / site / "bids", "-r", "--format", "json"], capture_output=True, check=False
    )
    report = json.loads(found.stdout)
    assert report["summary"]["totalFiles"] > 10
    assert [issue for issue in report["issues"]["issues"] if issue["severity"] == "error"] == []


def test_nothing_of_the_making_is_left_behind(study: Path) -> None:
    assert {path.name for path in (study / "south").iterdir()} == {"bids", "truth", "truth.parquet"}


def test_equal_seeds_give_equal_files_and_others_do_not(study: Path, tmp_path: Path) -> None:
    for site in ("south", "west"):
        simulate_site(site=site, config=CONFIG, study=STUDY, seed=1, folder=tmp_path / site)
        first, again = (sorted((root / site / "bids").rglob("*.*")) for root in (study, tmp_path))
        assert [path.name for path in first] == [path.name for path in again]
        assert [path.name for path in first if file_digest(path) != file_digest(again[first.index(path)])] == []
        tables = [pd.read_parquet(root / site / "truth.parquet") for root in (study, tmp_path)]
        pd.testing.assert_frame_equal(*tables)
        for same in (row for row in ROWS if row.site == site):
            assert truth(study, same).digest == truth(tmp_path, same).digest
    row = next(row for row in ROWS if row.site == "south")
    shutil.rmtree(tmp_path / "south")
    simulate_site(site="south", config=CONFIG, study=STUDY, seed=2, folder=tmp_path / "south")
    assert not np.allclose(truth(study, row).read("source"), truth(tmp_path, row).read("source"))


def test_bold_is_equal_for_equal_seeds(study: Path, tmp_path: Path) -> None:
    """Subjects and tasks have generators of their own, so a smaller study holds the same recordings."""
    one = CONFIG.model_copy(
        update={"sites": {"north": CONFIG.sites["north"].model_copy(update={"n_subjects": 1})}, "tasks": ("rest",)}
    )
    simulate_site(site="north", config=one, study=STUDY, seed=1, folder=tmp_path / "north")
    for row in simulated_rows(STUDY, one):
        assert file_digest(tmp_path / row.path) == file_digest(study / row.path)


def test_a_dataset_is_not_overwritten(study: Path) -> None:
    with pytest.raises(FileExistsError, match="remove it"):
        simulate_site(site="south", config=CONFIG, study=STUDY, seed=1, folder=study / "south")


# --- what cannot be simulated ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "study_wide", "message"),
    [
        ({"sfreq": 60}, {}, "use 80 or more"),
        ({"sfreq": 512.5}, {}, "whole numbers"),
        ({}, {"duration": 40.5}, "whole numbers"),
        ({"t_r": 5}, {}, "fewer than 10 volumes"),
        ({}, {"artefacts": {"dead_channels": 40}}, "45 bad channels of 31 eeg"),
        ({}, {"n_parcels": 33}, "even"),
    ],
)
def test_impossible_studies_are_refused_before_any_job(site: dict, study_wide: dict, message: str) -> None:
    values = {"sites": {"north": SITES["north"] | site}, "duration": 40, "n_parcels": 32} | study_wide
    with pytest.raises(ConfigError, match=message):
        simulated_rows(STUDY, SimulateConfig.model_validate(values))


# --- EEG and MEG -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", SENSOR_ROWS, ids=NAMES)
def test_files_hold_the_planted_brain_in_volts_and_tesla(study: Path, row: RecordingRow) -> None:
    """Band by band the measured signal is leadfield times source: units, order of channels and clock are right."""
    raw, known = read(study, row, references=True), truth(study, row)
    site = CONFIG.sites[row.site]
    assert raw.ch_names == list(known.read("channel"))
    assert raw.info["sfreq"] == site.sfreq == known.attrs["sfreq"]
    assert raw.info["line_freq"] == site.line_freq
    assert raw.n_times == known["source"].shape[1] == 40 * site.sfreq
    clean_CT = known.read("leadfield").astype(float) @ known.read("source")
    picks = good(study, row, raw.ch_names)
    measured, clean = (filter_data(x[picks], site.sfreq, 7, 14, verbose="error") for x in (raw.get_data(), clean_CT))
    related = [np.corrcoef(a, b)[0, 1] for a, b in zip(measured, clean, strict=True)]
    slope = (measured * clean).sum(axis=1) / (clean**2).sum(axis=1)
    assert np.median(related) > 0.9
    np.testing.assert_allclose(np.median(slope), 1, atol=0.03)


@pytest.mark.parametrize("row", SENSOR_ROWS, ids=NAMES)
def test_amplitudes_are_plausible(study: Path, row: RecordingRow) -> None:
    raw = read(study, row)
    ranges = {"eeg": (5e-6, 80e-6), "mag": (100e-15, 5e-12), "grad": (20e-13, 1000e-13)}
    for ch_type in set(raw.get_channel_types()):
        signal = raw.copy().pick(ch_type).get_data()
        sd = signal[:, : signal.shape[1] // 200 * 200].reshape(len(signal), -1, 200).std(axis=2)
        assert ranges[ch_type][0] < np.median(sd) < ranges[ch_type][1]


@pytest.mark.parametrize("row", SENSOR_ROWS, ids=NAMES)
def test_bad_channels_are_in_the_file(study: Path, row: RecordingRow) -> None:
    raw = read_all(study, row).pick(["eeg", "meg"], exclude=[])
    assert [len(facts(study, row, kind)) for kind in ("dead", "flat", "noisy")] == [1, 1, 1]
    assert [len(facts(study, row, kind)) for kind in ("loose", "bridged")] == (
        [1, 2] if row.modality == "eeg" else [0, 0]
    )
    channel = {kind: facts(study, row, kind).channel.item() for kind in ("dead", "flat", "noisy")}
    signal = raw.get_data()
    by_name = dict(zip(raw.ch_names, signal, strict=True))
    assert not by_name[channel["dead"]].any()
    own_type = raw.get_channel_types([channel["noisy"]])[0]
    raw = read(study, row)
    by_name |= {channel["noisy"]: raw.get_data([channel["noisy"]])[0]}
    others = raw.copy().pick(own_type)
    typical = np.median(filter_data(others.get_data(), raw.info["sfreq"], 1, None, verbose="error").std(axis=1))
    assert filter_data(by_name[channel["noisy"]], raw.info["sfreq"], 1, None, verbose="error").std() > 4 * typical
    limit = {"eeg": 0.1e-6, "mag": 1e-15, "grad": 1e-13}[raw.get_channel_types([channel["flat"]])[0]]
    assert by_name[channel["flat"]].std() < limit


@pytest.mark.parametrize("row", SENSOR_ROWS, ids=NAMES)
def test_mains_stands_out_at_the_sites_frequency(study: Path, row: RecordingRow) -> None:
    raw = read(study, row)
    signal = raw.get_data()[good(study, row, raw.ch_names)]
    freqs, power = welch(signal, raw.info["sfreq"], nperseg=int(4 * raw.info["sfreq"]))
    mains = CONFIG.sites[row.site].line_freq
    other = {50: 60, 60: 50}[mains]
    around = np.median(power[:, np.abs(freqs - mains) < 5], axis=1)
    assert np.all(power[:, freqs == mains][:, 0] > 20 * around)
    assert not np.any(power[:, freqs == other][:, 0] > 20 * np.median(power[:, np.abs(freqs - other) < 5], axis=1))


@pytest.mark.parametrize("row", [row for row in SENSOR_ROWS if row.modality == "eeg"], ids=lambda row: row.recording)
def test_blinks_are_frontal(study: Path, row: RecordingRow) -> None:
    raw, blink_T = read(study, row), truth(study, row).read("blink").astype(float)
    usable = dict(zip(raw.ch_names, good(study, row, raw.ch_names), strict=True))
    front = next(name for name in ("Fp1", "Fp2") if usable[name])
    back = next(name for name in ("O1", "O2", "P3", "P4") if usable[name])
    courses = [
        filter_data(x, raw.info["sfreq"], 0.5, 10, verbose="error") for x in (*raw.get_data([front, back]), blink_T)
    ]
    frontal, occipital = (np.corrcoef(course, courses[2])[0, 1] for course in courses[:2])
    assert frontal > 0.6
    assert abs(occipital) < frontal - 0.25
    assert len(facts(study, row, "blink")) == round(12 * (20 if row.task == "rest" else 40) / 60)


@pytest.mark.parametrize("row", [row for row in SENSOR_ROWS if row.task == "rest"], ids=lambda row: row.recording)
def test_alpha_is_stronger_with_closed_eyes(study: Path, row: RecordingRow) -> None:
    raw = read(study, row)
    alpha_CT = filter_data(raw.get_data(), raw.info["sfreq"], 8, 13, verbose="error") ** 2
    time_T = raw.times
    gates = {}
    for label in ("eyes_open", "eyes_closed"):
        spans = [(o, o + d) for o, d, found in events(raw) if found == label]
        gates[label] = np.any([(time_T > start + 0.5) & (time_T < stop - 0.5) for start, stop in spans], axis=0)
    if row.modality == "eeg":
        picks = np.isin(raw.ch_names, ["O1", "O2", "Oz"])
    else:
        picks = np.array([channel["loc"][1] < -0.05 for channel in raw.info["chs"]])
    picks &= good(study, row, raw.ch_names)
    closed_C, open_C = (alpha_CT[picks][:, gates[label]].mean(axis=1) for label in ("eyes_closed", "eyes_open"))
    assert np.median(closed_C / open_C) > 1.5


def events(raw: Any) -> list[tuple[float, float, str]]:
    table = raw.annotations
    return list(zip(table.onset, table.duration, table.description, strict=True))


def test_imagery_events_agree_in_eeg_and_bold(study: Path) -> None:
    eeg = next(row for row in ROWS if (row.task, row.modality) == ("imagery", "eeg"))
    table = pd.read_csv(study / eeg.path.replace("/eeg/", "/func/").replace("_eeg.edf", "_events.tsv"), sep="\t")
    found = events(read(study, eeg))
    assert [label for *_, label in found] == table.trial_type.tolist()
    assert set(table.trial_type) == {"left_hand", "right_hand"}
    np.testing.assert_allclose([onset - LEAD_S for onset, *_ in found], table.onset, atol=1 / 250)
    np.testing.assert_allclose([duration for _, duration, _ in found], 4, atol=1 / 250)


def test_sidecars_say_reference_and_unit(study: Path) -> None:
    words = {"north": "Cz", "south": "linked ears (A1, A2)", "west": "average of all electrodes"}
    units = {"north": "mV", "south": "mV", "west": "µV"}
    for row in (row for row in SENSOR_ROWS if row.modality == "eeg"):
        path = study / row.path
        sidecar = json.loads(path.with_suffix(".json").read_text())
        channels = pd.read_csv(path.with_name(path.name.rsplit("_", 1)[0] + "_channels.tsv"), sep="\t")
        assert sidecar["EEGReference"] == words[row.site]
        assert set(channels["units"]) == {units[row.site]}
        assert facts(study, row, "reference").channel.item() == CONFIG.sites[row.site].reference
    assert "Cz" not in read(study, SENSOR_ROWS[0]).ch_names


def test_electrodes_are_where_the_montage_has_them(study: Path) -> None:
    row = next(row for row in ROWS if row.site == "south")
    position = read(study, row).get_montage().get_positions()["ch_pos"]
    assert position["O1"][1] < -0.05 < 0.05 < position["Fp1"][1]
    assert position["T7"][0] < -0.05 < 0.05 < position["T8"][0]


# --- BOLD ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", BOLD_ROWS, ids=lambda row: row.recording)
def test_parcels_of_the_image_follow_their_truth(study: Path, row: RecordingRow) -> None:
    bold_PV = detrended(truth(study, row).read("bold"))
    related = [np.corrcoef(a, b)[0, 1] for a, b in zip(series(study, row), bold_PV, strict=True)]
    assert np.median(related) > 0.8


def test_the_planted_lag_is_the_best_one(study: Path) -> None:
    lags = np.arange(-1, 3.01, 0.25)
    fit = np.zeros(len(lags))
    for row in BOLD_ROWS:
        drive_PG, measured_PV = truth(study, row).read("drive"), series(study, row)
        for at, lag in enumerate(lags):
            model_PV = detrended(bold_response(drive_PG, t_r=1.0, n_volumes=34, hrf_lag=float(lag), start=LEAD_S))
            fit[at] += np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(model_PV, measured_PV, strict=True)])
    assert lags[int(np.argmax(fit))] == pytest.approx(CONFIG.hrf_lag, abs=0.3)


def test_eeg_sources_drive_the_bold_of_the_same_recording(study: Path) -> None:
    """Power of the stored sources, weighted as the truth table says, is the drive that BOLD is made of."""
    eeg, bold = (next(row for row in ROWS if row.modality == kind) for kind in ("eeg", "bold"))
    weight = {
        kind: value
        for kind, value in facts(study, bold, *(f"bold_weight_{b}" for b in BANDS))[["kind", "value"]].values
    }
    visual = int(np.argmax(near(template_parcels(32).centroid_P3, (18.0, -88.0, 5.0))))
    source_T = truth(study, eeg).read("source")[visual].astype(float)
    alpha_T = np.abs(hilbert(filter_data(source_T, 250.0, 8, 12.5, verbose="error"))) ** 2
    alpha_G = alpha_T.reshape(-1, 25).mean(axis=1)
    drive_G = truth(study, bold).read("drive")[visual, : len(alpha_G)]
    assert weight["bold_weight_alpha"] < 0
    assert np.corrcoef(alpha_G, drive_G)[0, 1] < -0.8


@pytest.mark.parametrize("row", BOLD_ROWS, ids=lambda row: row.recording)
def test_image_sidecar_mask_and_confounds_fit_together(study: Path, row: RecordingRow) -> None:
    path = study / row.path
    image = nibabel.load(path)
    assert image.shape[3] == 34
    assert image.header.get_zooms()[:4] == pytest.approx((8, 8, 8, 1))
    assert json.loads((path.parent / path.name.replace(".nii.gz", ".json")).read_text())["RepetitionTime"] == 1.0
    derived = study / row.site / "bids" / "derivatives" / "simulated" / f"sub-{row.subject}" / "func"
    mask = nibabel.load(next(derived.glob(f"*task-{row.task}_space-MNI*_desc-brain_mask.nii.gz")))
    assert mask.shape == image.shape[:3]
    np.testing.assert_array_equal(mask.affine, image.affine)
    inside_XYZ, mean_XYZ = mask.get_fdata() > 0, image.get_fdata().mean(axis=3)
    assert mean_XYZ[inside_XYZ].min() > 0
    assert np.median(mean_XYZ[~inside_XYZ]) == 0
    assert np.median(mean_XYZ[inside_XYZ]) > 4 * np.percentile(mean_XYZ[~inside_XYZ], 90)
    table = pd.read_csv(next(derived.glob(f"*task-{row.task}_desc-confounds_timeseries.tsv")), sep="\t")
    assert len(table) == 34
    assert np.isnan(table.framewise_displacement[0])
    np.testing.assert_allclose(table[["trans_x", "rot_z"]], truth(study, row).read("motion")[:, [0, 5]], atol=1e-5)
    np.testing.assert_allclose(table.global_signal, image.get_fdata()[mask.get_fdata() > 0].mean(axis=0), rtol=1e-4)
    steps = facts(study, row, "motion")
    assert set(steps.onset) == set(np.flatnonzero(table.framewise_displacement > 0) * 1.0)
    assert steps.value.between(0.1, 0.3).all()


def test_a_raw_site_has_slice_times_and_no_derivatives(tmp_path: Path) -> None:
    raw = CONFIG.sites["north"].model_copy(
        update={"n_subjects": 1, "modalities": ("bold",), "slice_order": "interleaved", "derivatives": False}
    )
    config = CONFIG.model_copy(update={"sites": {"north": raw}, "tasks": ("rest",)})
    simulate_site(site="north", config=config, study=STUDY, seed=1, folder=tmp_path / "north")
    (row,) = simulated_rows(STUDY, config)
    path = tmp_path / row.path
    times = json.loads((path.parent / path.name.replace(".nii.gz", ".json")).read_text())["SliceTiming"]
    assert len(times) == nibabel.load(path).shape[2]
    assert (times[0], times[2] < times[1], max(times) < 1.0) == (0.0, True, True)
    assert not (tmp_path / "north" / "bids" / "derivatives").exists()
    verify(tmp_path / "north" / "truth" / f"{row.recording}.zarr")


# --- truth -----------------------------------------------------------------------------------------------------------


def test_truth_is_complete_and_whole(study: Path) -> None:
    for site in SITES:
        table = pd.read_parquet(study / site / "truth.parquet")
        assert list(table.columns) == ["recording", "kind", "channel", "onset", "duration", "value", "unit"]
        recordings = {row.recording for row in ROWS if row.site == site}
        assert set(table.recording) == recordings
        for name in recordings:
            verify(study / site / "truth" / f"{name}.zarr")
    common = {"alpha_peak", "erd", "dead", "flat", "noisy", "noise", "drift", "line", "line_freq", "snr"}
    assert common <= set(facts(study, ROWS[0], *common).kind)
    assert facts(study, BOLD_ROWS[0], "hrf_lag").value.item() == 1.0
    hidden = {tuple(facts(study, row, "invisible").channel) for row in BOLD_ROWS}
    found = truth(study, BOLD_ROWS[0])
    assert hidden == {tuple(np.array(list(found.read("parcel")))[~found.read("visible").astype(bool)])}
    assert len(*hidden) == 2


def test_eeg_and_meg_of_one_person_are_different_recordings(study: Path) -> None:
    eeg, meg = (
        next(row for row in ROWS if (row.site, row.modality, row.task) == ("west", kind, "rest"))
        for kind in ("eeg", "meg")
    )
    sources = [truth(study, row).read("source")[0] for row in (eeg, meg)]
    assert abs(np.corrcoef(*sources)[0, 1]) < 0.2
    assert facts(study, eeg, "alpha_peak").value.item() == facts(study, meg, "alpha_peak").value.item()


def test_eeg_in_the_scanner_has_triggers_an_ecg_and_its_artefacts(study: Path) -> None:
    row = next(row for row in SENSOR_ROWS if row.modality == "eeg")
    raw, found = read_all(study, row), truth(study, row)
    onsets = [onset for onset, _, label in events(raw) if label == "volume"]
    assert len(onsets) == 34
    np.testing.assert_allclose(np.diff(onsets), 1.0, atol=1 / 250)
    assert onsets[0] == pytest.approx(LEAD_S, abs=1 / 250)
    assert raw.get_channel_types(["ECG"]) == ["ecg"]
    assert set(found.read("added_kind")) == {"gradient", "cardiac"}
    is_gradient = found.read("added_kind") == "gradient"
    gradient_CT = found.read("added_map")[:, is_gradient] @ found.read("added_course")[is_gradient]
    sound = good(study, row, list(found.read("channel")))
    brain_CT = found.read("leadfield") @ found.read("source")
    ratio = np.median(gradient_CT[sound].std(axis=1)) / np.median(brain_CT[sound].std(axis=1))
    assert ratio > 100
    assert np.abs(gradient_CT[:, :500]).max() < 1e-3 * np.abs(gradient_CT).max(), "the scanner starts at 3 s"


def test_the_room_is_heard_by_coils_and_references(study: Path) -> None:
    row = next(row for row in SENSOR_ROWS if row.site == "east")
    raw, found = read_all(study, row), truth(study, row)
    assert raw.get_channel_types().count("ref_meg") == 16
    assert set(found.read("added_kind")) == {"interference"}
    added_CT = found.read("added_map") @ found.read("added_course")
    references = [at for at, name in enumerate(found.read("channel")) if not name.startswith("MEG")]
    measured_CT = raw.get_data([found.read("channel")[at] for at in references])
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(added_CT[references], measured_CT, strict=True)]
    assert np.median(r) > 0.99, "references hear the room and little else"
