from dataclasses import replace

import numpy as np
import pytest

from neuroloom.records import Recording
from neuroloom.signals.magnetic import choose_method, fit_magnetic
from neuroloom.signals.magnetic_bads import find_meg_bads
from neuroloom.signals.magnetic_scores import dipole_amplitude, dipole_change, interference_drop
from neuroloom.signals.maxwell import common_courses, expansion_origin, plan_expansion, tsss
from neuroloom.signals.projections import hfc_matrix, ssp_matrix
from neuroloom.signals.references import reference_matrix

SFREQ, N_TIMES = 100.0, 6000
COILS = {"mag": 3024, "grad": 3012, "ref_meg": 5002, "eeg": 1}
WORTH = {"mag": 1e-13, "grad": 1e-12, "ref_meg": 1e-13, "eeg": 1e-5}


def array(n_places: int = 12, *, n_references: int = 0, n_eeg: int = 2, planar: bool = True) -> Recording:
    """Coils on a half sphere, references above, and a few electrodes; noise of the size of a brain."""
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((n_places, 3))
    normal[:, 2] = np.abs(normal[:, 2])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    first = np.cross(normal, [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    loc = np.hstack([normal * 0.12 + [0, 0, 0.04], first, np.cross(normal, first), normal])
    kinds = ["mag"] * n_places + ["grad"] * n_places * planar + ["ref_meg"] * n_references + ["eeg"] * n_eeg
    loc = np.concatenate([loc, *([loc] * planar), np.tile([0, 0, 0.4, *np.eye(3).ravel()], (n_references + n_eeg, 1))])
    signal = np.array([WORTH[kind] for kind in kinds])[:, None] * rng.standard_normal((len(kinds), N_TIMES))
    return Recording(
        signal_CT=signal.astype(np.float32),
        sfreq=SFREQ,
        ch_names=[f"{kind}{at}" for at, kind in enumerate(kinds)],
        ch_types=kinds,
        units=[""] * len(kinds),
        status=["good"] * len(kinds),
        coil_C=np.array([COILS[kind] for kind in kinds], np.int32),
        loc_C12=loc.astype(np.float32),
    )


def test_what_an_array_allows_decides() -> None:
    assert choose_method(array(n_references=3), [], "auto") == ("reference", "")
    method, why = choose_method(array(n_references=3), ["ref_meg24"], "auto")
    assert method == "hfc"
    assert "24 good coils, 75 needed" in why
    blind = array()
    blind = replace(blind, loc_C12=np.full_like(blind.loc_C12, np.nan))
    assert choose_method(blind, [], "auto")[0] == "ssp"
    assert choose_method(array(0, planar=False), [], "auto") == ("none", "no MEG coils")
    assert choose_method(array(), [], "ssp")[0] == "ssp"
    with pytest.raises(ValueError, match="unknown method 'sss'; use auto, maxwell"):
        choose_method(array(), [], "sss")


def test_none_and_refused_methods_say_so() -> None:
    recording = array(n_references=1)
    fit = fit_magnetic(recording, recording.signal_CT, [], method="none")
    assert fit.matrix_CC is None
    for method, words in (("maxwell", "24 good coils, 75 needed"), ("reference", "1 good reference coils, 3 needed")):
        fit = fit_magnetic(recording, recording.signal_CT, [], method=method)
        assert (fit.matrix_CC, fit.method) == (None, "none")
        assert words in fit.note


def with_room(recording: Recording, gain: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """A homogeneous field that wanders, at magnetometers and references, and its three courses."""
    rng = np.random.default_rng(3)
    course_3T = gain * 1e-13 * np.cumsum(rng.standard_normal((3, N_TIMES)), axis=1) / 20
    normal_C3 = recording.loc_C12[:, 9:12].copy()
    references = recording.picks("ref_meg")
    normal_C3[references] = np.eye(3)[np.arange(len(references)) % 3]
    normal_C3[recording.picks("grad", "eeg")] = 0
    return recording.signal_CT + normal_C3 @ course_3T, normal_C3 @ course_3T


def test_references_are_regressed_out_of_good_coils_only() -> None:
    recording = array(n_references=3)
    measured, room = with_room(recording)
    matrix, note = reference_matrix(measured, recording, ["mag1"])
    mags = np.setdiff1d(recording.picks("mag"), [1])
    left = np.var((matrix @ room)[mags], axis=1) / np.var(room[mags], axis=1)
    assert 10 * np.log10(left).max() < -20
    others = [1, *recording.picks("ref_meg", "eeg")]
    np.testing.assert_array_equal(matrix[others], np.eye(len(matrix))[others])
    assert "3 reference coils regressed out" in note
    assert "% of mag" in note


def test_an_artefact_of_the_helmet_moves_the_weights_little() -> None:
    """A second of one channel, a hundred times its signal, that goes with a reference."""
    recording = array(n_references=3)
    measured, _ = with_room(recording)
    spoilt = measured.copy()
    spoilt[:12, 3000:3100] += 100e-13 * np.sign(measured[24, 3000:3100])
    plain, touched = (reference_matrix(signal, recording, [])[0][:12, 24:27] for signal in (measured, spoilt))
    assert np.abs(touched - plain).max() < 0.02


def test_what_references_explain_by_chance_is_refused() -> None:
    """Twelve references and a third of a second: each half is explained by its own noise, and not by the other's."""
    recording = array(16, n_references=12)
    short = recording.signal_CT[:, :30]
    matrix, note = reference_matrix(short, recording, [])
    assert matrix is None
    assert "in one half" in note
    fit = fit_magnetic(recording, short, [])
    assert fit.method == "hfc"


def test_dead_references_do_not_count() -> None:
    recording = array(n_references=3)
    signal = recording.signal_CT.copy()
    signal[24] = 0
    assert reference_matrix(signal, recording, [])[0] is None


def test_homogeneous_fields_go_and_gradiometers_stay() -> None:
    recording = array(16)
    _, room = with_room(recording)
    matrix, note = hfc_matrix(recording, ["mag3"], order=1)
    mags = np.setdiff1d(recording.picks("mag"), [3])
    assert np.abs((matrix @ room)[mags]).max() < 1e-3 * np.abs(room[mags]).max()
    np.testing.assert_allclose(matrix @ matrix, matrix, atol=1e-12)
    rest = [3, *recording.picks("grad", "eeg")]
    np.testing.assert_array_equal(matrix[rest], np.eye(len(matrix))[rest])
    assert note == "fields to order 1 projected out (3 from 15 mag)"


def test_too_few_coils_or_no_geometry_project_nothing() -> None:
    few = array(6, planar=False)
    assert hfc_matrix(few, [], order=1) == (None, "nothing projected out: 6 good mag are too few for 3 patterns")
    blind = replace(few, loc_C12=np.full_like(few.loc_C12, np.nan))
    assert "no geometry of mag0" in hfc_matrix(blind, [], order=1)[1]


def test_loud_seconds_give_the_projection_of_each_type() -> None:
    recording = array()
    pattern = np.random.default_rng(1).standard_normal(12)
    gate = np.zeros(N_TIMES)
    gate[1000:2000] = 1
    course = gate * np.sin(np.arange(N_TIMES))
    signal = recording.signal_CT.copy()
    signal[:12] += 30e-13 * np.outer(pattern, course)
    matrix, note = ssp_matrix(signal, recording, [])
    kept = np.linalg.norm(matrix[:12, :12] @ pattern) / np.linalg.norm(pattern)
    assert kept < 0.05
    np.testing.assert_array_equal(matrix[12:], np.eye(len(matrix))[12:])
    assert "(1 from 12 mag)" in note


def test_quiet_recordings_are_not_projected() -> None:
    recording = array()
    assert ssp_matrix(recording.signal_CT, recording, [])[0] is None


def test_a_channel_apart_from_the_others_is_found_with_a_reason() -> None:
    recording = array(20, planar=False)
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((20, 4)) @ rng.standard_normal((4, N_TIMES))
    signal = recording.signal_CT.copy()
    signal[:20] += 5e-13 * shared
    assert find_meg_bads(recording, signal, []) == {}
    signal[6] = 10e-13 * rng.standard_normal(N_TIMES)
    found = find_meg_bads(recording, signal, [])
    assert list(found) == ["mag6"]
    assert found["mag6"].startswith("does not fit the other channels (1e+03 fT unexplained")
    assert find_meg_bads(recording, signal, ["mag6"]) == {}


def test_origin_is_the_head_or_the_middle_of_the_coils() -> None:
    sphere = array(30).loc_C12[:30, :3].astype(float)
    assert expansion_origin(sphere) == (0.0, 0.0, 0.04)
    device = expansion_origin(sphere - [0, 0, 0.1])
    np.testing.assert_allclose(device, (0, 0, -0.06), atol=1e-6)


def test_small_arrays_are_refused() -> None:
    recording = array()
    assert plan_expansion(recording, [])[0] is None
    with pytest.raises(ValueError, match="24 good coils, 75 needed"):
        tsss(recording.signal_CT, recording, [])


def test_common_courses_are_those_that_both_sides_hold() -> None:
    rng = np.random.default_rng(0)
    courses = np.linalg.qr(rng.standard_normal((500, 5)))[0].T
    inner = rng.standard_normal((20, 3)) @ courses[:3]
    left = rng.standard_normal((10, 3)) @ courses[2:]
    common = common_courses(inner, left, 0.98)
    assert common.shape == (500, 1)
    assert abs(common[:, 0] @ courses[2]) == pytest.approx(1, abs=1e-9)
    assert common_courses(inner, left * 0, 0.98).shape == (500, 0)


def test_drop_is_the_median_of_each_type_in_decibels() -> None:
    before = np.ones((5, 10))
    after = np.array([0.1, 0.1, 1.0, 0.01, 0.01])[:, None] * before
    assert interference_drop(before, after, ch_types=["mag", "mag", "mag", "grad", "eeg"]) == {
        "mag": pytest.approx(20.0),
        "grad": pytest.approx(40.0),
    }


def test_amplitude_and_change_of_a_dipole() -> None:
    topography, course = np.array([1.0, -2.0, 3e2, 1e2]), np.sin(np.arange(400.0))
    signal = np.outer(topography, course)
    kinds = ["mag", "mag", "grad", "grad"]
    assert dipole_amplitude(0.9 * signal, topography_C=topography, course_T=course) == pytest.approx(0.9)
    matrix = np.diag([0.5, 0.5, 1.0, 0.0])
    options = {"topography_C": topography, "course_T": course, "ch_types": kinds}
    change = dipole_change(signal, matrix @ signal, **options)
    assert change["mag"] == pytest.approx(-0.5)
    assert change["grad"] == pytest.approx(-1e4 / 10e4)
    known = dipole_change(signal, matrix @ signal, matrix_CC=matrix, **options)
    assert known == {"mag": pytest.approx(0), "grad": pytest.approx(0)}
