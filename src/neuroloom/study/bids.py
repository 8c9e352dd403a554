"""The recordings of a BIDS dataset, listed from its folders and file names without opening a recording.

EEG, MEG and BOLD of `sub-*/[ses-*/]` become rows; other folders and data types do not. iEEG and empty rooms
(`sub-emptyroom`) are counted in the log. Of a split file the first part is the row. Entities that the sheet has no
column for (`acq`, `dir`, `echo`, ...) may stand in a name as long as they do not make two files one recording: echoes
have to be combined first, because choosing one of them would be a guess.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from neuroloom.config import ConfigError, RecordingRow, StudyConfig, fill_environment
from neuroloom.study.sheet import ABSENT, describe_cells, read_records, write_sheet

# https://bids-specification.readthedocs.io/en/stable/appendices/entities.html
_ENTITIES = """
    sub ses sample task tracksys acq nuc voi ce trc stain rec dir run mod echo flip inv mt part proc hemi space split
    recording chunk atlas res den label desc
"""
ENTITIES = frozenset(_ENTITIES.split())
SUFFIXES = {"eeg": "eeg", "meg": "meg", "func": "bold", "ieeg": "ieeg"}
FORMATS = {
    "eeg": (".bdf", ".edf", ".set", ".vhdr"),
    "meg": (".con", ".ds", ".fif", ".pdf", ".sqd", ""),
    "bold": (".nii", ".nii.gz"),
}
COMPANIONS = (".json", ".tsv", ".tsv.gz", ".eeg", ".vmrk", ".fdt")
CALIBRATION = re.compile(r"_acq-(calibration|crosstalk)_")
EMPTY_ROOM = "sub-emptyroom/"
UNFINISHED = ".unfinished-download"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BidsFile:
    """A recording: its path below the root, what its name says, and its modality (which is the suffix)."""

    path: str
    entities: dict[str, str]
    modality: str

    @property
    def key(self) -> tuple[str | None, ...]:
        """What the sheet can tell apart."""
        return (*(self.entities.get(name) for name in ("sub", "ses", "task", "run")), self.modality)


def index_study(study: StudyConfig, sheet: Path) -> list[RecordingRow]:
    """Write the recordings sheet of a study from its BIDS dataset.

    Parameters
    ----------
    study : StudyConfig
    sheet : Path
        The tsv; its folder is made.

    Returns
    -------
    list of RecordingRow

    Raises
    ------
    ConfigError
        If the study names no dataset, or the dataset cannot be used.
    """
    if study.bids_root is None:
        raise ConfigError("study.bids_root is not set: name the BIDS dataset to index in your config file")
    root = Path(fill_environment(study.bids_root))
    rows = index_bids(root, study=study.name, labels=study.labels, relative_to=Path(study.root_path))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    write_sheet(rows, sheet, labels=study.labels)
    return rows


def index_bids(
    root: Path, *, study: str, labels: tuple[str, ...] = (), relative_to: Path | None = None
) -> list[RecordingRow]:
    """List a BIDS dataset.

    Parameters
    ----------
    root : Path
        Folder with `dataset_description.json`.
    study : str
        The sheet's `study`; also its `site` where `participants.tsv` has no column `site`. In a site, characters other
        than letters and digits are left out (`UCLA_1` becomes `UCLA1`).
    labels : tuple of str
        Columns of `participants.tsv` that become label columns.
    relative_to : Path, optional
        Folder that the paths of the rows start from (`study.root` of the config); default: `root`.

    Returns
    -------
    list of RecordingRow
        Sorted by path.

    Raises
    ------
    ConfigError
        If `root` is not a BIDS dataset or holds no recording, and with every file whose name cannot be used.
    """
    if (root / UNFINISHED).exists():
        raise ConfigError(f"{root}: its download was interrupted, so files may be half. Fetch it again ({UNFINISHED})")
    if not (root / "dataset_description.json").is_file():
        raise ConfigError(f"{root}: not a BIDS dataset (no dataset_description.json); correct study.bids_root")
    participants = _read_participants(root, labels)
    files, problems = _parse_files(root)
    rows = []
    for file in files:
        try:
            rows.append(participants.row(file, study=study, labels=labels))
        except ValidationError as error:
            problems += [f"{file.path}: {text}" for _, text in describe_cells(error)]
        except ConfigError as error:
            problems.append(f"{file.path}: {error}")
    problems += _find_collisions(files)
    if problems:
        raise ConfigError("\n  ".join([f"{root}: {len(problems)} problem(s)", *sorted(problems)]))
    if not rows:
        raise ConfigError(
            f"{root}: no EEG, MEG or BOLD recording in sub-*/[ses-*/](eeg|meg|func); is the folder whole?"
        )
    prefix = "" if relative_to is None else Path(os.path.relpath(root, relative_to)).as_posix()
    return [row.model_copy(update={"path": posixpath.join(prefix, row.path)}) for row in rows]


@contextmanager
def marked_unfinished(root: Path) -> Iterator[None]:
    """Mark a dataset while it is downloaded: a library may leave half a file under its final name, and be killed."""
    before, mark = _sizes(root), root / UNFINISHED
    was_marked = mark.exists()
    root.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield
    except Exception:
        if not was_marked and _sizes(root) == before:  # nothing has come, such as without a network
            mark.unlink()
        raise
    mark.unlink()


def _sizes(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in root.rglob("*") if path.is_file() and path.name != UNFINISHED}


def dataset_root(path: Path) -> Path | None:
    """The BIDS dataset that a file lies in: the nearest folder above with a `dataset_description.json`."""
    return next((folder for folder in path.parents if (folder / "dataset_description.json").exists()), None)


def parse_name(name: str) -> tuple[dict[str, str], str, str]:
    """Entities, suffix and extension of a BIDS file name.

    >>> parse_name("sub-01_task-rest_eeg.edf")
    ({'sub': '01', 'task': 'rest'}, 'eeg', '.edf')

    Raises
    ------
    ConfigError
        If a part is not a BIDS entity with a value, or an entity stands twice.
    """
    stem, dot, rest = name.partition(".")
    *parts, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for part in parts:
        entity, _, value = part.partition("-")
        if entity not in ENTITIES or not value:
            raise ConfigError(f"{part!r} is not a BIDS entity with a value; rename the file")
        if entity in entities:
            raise ConfigError(f"entity {entity!r} stands twice; rename the file")
        entities[entity] = value
    return entities, suffix, dot + rest


def _parse_files(root: Path) -> tuple[list[BidsFile], list[str]]:
    """Recordings by path, and one line for each file that cannot be used."""
    found: list[BidsFile] = []
    problems = []
    passed_over = {"iEEG": 0, "empty-room": 0}
    for path, suffix, is_folder in _scan(root):
        if suffix == "ieeg" or path.startswith(EMPTY_ROOM):
            passed_over["iEEG" if suffix == "ieeg" else "empty-room"] += 1
            continue
        try:
            found.append(_parse_file(path, suffix, is_folder=is_folder))
        except ConfigError as error:
            problems.append(f"{path}: {error}")
    for kind, count in passed_over.items():
        if count:
            logger.info("%s: %d %s recording(s) are not listed", root, count, kind)
    files = [file for file in found if int(file.entities.get("split", 1)) == 1]
    first = {file.key for file in files}
    problems += [
        f"{file.path}: the first part of this split file is missing" for file in found if file.key not in first
    ]
    return files, problems


def _scan(root: Path) -> Iterator[tuple[str, str, bool]]:
    """Path below the root, suffix, and whether it is a folder, of all that is named like a recording; sorted."""
    for subject in sorted(root.glob("sub-*")):
        for parent in (subject, *sorted(subject.glob("ses-*"))):
            for datatype, suffix in SUFFIXES.items():
                folder = parent / datatype
                if not folder.is_dir():
                    continue
                prefix = folder.relative_to(root).as_posix()
                with os.scandir(folder) as entries:
                    names = sorted(
                        (entry.name, entry.is_dir()) for entry in entries if is_recording(entry.name, suffix)
                    )
                yield from ((f"{prefix}/{name}", suffix, is_folder) for name, is_folder in names)


def is_recording(name: str, suffix: str) -> bool:
    """Whether a file or folder is named like a recording, and not like what stands beside one."""
    stem, dot, extension = name.partition(".")
    return (
        stem.rpartition("_")[2] == suffix
        and not name.startswith(".")
        and dot + extension not in COMPANIONS
        and not CALIBRATION.search(name)
    )


def _parse_file(path: str, suffix: str, *, is_folder: bool) -> BidsFile:
    *parents, _, name = path.split("/")
    entities, _, extension = parse_name(name)
    if extension not in FORMATS[suffix] or (not extension and not is_folder):
        known = " ".join(sorted(FORMATS[suffix])).strip()
        raise ConfigError(f"format {extension!r} is not read as {suffix} ({known}); convert or remove the file")
    if parents != [f"{entity}-{entities[entity]}" for entity in ("sub", "ses") if entity in entities]:
        raise ConfigError(f"the name does not belong into {'/'.join(parents)}; move or rename the file")
    if not entities.get("split", "1").isdecimal():
        raise ConfigError(f"split {entities['split']!r} is not a number; rename the file")
    return BidsFile(path, entities, suffix)


@dataclass(frozen=True)
class Participants:
    """`participants.tsv`: the present values by `sub-…`, and the site (letters and digits) where it has that column."""

    people: dict[str, dict[str, str]]
    sites: dict[str, str] | None

    def row(self, file: BidsFile, *, study: str, labels: tuple[str, ...]) -> RecordingRow:
        """The sheet's row of a recording."""
        subject = f"sub-{file.entities.get('sub')}"
        if self.sites is not None and subject not in self.sites:
            raise ConfigError(f"participants.tsv has a column site but no site for {subject}; fill it in")
        person = self.people.get(subject, {})
        return RecordingRow.model_validate(
            {
                "study": study,
                "site": study if self.sites is None else self.sites[subject],
                "subject": file.entities.get("sub"),
                "session": file.entities.get("ses"),
                "task": file.entities.get("task"),
                "run": file.entities.get("run"),
                "modality": file.modality,
                "path": file.path,
                "labels": {name: person[name] for name in labels if name in person},
            }
        )


def _read_participants(root: Path, labels: tuple[str, ...]) -> Participants:
    file = root / "participants.tsv"
    header: list[str] = []
    people: dict[str, dict[str, str]] = {}
    if file.is_file():
        header, table = read_records(file)
        present = [{name: value for name, value in row.items() if value and value != ABSENT} for row in table]
        people = {row["participant_id"]: row for row in present if "participant_id" in row}
    if unknown := [name for name in labels if name not in header]:
        there = ", ".join(header) or "none"
        raise ConfigError(f"{file}: no column {', '.join(unknown)}; there are {there}. Correct study.labels")
    return Participants(people, _clean_sites(file, people) if "site" in header else None)


def _clean_sites(file: Path, people: dict[str, dict[str, str]]) -> dict[str, str]:
    written = {subject: person["site"] for subject, person in people.items() if "site" in person}
    clean = {site: re.sub(r"[^A-Za-z0-9]", "", site) for site in written.values()}
    if len(set(clean.values())) < len(clean):
        raise ConfigError(f"{file}: two of the sites {sorted(clean)} are one in letters and digits; rename one of them")
    return {subject: clean[site] for subject, site in written.items()}


def _find_collisions(files: list[BidsFile]) -> list[str]:
    """Files that the sheet would call the same recording, with the entities that tell them apart."""
    groups: dict[tuple[str | None, ...], list[BidsFile]] = defaultdict(list)
    for file in files:
        groups[file.key].append(file)
    problems = []
    for first, *others in groups.values():
        for other in others:
            pairs = set(first.entities.items()) ^ set(other.entities.items())
            by = ", ".join(sorted({name for name, _ in pairs})) or "format"
            problems.append(
                f"{other.path}: the same recording as {first.path} but for {by}, for which the sheet has no column; "
                "keep one (combine echoes first), or write the sheet by hand with two tasks or runs"
            )
    return problems
