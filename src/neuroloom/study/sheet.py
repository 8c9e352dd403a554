"""The recordings sheet: a tsv with one line for each recording, checked whole before any job runs."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.schema import shown
from neuroloom.study.links import is_within

COLUMNS = ("study", "site", "subject", "session", "task", "run", "modality", "path")
ABSENT = "n/a"
OUTSIDE = "bring the file in, or name its folder in study.elsewhere"
_ROWS = TypeAdapter(list[RecordingRow])
Problem = tuple[int, str]


def read_sheet(path: Path, *, labels: tuple[str, ...]) -> list[RecordingRow]:
    """Read and check a recordings sheet.

    Parameters
    ----------
    path : Path
        Tab-separated text: the columns of `COLUMNS` and one for each label, in any order, without quotes. `n/a` or an
        empty cell means absent, which session, run and labels may be.
    labels : tuple of str
        `study.labels` of the config; the sheet has exactly these columns besides its own.

    Returns
    -------
    list of RecordingRow
        In the order of the lines; row `i` is line `i + 2`. An absent label is not in `row.labels`.

    Raises
    ------
    ConfigError
        With the line and the content of every problem of the sheet.
    """
    header, *lines = _read_cells(path)
    header_problems = _check_header(header, labels)
    cells = {line: row for line, row in enumerate(lines, start=2) if len(row) == len(header)}
    problems = [(line, _ragged(row, header)) for line, row in enumerate(lines, start=2) if line not in cells]
    values = {line: _row_values(dict(zip(header, row, strict=True)), labels) for line, row in cells.items()}
    rows: list[RecordingRow] = []
    try:
        rows = _ROWS.validate_python(list(values.values()))
    except ValidationError as error:
        numbers = list(values)
        problems += [(numbers[int(at)], text) for (at, *_), text in describe_cells(error)]
    if not header_problems:
        problems += _find_duplicates(values)
    if not lines:
        problems.append((1, "no recording follows the header"))
    _raise(path, header_problems + sorted(problems))
    return rows


def read_records(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and lines of any tsv without quotes; a line that is too short lacks its last cells.

    Raises
    ------
    ConfigError
        If it is not UTF-8 text.
    """
    header, *lines = _read_cells(path)
    return header, [dict(zip(header, line, strict=False)) for line in lines if line != [""]]


def write_sheet(rows: Iterable[RecordingRow], path: Path, *, labels: tuple[str, ...] = ()) -> None:
    """Write a sheet that `read_sheet` gives back.

    Parameters
    ----------
    rows : iterable of RecordingRow
        Written in this order.
    path : Path
        The tsv to write.
    labels : tuple of str
        Label columns that the sheet has even where no row has a value; those of the rows follow.
    """
    rows = list(rows)
    names = list(dict.fromkeys([*labels, *(name for row in rows for name in row.labels)]))
    lines = [[*COLUMNS, *names]]
    for row in rows:
        cells = [getattr(row, column) for column in COLUMNS] + [row.labels.get(name) for name in names]
        lines.append([cell or ABSENT for cell in cells])
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")


def check_files(
    rows: Iterable[RecordingRow],
    root: Path,
    *,
    sheet: str | Path = "recordings sheet",
    folders: Sequence[str | Path] = (),
) -> None:
    """Check that every recording is there, and in the study's folders: a sheet may have come from anywhere.

    Parameters
    ----------
    rows : iterable of RecordingRow
        As `read_sheet` gives them.
    root : Path
        Folder that relative paths start from.
    sheet : str or Path
        Named in the error.
    folders : sequence of path
        Other folders that a path, or a link (those of git-annex lead to `.git/annex` of their dataset), may lead to.

    Raises
    ------
    ConfigError
        With the line and the path of every file that is missing or leads out of the folders.
    """
    folder = str(root)
    allowed = [os.path.realpath(name) for name in (root, *folders)]
    problems = []
    for line, row in enumerate(rows, start=2):
        file = os.path.join(folder, row.path)
        if not os.path.exists(file):
            hint = " (a link without content: fetch it with git-annex or datalad)" if os.path.islink(file) else ""
            problems.append((line, f"no file {row.path!r} below {folder}{hint}"))
        elif not is_within(file, allowed):
            problems.append((line, f"path {row.path!r} leads out of {folder}, to {os.path.realpath(file)}: {OUTSIDE}"))
    _raise(sheet, problems)


def describe_cells(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    """Where and what, for each problem of a pydantic error about `RecordingRow`."""
    return [(problem["loc"], _describe(str(problem["loc"][-1]), problem)) for problem in _known(error)]


def _known(error: ValidationError) -> list[Any]:
    # A column that is missing as a whole is said once, for the header.
    return [problem for problem in error.errors(include_url=False) if problem["type"] != "missing"]


def _describe(column: str, problem: dict[str, Any]) -> str:
    if problem["input"] is None:
        return f"{column} is empty"
    allowed = "no braces and no control characters" if column == "path" else "only the letters A-Z, a-z and digits"
    rules = {
        "string_pattern_mismatch": f"{allowed} are allowed",
        "literal_error": f"it is one of {problem.get('ctx', {}).get('expected')}",
    }
    if isinstance(problem["input"], dict):  # of the row as a whole
        return str(problem["msg"])
    return f"{column} {shown(problem['input'])}: {rules.get(problem['type'], problem['msg'])}"


def _read_cells(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recordings sheet; correct study.recordings, or make the sheet") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error}); save it as tab-separated UTF-8") from None
    return [line.split("\t") for line in text.rstrip("\n").split("\n")]


def _check_header(header: list[str], labels: tuple[str, ...]) -> list[Problem]:
    known = [*COLUMNS, *labels]
    missing = [f"missing column {name!r}" for name in known if name not in header]
    unknown = [
        f"unknown column {name!r}: rename it, or name it in study.labels" for name in header if name not in known
    ]
    twice = [f"column {name!r} stands {header.count(name)} times" for name in known if header.count(name) > 1]
    return [(1, text) for text in [*missing, *unknown, *twice]]


def _ragged(row: list[str], header: list[str]) -> str:
    return "empty line" if row == [""] else f"{len(row)} cells, the header has {len(header)} (tabs between all cells?)"


def _row_values(cells: dict[str, str], labels: tuple[str, ...]) -> dict[str, Any]:
    present = {name: None if cell in ("", ABSENT) else cell for name, cell in cells.items()}
    values: dict[str, Any] = {column: present[column] for column in COLUMNS if column in present}
    values["labels"] = {name: present[name] for name in labels if present.get(name) is not None}
    return values


def _find_duplicates(values: dict[int, dict[str, Any]]) -> list[Problem]:
    """Two lines that are one recording, or that read one file as the same modality."""
    problems = []
    recordings: dict[tuple[Any, ...], int] = {}
    files: dict[tuple[str, Any], int] = {}
    for line, row in values.items():
        entities = tuple(row[column] for column in COLUMNS[:-1])
        first = recordings.setdefault(entities, line)
        if first != line:
            name = " ".join(f"{key}={value}" for key, value in zip(COLUMNS, entities, strict=False) if value)
            problems.append((line, f"the same recording as line {first} ({name})"))
        if row["path"] is None:
            continue
        first = files.setdefault((posixpath.normpath(row["path"]), row["modality"]), line)
        if first != line:
            problems.append((line, f"the same path and modality as line {first} ({row['path']}, {row['modality']})"))
    return problems


def _raise(sheet: str | Path, problems: list[Problem]) -> None:
    if problems:
        lines = [f"line {line}: {text}" for line, text in problems]
        raise ConfigError("\n  ".join([f"{sheet}: {len(lines)} problem(s)", *lines]))
