"""The files that belong to a BOLD file: sidecars, events, confounds and masks, found by the rules of BIDS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroloom.sidecars import read_object
from neuroloom.study.bids import dataset_root

# Entities that name a version of a recording, not the recording itself.
_VERSION = ("space", "desc", "res", "den", "echo", "part")
_CONFOUNDS = ("_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv", "_bold_confounds.tsv")


@dataclass(frozen=True)
class Companions:
    """Existing files of one recording; sidecars and events from the most general to the most specific.

    `confounds` holds the candidates beside the file or, without one there, in the derivatives; `masks` those of both.
    """

    sidecars: list[Path]
    events: list[Path]
    confounds: list[Path]
    masks: list[Path]


def find_companions(path: Path) -> Companions:
    """Look beside the file, above it up to the dataset's root (inheritance), and in `derivatives/*/` of the root."""
    root = dataset_root(path)
    folders = [path.parent, *path.parent.parents]
    inherited = folders[: folders.index(root) + 1] if root else folders[:1]
    derived = sorted(folder / path.parent.relative_to(root) for folder in root.glob("derivatives/*/")) if root else []
    stem = bare_name(path)
    sidecar = f"{stem.rsplit('_', 1)[-1]}.json"
    beside = _siblings(path, path.parent)
    below = [file for folder in derived for file in _siblings(path, folder)]
    return Companions(
        sidecars=[file for folder in inherited[::-1] for file in _applicable(path, folder, sidecar)],
        events=[file for folder in inherited[::-1] for file in _applicable(path, folder, "events.tsv")],
        confounds=list(filter(_is_confounds, beside)) or list(filter(_is_confounds, below)),
        masks=list(filter(_is_mask, beside + below)),
    )


def bare_name(path: Path) -> str:
    """File name without `.nii.gz`, `.nii` or its one suffix."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def entities(path: Path) -> dict[str, str]:
    """BIDS entities of a file name: `sub-01_task-rest_bold.nii.gz` has sub and task."""
    return dict(word.split("-", 1) for word in bare_name(path).split("_") if "-" in word)


def read_sidecar(companions: Companions) -> dict[str, Any]:
    """All sidecars merged; the most specific file wins, as in BIDS.

    Raises
    ------
    UnusableRecording
        If one is not a JSON object.
    """
    merged: dict[str, Any] = {}
    for file in companions.sidecars:
        merged |= read_object(file)
    return merged


def _applicable(path: Path, folder: Path, ending: str) -> list[Path]:
    """Files of a folder with this suffix and extension whose entities are all the file's own.

    Outside of BIDS names, only the file of the same name applies (`x.json`, `x_events.tsv`).
    """
    own = entities(path)
    if not own:
        stem = bare_name(path)
        exact = folder / (f"{stem}.json" if ending.endswith(".json") else f"{stem}_{ending}")
        return [exact] if exact.is_file() else []
    files = [folder / ending, *folder.glob(f"*-*_{ending}")]
    fitting = [file for file in files if file.is_file() and entities(file).items() <= own.items()]
    return sorted(fitting, key=lambda file: (len(entities(file)), file.name))


def _siblings(path: Path, folder: Path) -> list[Path]:
    """Files of the same recording in a folder: by entities, or by the beginning of the name where there are none."""

    def core(file: Path) -> dict[str, str]:
        return {key: value for key, value in entities(file).items() if key not in _VERSION}

    own = core(path)
    start = f"sub-{own['sub']}_" if "sub" in own else f"{bare_name(path)}_"
    return [file for file in sorted(folder.glob(f"{start}*")) if file != path and core(file) == own and file.is_file()]


def _is_confounds(file: Path) -> bool:
    return file.name.endswith(_CONFOUNDS)


def _is_mask(file: Path) -> bool:
    if not file.name.endswith((".nii", ".nii.gz")):
        return False
    suffix = bare_name(file).rsplit("_", 1)[-1]
    return suffix == "brainmask" or (suffix == "mask" and entities(file).get("desc", "brain") == "brain")
