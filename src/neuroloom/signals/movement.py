"""Head movement in MEG: where the head was in the helmet, and signal space separation that follows it.

The inner field belongs to the head, so that an expansion around the head as it was at each moment, summed up at the
coils as they stood at the one position of the file, is the field of a head that had kept still (Taulu and Kajola 2005,
J. Appl. Phys. 97:124905, section IV; Nenonen et al. 2012, Front. Hum. Neurosci. 6:270). MNE finds the matrices.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.config import SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Recording, Signal
from neuroloom.signals.maxwell import Expansion, TsssCleaned, calibrated_info, plan_expansion
from neuroloom.signals.reading import read_raw
from neuroloom.signals.streams import Stream

STEP_S = 0.5  # between estimates
STILL_MM, STILL_DEG = 0.5, 0.25  # within the error of continuous HPI
KEPT_MATRICES = 4


@dataclass(frozen=True)
class HeadPositions:
    """How the head had moved since the position of the file, which the coils of a `Recording` are given for.

    Attributes
    ----------
    time_N : array
        s from the first sample, ascending.
    move_N44 : array
        From the frame of the head as it is in the file to that of the head then: `move @ coil` is where a coil was.
    note : str
        Where this is from, or why there are none.
    """

    time_N: Array
    move_N44: Array
    note: str

    @classmethod
    def none(cls, note: str) -> HeadPositions:
        """Without positions."""
        return cls(np.zeros(0), np.zeros((0, 4, 4)), note)

    def size(self, at_3: Array) -> tuple[Array, Array]:
        """Movement of a point in mm, and turn in degrees, (N,) each."""
        shift_N3 = self.move_N44[:, :3, :3] @ at_3 + self.move_N44[:, :3, 3] - at_3
        cosine_N = (np.trace(self.move_N44[:, :3, :3], axis1=1, axis2=2) - 1) / 2
        return 1000 * np.linalg.norm(shift_N3, axis=1), np.degrees(np.arccos(np.clip(cosine_N, -1, 1)))


def read_head_positions(path: Path, table: Path | None = None) -> HeadPositions:
    """Positions of a recording: from a table, or estimated from its continuous HPI coils.

    Parameters
    ----------
    path : Path
        Of the recording; its samples are read in short pieces, and only where positions are estimated.
    table : Path, optional
        `.pos` file of MaxFilter or MNE, whose times are those of the recording.

    Raises
    ------
    UnusableRecording
        If the table cannot be read, or its times are not within the recording.
    """
    import mne

    raw = read_raw(path, source=SourceConfig())
    if raw.info["dev_head_t"] is None:
        return HeadPositions.none(f"{path.name} does not say where the head was: movement is not followed")
    if table is None:
        position_N10, note = _estimated(raw, path)
        if position_N10 is None:
            return HeadPositions.none(note)
        return relative_positions(position_N10, raw.info["dev_head_t"]["trans"], first_time=raw.first_time, note=note)
    try:
        position_N10 = mne.chpi.read_head_pos(table)
    except (OSError, ValueError) as error:
        raise UnusableRecording(table, f"no table of head positions ({error})", "Give a .pos file") from error
    times_N = position_N10[:, 0] - raw.first_time
    duration = raw.n_times / raw.info["sfreq"]
    if not len(times_N) or times_N[0] < -1e-3 or times_N[-1] > duration + 1.0:
        shown = f"{times_N[0]:.1f} to {times_N[-1]:.1f} s" if len(times_N) else "no rows"
        reason = f"head positions of another recording: {shown} from its first sample, it has {duration:.1f} s"
        raise UnusableRecording(table, f"{reason} ({path.name})", "Correct sources.<study>.head_positions")
    trans_44 = raw.info["dev_head_t"]["trans"]
    return relative_positions(position_N10, trans_44, first_time=raw.first_time, note=table.name)


def relative_positions(position_N10: Array, trans_44: Array, *, first_time: float, note: str) -> HeadPositions:
    """MNE's table of positions, as movements from the position of the file.

    Parameters
    ----------
    position_N10 : array
        Time in s, quaternion and shift in m from device to head, and three figures of the fit.
    trans_44 : array
        From device to head, of the file.
    first_time : float
        s on the clock of the table at the first sample.
    note : str
    """
    from mne.transforms import quat_to_rot

    trans_N44 = np.tile(np.eye(4), (len(position_N10), 1, 1))
    trans_N44[:, :3, :3] = quat_to_rot(position_N10[:, 1:4])
    trans_N44[:, :3, 3] = position_N10[:, 4:7]
    time_N = np.maximum(position_N10[:, 0] - first_time, 0.0)
    return HeadPositions(time_N, trans_N44 @ np.linalg.inv(trans_44), note)


def _estimated(raw: Any, path: Path) -> tuple[Array | None, str]:
    """From the coils that sound all the time; most Neuromag systems have them, if they were switched on."""
    import mne

    if not len(mne.chpi.get_chpi_info(raw.info, on_missing="ignore", verbose="error")[0]):
        return None, f"no continuous HPI in {path.name}: head movement is not followed"
    try:
        sizes = mne.chpi.compute_chpi_amplitudes(raw, t_step_min=STEP_S, verbose="error")
        places = mne.chpi.compute_chpi_locs(raw.info, sizes, verbose="error")
        position_N10 = mne.chpi.compute_head_pos(raw.info, places, verbose="error")
    except (RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
        return (
            None,
            f"continuous HPI of {path.name} does not tell where the head was ({said}): movement is not followed",
        )
    if not len(position_N10):
        return None, f"no position fits the continuous HPI of {path.name}: head movement is not followed"
    return position_N10, "continuous HPI"


def thinned(positions: HeadPositions, at_3: Array) -> HeadPositions:
    """Without positions at which the head has not moved since the last one that is kept.

    The last moment of a rest stays, so that a movement is not spread over the rest before it.
    """
    moves, last, kept = positions.move_N44.copy(), 0, {0}
    for at in range(1, len(moves)):
        step = HeadPositions(np.zeros(1), (moves[at] @ np.linalg.inv(moves[last]))[None], "")
        millimetres, degrees = step.size(at_3)
        if millimetres[0] <= STILL_MM and degrees[0] <= STILL_DEG:
            moves[at] = moves[last]
            continue
        kept |= {at - 1, at}
        last = at
    rows = sorted(kept)
    return HeadPositions(positions.time_N[rows], moves[rows], positions.note)


class FollowedHead(Stream):
    """Signal space separation whose inner expansion goes with the head; between positions one fades into the next.

    Parameters
    ----------
    signal : Signal
        All channels of the recording, at its rate.
    recording : Recording
        For coils and rate.
    plan : Expansion
    bads : collection of str
        Coils that are given the field of the others.
    positions : HeadPositions
        Before the first one the head is where the file says.
    files : dict
        `calibration` and `cross_talk`, where there are such files.
    """

    def __init__(
        self,
        signal: Signal,
        recording: Recording,
        plan: Expansion,
        bads: Collection[str],
        positions: HeadPositions,
        *,
        files: dict[str, Path],
    ) -> None:
        super().__init__((signal.shape[0], signal.shape[1]))
        self._signal, self._plan, self._files, self._source = signal, plan, files, positions.note
        self._info = calibrated_info(recording, plan.picks, bads, files.get("calibration"))
        sample_N = np.round(positions.time_N * recording.sfreq).astype(int)
        first_N = np.flatnonzero(np.diff(sample_N, prepend=-1) > 0)
        sample_N, move_N44 = sample_N[first_N], positions.move_N44[first_N]
        if not len(sample_N) or sample_N[0] > 0:
            sample_N, move_N44 = np.r_[0, sample_N], np.concatenate([np.eye(4)[None], move_N44])
        self._sample_N, self._move_N44 = sample_N, move_N44
        self._kept: dict[bytes, Array] = {}

    def read(self, first: int, stop: int) -> Array:
        """The product with one matrix, or two in turn, from one position to the next."""
        plan = self._plan
        piece_CT = np.array(self._signal[:, first:stop], np.float32)
        good_CT = piece_CT[plan.picks[plan.is_good]].astype(np.float64)
        at, known = first, self._sample_N
        while at < stop:
            left = int(np.searchsorted(known, at, "right")) - 1
            is_last = left == len(known) - 1
            end = stop if is_last else min(int(known[left + 1]), stop)
            part = slice(at - first, end - first)
            cleaned_CT = self._matrix(left) @ good_CT[:, part]
            if not is_last and not np.array_equal(self._move_N44[left], self._move_N44[left + 1]):
                phase_T = (np.arange(at, end) - known[left]) / (known[left + 1] - known[left])
                share_T = 0.5 + 0.5 * np.cos(np.pi * phase_T)
                cleaned_CT = share_T * cleaned_CT + (1 - share_T) * (self._matrix(left + 1) @ good_CT[:, part])
            piece_CT[plan.picks, part] = cleaned_CT
            at = end
        return piece_CT

    def _matrix(self, at: int) -> Array:
        """Of one position, by MNE's filter of unit impulses; the latest few are kept."""
        move_44 = self._move_N44[at]
        key = move_44.tobytes()
        if key not in self._kept:
            while len(self._kept) >= KEPT_MATRICES:
                self._kept.pop(next(iter(self._kept)))
            try:
                self._kept[key] = _matrix_at(self._info, self._plan, move_44, self._files)
            except RuntimeError as error:
                found = f"no signal space separation where the head was at sample {self._sample_N[at]} ({error})"
                raise UnusableRecording(self._source, found, "Set sources.<study>.head_positions: none") from error
        return self._kept[key]


def _matrix_at(info: Any, plan: Expansion, move_44: Array, files: dict[str, Path]) -> Array:
    """From the good coils, with the head moved, to all coils, with the head where the file says."""
    import mne
    from mne.transforms import rot_to_quat

    trans_44 = move_44 @ info["dev_head_t"]["trans"]
    row_N10 = np.concatenate([[0.0], rot_to_quat(trans_44[:3, :3]), trans_44[:3, 3], np.zeros(3)])[None]
    raw = mne.io.RawArray(np.eye(len(plan.picks))[:, plan.is_good], info, verbose="error")
    paths = {name: str(path) for name, path in files.items()}
    done = mne.preprocessing.maxwell_filter(raw, head_pos=row_N10, **paths, **plan.options())
    return np.asarray(done.get_data(picks="meg"))


def follow_head(
    signal: Signal,
    recording: Recording,
    bads: Collection[str],
    positions: HeadPositions,
    *,
    temporal: bool = False,
    origin: tuple[float, float, float] | None = None,
) -> tuple[FollowedHead, str]:
    """Signal space separation of a head that moves, of a signal that is read in slices.

    Parameters
    ----------
    signal : Signal
        (C, T), all channels of the recording.
    recording : Recording
        For coils, names, rate, and its site's calibration and cross-talk.
    bads : collection of str
        Coils that are rebuilt.
    positions : HeadPositions
        At least one.
    temporal : bool
        Whether the temporal extension comes first.
    origin : tuple of float, optional
        m.

    Returns
    -------
    followed : FollowedHead
    note : str

    Raises
    ------
    ValueError
        If the array does not allow signal space separation.
    """
    plan, note = plan_expansion(recording, bads, origin=origin)
    if plan is None:
        raise ValueError(note)
    centre_3 = np.array(plan.origin)
    kept = thinned(positions, centre_3)
    files = {name: Path(path) for name, path in recording.site_files.items() if name in ("calibration", "cross_talk")}
    source = TsssCleaned(signal, recording, plan, rebuild=False) if temporal else signal
    millimetres_N, degrees_N = positions.size(centre_3)
    moved = f"up to {millimetres_N.max():.1f} mm and {degrees_N.max():.1f} degrees from where the file has it"
    words = (
        f"{note}{', after its temporal extension' if temporal else ''}{', with ' if files else ''}{' and '.join(files)}"
    )
    words += f"; head followed ({len(positions.time_N)} positions from {positions.note}, {moved})"
    return FollowedHead(source, recording, plan, bads, kept, files=files), words
