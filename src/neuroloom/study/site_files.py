"""Files of a MEG site that belong to a recording beside its own: the empty room, and where the head was."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path

from neuroloom.config import Config, ConfigError, RecordingRow, fill_environment
from neuroloom.quarantine import UnusableRecording
from neuroloom.sidecars import read_object
from neuroloom.study.bids import dataset_root, is_recording, parse_name
from neuroloom.study.links import is_within
from neuroloom.study.rows import source_of
from neuroloom.study.sheet import read_records

SITE_FILES = {"empty_room", "head_positions"}  # keys of a source that name them
FROM_ROOM, FOLLOWING = ("auto", "ssp"), ("auto", "maxwell", "tsss")


def empty_rooms_of(row: RecordingRow, config: Config) -> list[str]:
    """The empty room of a recording: one path, or none.

    Raises
    ------
    ConfigError
        If the study names one that is not there, or none can be found by the rules of BIDS.
    """
    said = source_of(row, config).empty_room
    if said is None or row.modality != "meg" or config.preprocess.meeg.magnetic not in FROM_ROOM:
        return []
    root = Path(config.study.root_path)
    if said == "bids":
        return [str(find_empty_room(root / row.path))]
    path = root / fill_environment(said)
    if not path.exists():
        raise ConfigError(f"{path}: no such file; correct sources.{row.study}.empty_room")
    return [str(path)]


def head_files_of(row: RecordingRow, config: Config) -> list[str]:
    """What says where the head was: the recording's own file and a table, the file alone, or nothing.

    Raises
    ------
    ConfigError
        If the study names a table that is not there.
    """
    said = source_of(row, config).head_positions
    is_real = config.study.recordings is not None
    if said == "none" or row.modality != "meg" or config.preprocess.meeg.magnetic not in FOLLOWING or not is_real:
        return []
    root = Path(config.study.root_path)
    path = root / row.path
    if said == "auto":
        return [str(path)] if path.suffix == ".fif" else []
    table = root / fill_environment(said).replace("{stem}", path.name.split(".")[0])
    if not table.exists():
        raise ConfigError(f"{table}: no such file; correct sources.{row.study}.head_positions")
    return [str(path), str(table)]


def find_empty_room(path: Path) -> Path:
    """The empty room that the sidecar of a BIDS recording names, or else the one that is closest in time.

    Sessions of `sub-emptyroom` are called by their date; that of a recording stands in its `scans.tsv`.

    Raises
    ------
    ConfigError
        If nothing of this leads to one file.
    """
    root = dataset_root(path)
    if root is None:
        raise ConfigError(f"{path}: not in a BIDS dataset; name the file in sources.<study>.empty_room instead of bids")
    if named := _named(path, root):
        return named
    days = {room: _day_of(room.name) for room in _rooms(root)}
    if not days:
        raise ConfigError(f"{root}: no recording in sub-emptyroom; name the file in sources.<study>.empty_room")
    if len(days) == 1:
        return next(iter(days))
    measured = _measured(path)
    dated = {room: day for room, day in days.items() if day is not None}
    if measured is None or not dated:
        what = "scans.tsv does not say when it was measured" if measured is None else "their sessions are no dates"
        raise ConfigError(
            f"{path}: {len(days)} empty rooms, and {what}; name one as AssociatedEmptyRoom in its sidecar"
        )
    return min(dated, key=lambda room: (abs((dated[room] - measured).days), room))


def _named(path: Path, root: Path) -> Path | None:
    """What the sidecar says: a path below the root, with or without `bids::`, or a list of them."""
    sidecar = path.with_name(path.name.split(".")[0] + ".json")
    try:
        said = read_object(sidecar).get("AssociatedEmptyRoom") if sidecar.is_file() else None
    except UnusableRecording as error:
        raise ConfigError(str(error)) from error
    names = list(said) if isinstance(said, list) else [said] * bool(said)
    if not names:
        return None
    room = root / str(names[0]).removeprefix("bids::").lstrip("/")
    if not room.exists():
        raise ConfigError(f"{sidecar}: AssociatedEmptyRoom {names[0]} is not there; correct the sidecar")
    if not is_within(room, [root.resolve()]):
        raise ConfigError(f"{sidecar}: AssociatedEmptyRoom {names[0]} leads out of {root}; correct the sidecar")
    return room


@cache  # asked for each recording, in a dataset that may have as many rooms as recordings
def _rooms(root: Path) -> list[Path]:
    """Recordings of `sub-emptyroom`, of a split file the first part."""
    folders = [root / "sub-emptyroom" / "meg", *sorted(root.glob("sub-emptyroom/ses-*/meg"))]
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    found = [file for file in files if is_recording(file.name, "meg")]
    return [file for file in found if parse_name(file.name)[0].get("split", "1").lstrip("0") == "1"]


def _day_of(name: str) -> date | None:
    session = parse_name(name)[0].get("ses", "")
    return _date(session) if len(session) == 8 else None


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _measured(path: Path) -> date | None:
    """Day of a recording, from the `scans.tsv` of its session."""
    folder = path.parent.parent
    for table in sorted(folder.glob("*_scans.tsv")):
        for line in read_records(table)[1]:
            if (folder / line.get("filename", "")) == path and "T" in line.get("acq_time", ""):
                return _date(line["acq_time"][:10])
    return None
