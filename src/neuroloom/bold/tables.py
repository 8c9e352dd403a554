"""Tables of parcel time series: AFNI/ABIDE `.1D`, tsv and csv, volumes in rows and parcels in columns."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array

TABLES = (".1D", ".tsv", ".csv")
_MISSING = ("", "n/a", "na", "nan")


def read_table(path: Path) -> tuple[Array, list[str], str]:
    """Read a table of parcel series.

    Parameters
    ----------
    path : Path
        `.1D` (white space; a first line `#1 #2 ...` names the parcels), `.tsv` or `.csv` (a first line that is not
        numbers names the parcels). `n/a` and empty cells are NaN.

    Returns
    -------
    bold_PV : float32 array
        As stored; a parcel with a value that is not finite, or without any change, is NaN throughout.
    parcels : list of str
        Names in the file, else p001, p002, ...
    sha256 : str
        Over the names; a table does not hold the label volume.

    Raises
    ------
    UnusableRecording
        If it is not a table of numbers, rows differ in length, names are missing or twice, or nothing changes.
    """
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UnusableRecording(path, "not a text file", "Give a table of parcel series") from error
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix)
    rows = [[cell.strip() for cell in line.split(separator)] for line in lines]
    names, body = _split_header(rows)
    _check_shape(path, names, body)
    parcels = names or [f"p{index:03d}" for index in range(1, len(body[0]) + 1)]
    bold_PV = _numbers(path, body).T
    usable_P = np.isfinite(bold_PV).all(axis=1) & (bold_PV != bold_PV[:, :1]).any(axis=1)
    if not usable_P.any():
        raise UnusableRecording(path, "no parcel has a complete series that changes", "Bring the right table")
    bold_PV[~usable_P] = np.nan
    return bold_PV, parcels, hashlib.sha256(json.dumps(parcels).encode()).hexdigest()


def _split_header(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Names and values; a `#` line names the parcels if it is as wide as the values, others are comments."""
    body = [row for row in rows if not row[0].startswith("#")]
    if body and len(body) < len(rows):
        heads = [row for row in rows if row[0].startswith("#") and len(row) == len(body[0])]
        return [cell.lstrip("#") for cell in heads[0]] if heads else [], body
    if body and not all(_is_number(cell) for cell in body[0]):
        return body[0], body[1:]
    return [], body


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.lower() in _MISSING
    return True


def _check_shape(path: Path, names: list[str], body: list[list[str]]) -> None:
    widths = sorted({len(row) for row in body} | ({len(names)} if names else set()))
    if len(widths) != 1 or len(body) < 2:
        reason = f"{len(body)} rows of {' or '.join(map(str, widths)) or 'no'} columns: not a table of volumes"
        raise UnusableRecording(path, reason, "The file is incomplete or has another separator than its name says")
    if "" in names or len(set(names)) != len(names):
        reason = "columns without a name, or names that appear twice"
        raise UnusableRecording(path, reason, "Remove the index column, and name each parcel once")


def _numbers(path: Path, body: list[list[str]]) -> Array:
    """Values (V, P) as float32; the error names the first cell that is not a number."""
    for index, row in enumerate(body):
        if wrong := [cell for cell in row if not _is_number(cell)]:
            reason = f"row {index + 1} of the values holds {wrong[0]!r}, which is not a number"
            raise UnusableRecording(path, reason, "Give volumes in rows and one column of numbers per parcel")
    return np.array([[np.nan if cell.lower() in _MISSING else cell for cell in row] for row in body], np.float32)
