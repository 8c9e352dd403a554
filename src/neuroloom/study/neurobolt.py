"""The published EEG-fMRI dataset of NeuroBOLT (Li et al., NeurIPS 2024, arXiv 2410.05341) as rows of a sheet.

29 scans of 22 people at rest with eyes closed, 20 minutes each: Hugging Face dataset `NeurdyLab/NeuroBOLT`, Apache-2.0
(an earlier card said CC-BY-4.0). Nothing here was tried on the original files; what is known, and from where:

- the list of files (`EEG_set/subXX-scanYY_eeg.set` with `.fdt`, `fMRI_difumo64/subXX-scanYY_difumo64_roi.pkl`): a
  listing of a downloaded copy, github.com/itsSirish/NeuroBolt_Replication. The official code looks for the same names
  in `EEG/` and `fMRI_difumo/`;
- the tables: two of the pickles of that copy, disassembled. A pandas frame of 575 volumes: 64 parcels with DiFuMo's
  names, then `global signal clean` and `global signal raw`, all float32;
- how the tables were made: `making_difumo.py` of github.com/soupeeli/NeuroBOLT. Motion was regressed out and each
  series detrended and set to mean 0 and SD 1 over the WHOLE scan, so no later split can keep the test part out of it;
- EEG: the dataset's card (32 channels, reference FCz, BrainAmp MR) and the official code: already cleaned, 250 Hz, 26
  electrodes, EOG1 EOG2 EMG1 EMG2 EMG3 ECG and, where there are more than 32 channels, CWL1 to CWL4. An event `R149`
  marks each volume; event number n is volume number n.

Assumed: the site is called `vanderbilt`; scan numbers are sessions, as the card calls them (whether of one day is not
said); series are in a space of MNI152, since the maps were laid on them without another transform.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.pickled import DAMAGED, Made, describe
from neuroloom.provenance import file_digest
from neuroloom.records import Array

REPOSITORY = "NeurdyLab/NeuroBOLT"
FOLDER = "NeuroBOLT"
STUDY, SITE, TASK = "neurobolt", "vanderbilt", "rest"
T_R = 2.1
GLOBAL = ("global signal clean", "global signal raw")
_TWO_SCANS = (7, 8, 9, 12, 13, 14, 20)
_SECOND_ONLY = (3, 10, 17, 19)
SCANS = tuple(
    (subject, scan)
    for subject, scan in product(range(1, 23), (1, 2))
    if subject in _TWO_SCANS or scan == (2 if subject in _SECOND_ONLY else 1)
)


def neurobolt_study(
    *, folder: Path, subjects: Sequence[int] | None = None, with_global: bool = False, revision: str = "main"
) -> list[RecordingRow]:
    """Fetch what is not there yet, write each pickled table as text beside it, and list EEG and BOLD.

    Parameters
    ----------
    folder : Path
        The dataset goes to `folder/NeuroBOLT`, the tables that `ingest_bold` reads to `folder/NeuroBOLT/bold_tables`.
    subjects : sequence of int, optional
        1 to 22; default: all.
    with_global : bool
        Keep `global signal clean`, the seventh target of the paper, as a last column of each table.
    revision : str
        Branch or commit of the dataset.

    Returns
    -------
    list of RecordingRow
        Study `neurobolt`, subjects `01` to `22`, sessions `01` and `02`, task `rest`; an `eeg` and a `bold` row each.
        What the files do not say belongs into `sources.neurobolt` (see `config/paper.yaml`).

    Raises
    ------
    ConfigError
        If a subject is unknown, files are not there and cannot be fetched, or a table is not of the known form.
    """
    wanted = [scan for scan in SCANS if subjects is None or scan[0] in subjects]
    if subjects is not None and not set(subjects) <= set(range(1, 23)):
        raise ConfigError(f"{STUDY}: subjects {list(subjects)}; there are subjects 1-22")
    root = folder / FOLDER
    _fetch(root, [name for scan in wanted for name in _files(*scan)], revision)
    rows = []
    for subject, scan in wanted:
        eeg, _, pickled = _files(subject, scan)
        table = _write_table(root / pickled, root / "bold_tables", subject, scan, with_global=with_global)
        facts = {"study": STUDY, "site": SITE, "subject": f"{subject:02d}", "session": f"{scan:02d}", "task": TASK}
        for modality, path in (("eeg", root / eeg), ("bold", table)):
            path_in_sheet = path.relative_to(folder).as_posix()
            rows.append(RecordingRow.model_validate({**facts, "modality": modality, "path": path_in_sheet}))
    return rows


def read_pickled_table(path: Path) -> tuple[Array, list[str]]:
    """A table that pandas pickled, read without unpickling: no code that the file names is ever called.

    Parameters
    ----------
    path : Path
        A `DataFrame` of numbers, volumes in rows.

    Returns
    -------
    values_VP : array
        float64.
    names : list of str
        Of the columns.

    Raises
    ------
    ConfigError
        If the file is damaged, or holds anything else than the blocks of a frame.
    """
    try:
        frame = describe(path.read_bytes())
        names, blocks = _parts_of_frame(frame)
        if sum(len(values_PV) for values_PV, _ in blocks) != len(names):
            raise ValueError(f"{len(names)} names for {sum(len(values_PV) for values_PV, _ in blocks)} columns")
        columns_PV = np.full((len(names), blocks[0][0].shape[1]), np.nan)
        for values_PV, place in blocks:
            columns_PV[place] = values_PV
    except DAMAGED as error:
        raise ConfigError(
            f"{path}: not a table of numbers as pandas pickles it ({type(error).__name__}: {str(error)[:200]}). Bring "
            f"the file again from {REPOSITORY}, or place a .tsv of the same content and name it in the sheet"
        ) from error
    return columns_PV.T, names


def _parts_of_frame(frame: Any) -> tuple[list[str], list[tuple[Array, Any]]]:
    """Column names, and the blocks (columns, rows) of a frame with their places among the columns."""
    if not frame.name.endswith(".DataFrame"):
        raise ValueError(f"it holds a {frame.name}")
    blocks, axes = frame.state["_mgr"].args[:2]
    names = [_name(value) for value in _array(axes[0].args[1]["data"])]
    return names, [(np.atleast_2d(_array(block.args[0])), _place(block.args[1])) for block in blocks]


def _name(value: Any) -> str:
    if not isinstance(value, str | int):
        raise ValueError(f"a {type(value).__name__} as name of a column")
    return str(value)


def _place(made: Made) -> Any:
    return slice(*made.args) if made.name == "builtins.slice" else _array(made).astype(int)


def _array(made: Made) -> Array:
    """An array in one of the two forms that NumPy writes."""
    if made.name.endswith("._frombuffer"):
        data, dtype, shape, order = made.args
        return np.frombuffer(data, _dtype(dtype)).reshape(shape, order=order)
    if made.name.endswith("._reconstruct"):
        _, shape, dtype, is_fortran, data = made.state
        flat_N = np.fromiter(data, object) if isinstance(data, list) else np.frombuffer(data, _dtype(dtype))
        return flat_N.reshape(shape, order="F" if is_fortran else "C")
    raise ValueError(f"a {made.name} in the place of an array")


def _dtype(made: Made) -> np.dtype:
    dtype = np.dtype(made.args[0]).newbyteorder("=" if made.state[1] == "|" else made.state[1])
    if dtype.kind not in "fiu":
        raise ValueError(f"values of type {dtype}")
    return dtype


def _files(subject: int, scan: int) -> tuple[str, str, str]:
    name = f"sub{subject:02d}-scan{scan:02d}"
    return f"EEG_set/{name}_eeg.set", f"EEG_set/{name}_eeg.fdt", f"fMRI_difumo64/{name}_difumo64_roi.pkl"


def _missing(root: Path, names: Sequence[str]) -> Iterator[str]:
    return (name for name in names if not (root / name).is_file())


def _fetch(root: Path, names: Sequence[str], revision: str) -> None:
    """Download what is missing; without a network, one error that says what to place where."""
    if not (absent := list(_missing(root, names))):
        return
    said = "huggingface_hub is not installed"
    if importlib.util.find_spec("huggingface_hub"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        options: dict[str, Any] = {"revision": revision, "local_dir": root, "allow_patterns": absent}
        try:
            # without a network it warns and returns a folder that holds anything at all
            snapshot_download(REPOSITORY, repo_type="dataset", **options)
            said = "no network, or the dataset has no such files"
        except (OSError, HfHubHTTPError, ValueError) as error:
            said = f"{type(error).__name__}: {str(error).strip()[:300]}"
    if absent := list(_missing(root, names)):
        shown = ", ".join(str(root / name) for name in absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise ConfigError(
            f"{STUDY}: {len(absent)} of {len(names)} files are not there and cannot be fetched ({said}). Looked for "
            f"{shown}. Place EEG_set and fMRI_difumo64 of https://huggingface.co/datasets/{REPOSITORY} in {root}"
        )


def _write_table(pickled: Path, folder: Path, subject: int, scan: int, *, with_global: bool) -> Path:
    """The parcels of a pickled table as `.tsv`, with a sidecar that says where they come from."""
    values_VP, names = read_pickled_table(pickled)
    kept = [at for at, name in enumerate(names) if name not in GLOBAL or (with_global and name == GLOBAL[0])]
    lines = ["\t".join(names[at] for at in kept)]
    lines += ["\t".join(f"{value:.7g}" for value in row) for row in values_VP[:, kept]]
    facts = {
        "RepetitionTime": T_R,
        "SpatialReference": "MNI152",
        "Sources": [f"../fMRI_difumo64/{pickled.name}"],
        "SourceSHA256": file_digest(pickled),
        "Description": "DiFuMo-64; motion regressed out, detrended and standardised over the whole scan by its makers",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sub-{subject:02d}_ses-{scan:02d}_task-{TASK}_bold.tsv"
    _write_changed(path, "\n".join(lines) + "\n")
    _write_changed(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return path


def _write_changed(path: Path, text: str) -> None:
    """Leave a file alone that says the same already: its age tells Snakemake what to run again."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
