"""Questions become labelled windows, and what cannot be asked says why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroloom.artifacts import write_artifact
from neuroloom.config import ConfigError, RecordingRow
from neuroloom.evaluation.config import TaskConfig
from neuroloom.evaluation.splits import Split, split_subjects
from neuroloom.evaluation.tasks import find_windows, parts_of, share_split, split_of_task
from neuroloom.quarantine import QuarantineRow, write_quarantine
from neuroloom.records import Events, Recording

CLASSES = {"left": ("left_hand",), "right": ("right_hand", "other_hand")}


def row(subject: str, **facts: Any) -> RecordingRow:
    values = {"study": "s", "site": "a", "subject": subject, "task": "rest", "modality": "eeg", "path": subject}
    return RecordingRow(**values | facts)


def written(folder: Path, one: RecordingRow, recording: Recording, **changes: Any) -> Path:
    recording = replace(recording, **changes)
    attrs = {**recording.attrs(), "recording": one.recording}
    write_artifact(folder / f"{one.recording}.zarr", "recording", arrays=recording.arrays(), attrs=attrs, window=500)
    return folder / f"{one.recording}.manifest.json"


def events(*found: tuple[float, float, str]) -> Events:
    onset, duration, label = zip(*found, strict=True)
    return Events(np.array(onset), np.array(duration), list(label))


HANDS = events((1.0, 4.5, "left_hand"), (7.0, 0.0, "right_hand"), (9.0, 2.0, "volume"), (18.5, 4.0, "left_hand"))


def test_events_become_windows_of_their_class(recording: Recording, tmp_path: Path) -> None:
    one = row("01")
    manifests = {one.recording: written(tmp_path, one, recording, events=HANDS)}
    windows = find_windows(TaskConfig(classes=CLASSES, window=2.0), [one], manifests)
    # a marker without a length stands for one window; the last one would reach beyond the end
    assert windows.onsets[0].tolist() == [1.0, 3.0, 7.0]
    assert windows.labels[0].tolist() == ["left", "left", "right"]
    segments, labels = windows.segments(sfreq=None, preparation="reve")
    assert segments[0].read(0, 3).shape == (3, 19, 500)
    assert labels[0].tolist() == ["left", "left", "right"]
    late = find_windows(TaskConfig(classes=CLASSES, window=2.0, offset=2.5, max_windows=1), [one], manifests)
    assert late.onsets[0].tolist() == [3.5]


def test_windows_in_rejected_parts_are_left_out_with_their_labels(recording: Recording, tmp_path: Path) -> None:
    one = row("01")
    status = ["rejected: burst"] + ["good"] * 9
    manifests = {one.recording: written(tmp_path, one, recording, events=HANDS, window_status=status)}
    windows = find_windows(TaskConfig(classes=CLASSES, window=2.0), [one], manifests)
    assert windows.onsets[0].tolist() == [3.0, 7.0]
    assert windows.labels[0].tolist() == ["left", "right"]


def test_a_column_of_the_sheet_is_an_answer_for_the_whole_recording(recording: Recording, tmp_path: Path) -> None:
    rows = [row("01", task="rest"), row("01", task="sums"), row("02", task="walk"), row("02", modality="meg")]
    manifests = {one.recording: written(tmp_path, one, recording) for one in rows}
    task = TaskConfig(by="task", classes={"idle": ("rest",), "busy": ("sums",)}, window=6.0)
    windows = find_windows(task, rows, manifests)
    assert [one.recording for one in windows.rows] == [rows[0].recording, rows[1].recording]
    assert [set(label_N) for label_N in windows.labels] == [{"idle"}, {"busy"}]
    assert windows.onsets[0].tolist() == [0.0, 6.0, 12.0]


def test_numbers_are_asked_for_where_no_class_is_named(recording: Recording, tmp_path: Path) -> None:
    rows = [row("01", labels={"age": "31"}), row("02", labels={"age": "47.5"}), row("03", labels={"age": ""})]
    manifests = {one.recording: written(tmp_path, one, recording) for one in rows}
    windows = find_windows(TaskConfig(by="age", window=10.0), rows, manifests)
    assert [label_N.tolist() for label_N in windows.labels] == [[31.0, 31.0], [47.5, 47.5]]
    with pytest.raises(ConfigError, match=r"01.*age is 'old', no number"):
        find_windows(TaskConfig(by="age"), [row("01", labels={"age": "old"})], manifests)
    with pytest.raises(ConfigError, match="no column height; it has site"):
        find_windows(TaskConfig(by="height"), rows, manifests)


def test_what_cannot_be_asked_says_what_there_is(recording: Recording, tmp_path: Path) -> None:
    rows = [row("01"), row("02")]
    manifests = {one.recording: tmp_path / f"{one.recording}.manifest.json" for one in rows}
    written(tmp_path, rows[0], recording, events=HANDS)
    write_quarantine(
        manifests[rows[1].recording], QuarantineRow(rows[1].recording, "ingest_meeg", "b.edf", "truncated", "Bring it")
    )
    with pytest.raises(ConfigError, match="no window of any class in 2 eeg recordings: event holds left_hand, right"):
        find_windows(TaskConfig(classes={"a": ("x",), "b": ("y",)}), rows, manifests)
    found = find_windows(TaskConfig(classes=CLASSES, window=2.0), rows, manifests)
    assert len(found.rows) == 1
    assert "truncated" in found.lost[0]
    with pytest.raises(ConfigError, match="no window of any class in 0 eeg recordings"):
        find_windows(TaskConfig(classes=CLASSES, tasks=("other",)), rows, manifests)
    with pytest.raises(ValueError, match="two or more classes"):
        TaskConfig(by="event")


def test_parts_follow_people_or_runs(recording: Recording, tmp_path: Path) -> None:
    rows = [row(f"{subject:02d}", run=run) for subject in range(3) for run in ("1", "2", "3")]
    manifests = {one.recording: written(tmp_path, one, recording, events=HANDS) for one in rows}
    task = TaskConfig(classes=CLASSES, window=2.0)
    windows = find_windows(task, rows, manifests)
    people = split_subjects(rows, n_folds=3, fold=0)
    parts_W = parts_of(windows, [3] * 9, split_of_task(task, windows, people, 0))
    assert (parts_W == np.repeat(["test", "validation", "train"], 9)).all()
    runs = split_of_task(task.model_copy(update={"split": "run"}), windows, people, 0)
    assert (parts_of(windows, [3] * 9, runs) == np.tile(np.repeat(["test", "validation", "train"], 3), 3)).all()


def test_a_site_is_left_out_in_each_fold(recording: Recording, tmp_path: Path) -> None:
    rows = [row(f"{site}{at}").model_copy(update={"site": site}) for site in ("ab", "cd", "ef") for at in range(4)]
    manifests = {one.recording: written(tmp_path, one, recording, events=HANDS) for one in rows}
    task = TaskConfig(classes=CLASSES, window=2.0, split="site")
    assert not task.within
    windows = find_windows(task, rows, manifests)
    study = split_subjects(rows, n_folds=3, fold=0)
    for fold, site in enumerate(("ab", "cd", "ef")):
        split = split_of_task(task, windows, study, fold)
        assert split.test == tuple(one.recording for one in rows if one.site == site)
        assert {len(split.people(part)) for part in ("train", "validation")} == {6, 2}
    with pytest.raises(ConfigError, match="fold 3: the task has 3 sites"):
        split_of_task(task, windows, study, 3)


def test_few_people_of_the_windows_are_kept(recording: Recording, tmp_path: Path, rng: np.random.Generator) -> None:
    rows = [row(f"{subject:02d}") for subject in range(9)] + [row(name) for name in ("20", "21", "22")]
    manifests = {one.recording: written(tmp_path, one, recording, events=HANDS) for one in rows[:9]}
    windows = find_windows(TaskConfig(classes=CLASSES, window=2.0), rows[:9], manifests)
    split: Split = split_subjects(rows, n_folds=3, fold=0)
    whole = share_split(split, windows, 1.0, rng)
    assert len(whole.train) < len(split.train)  # who has no window does not count
    few = share_split(split, windows, 0.3, rng)
    assert len(few.train) == 1
    assert few.test == split.test
