"""What one site is given, and what it makes of it: labelled windows of its own recordings, and nothing of anyone else.

A site file (JSON) names the manifests of the site, the question, the arm and a folder for what has to stay there. Paths
in it are of the machine that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import Field, ValidationError

from neuroloom.config import RecordingRow
from neuroloom.evaluation.config import TaskConfig
from neuroloom.evaluation.examples import Examples, Group, check_levels, encoder_inputs
from neuroloom.evaluation.splits import PARTS, Split, site_of
from neuroloom.evaluation.tasks import find_windows, labelled_examples
from neuroloom.federated.config import FLEEG, FederateConfig, StrategyConfig
from neuroloom.models.base import load_model
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array
from neuroloom.schema import ConfigError, Frozen, describe_errors

File = TypeVar("File", bound=Frozen)


class Run(Frozen):
    """What server and sites of a run agree on.

    Attributes
    ----------
    name : str
        Of the run, such as `fold-0/fedavg/seed-0`.
    strategy, settings, task
        Sections of the config.
    seed : int
        Of what starts untrained, and of the order of windows.
    """

    name: str
    strategy: StrategyConfig
    settings: FederateConfig
    task: TaskConfig
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes in the order of the outputs."""
        return tuple(sorted(self.task.classes))

    @property
    def n_epochs(self) -> int:
        """Passes over its training part that each site makes in all."""
        return self.settings.rounds * self.settings.local_epochs


class SiteFile(Frozen):
    """What one site is given.

    Attributes
    ----------
    site : str
        `study/site`.
    run : Run
    rows : tuple of RecordingRow
        Of the site alone.
    manifests : dict
        Recording -> manifest.
    parts : dict
        Recording -> `train`, `validation` or `test`.
    model : str, optional
        Folder of the pretrained model.
    state : str
        Folder that the site writes to, for it alone.
    ledger : str, optional
        File of what privacy was spent (`accounting`).
    """

    site: str
    run: Run
    rows: tuple[RecordingRow, ...] = Field(min_length=1)
    manifests: dict[str, str]
    parts: dict[str, str]
    model: str | None = None
    state: str
    ledger: str | None = None


def read_site_file(path: Path) -> SiteFile:
    """A site file, checked.

    Raises
    ------
    ConfigError
        Naming the file and what is wrong in it; a row of another site is.
    """
    found = read_json(path, SiteFile, "site")
    if strangers := [row.recording for row in found.rows if site_of(row) != found.site]:
        raise ConfigError(f"{path}: {strangers[0]} is not of {found.site}; a site is given its own recordings alone")
    return found


def read_json(path: Path, kind: type[File], what: str) -> File:
    """A file that was written for a site, or for the server.

    Raises
    ------
    ConfigError
        Naming the file and what is wrong in it.
    """
    try:
        return kind.model_validate_json(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: no {what} file ({error}); name the one that was written for it") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_errors(error)}") from None


def write_json(path: Path, content: Frozen) -> Path:
    """Write what `read_json` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content.model_dump_json() + "\n")
    return path


def site_label(site: str) -> str:
    """A site (`study/site`) in names of files, folders and processes."""
    return site.replace("/", "-")


@dataclass(frozen=True)
class SiteData:
    """Windows of one site (or of all of them, for the centralised arm), ready for training.

    Attributes
    ----------
    site : str
    groups : list of Group
        Inputs of the network, by shape.
    target_W : int array
        Class of each window.
    parts : dict
        Part -> windows.
    participants_W, recordings_W, sites_W : array of str
    starts_W : int array
        First sample of each window in its recording.
    shape : tuple of int, optional
        Channels and samples of a window, for a network that needs to know.
    """

    site: str
    groups: list[Group]
    target_W: Array
    parts: dict[str, Array]
    participants_W: Array
    recordings_W: Array
    sites_W: Array
    starts_W: Array
    shape: tuple[int, int] | None = None

    @property
    def people(self) -> Array:
        """Participants of the training part."""
        return np.unique(self.participants_W[self.parts["train"]])


def open_site(file: SiteFile) -> SiteData:
    """Read the windows of a site.

    Raises
    ------
    ConfigError, UnusableRecording
        If there is no window to train on, or none of a class.
    """
    return open_sites([file])


def open_sites(files: Sequence[SiteFile]) -> SiteData:
    """Windows of several sites together, as only the centralised arm may have them."""
    first = files[0]
    rows = [row for file in files for row in file.rows]
    manifests = {name: Path(path) for file in files for name, path in file.manifests.items()}
    part_of = {name: part for file in files for name, part in file.parts.items()}
    windows = find_windows(first.run.task, rows, manifests)
    encoder = None if first.run.strategy.network == FLEEG else load_model(Path(first.model or ""))
    examples = labelled_examples(
        windows,
        sfreq=None if encoder is None else encoder.sfreq,
        preparation="reve" if encoder is None else encoder.preparation,
    )
    names_W = np.array([row.recording for row in windows.rows])[examples.recording_W]
    examples = replace(examples, parts_W=np.array([part_of.get(name, "") for name in names_W]))
    groups, shape = _groups(examples) if encoder is None else (encoder_inputs(encoder, examples), None)
    check_levels(groups, examples.labels_W, examples.parts_W)
    data = SiteData(
        site=" + ".join(dict.fromkeys(file.site for file in files)),
        groups=groups,
        target_W=np.searchsorted(np.array(first.run.classes), examples.labels_W),
        parts={part: np.flatnonzero(examples.parts_W == part) for part in PARTS},
        participants_W=examples.participants_W,
        recordings_W=names_W,
        sites_W=np.array([site_of(row) for row in windows.rows])[examples.recording_W],
        starts_W=examples.starts_W,
        shape=shape,
    )
    return _checked(data, first.run.classes)


def _groups(examples: Examples) -> tuple[list[Group], tuple[int, int]]:
    """Signals themselves, of the channels that all recordings of the site have."""
    import torch

    x_WCT = examples.common_signals()
    level_WC = x_WCT.mean(axis=-1)
    return [Group(np.arange(len(examples)), (torch.from_numpy(x_WCT),), level_WC)], x_WCT.shape[1:]


def _checked(data: SiteData, classes: tuple[str, ...]) -> SiteData:
    """A site may have nobody to be judged by, but it has to have something to train on."""
    found = np.unique(data.target_W[data.parts["train"]])
    if missing := [name for at, name in enumerate(classes) if at not in found]:
        windows, people = len(data.target_W), len(np.unique(data.participants_W))
        reason = f"no training window of {', '.join(missing)} among {windows} of {people} people"
        raise UnusableRecording(data.site, reason, "leave the site out of federate.task, or give it more people")
    return data


def split_parts(split: Split) -> dict[str, str]:
    """Recording -> part."""
    return {name: part for part in PARTS for name in split.recordings(part)}
