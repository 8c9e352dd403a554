"""Projections from a recording of the empty room, in which whatever stands out of the noise is interference."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neuroloom.config import IngestConfig, SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Recording
from neuroloom.signals.coils import COILS, good_picks
from neuroloom.signals.ingest import to_recording
from neuroloom.signals.projections import COILS_PER_FIELD, project
from neuroloom.signals.reading import read_raw

MAX_FROM_ROOM = 5
MIN_ROOM_SHARE = 0.01  # what leaves less than that of the variance is 20 dB down
ABOVE_NOISE = 2.0  # times the median component, which is of noise


@dataclass(frozen=True)
class EmptyRoom:
    """What coils saw in an empty room, in the band of the recording that it is to clean.

    Attributes
    ----------
    file : str
        Named in errors and notes.
    ch_names, ch_types : list of str
    coil_C : int array
        FIFF coil types.
    covariance_CC : float64 array
        Of all channels.
    duration : float
        s that it is from.
    bads : dict
        Bad channel -> reason.
    """

    file: str
    ch_names: list[str]
    ch_types: list[str]
    coil_C: Array
    covariance_CC: Array
    duration: float
    bads: dict[str, str]

    def lost(self, bads: Collection[str]) -> dict[str, str]:
        """Channels that are bad here alone -> reason."""
        return {name: f"bad in the empty room: {why}" for name, why in self.bads.items() if name not in bads}


def read_empty_room(path: Path) -> Recording:
    """Open a recording of an empty room: coils of the helmet and references, nothing else.

    Electrodes and their box are often switched on without a cap, so they are not looked at. The path is kept in
    `site_files["empty_room"]`.

    Raises
    ------
    UnusableRecording
        If the file cannot be read, or has no MEG channel that is alive.
    """
    raw = read_raw(path, source=SourceConfig())
    if not {"mag", "grad"} & set(raw.get_channel_types()):
        raise UnusableRecording(path, "no MEG channel", "Correct sources.<study>.empty_room")
    raw.pick(["meg", "ref_meg"])
    any_size = IngestConfig(plausible_meg_ft=(0.0, math.inf))  # components do not depend on the unit
    recording, _ = to_recording(raw, path=path, source=SourceConfig(), config=any_size)
    return replace(recording, site_files={"empty_room": str(path)})


def room_matrix(
    room: EmptyRoom,
    recording: Recording,
    bads: Collection[str],
    *,
    before_CC: Array | None = None,
    n_components: int = MAX_FROM_ROOM,
) -> tuple[Array | None, str]:
    """Project out the main components of an empty room, each coil type by itself.

    Without a brain no rhythm can pass for interference, so components go as long as they leave more than a hundredth
    of the variance and stand out of the noise of the coils (Uusitalo and Ilmoniemi 1997, Med. Biol. Eng. Comput.
    35:135).

    Parameters
    ----------
    room : EmptyRoom
    recording : Recording
        To be cleaned: names, types and coils.
    bads : collection of str
        Left out, as are those of the room.
    before_CC : array, optional
        What the recording is multiplied with before.
    n_components : int
        The most to remove of each coil type.

    Returns
    -------
    matrix_CC : float64 array or None
        None where nothing stands out.
    note : str

    Raises
    ------
    ValueError
        If the room lacks channels of the recording, or has other coils there.
    """
    left_out = {*bads, *room.bads}
    kinds = COILS if before_CC is None else (*COILS, "ref_meg")
    covariance_CC = _aligned(room, recording, good_picks(recording, left_out, *kinds))
    if before_CC is not None:
        covariance_CC = before_CC @ covariance_CC @ before_CC.T
    found: dict[str, Array] = {}
    for kind in COILS:
        picks = good_picks(recording, left_out, kind)
        vectors_CN, value_N, _ = np.linalg.svd(covariance_CC[np.ix_(picks, picks)])
        floor = max(MIN_ROOM_SHARE * value_N.sum(), ABOVE_NOISE * float(np.median(value_N))) if len(picks) else 0.0
        n_kept = min(int((value_N > floor).sum()), n_components, len(picks) // COILS_PER_FIELD)
        found[kind] = np.zeros((len(recording.ch_names), n_kept))
        found[kind][picks] = vectors_CN[:, :n_kept]
    name = f"the empty room {Path(room.file).name}"
    if not any(pattern.shape[1] for pattern in found.values()):
        return None, f"no component of {name} stands out of its noise"
    return project(recording, left_out, found, f"components of {name} ({room.duration:.0f} s)")


def _aligned(room: EmptyRoom, recording: Recording, picks: Array) -> Array:
    """The covariance in the order of the recording, zero beside its channels that are picked."""
    names = [recording.ch_names[at] for at in picks]
    known = {name: at for at, name in enumerate(room.ch_names)}
    if missing := [name for name in names if name not in known]:
        shown = f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
        raise ValueError(f"{room.file}: the empty room lacks {len(missing)} of {len(names)} channels ({shown})")
    places = [known[name] for name in names]
    # versions of one coil (FIFF 3022, 3024) differ in the last digit, and MNE corrects them in some files
    other = room.coil_C[places] // 10 != recording.coil_C[picks] // 10
    if other.any():
        at = int(np.flatnonzero(other)[0])
        coils = f"{names[at]} is a coil of type {room.coil_C[places[at]]} there, {recording.coil_C[picks[at]]} here"
        raise ValueError(f"{room.file}: the empty room is of another machine ({coils})")
    covariance_CC = np.zeros((len(recording.ch_names), len(recording.ch_names)))
    covariance_CC[np.ix_(picks, picks)] = room.covariance_CC[np.ix_(places, places)]
    return covariance_CC
