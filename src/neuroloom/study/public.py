"""Named public studies, fetched by the libraries that know them and listed as rows of a sheet.

Every function downloads below `folder` (only what is not there yet), and its rows have paths relative to it, so that
`study.root` of the config is `folder`. Without a network each one raises a single error: what was wanted, where it
looked and which files to place where.

>>> from neuroloom.study.public import PUBLIC
>>> from neuroloom.study.sheet import write_sheet
>>> rows = PUBLIC["eegbci"](folder=Path("data"), subjects=[1, 2], runs=[1, 2, 4])  # doctest: +SKIP
>>> write_sheet(rows, Path("config/recordings.tsv"))  # doctest: +SKIP
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.provenance import file_digest
from neuroloom.study.bids import index_bids, marked_unfinished
from neuroloom.study.neurobolt import neurobolt_study
from neuroloom.study.sheet import ABSENT

EEGBCI_TASKS = {
    "resteyesopen": (1,),
    "resteyesclosed": (2,),
    "fistexecution": (3, 7, 11),
    "fistimagery": (4, 8, 12),
    "fistsfeetexecution": (5, 9, 13),
    "fistsfeetimagery": (6, 10, 14),
}
EEGBCI_FOLDER = Path("MNE-eegbci-data/files/eegmmidb/1.0.0")


@dataclass(frozen=True)
class NilearnDataset:
    """How a nilearn fetcher is called and how its answer becomes rows.

    Attributes
    ----------
    fetcher, count : str
        `nilearn.datasets` function, and its argument for the number of subjects.
    files : str
        Key of the list of 4-D files in the answer.
    task : str
        The sheet's task.
    name : str
        Regular expression of a file's path; its groups `subject` and `site` become entities.
    labels : tuple of str
        Columns of the answer's `phenotypic` table (one row for each file) that become labels.
    options : dict
        Further arguments.
    """

    fetcher: str
    count: str
    files: str
    task: str
    name: str
    labels: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


NILEARN = {
    "development_fmri": NilearnDataset(
        "fetch_development_fmri",
        "n_subjects",
        "func",
        "pixar",
        r"sub-(?P<subject>[A-Za-z0-9]+)_task-pixar",
        ("Age", "Child_Adult", "Gender"),
        {"reduce_confounds": False},
    ),
    "haxby": NilearnDataset("fetch_haxby", "subjects", "func", "objectviewing", r"subj(?P<subject>\d+)/bold"),
    "abide_pcp": NilearnDataset(
        "fetch_abide_pcp",
        "n_subjects",
        "func_preproc",
        "rest",
        r"(?P<site>[A-Za-z0-9_]+)_(?P<subject>\d{7})_func_preproc",
        ("AGE_AT_SCAN", "DX_GROUP", "SEX"),
        {"derivatives": ["func_preproc"]},
    ),
}


def eegbci(*, folder: Path, subjects: Sequence[int], runs: Sequence[int]) -> list[RecordingRow]:
    """EEG Motor Movement/Imagery Dataset (PhysioNet), through `mne.datasets.eegbci`.

    Parameters
    ----------
    folder : Path
        MNE's data folder.
    subjects : sequence of int
        1 to 109.
    runs : sequence of int
        1 to 14; `EEGBCI_TASKS` says what each one is.

    Returns
    -------
    list of RecordingRow
        Study and site `eegmmidb`, subjects `S001`, runs `03`. The electrode positions are not in the files: set
        `sources.eegmmidb.montage: colin27_1005`.

    Raises
    ------
    ConfigError
        If a subject or run is unknown, or files are not there and cannot be fetched, or are not what was published.
    """
    from mne.datasets.eegbci import load_data

    tasks = {run: task for task, numbers in EEGBCI_TASKS.items() for run in numbers}
    if not set(runs) <= tasks.keys() or not set(subjects) <= set(range(1, 110)):
        raise ConfigError(f"eegbci: subjects {list(subjects)}, runs {list(runs)}; there are subjects 1-109, runs 1-14")
    wanted = list(product(subjects, runs))
    paths = [folder / EEGBCI_FOLDER / f"S{subject:03d}" / f"S{subject:03d}R{run:02d}.edf" for subject, run in wanted]
    missing = [str(path) for path in paths if not path.exists()]
    with _fetching("eegbci", wanted=missing, remedy="Place these files of PhysioNet's eegmmidb 1.0.0 there"):
        files = load_data(list(subjects), list(runs), path=str(folder), update_path=False, verbose="error")
    _check_eegbci([Path(file) for file in files])
    return [
        _row("eegmmidb", folder, file, subject=f"S{subject:03d}", task=tasks[run], run=f"{run:02d}", modality="eeg")
        for (subject, run), file in zip(wanted, files, strict=True)
    ]


def moabb_study(*, dataset_id: str, folder: Path, subjects: Sequence[int] | None = None) -> list[RecordingRow]:
    """A dataset of MOABB (Mother of All BCI Benchmarks), kept by MOABB as a BIDS folder of EDF files.

    Parameters
    ----------
    dataset_id : str
        Name of a class of `moabb.datasets`, such as `BNCI2014_001`.
    folder : Path
        Where the originals and the BIDS folder go.
    subjects : sequence of int, optional
        Default: all.

    Returns
    -------
    list of RecordingRow
        Study and site are `dataset_id` in letters and digits.

    Raises
    ------
    ConfigError
        If MOABB is not installed, the dataset is unknown, or files are not there and cannot be fetched.
    """
    _require("moabb")
    import moabb.datasets
    from moabb.datasets.bids_interface import get_bids_root

    if not hasattr(moabb.datasets, dataset_id):
        raise ConfigError(f"moabb: no dataset {dataset_id!r}; the names are the classes of moabb.datasets")
    dataset = getattr(moabb.datasets, dataset_id)()
    with _fetching(f"moabb {dataset_id}", wanted=[str(folder)], remedy="Copy the folder from a machine that has it"):
        dataset.get_data(
            subjects=None if subjects is None else list(subjects),
            cache_config={"use": True, "save_raw": True, "path": str(folder)},
        )
    root = Path(get_bids_root(dataset.code, str(folder)))
    rows = index_bids(root, study=_alphanumeric(dataset_id), relative_to=folder)
    return [row for row in rows if subjects is None or row.subject in {str(subject) for subject in subjects}]


def openneuro(*, dataset_id: str, folder: Path, include: Sequence[str] = ()) -> list[RecordingRow]:
    """A dataset of OpenNeuro, through `openneuro-py`.

    Parameters
    ----------
    dataset_id : str
        Such as `ds000246`.
    folder : Path
        The dataset goes to `folder/<dataset_id>`.
    include : sequence of str
        Paths or patterns inside the dataset, such as `sub-0001`; default: all of it.

    Returns
    -------
    list of RecordingRow
        As `neuroloom.study.bids.index_bids`, with `dataset_id` as study.

    Raises
    ------
    ConfigError
        If openneuro-py is not installed, the dataset cannot be fetched, or is not usable BIDS.
    """
    _require("openneuro")
    from openneuro import download

    root = folder / dataset_id
    remedy = "Copy the dataset there and list it with study.bids_root and the rule index_study, which needs no network"
    wanted = [str(root / name) for name in include or [""]]
    with _fetching(f"openneuro {dataset_id}", wanted=wanted, remedy=remedy), marked_unfinished(root):
        download(dataset=dataset_id, target_dir=root, include=list(include) or None)
    return index_bids(root, study=_alphanumeric(dataset_id), relative_to=folder)


def nilearn_study(*, name: str, folder: Path, n_subjects: int) -> list[RecordingRow]:
    """BOLD of a nilearn fetcher.

    Parameters
    ----------
    name : str
        A key of `NILEARN`.
    folder : Path
        nilearn's data folder.
    n_subjects : int
        The first so many.

    Returns
    -------
    list of RecordingRow
        Labels have the column names of the phenotype table.

    Raises
    ------
    ConfigError
        If the name is unknown, or files are not there and cannot be fetched.
    """
    import nilearn.datasets

    if name not in NILEARN:
        raise ConfigError(f"nilearn: no study {name!r}; there are {', '.join(NILEARN)}")
    known = NILEARN[name]
    remedy = f"Run nilearn.datasets.{known.fetcher} where there is a network and copy its data folder there"
    with _fetching(f"nilearn {name}", wanted=[str(folder)], remedy=remedy):
        answer = getattr(nilearn.datasets, known.fetcher)(
            **{known.count: n_subjects}, data_dir=str(folder), verbose=0, **known.options
        )
    people = answer.phenotypic[list(known.labels)].astype(str).to_dict("records") if known.labels else None
    return [
        _nilearn_row(name, folder, file, people[at] if people else {}) for at, file in enumerate(answer[known.files])
    ]


PUBLIC: dict[str, Callable[..., list[RecordingRow]]] = {
    "eegbci": eegbci,
    "moabb": moabb_study,
    "openneuro": openneuro,
    "nilearn": nilearn_study,
    "neurobolt": neurobolt_study,
}


def _check_eegbci(files: Sequence[Path]) -> None:
    """MNE fetches whole files only, but takes any that is there already."""
    from importlib.resources import files as files_of

    lines = (files_of("mne") / "data" / "eegbci_checksums.txt").read_text().splitlines()
    known = dict(line.split() for line in lines)
    if wrong := [str(file) for file in files if file_digest(file) != known[f"{file.parent.name}/{file.name}"]]:
        raise ConfigError(
            f"eegbci: {', '.join(wrong)}: not the published bytes, as after an interrupted copy. Delete and fetch again"
        )


def _nilearn_row(name: str, folder: Path, file: str, person: dict[str, str]) -> RecordingRow:
    known = NILEARN[name]
    match = re.search(known.name, Path(file).as_posix())
    if match is None:
        raise ConfigError(
            f"nilearn {name}: the file {file} is not named like {known.name}; this version of nilearn differs"
        )
    entities = {key: _alphanumeric(value) for key, value in match.groupdict().items()}
    labels = {key: value for key, value in person.items() if value not in ("nan", "", ABSENT)}
    return _row(_alphanumeric(name), folder, file, task=known.task, modality="bold", labels=labels, **entities)


def _row(study: str, folder: Path, file: str | Path, **entities: Any) -> RecordingRow:
    path = Path(os.path.relpath(file, folder)).as_posix()
    return RecordingRow.model_validate({"study": study, "site": study, "path": path, **entities})


def _alphanumeric(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name)


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"{module} is not installed; run: pip install neuroloom[public]")


@contextmanager
def _fetching(study: str, *, wanted: list[str], remedy: str) -> Iterator[None]:
    """Turn what a library says without a network (OSErrors) or of wrong bytes (ValueErrors) into one `ConfigError`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        said = f"{type(error).__name__}: {str(error).strip()[:300]}"
        raise ConfigError(f"{study}: cannot be fetched ({said}). Looked for {', '.join(wanted)}. {remedy}") from error
