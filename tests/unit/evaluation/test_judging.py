"""One reader in one task, from stores to rows: what is asked, who is seen, and what is said where nothing can be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuroloom.artifacts import write_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.config import BudgetConfig, EvaluateConfig, TaskConfig
from neuroloom.evaluation.contamination import ContaminationError, seen_subjects
from neuroloom.evaluation.judging import judge_baselines, judge_model
from neuroloom.evaluation.splits import Split, split_subjects, to_json
from neuroloom.models.config import ReveConfig
from neuroloom.models.reve import REVE
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Events, Recording
from neuroloom.tokenizers.fitting import write_unfitted
from neuroloom.training.checkpoint import write_card

SFREQ, RHYTHM = 100.0, 10.0
CLASSES = {"idle": ("idle",), "busy": ("busy",)}
TASK = TaskConfig(classes=CLASSES, window=2.0)
CONFIG = EvaluateConfig(
    regimes=("linear", "scratch"),
    baselines=("majority", "band_power_lda"),
    shares=(0.5, 1.0),
    n_seeds=2,
    budget=BudgetConfig(epochs=2, candidates=2),
    n_permutations=50,
    audits=False,
)
METRICS = {"balanced_accuracy", "kappa", "auroc", "auprc"}


def with_rhythm(recording: Recording, rng: np.random.Generator) -> Recording:
    """Ten windows of each class; in one of them all channels have a strong rhythm."""
    busy_W = rng.permutation(np.arange(20) % 2)
    time_T = np.arange(200) / SFREQ
    signal_CT = rng.normal(size=(19, 4000)) * 1e-5
    for at in np.flatnonzero(busy_W):
        signal_CT[:, 200 * at : 200 * (at + 1)] += 2e-5 * np.sin(2 * np.pi * (RHYTHM * time_T + rng.random()))
    labels = [("idle", "busy")[busy] for busy in busy_W]
    events = Events(2.0 * np.arange(20), np.full(20, 2.0), labels)
    return replace(recording, signal_CT=signal_CT.astype(np.float32), sfreq=SFREQ, events=events)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Nine people of two sites with one recording each, a split, and a small model that has seen its training part."""
    from tests.conftest import make_recording

    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(3)
    facts = {"study": "s", "task": "work", "modality": "eeg", "path": "x"}
    rows = [RecordingRow(**facts, site="ab"[k % 2], subject=f"{k:02d}") for k in range(9)]
    manifests = {}
    for row in rows:
        recording = with_rhythm(make_recording(rng), rng)
        store = folder / f"{row.recording}.zarr"
        attrs = {**recording.attrs(), "recording": row.recording}
        write_artifact(store, "recording", arrays=recording.arrays(), attrs=attrs, window=400)
        manifests[row.recording] = folder / f"{row.recording}.manifest.json"
    split = split_subjects(rows, n_folds=3, fold=0)
    (folder / "split.json").write_text(to_json(split))
    save_model(folder / "model", rows, split.train)
    return {"rows": rows, "manifests": manifests, "split_file": folder / "split.json", "split": split, "folder": folder}


def save_model(folder: Path, rows: list[RecordingRow], seen: tuple[str, ...]) -> None:
    config = ReveConfig(embed_dim=16, depth=1, num_heads=2, head_dim=8, n_frequencies=2, patch_size=50, patch_overlap=0)
    REVE.create(config, sfreq=SFREQ, seed=1).save(folder)
    people = seen_subjects([row for row in rows if row.recording in seen], salt="s")
    write_card(folder, {"architecture": "reve", "salt": "s", "seen_subjects": people})


def judged(
    study: dict[str, Any], model: str = "model", *, task: TaskConfig = TASK, config: EvaluateConfig = CONFIG
) -> Any:
    names = {"task": "work", "fold": "0", "model": "mine"}
    asked = {name: study[name] for name in ("rows", "manifests", "split_file")}
    return judge_model(folder=study["folder"] / model, task=task, config=config, seed=7, names=names, **asked)


def judged_baselines(study: dict[str, Any], *, task: TaskConfig = TASK, config: EvaluateConfig = CONFIG) -> Any:
    asked = {name: study[name] for name in ("rows", "manifests", "split_file")}
    return judge_baselines(task=task, config=config, seed=7, names={"task": "work", "fold": "0"}, **asked)


@pytest.fixture(scope="module")
def answers(study: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    return judged(study)


def test_there_is_a_row_for_each_regime_share_seed_and_metric(answers: tuple[pd.DataFrame, ...]) -> None:
    scores, people, audits = answers
    assert len(scores) == 2 * 2 * 2 * len(METRICS)
    assert set(scores["metric"]) == METRICS
    assert set(scores["model"]) == {"mine"}
    assert not scores["seen"].any()
    assert scores["n_participants"].eq(3).all()
    tested = scores[(scores["regime"] == "linear") & (scores["share"] == 1.0)]
    assert (tested["n_trainable"] == 17).all()
    assert (scores.loc[scores["regime"] == "scratch", "n_epochs"] == 4).all()
    assert (scores.loc[scores["regime"] == "linear", "n_fits"] == 2).all()
    assert len(people) == 2 * 2 * 2 * 3
    assert not len(audits)


def test_each_score_stands_beside_its_interval_and_its_chance(answers: tuple[pd.DataFrame, ...]) -> None:
    scores = answers[0].query("metric == 'balanced_accuracy'")
    assert scores["chance"].between(0.4, 0.6).all()
    assert scores["chance_high"].between(0.5, 0.75).all()
    assert scores["p"].between(1 / 51, 1).all()
    assert (scores["ci_low"] <= scores["score"]).all()
    assert (scores["ci_high"] >= scores["score"]).all()


def test_the_same_seed_gives_the_same_rows(study: dict[str, Any], answers: tuple[pd.DataFrame, ...]) -> None:
    again = judged(study)
    pd.testing.assert_frame_equal(again[0], answers[0])
    pd.testing.assert_frame_equal(again[1], answers[1])


def test_baselines_stand_beside(study: dict[str, Any]) -> None:
    scores, people, audits = judged_baselines(study, config=CONFIG.model_copy(update={"audits": True}))
    balanced = scores.query("metric == 'balanced_accuracy' and share == 1").groupby("model")["score"].mean()
    assert balanced["majority"] == 0.5
    assert balanced["band_power_lda"] > 0.9
    assert set(scores["regime"]) == {"baseline"}
    assert len(people) == 2 * 2 * 2 * 3
    audited = audits.query("metric == 'balanced_accuracy' and probe == 'linear'").set_index("audit")["score"]
    assert audited["alpha only"] > 0.85
    assert audited["beta only"] < 0.75
    assert "site" in audited.index


def test_people_that_were_seen_stop_the_run_or_mark_the_rows(study: dict[str, Any]) -> None:
    split: Split = study["split"]
    save_model(study["folder"] / "seen", study["rows"], (*split.train, split.test[0]))
    with pytest.raises(ContaminationError, match=split.test[0]):
        judged(study, "seen")
    config = CONFIG.model_copy(update={"allow_seen_subjects": True, "regimes": ("linear",), "shares": (1.0,)})
    assert judged(study, "seen", config=config)[0]["seen"].all()


def test_people_that_the_tokenizer_saw_count(study: dict[str, Any]) -> None:
    folder = study["folder"] / "upstream"
    REVE.load(study["folder"] / "model").save(folder)
    tested = [row for row in study["rows"] if row.recording in study["split"].test]
    below = {"architecture": "braintokenizer", "salt": "t", "seen_subjects": seen_subjects(tested, salt="t")}
    write_card(folder, {"architecture": "reve", "salt": "s", "seen_subjects": [], "upstream": [below]})
    with pytest.raises(ContaminationError, match="has seen the participants"):
        judged(study, "upstream")


def test_what_cannot_be_asked_gives_rows_with_the_reason(study: dict[str, Any]) -> None:
    task = TaskConfig(classes={"left": ("left_hand",), "right": ("right_hand",)})
    for tables, n_readers in ((judged(study, task=task), 2), (judged_baselines(study, task=task), 2)):
        scores, people, _ = tables
        assert len(scores) == n_readers
        assert scores["score"].isna().all()
        assert scores["note"].str.contains("no window of any class in 9 eeg recordings: event holds busy, idle").all()
        assert not len(people)
    write = study["folder"] / "unfitted"
    write.mkdir(exist_ok=True)
    write_unfitted(write, UnusableRecording("train of fold 0", "all were quarantined", "see the table"))
    assert judged(study, "unfitted")[0]["note"].str.contains("all were quarantined").all()


def test_a_test_of_one_class_has_no_score(study: dict[str, Any]) -> None:
    """Who asks for the site and leaves one out tests a single class, on which even the majority may be right."""
    task = TaskConfig(by="site", classes={"a": ("s/a",), "b": ("s/b",)}, window=2.0, split="site")
    scores, people, _ = judged_baselines(study, task=task)
    assert scores["score"].isna().all()
    assert scores["note"].str.contains("has the class a only").all()
    assert not len(people)


def test_shuffled_labels_score_at_chance(study: dict[str, Any]) -> None:
    """Windows moved away from their events: what is then read is nothing, and p says so."""
    config = CONFIG.model_copy(update={"regimes": ("linear",), "shares": (1.0,), "n_seeds": 1})
    task = TaskConfig(classes={"first": ("idle",), "second": ("busy",)}, window=2.0, offset=1.0)
    scores = judged(study, task=task, config=config)[0].query("metric == 'balanced_accuracy'")
    assert (scores["ci_low"] < 0.62).all()
