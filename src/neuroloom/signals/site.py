"""What a MEG site measured beside a recording: the empty room, and where the head was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroloom.records import Recording
from neuroloom.signals.empty_room import read_empty_room
from neuroloom.signals.movement import HeadPositions, read_head_positions
from neuroloom.signals.reading import source_files


@dataclass(frozen=True)
class Site:
    """What was measured, and the files that it is from, but for the recording's own."""

    empty_room: Recording | None
    head: HeadPositions | None
    files: list[Path]


def read_site(rooms: Sequence[str], heads: Sequence[str]) -> Site:
    """Read what there is.

    Parameters
    ----------
    rooms : sequence of str
        A recording of the empty room, or nothing.
    heads : sequence of str
        The recording's own file, in which continuous HPI is looked for, and in its place a table of positions; or
        nothing.
    """
    room_paths, head_paths = [Path(path) for path in rooms], [Path(path) for path in heads]
    return Site(
        empty_room=read_empty_room(*room_paths) if room_paths else None,
        head=read_head_positions(*head_paths) if head_paths else None,
        files=[file for path in (*room_paths, *head_paths[1:]) for file in source_files(path)],
    )
