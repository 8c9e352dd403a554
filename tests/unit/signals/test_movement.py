from pathlib import Path

import mne
import numpy as np
import pytest
from mne.transforms import rot_to_quat
from scipy.spatial.transform import Rotation

from neuroloom.quarantine import UnusableRecording
from neuroloom.signals.movement import HeadPositions, read_head_positions, relative_positions, thinned

ORIGIN = np.array([0.0, 0.0, 0.04])
SFREQ = 200.0


def move(x_mm: float = 0.0, degrees: float = 0.0) -> np.ndarray:
    """A shift along x and a turn around the vertical axis through the origin of the head."""
    made = np.eye(4)
    made[:3, :3], made[0, 3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix(), x_mm / 1000
    return made


def saved(path: Path, *, trans: np.ndarray | None, seconds: float = 10.0, first_samp: int = 400) -> Path:
    info = mne.create_info(["MEG0111"], SFREQ, "mag")
    info["dev_head_t"] = None if trans is None else mne.Transform("meg", "head", trans)
    raw = mne.io.RawArray(np.zeros((1, int(seconds * SFREQ))), info, first_samp=first_samp, verbose="error")
    raw.save(path, verbose="error")
    return path


def write_table(path: Path, times: list[float], moves: list[np.ndarray], trans: np.ndarray) -> Path:
    rows = []
    for time, made in zip(times, moves, strict=True):
        at = made @ trans
        rows.append(np.concatenate([[time], rot_to_quat(at[:3, :3]), at[:3, 3], [0.99, 0.001, 0.0]]))
    mne.chpi.write_head_pos(path, np.array(rows))
    return path


def test_movements_are_since_the_position_of_the_file() -> None:
    device = move(20, 30)
    trans = (move(5, 10) @ device)[None]
    table = np.concatenate([[[3.0]], rot_to_quat(trans[:, :3, :3]), trans[:, :3, 3], np.zeros((1, 3))], axis=1)
    found = relative_positions(table, device, first_time=2.0, note="a")
    np.testing.assert_allclose(found.move_N44[0], move(5, 10), atol=1e-6)
    assert found.time_N.tolist() == [1.0]
    millimetres, degrees = found.size(ORIGIN)
    assert (millimetres[0], degrees[0]) == (pytest.approx(5, abs=1e-3), pytest.approx(10, abs=1e-3))


def test_rests_are_one_position_and_movements_are_not_spread_over_them() -> None:
    moves = [move(x) for x in (0, 0.1, 0.2, 3.0, 3.1, 3.2, 3.0, 6.0)]
    found = thinned(HeadPositions(np.arange(8.0), np.array(moves), "a"), ORIGIN)
    assert found.time_N.tolist() == [0, 2, 3, 6, 7]
    np.testing.assert_array_equal(found.move_N44[:, 0, 3] * 1000, [0, 0, 3, 3, 6])


def test_a_slow_drift_is_followed() -> None:
    moves = np.array([move(0.1 * at) for at in range(101)])
    found = thinned(HeadPositions(np.arange(101.0), moves, "a"), ORIGIN)
    nearest = np.searchsorted(found.time_N, np.arange(101.0), "right") - 1
    assert np.abs(found.move_N44[nearest, 0, 3] - moves[:, 0, 3]).max() <= 0.61e-3
    assert len(np.unique(found.move_N44[:, 0, 3])) < 20


def test_a_table_is_read_on_the_clock_of_the_recording(tmp_path: Path) -> None:
    device = move(20, 30)
    raw = saved(tmp_path / "a_raw.fif", trans=device)
    table = write_table(tmp_path / "a.pos", [2.0, 7.0], [move(0), move(4, 2)], device)
    found = read_head_positions(raw, table)
    assert found.note == "a.pos"
    np.testing.assert_allclose(found.time_N, [0, 5], atol=1e-3)
    np.testing.assert_allclose(found.move_N44[1], move(4, 2), atol=1e-4)


def test_without_continuous_hpi_or_a_transform_the_note_says_so(tmp_path: Path) -> None:
    still = read_head_positions(saved(tmp_path / "a_raw.fif", trans=move(20)))
    assert (len(still.time_N), still.note) == (0, "no continuous HPI in a_raw.fif: head movement is not followed")
    unknown = read_head_positions(saved(tmp_path / "b_raw.fif", trans=None))
    assert unknown.note == "b_raw.fif does not say where the head was: movement is not followed"


def test_a_table_of_another_recording_is_refused_with_both_files(tmp_path: Path) -> None:
    raw = saved(tmp_path / "a_raw.fif", trans=move(20))
    for times in ([0.5, 3.0], [3.0, 60.0]):
        table = write_table(tmp_path / "b.pos", times, [move(0), move(1)], move(20))
        with pytest.raises(UnusableRecording, match=r"b\.pos: head positions of another recording: .*a_raw\.fif"):
            read_head_positions(raw, table)


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    raw = saved(tmp_path / "a_raw.fif", trans=move(20))
    (tmp_path / "b.pos").write_text("time\nnot a table\n")
    with pytest.raises(UnusableRecording, match=r"b\.pos: no table of head positions"):
        read_head_positions(raw, tmp_path / "b.pos")
