"""Where the files of a study may lie once links are followed: a sheet or dataset from elsewhere is not to be trusted.

Files of git-annex and DataLad are links to `.git/annex/objects` of their dataset, which is why a link may lead anywhere
within the dataset, or within a folder that the config names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from neuroloom.quarantine import UnusableRecording

TOPS = (".git", "dataset_description.json")


def is_within(file: str | Path, folders: Iterable[str | Path]) -> bool:
    """Whether a file is, once its links are followed, below one of some folders, those of whose names no link is."""
    real = Path(os.path.realpath(file))
    return any(real.is_relative_to(folder) for folder in folders)


def check_companions(path: Path, files: Sequence[Path]) -> None:
    """Refuse a recording of which another file lies elsewhere: by a name in its header, or by a link.

    Parameters
    ----------
    path : Path
        The recording, which the sheet names.
    files : sequence of Path
        What is read with it. Below its folder or, for what BIDS inherits, below its dataset; links may lead to where
        the recording itself lies, and to anywhere in its dataset (the nearest folder above it with `.git` or
        `dataset_description.json`).

    Raises
    ------
    UnusableRecording
    """
    own = Path(os.path.normpath(path.absolute()))
    top = next((folder for folder in own.parents if any((folder / name).exists() for name in TOPS)), own.parent)
    for file in files:
        named = Path(os.path.normpath(file.absolute()))
        if not (named.is_relative_to(own.parent) or named.is_relative_to(top)):
            remedy = "Place it beside the recording and name it there without a folder"
            raise UnusableRecording(path, f"its file {named} lies in another folder", remedy)
        if not (named == own or is_within(named, (top.resolve(), own.resolve().parent))):
            remedy = f"Replace the link by the file, or by a link to a file below {top}"
            raise UnusableRecording(path, f"its file {named} is a link out of {top}", remedy)
