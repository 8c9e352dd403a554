"""From a question in the config to labelled windows: events or columns of the sheet become classes or numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neuroloom.artifacts import Artifact, open_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.config import TaskConfig
from neuroloom.evaluation.examples import Examples
from neuroloom.evaluation.splits import (
    Split,
    device_of,
    few_shot,
    participant_of,
    site_of,
    split_site,
    split_within,
    window_parts,
)
from neuroloom.quarantine import Quarantined, UnusableRecording
from neuroloom.records import Array, Recording
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Preparation, Segments

logger = logging.getLogger(__name__)
VALIDATION_FOLDS = 4  # of the people of the other sites, of which one validates where a site is left out


@dataclass(frozen=True)
class TaskWindows:
    """The windows of a task, before they are prepared for a model.

    Attributes
    ----------
    artifacts : tuple of Artifact
        Recordings with at least one window.
    rows : tuple of RecordingRow
        Their rows.
    onsets : tuple of array
        Beginning of each window of each recording, s.
    labels : tuple of array
        Class, or number, of each.
    duration : float
        Of a window, s.
    lost : tuple of str
        Recordings that were asked for and have no window, with the reason.
    """

    artifacts: tuple[Artifact, ...]
    rows: tuple[RecordingRow, ...]
    onsets: tuple[Array, ...]
    labels: tuple[Array, ...]
    duration: float
    lost: tuple[str, ...] = ()

    def segments(self, *, sfreq: float | None, preparation: Preparation) -> tuple[list[Segments], list[Array]]:
        """Signals of each recording and the labels of those windows that can be used."""
        found = [
            Segments(artifact, sfreq=sfreq, preparation=preparation, onset_N=onset_N, duration=self.duration)
            for artifact, onset_N in zip(self.artifacts, self.onsets, strict=True)
        ]
        return found, [label_N[one.kept_N] for one, label_N in zip(found, self.labels, strict=True)]


def find_windows(task: TaskConfig, rows: Sequence[RecordingRow], manifests: Mapping[str, Path]) -> TaskWindows:
    """Windows of a task in the recordings of a study.

    Parameters
    ----------
    task : TaskConfig
    rows : sequence of RecordingRow
        The whole sheet.
    manifests : mapping
        Recording -> manifest of preprocess_meeg.

    Raises
    ------
    ConfigError
        If no recording has a window, with what there is instead.
    """
    asked = [row for row in rows if _is_asked(task, row)]
    kept: list[tuple[Artifact, RecordingRow, Array, Array]] = []
    lost, seen = [], set[str]()
    for row in asked:
        try:
            artifact = open_artifact(manifests[row.recording], kind="recording")
            recording = Recording.from_artifact(artifact)
            onset_N, label_N = _labelled(task, row, recording)
            seen |= _answers(task, row, recording)
            usable = Segments(artifact, onset_N=onset_N, duration=task.window).kept_N if len(onset_N) else onset_N
        except (Quarantined, UnusableRecording) as error:
            lost.append(f"{row.recording}: {error}")
            continue
        if len(usable):
            kept.append((artifact, row, onset_N[usable], label_N[usable]))
    if not kept:
        known = ", ".join(sorted(seen)[:10]) or "nothing"
        raise ConfigError(
            f"no window of any class in {len(asked)} {task.modality} recordings: {task.by} holds {known}; mend "
            "classes, by, studies or window of the task, or leave it out of evaluate.use"
        )
    artifacts, found, onsets, labels = zip(*kept, strict=True)
    return TaskWindows(artifacts, found, onsets, labels, task.window, tuple(lost))


def _is_asked(task: TaskConfig, row: RecordingRow) -> bool:
    named = (not task.studies or row.study in task.studies) and (not task.tasks or row.task in task.tasks)
    return named and row.modality == task.modality


def value_of(row: RecordingRow, column: str) -> str:
    """What the sheet says of a recording; empty where it says nothing."""
    facts = {"site": site_of(row), "device": device_of(row), "participant": participant_of(row)}
    known = facts | {"task": row.task, "session": row.session or "", "run": row.run or "", **row.labels}
    if column not in known:
        raise ConfigError(f"{row.recording}: the sheet has no column {column}; it has {', '.join(known)}")
    return known[column]


def _answers(task: TaskConfig, row: RecordingRow, recording: Recording) -> set[str]:
    """Everything that stands where a task looks."""
    columns = [column for column in task.by.split("|") if column != "event"]
    events = set(recording.events.label) if "event" in task.by.split("|") else set()
    return events | {value_of(row, column) for column in columns}


def _labelled(task: TaskConfig, row: RecordingRow, recording: Recording) -> tuple[Array, Array]:
    """Onset (s) and label of each window of one recording."""
    class_of = {value: name for name, values in task.classes.items() for value in values}
    end = recording.signal_CT.shape[1] / recording.sfreq
    spans: list[tuple[float, float, str]] = []
    asked = task.by.split("|")
    if "event" in asked:
        events = recording.events
        for onset, duration, label in zip(events.onset, events.duration, events.label, strict=True):
            if label in class_of:
                # a marker without a length stands for the window that follows it
                spans.append((float(onset), max(float(duration), task.offset + task.window), class_of[label]))
    for column in asked if not spans else ():
        value = "" if column == "event" else value_of(row, column)
        if name := class_of.get(value, "") if task.classes else value:
            spans.append((0.0, end, name))
            break
    onsets: list[float] = []
    labels: list[str] = []
    for onset, duration, name in spans:
        count = int((duration - task.offset) / task.window + 1e-6)
        onsets += [onset + task.offset + at * task.window for at in range(count)]
        labels += [name] * count
    onset_N, label_N = np.array(onsets), np.array(labels)
    if task.max_windows and len(onset_N) > task.max_windows:
        chosen = np.linspace(0, len(onset_N) - 1, task.max_windows).round().astype(int)
        onset_N, label_N = onset_N[chosen], label_N[chosen]
    return onset_N, label_N if task.classes else _as_numbers(label_N, row, task.by)


def _as_numbers(label_N: Array, row: RecordingRow, column: str) -> Array:
    try:
        return label_N.astype(np.float64)
    except ValueError:
        raise ConfigError(
            f"{row.recording}: {column} is {str(label_N[0])!r}, no number; name classes for it, or mend the sheet"
        ) from None


def labelled_examples(windows: TaskWindows, *, sfreq: float | None, preparation: Preparation) -> Examples:
    """Segments of a task's windows with their labels and people, in no part yet."""
    segments, labels = windows.segments(sfreq=sfreq, preparation=preparation)
    counts = [len(label_N) for label_N in labels]
    return Examples(
        corpus=segments,
        recording_W=np.repeat(np.arange(len(segments)), counts),
        segment_W=np.concatenate([np.arange(count) for count in counts]),
        labels_W=np.concatenate(labels),
        participants_W=np.repeat([participant_of(row) for row in windows.rows], counts),
        parts_W=np.full(sum(counts), ""),
    )


def split_of_task(task: TaskConfig, windows: TaskWindows, split: Split, fold: int) -> Split:
    """The split of a task: that of the study, or sites, or sessions or runs of people, where the task says so."""
    if task.split == "subject":
        return split
    if task.split == "site":
        return leave_site_out(windows.rows, fold=fold, asked="the task", setting="split.folds")
    return split_within(list(windows.rows), by=task.split, fold=fold)


def leave_site_out(rows: Sequence[RecordingRow], *, fold: int, asked: str, setting: str) -> Split:
    """The split that tests all people of one site, the one of that number.

    Parameters
    ----------
    rows : sequence of RecordingRow
    fold : int
    asked, setting : str
        What has these sites, and the setting that names folds, for errors.

    Raises
    ------
    ConfigError
        If there are not so many sites.
    """
    sites = sorted({site_of(row) for row in rows})
    if len(sites) < 2 or fold >= len(sites):
        raise ConfigError(
            f"fold {fold}: {asked} has {len(sites)} sites, of which each is left out in turn, in folds from 0; "
            f"ask more sites, or fewer folds ({setting})"
        )
    return split_site(list(rows), site=sites[fold], n_folds=VALIDATION_FOLDS)


def parts_of(windows: TaskWindows, counts: Sequence[int], split: Split) -> Array:
    """Part of each window: `counts` are the windows of each recording."""
    return window_parts(split, np.repeat([row.recording for row in windows.rows], counts))


def share_split(split: Split, windows: TaskWindows, share: float, rng: np.random.Generator) -> Split:
    """The split with a share of its training people, at least one for each class; what is no window does not count."""
    names = {row.recording for row in windows.rows}
    split = replace(split, train=tuple(name for name in split.train if name in names))
    if share == 1:
        return split
    labels = {row.recording: set(map(str, label_N)) for row, label_N in zip(windows.rows, windows.labels, strict=True)}
    return few_shot(split, share=share, labels=labels, rng=rng)
