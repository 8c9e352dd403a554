"""Signal space separation that follows the head, against MNE and against a head that kept still."""

from functools import cache
from pathlib import Path

import mne
import numpy as np
import pytest
from mne._fiff._digitization import DigPoint
from mne.io.constants import FIFF
from mne.transforms import apply_trans, rot_to_quat
from scipy.spatial.transform import Rotation

from neuroloom.config import MeegConfig
from neuroloom.dims import UNITS
from neuroloom.records import Recording
from neuroloom.signals.ingest import head_locations
from neuroloom.signals.maxwell import plan_expansion
from neuroloom.signals.movement import FollowedHead, follow_head, read_head_positions, relative_positions
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.study.sensors import meg_sensors

Array = np.ndarray
SFREQ, SECONDS, HZ, N_PLACES = 600.0, 8.0, 11.0, 102
DIPOLE = np.array([[0.04, 0.02, 0.08]])
HPI = np.array([[0.07, 0.05, 0.03], [-0.07, 0.05, 0.03], [0.05, 0.02, 0.11], [-0.05, 0.02, 0.11]])
# m and degrees around the vertical axis: it rests for 1.5 s and moves for 0.5 s; 14.7 mm in the end
RESTS = [((0, 0, 0), 0), ((0.004, 0, 0.002), 2), ((0.008, 0.004, 0.004), 5), ((0.01, -0.004, 0.01), 8)]
REST_S, PERIOD_S = 1.5, 2.0
ORIGIN = (0.0, 0.0, 0.04)


@cache
def helmet() -> mne.Info:
    """180 coils of a Neuromag kind, 2 cm below the frame of the head, with four HPI coils that sound all the time."""
    sensors = meg_sensors(system="neuromag", n_places=N_PLACES, sfreq=SFREQ, line_freq=50.0, position_P3=DIPOLE)
    info, trans = sensors.info.copy(), np.eye(4)
    trans[2, 3] = 0.02
    for channel in info["chs"]:
        channel["loc"][2] -= trans[2, 3]
    info["dev_head_t"] = mne.Transform("meg", "head", trans)
    coils = range(1, 1 + len(HPI))
    points = {"kind": FIFF.FIFFV_POINT_HPI, "coord_frame": FIFF.FIFFV_COORD_HEAD}
    known = apply_trans(np.linalg.inv(trans), HPI)
    fit = {"order": np.array(coils), "used": np.array(coils), "moments": np.zeros((4, 3)), "goodness": np.ones(4)}
    fit |= {"good_limit": 0.98, "dist_limit": 0.005, "accept": 1, "coord_trans": info["dev_head_t"]}
    places = [DigPoint({**points, "r": at.astype(np.float32), "ident": n}) for n, at in zip(coils, known, strict=True)]
    sounds = {"epoch": np.zeros((1, 1)), "slopes": np.zeros(1), "corr_coeff": np.zeros(1)}
    sounds_of = [{**sounds, "number": n, "coil_freq": 60.0 * n + 23} for n in coils]
    facts = {"creator": "x", "sfreq": SFREQ, "nchan": 1, "nave": 1, "ncoil": 4, "first_samp": 0, "last_samp": 1}
    bits = [{"event_bits": np.array([256 * 2**n, 0, 0, 0], np.int32)} for n in range(4)]
    with info._unlock():
        info["dig"] = [DigPoint({**points, "r": at.astype(np.float32), "ident": n}) for n, at in enumerate(HPI, 1)]
        info["hpi_results"] = [{**fit, "dig_points": places}]
        info["hpi_meas"] = [{**facts, "hpi_coils": sounds_of}]
        info["hpi_subsystem"] = {"ncoil": 4, "event_channel": "STI201", "hpi_coils": bits}
    return info


def table() -> Array:
    """MNE's table of where the head was."""
    rows = []
    for at, (shift, turn) in enumerate(RESTS):
        move = np.eye(4)
        move[:3, :3], move[:3, 3] = Rotation.from_euler("z", turn, degrees=True).as_matrix(), shift
        trans = move @ helmet()["dev_head_t"]["trans"]
        place = [rot_to_quat(trans[:3, :3]), trans[:3, 3], np.zeros(3)]
        rows += [np.concatenate([[time], *place]) for time in (PERIOD_S * at, PERIOD_S * at + REST_S)]
    return np.array(rows)


@cache
def simulated(*, moving: bool) -> mne.io.RawArray:
    """A dipole of 40 nAm at 11 Hz in a sphere, by MNE, with noise of SQUIDs, in a head that rests and moves."""
    info = helmet()
    course_T = 40e-9 * np.sin(2 * np.pi * HZ * np.arange(int(SECONDS * SFREQ)) / SFREQ)
    source = mne.setup_volume_source_space(pos={"rr": DIPOLE, "nn": np.array([[0.0, 1.0, 0.0]])}, verbose="error")
    estimate = mne.VolSourceEstimate(course_T[None], [np.array([0])], 0, 1 / SFREQ)
    sphere = mne.make_sphere_model(ORIGIN, None, verbose="error")
    head = table() if moving else None
    options = {"trans": None, "src": source, "bem": sphere, "head_pos": head, "interp": "hann", "use_cps": False}
    raw = mne.simulation.simulate_raw(info, estimate, **options, verbose="error")
    noise_C1 = np.where(np.array(raw.get_channel_types()) == "grad", 3e-13, 3e-15)[:, None] * np.sqrt(SFREQ / 2)
    raw._data += noise_C1 * np.random.default_rng(0).standard_normal(raw._data.shape)
    return raw


def recording_of(raw: mne.io.RawArray) -> Recording:
    kinds = raw.get_channel_types()
    return Recording(
        signal_CT=raw.get_data().astype(np.float32),
        sfreq=SFREQ,
        ch_names=raw.ch_names,
        ch_types=kinds,
        units=[UNITS[kind] for kind in kinds],
        status=["good"] * len(kinds),
        coil_C=np.array([int(channel["coil_type"]) for channel in raw.info["chs"]], np.int32),
        loc_C12=head_locations(raw.info),
        line_freq=50.0,
    )


def positions():
    return relative_positions(table(), helmet()["dev_head_t"]["trans"], first_time=0.0, note="a.pos")


@pytest.mark.parametrize("temporal", [False, True])
def test_following_equals_mnes_filter(temporal: bool) -> None:
    raw, bads = simulated(moving=True), ["MEG0021"]
    recording = recording_of(raw)
    followed, note = follow_head(recording.signal_CT, recording, bads, positions(), temporal=temporal, origin=ORIGIN)
    assert "head followed (8 positions from a.pos, up to 14.7 mm and 8.0 degrees" in note
    info = raw.info.copy()
    info["bads"] = bads
    orders = {"int_order": plan_expansion(recording, bads, origin=ORIGIN)[0].int_order, "ext_order": 3}
    windows = {"st_duration": 4.0, "st_overlap": False} if temporal else {}
    theirs = mne.preprocessing.maxwell_filter(
        mne.io.RawArray(recording.signal_CT.astype(float), info, verbose="error"),
        head_pos=table(),
        origin=ORIGIN,
        **orders,
        **windows,
        verbose="error",
    ).get_data(picks="meg")
    for kind in ("mag", "grad"):
        same = recording.picks(kind)
        # temporally, ours takes the position of the file for what is common, MNE that of the window
        limit = 0.02 if temporal else 1e-4
        np.testing.assert_allclose(followed[:, :][same], theirs[same], atol=limit * theirs[same].std())


def test_slices_equal_the_whole_and_few_matrices_are_kept() -> None:
    recording = recording_of(simulated(moving=True))
    followed, _ = follow_head(recording.signal_CT, recording, [], positions())
    assert isinstance(followed, FollowedHead)
    whole_CT = followed[:, :]
    assert whole_CT.shape == recording.signal_CT.shape
    for first, stop in ((0, 50), (1190, 1210), (1000, 3700), (4799, 4800)):
        np.testing.assert_allclose(followed[:, first:stop], whole_CT[:, first:stop], rtol=1e-5, atol=1e-17)
    assert len(followed._kept) <= 4


def likeness(cleaned_CT: Array, still_CT: Array, recording: Recording) -> dict[str, Array]:
    """Amplitude and topography of the dipole while the head rests, against a head that kept still, by coil type.

    Two rows: the amplitude over that of the other, and the correlation of the topographies; the noise is the same.
    """
    n_times = cleaned_CT.shape[1]
    course_T = np.sin(2 * np.pi * HZ * np.arange(n_times) * SECONDS / n_times)
    starts = PERIOD_S * np.arange(len(RESTS))
    spans = [slice(*np.round(np.array([start, start + REST_S]) * n_times / SECONDS).astype(int)) for start in starts]
    found = {}
    for kind in ("mag", "grad"):
        at, rows = recording.picks(kind), []
        for span in spans:
            fitted, truth = (part_CT[at, span] @ course_T[span] for part_CT in (cleaned_CT, still_CT))
            rows.append((fitted @ truth / (truth @ truth), np.corrcoef(fitted, truth)[0, 1]))
        found[kind] = np.array(rows).T
    return found


def cleaned(raw: mne.io.RawArray, head, magnetic: str = "auto") -> tuple[Recording, str]:
    clean, qc = preprocess_meeg(
        recording=recording_of(raw),
        config=MeegConfig(sfreq=200.0, magnetic=magnetic, mantissa_bits=None),
        window=2.0,
        file="a",
        rng=np.random.default_rng(0),
        head=head,
    )
    return clean.load(), qc.notes


def test_a_dipole_keeps_amplitude_and_topography_in_a_head_that_moves() -> None:
    still, _ = cleaned(simulated(moving=False), None)
    lost, _ = cleaned(simulated(moving=True), None)
    kept, notes = cleaned(simulated(moving=True), positions())
    assert "head followed (8 positions from a.pos, up to 14.7 mm and 8.0 degrees" in notes
    before = likeness(lost.signal_CT, still.signal_CT, still)
    after = likeness(kept.signal_CT, still.signal_CT, still)
    for kind in ("mag", "grad"):
        assert np.abs(after[kind][0] - 1).max() < 0.05
        assert after[kind][1].min() > 0.97
        assert before[kind][0].min() < 0.85
        assert before[kind][1].min() < after[kind][1].min()


def test_positions_are_estimated_from_continuous_hpi(tmp_path: Path) -> None:
    raw = simulated(moving=True).copy()
    status = mne.io.RawArray(np.zeros((1, raw.n_times)), mne.create_info(["STI201"], SFREQ, "stim"), verbose="error")
    raw.add_channels([status], force_update_info=True)
    mne.simulation.add_chpi(raw, head_pos=table(), verbose="error")
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    found = read_head_positions(tmp_path / "a_raw.fif")
    assert found.note == "continuous HPI"
    millimetres_N, degrees_N = found.size(np.array(ORIGIN))
    truth_N, turn_N = positions().size(np.array(ORIGIN))
    resting = [int(np.abs(found.time_N - (PERIOD_S * at + REST_S / 2)).argmin()) for at in range(len(RESTS))]
    assert np.abs(millimetres_N[resting] - truth_N[::2]).max() < 1.0
    assert np.abs(degrees_N[resting] - turn_N[::2]).max() < 0.5
