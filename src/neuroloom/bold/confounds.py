"""Confound tables of BOLD: reading, today's names for old ones, choice of columns, framewise displacement."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0
# fMRIPrep before 1.2 -> today.
_TODAY = {
    "X": "trans_x",
    "Y": "trans_y",
    "Z": "trans_z",
    "RotX": "rot_x",
    "RotY": "rot_y",
    "RotZ": "rot_z",
    "FramewiseDisplacement": "framewise_displacement",
    "CSF": "csf",
    "WhiteMatter": "white_matter",
    "GlobalSignal": "global_signal",
    "stdDVARS": "std_dvars",
    "non-stdDVARS": "dvars",
}
_TODAY_NUMBERED = {
    "tCompCor": "t_comp_cor_",
    "aCompCor": "a_comp_cor_",
    "Cosine": "cosine",
    "NonSteadyStateOutlier": "non_steady_state_outlier",
}


def read_confounds(path: Path, *, n_volumes: int) -> tuple[Confounds, list[str]]:
    """Read an fMRIPrep confounds table, old or new.

    Parameters
    ----------
    path : Path
        Tab-separated, one row per volume, `n/a` where a value does not exist.
    n_volumes : int
        Volumes of the BOLD series.

    Returns
    -------
    confounds : Confounds
        Old column names are replaced by today's.
    notes : list of str
        Columns without numbers, which are left out.

    Raises
    ------
    UnusableRecording
        If it is not a table or has another number of rows.
    """
    try:
        table = pd.read_csv(path, sep="\t", na_values=["n/a"])
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise UnusableRecording(path, f"not a table of confounds ({error})", "Replace the file") from error
    if len(table) != n_volumes:
        reason = f"{len(table)} rows of confounds, the BOLD series has {n_volumes} volumes"
        raise UnusableRecording(path, reason, "Pair the right files, or remove the confounds file")
    numbers = table.select_dtypes("number")
    others = [str(name) for name in table.columns if name not in numbers.columns]
    names = [today_name(str(name)) for name in numbers.columns]
    if len(set(names)) != len(names):
        twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
        raise UnusableRecording(path, f"confound columns appear twice: {twice}", "Keep one of each")
    notes = [f"confound columns without numbers left out: {', '.join(others)}"] if others else []
    return Confounds(names, numbers.to_numpy(np.float32)), notes


def with_columns(confounds: Confounds, names: list[str], values_VM: Array) -> Confounds:
    """The table with more columns; columns of the same name are replaced."""
    kept = [at for at, name in enumerate(confounds.names) if name not in names]
    values_VM = np.concatenate([confounds.values_VM[:, kept], np.asarray(values_VM, np.float32)], axis=1)
    return Confounds([*(confounds.names[at] for at in kept), *names], values_VM)


def today_name(name: str) -> str:
    """Today's fMRIPrep name of a confound column; unknown names stay."""
    match = re.fullmatch(r"([A-Za-z]+?)(\d+)", name)
    if match and match[1] in _TODAY_NUMBERED:
        return _TODAY_NUMBERED[match[1]] + match[2]
    return _TODAY.get(name, name)


def select_confounds(confounds: Confounds, prefixes: tuple[str, ...], *, file: str | Path) -> tuple[list[str], Array]:
    """The columns that begin with one of the prefixes, ready for regression.

    fMRIPrep's derivatives and FD do not exist at the first volume; such leading gaps take the first value that exists.

    Returns
    -------
    names : list of str
    values_VM : float64 array

    Raises
    ------
    UnusableRecording
        If a prefix matches no column, or a column has gaps elsewhere.
    """
    if lost := [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in confounds.names)]:
        reason = f"no confound column begins with {', '.join(lost)}; columns: {', '.join(confounds.names)}"
        raise UnusableRecording(file, reason, "Correct preprocess.bold.confounds")
    at = [index for index, name in enumerate(confounds.names) if name.startswith(prefixes)] if prefixes else []
    names = [confounds.names[index] for index in at]
    values_VM = pd.DataFrame(confounds.values_VM[:, at].astype(float)).replace([np.inf, -np.inf], np.nan)
    filled_VM = np.where(values_VM.ffill().isna(), values_VM.bfill(), values_VM)
    if broken := [names[index] for index in np.flatnonzero(np.isnan(filled_VM).any(axis=0))]:
        reason = f"confounds with missing values after the first one: {', '.join(broken)}"
        raise UnusableRecording(file, reason, "Leave them out of preprocess.bold.confounds, or repair the table")
    return names, filled_VM


def has_motion(confounds: Confounds) -> bool:
    """Whether all six motion parameters are in the table."""
    return set(MOTION) <= set(confounds.names)


def motion_displacement(confounds: Confounds) -> Array | None:
    """Framewise displacement (V,), mm, first volume NaN; None without a column of it and without motion parameters."""
    column = dict(zip(confounds.names, confounds.values_VM.T, strict=True))
    given = column.get("framewise_displacement")
    if given is not None and not np.isnan(given).all():
        return given.astype(float)
    if not has_motion(confounds):
        return None
    return framewise_displacement(np.stack([column[name] for name in MOTION], axis=1))


def framewise_displacement(motion_VM: Array) -> Array:
    """Framewise displacement of Power et al. 2012 (NeuroImage 59, p. 2144).

    Parameters
    ----------
    motion_VM : array (V, 6)
        Translations in mm, then rotations in rad.

    Returns
    -------
    array (V,)
        Sum of the absolute changes in mm; a rotation counts as its arc on a sphere of 50 mm. The first is NaN.
    """
    arc = np.array([1, 1, 1, HEAD_RADIUS_MM, HEAD_RADIUS_MM, HEAD_RADIUS_MM])
    steps = np.abs(np.diff(np.asarray(motion_VM, float), axis=0)) @ arc
    return np.concatenate([[np.nan], steps])
