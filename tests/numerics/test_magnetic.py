"""Cleaning of MEG against MNE, and against planted interference and a planted dipole."""

from functools import cache
from pathlib import Path

import mne
import numpy as np
import pytest
from mne.forward._compute_forward import _magnetic_dipole_field_vec
from mne.forward._make_forward import _create_meg_coils

from neuroloom.bold.parcels import template_parcels
from neuroloom.dims import UNITS
from neuroloom.records import Recording
from neuroloom.signals.filters import apply_kernel, design_kernel
from neuroloom.signals.ingest import head_locations
from neuroloom.signals.magnetic import MagneticFit, fit_magnetic
from neuroloom.signals.magnetic_bads import find_meg_bads
from neuroloom.signals.magnetic_scores import dipole_change, interference_drop
from neuroloom.signals.maxwell import calibrated_info, coil_info, maxwell_matrix, tsss
from neuroloom.signals.projections import hfc_matrix
from neuroloom.study.interference import (
    dipole_course,
    dipole_topography,
    far_field,
    join_sensors,
    measure_references,
    plant_interference,
    reference_sensors,
    strongest_parcel,
)
from neuroloom.study.sensors import Sensors, meg_sensors, orientations, source_positions
from neuroloom.study.sources import draw_traits, simulate_brain

Array = np.ndarray
SFREQ, SECONDS, SIZE = 200.0, 100.0, 26.0
PLACES = {"neuromag": 34, "ctf": 60}
BADS = ["MEG0021", "MEG0073", "MEG0112", "MEG0051", "MEG0131"]


def recording_of(sensors: Sensors, signal_CT: Array) -> Recording:
    n_channels = len(sensors.ch_names)
    return Recording(
        signal_CT=signal_CT.astype(np.float32),
        sfreq=SFREQ,
        ch_names=sensors.ch_names,
        ch_types=sensors.ch_types,
        units=[UNITS[kind] for kind in sensors.ch_types],
        status=["good"] * n_channels,
        coil_C=np.array([int(channel["coil_type"]) for channel in sensors.info["chs"]], np.int32),
        loc_C12=head_locations(sensors.info),
    )


@cache
def positions() -> Array:
    return source_positions(template_parcels(64).centroid_P3)


@cache
def helmet(system: str) -> Sensors:
    rates = {"sfreq": SFREQ, "line_freq": 50.0}
    sensors = meg_sensors(system=system, n_places=PLACES[system], position_P3=positions(), **rates)
    if system == "neuromag":
        return sensors
    return join_sensors(sensors, reference_sensors(position_P3=positions(), **rates))


def filtered(signal_CT: Array) -> Array:
    return apply_kernel(signal_CT.astype(np.float32), design_kernel(SFREQ, l_freq=0.5, h_freq=70.0))


@cache
def recorded(system: str, seed: int) -> tuple[Array, Array]:
    """Brain with the noise of SQUIDs, and interference, at all coils, as the filters leave them."""
    rng = np.random.default_rng(seed)
    sensors = helmet(system)
    direction_P3 = orientations(positions(), np.random.default_rng(0))
    centroid_P3 = template_parcels(64).centroid_P3
    traits = draw_traits(rng)
    source_PT = simulate_brain(
        centroid_P3=centroid_P3, task="rest", duration=SECONDS, sfreq=SFREQ, traits=traits, rng=rng
    ).source_PT
    clean_CT = np.einsum("cpk,pk->cp", sensors.leadfield_CP3, direction_P3) @ source_PT
    found = plant_interference(clean_CT, sensors=sensors, size=SIZE, rng=rng)
    noise_C = np.where(np.array(sensors.ch_types) == "grad", 3e-13, 3e-15) * np.sqrt(SFREQ / 2)
    clean_CT = clean_CT + noise_C[:, None] * rng.standard_normal(clean_CT.shape)
    return filtered(clean_CT), filtered(found.signal_CT)


def scored(system: str, seed: int, method: str = "auto", bads: list[str] | None = None):
    """The fit, drop of interference, and change of the dipole with its own and with the cleaned topography."""
    sensors = helmet(system)
    bads = [name for name in (BADS if bads is None else bads) if name in sensors.ch_names]
    clean_CT, interference_CT = recorded(system, seed)
    topography_C = dipole_topography(sensors, parcel=strongest_parcel(sensors))
    course_T = dipole_course(clean_CT.shape[1], SFREQ)
    clean_CT = clean_CT + np.outer(topography_C, course_T)
    measured_CT = clean_CT + interference_CT
    fit = fit_magnetic(recording_of(sensors, measured_CT), measured_CT, bads, method=method)
    assert fit.matrix_CC is not None
    kept = np.array([name not in bads for name in sensors.ch_names])
    kinds = np.array(sensors.ch_types)[kept]
    drop = interference_drop(interference_CT[kept], (fit.matrix_CC @ interference_CT)[kept], ch_types=kinds)
    planted = {"topography_C": topography_C, "course_T": course_T, "ch_types": sensors.ch_types}
    cleaned_CT = fit.matrix_CC @ measured_CT
    own = dipole_change(clean_CT, cleaned_CT, **planted)
    known = dipole_change(clean_CT, cleaned_CT, matrix_CC=fit.matrix_CC, **planted)
    return fit, drop, own, known


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("system", "method"), [("neuromag", "maxwell"), ("ctf", "reference")])
def test_interference_falls_and_the_dipole_stays(system: str, method: str, seed: int) -> None:
    fit, drop, own, known = scored(system, seed, bads=[])
    assert fit.method == method
    assert min(drop.values()) >= 20
    assert max(map(abs, own.values())) < 0.05
    assert max(map(abs, known.values())) < 0.05


def test_bad_channels_are_rebuilt_from_the_field_of_the_others() -> None:
    """Interference of three bad channels is also gone, and the brain is there."""
    sensors, bads = helmet("neuromag"), BADS[:3]
    clean_CT, interference_CT = recorded("neuromag", 1)
    spoilt_CT = clean_CT + interference_CT
    picks = [sensors.ch_names.index(name) for name in bads]
    spoilt_CT[picks] = 1e-9
    fit = fit_magnetic(recording_of(sensors, spoilt_CT), spoilt_CT, bads)
    assert fit.rebuilt == bads
    rebuilt_CT = (fit.matrix_CC @ spoilt_CT)[picks]
    r = [np.corrcoef(ours, truth)[0, 1] for ours, truth in zip(rebuilt_CT, clean_CT[picks], strict=True)]
    assert min(r) > 0.8


def test_a_noisy_coil_does_not_fit_the_field_of_the_others() -> None:
    """It is no louder than the interference, so its amplitude alone would not tell."""
    sensors = helmet("neuromag")
    clean_CT, interference_CT = recorded("neuromag", 1)
    signal_CT = clean_CT + interference_CT
    recording = recording_of(sensors, signal_CT)
    assert find_meg_bads(recording, signal_CT, []) == {}
    at = sensors.ch_names.index("MEG0111")
    signal_CT[at] += 0.3 * signal_CT[at].std() * np.random.default_rng(0).standard_normal(signal_CT.shape[1])
    found = find_meg_bads(recording, signal_CT, [])
    assert list(found) == ["MEG0111"]
    assert found["MEG0111"].startswith("does not fit the other channels (")


def test_references_leave_a_brain_without_interference_alone() -> None:
    sensors = helmet("ctf")
    clean_CT, _ = recorded("ctf", 1)
    fit = fit_magnetic(recording_of(sensors, clean_CT), clean_CT, [], method="reference")
    picks = [at for at, kind in enumerate(sensors.ch_types) if kind == "mag"]
    changed = np.var((fit.matrix_CC @ clean_CT - clean_CT)[picks], axis=1) / np.var(clean_CT[picks], axis=1)
    assert np.median(changed) < 0.01


def test_axial_gradiometers_on_a_sphere_are_refused_however_many() -> None:
    """Radial differences on a sphere have one pattern for inner and outer fields of a degree."""
    many = meg_sensors(system="ctf", n_places=150, sfreq=SFREQ, line_freq=50, position_P3=positions()[:1])
    matrix, note = maxwell_matrix(recording_of(many, np.zeros((150, 2))), [])
    assert matrix is None
    assert "look like outer ones" in note


def test_maxwell_matrix_equals_mnes_filter(real_data: Path) -> None:
    recording = sample_audvis(real_data)
    bads = ["MEG 0113", "MEG 2443"]
    matrix, note = maxwell_matrix(recording, bads)
    assert "304 good coils: internal order 8, external 3" in note
    picks = recording.picks("mag", "grad")
    piece_CT = recording.signal_CT[:, :50].astype(float)
    raw = mne.io.RawArray(piece_CT[picks], coil_info(recording, picks, bads), verbose="error")
    theirs = mne.preprocessing.maxwell_filter(raw, origin=(0.0, 0.0, 0.04), verbose="error").get_data()
    ours = (matrix @ piece_CT)[picks]
    for kind in ("mag", "grad"):
        same = np.array(recording.ch_types)[picks] == kind
        np.testing.assert_allclose(ours[same], theirs[same], atol=1e-6 * theirs[same].std())
    others = np.setdiff1d(np.arange(len(recording.ch_names)), picks)
    np.testing.assert_array_equal((matrix @ piece_CT)[others], piece_CT[others])


def sample_audvis(real_data: Path) -> Recording:
    """Without EEG, to be quick."""
    raw = mne.io.read_raw_fif(real_data / "meg_small" / "sample_audvis_raw.fif", preload=True, verbose="error")
    raw.del_proj().pick(["meg", "eog"])
    return Recording(
        signal_CT=raw.get_data().astype(np.float32),
        sfreq=raw.info["sfreq"],
        ch_names=raw.ch_names,
        ch_types=raw.get_channel_types(),
        units=[UNITS[kind] for kind in raw.get_channel_types()],
        status=["good"] * len(raw.ch_names),
        coil_C=np.array([int(channel["coil_type"]) & 0xFFFF for channel in raw.info["chs"]], np.int32),
        loc_C12=head_locations(raw.info),
    )


def test_our_frame_gives_what_the_file_gives(real_data: Path) -> None:
    """Coils are in the head frame here and in that of the device in the file; MNE must not notice."""
    recording = sample_audvis(real_data)
    raw = mne.io.read_raw_fif(real_data / "meg_small" / "sample_audvis_raw.fif", preload=True, verbose="error")
    raw.info["bads"] = []
    raw.del_proj().pick("meg").crop(0, 0.1)
    theirs = mne.preprocessing.maxwell_filter(raw, origin=(0.0, 0.0, 0.04), verbose="error")
    matrix, _ = maxwell_matrix(recording, [])
    ours = matrix @ recording.signal_CT[:, : raw.n_times].astype(float)
    for kind in ("mag", "grad"):
        expected = theirs.get_data(picks=kind)
        got = ours[recording.picks(kind)]
        np.testing.assert_allclose(got, expected, atol=2e-3 * expected.std())


def test_calibration_finds_the_frame_of_the_device(tmp_path: Path, real_data: Path) -> None:
    """A calibration that says what the file says changes nothing, though its coils are in another frame."""
    recording = sample_audvis(real_data)
    picks = recording.picks("mag", "grad")
    raw = mne.io.read_raw_fif(real_data / "meg_small" / "sample_audvis_raw.fif", verbose="error").pick("meg")
    names = [name.replace(" ", "") for name in raw.ch_names]
    locs = np.array([channel["loc"][:12] for channel in raw.info["chs"]])
    numbers = [np.array([0.0]) if name.endswith("1") else np.zeros(1) for name in names]
    path = tmp_path / "sss_cal.dat"
    mne.preprocessing.write_fine_calibration(path, {"ch_names": names, "locs": locs, "imb_cals": numbers})
    info = calibrated_info(recording, picks, [], path)
    np.testing.assert_allclose(info["dev_head_t"]["trans"], raw.info["dev_head_t"]["trans"], atol=1e-4)
    ours = np.array([channel["loc"][:12] for channel in info["chs"]])
    np.testing.assert_allclose(ours, locs, atol=1e-4)


def test_tsss_in_slices_equals_the_whole_and_mne() -> None:
    sensors = helmet("neuromag")
    clean_CT, interference_CT = recorded("neuromag", 1)
    signal_CT = (clean_CT + interference_CT)[:, : int(25 * SFREQ)]
    recording = recording_of(sensors, signal_CT)
    bads = BADS[:2]
    cleaned = tsss(signal_CT, recording, bads, st_duration=10.0)
    assert cleaned.shape == signal_CT.shape
    whole = cleaned[:, 0:5000]
    for start, stop in ((0, 100), (1990, 2010), (1500, 4800), (4999, 5000)):
        np.testing.assert_array_equal(cleaned[:, start:stop], whole[:, start:stop])
    picks = recording.picks("mag", "grad")
    raw = mne.io.RawArray(signal_CT[picks].astype(float), coil_info(recording, picks, bads), verbose="error")
    options = {"origin": (0.0, 0.0, 0.04), "st_duration": 10.0, "st_overlap": False, "verbose": "error"}
    # two pieces, the second one of 15 s, as MNE makes them
    theirs = mne.preprocessing.maxwell_filter(raw, **options).get_data()
    for kind in ("mag", "grad"):
        same = recording.picks(kind)
        np.testing.assert_allclose(whole[same], theirs[same], atol=1e-4 * theirs[same].std())


def test_hfc_equals_mnes_projectors() -> None:
    """Of magnetometers alone, which is what it is for."""
    sensors = helmet("neuromag")
    recording = recording_of(sensors, np.zeros((102, 2)))
    mags = recording.picks("mag")
    for order in (1, 2):
        matrix, _ = hfc_matrix(recording, [], order=order)
        info = coil_info(recording, mags)
        projs = mne.preprocessing.compute_proj_hfc(info, order=order, verbose="error")
        raw = mne.io.RawArray(np.eye(34), info, verbose="error").add_proj(projs, verbose="error")
        theirs = raw.apply_proj(verbose="error").get_data()
        np.testing.assert_allclose(matrix[np.ix_(mags, mags)], theirs, atol=1e-8)


def test_far_fields_are_those_of_mnes_coils() -> None:
    far_P3 = np.array([[2.0, 1.0, 0.0], [0.5, -3.0, 4.0]])
    for system in PLACES:
        sensors = helmet(system)
        coils = _create_meg_coils(sensors.info["chs"], "accurate")
        theirs = _magnetic_dipole_field_vec(far_P3, coils).T.reshape(len(coils), 2, 3)
        ours = far_field(sensors.info, far_P3)
        for kind in set(sensors.ch_types):
            same = np.array(sensors.ch_types) == kind
            np.testing.assert_allclose(ours[same], theirs[same], atol=2e-4 * np.abs(theirs[same]).max())


def test_matrix_is_float32_and_leaves_references_as_they_are() -> None:
    fit: MagneticFit = scored("ctf", 1)[0]
    assert fit.matrix_CC is not None
    assert fit.matrix_CC.dtype == np.float32
    references = [at for at, kind in enumerate(helmet("ctf").ch_types) if kind == "ref_meg"]
    np.testing.assert_array_equal(fit.matrix_CC[references], np.eye(76, dtype=np.float32)[references])


def test_measured_references_are_what_the_study_joins() -> None:
    """Interference planted on the joined machine equals that planted on the helmet and measured by the references."""
    joined = helmet("ctf")
    alone = meg_sensors(system="ctf", n_places=60, sfreq=SFREQ, line_freq=50.0, position_P3=positions())
    references = reference_sensors(sfreq=SFREQ, line_freq=50.0, position_P3=positions())
    brain_CT = 1e-13 * np.random.default_rng(0).standard_normal((60, 1000))
    whole_CT = np.concatenate([brain_CT, np.zeros((16, 1000))])
    one = plant_interference(whole_CT, sensors=joined, size=SIZE, rng=np.random.default_rng(4))
    two = plant_interference(brain_CT, sensors=alone, size=SIZE, rng=np.random.default_rng(4))
    silent = {"source_PT": np.zeros((64, 1000)), "direction_P3": np.zeros((64, 3))}
    measured = measure_references(references, interference=two, rng=np.random.default_rng(0), **silent)
    np.testing.assert_allclose(one.signal_CT[:60], two.signal_CT, rtol=1e-6, atol=1e-20)
    assert np.abs(measured - one.signal_CT[60:]).max() < 6 * 3e-15 * np.sqrt(SFREQ / 2)
