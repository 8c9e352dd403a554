"""The two files that a study of one's own begins with, and the sheet when its dataset has changed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroloom.config import ConfigError, StudyConfig
from neuroloom.study.bids import index_study
from neuroloom.study.proposal import Machine, propose, render
from neuroloom.study.sheet import read_records, read_sheet, write_sheet
from neuroloom.study.survey import survey_bids

NAME = re.compile(r"[A-Za-z0-9]{1,64}")


@dataclass(frozen=True)
class Started:
    """What was written, and the comments of the config that say why."""

    sheet: Path
    config: Path
    n_recordings: int
    choices: Sequence[str]


@dataclass(frozen=True)
class Change:
    """Recordings that the sheet did not have, and those that the dataset has no more."""

    sheet: Path
    n_recordings: int
    new: Sequence[str]
    gone: Sequence[str]


def write_study(root: Path, *, name: str | None, folder: Path, force: bool) -> Started:
    """Write `<name>.yaml` and `<name>.tsv` for a BIDS dataset.

    Parameters
    ----------
    root : Path
        The dataset.
    name : str or None
        Of the study; None: letters and digits of the folder's name.
    folder : Path
        Where to write to.
    force : bool
        Write over files that are there.

    Raises
    ------
    ConfigError
        If the dataset cannot be used, the name is none, or a file is there.
    """
    name = name or re.sub(r"[^A-Za-z0-9]", "", root.resolve().name)
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a study: give one of 1 to 64 letters and digits with --name")
    sheet, config = folder / f"{name}.tsv", folder / f"{name}.yaml"
    if there := [str(path) for path in (config, sheet) if path.exists() and not force]:
        raise ConfigError(f"{' and '.join(there)} would be overwritten: take another --name or --out, or say --force")
    survey = survey_bids(root, name=name)
    sections = propose(survey, name=name, sheet=sheet.as_posix(), root=as_named(root), machine=this_machine())
    folder.mkdir(parents=True, exist_ok=True)
    write_sheet(survey.rows, sheet, labels=tuple(survey.columns))
    config.write_text(render(sections), encoding="utf-8")
    return Started(sheet, config, len(survey.rows), [section.comment for section in sections if section.comment])


def as_named(root: Path) -> str:
    """A path as it stands in a config: from the working folder where it lies below, else from the root."""
    whole = root.resolve()
    return whole.relative_to(Path.cwd()).as_posix() if whole.is_relative_to(Path.cwd()) else whole.as_posix()


def this_machine() -> Machine:
    """Cores that this process may use, and GPUs that torch sees."""
    import torch

    return Machine(cores=len(os.sched_getaffinity(0)), gpus=torch.cuda.device_count())


def index_again(study: StudyConfig) -> Change:
    """Write the sheet of a study again.

    Raises
    ------
    ConfigError
        If the study has no BIDS dataset or no sheet, or the dataset cannot be used.
    """
    if study.bids_root is None or study.recordings is None:
        missing = "bids_root" if study.bids_root is None else "recordings"
        raise ConfigError(f"study.{missing} of {study.name} is not set: name the BIDS dataset and the sheet to write")
    sheet = Path(study.recordings)
    before = {row.recording for row in read_sheet(sheet, labels=_labels_of(sheet))} if sheet.exists() else set()
    rows = index_study(study, sheet)
    now = {row.recording for row in rows}
    return Change(sheet, len(rows), sorted(now - before), sorted(before - now))


def _labels_of(sheet: Path) -> tuple[str, ...]:
    """Columns of a sheet beside its own, which the config may have changed since."""
    from neuroloom.study.sheet import COLUMNS

    return tuple(name for name in read_records(sheet)[0] if name not in COLUMNS)
