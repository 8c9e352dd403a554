"""One reader in one task: who is asked, what is predicted, and every score beside its null.

A model is read in several regimes, each with the tuning budget that the baselines get; people it has seen stop the run
or mark the rows. A fold that a task cannot be asked in gives a row with the reason, and the rest of the study goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.config import RecordingRow
from neuroloom.evaluation.audits import audit_table, signal_audit_table
from neuroloom.evaluation.baselines import Prediction, run_baseline
from neuroloom.evaluation.config import EvaluateConfig, TaskConfig
from neuroloom.evaluation.contamination import check_contamination
from neuroloom.evaluation.examples import Examples
from neuroloom.evaluation.networks import Budget
from neuroloom.evaluation.probes import missing_row, participant_scores, score_predictions
from neuroloom.evaluation.readout import ProbeSettings
from neuroloom.evaluation.regimes import Frozen, run_regime
from neuroloom.evaluation.splits import Split, from_json, participant_of, site_of
from neuroloom.evaluation.tasks import (
    TaskWindows,
    find_windows,
    labelled_examples,
    parts_of,
    share_split,
    split_of_task,
)
from neuroloom.models.base import load_model
from neuroloom.provenance import child_rng
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Preparation
from neuroloom.training.checkpoint import CARD, read_card

logger = logging.getLogger(__name__)
SPENT = ("n_parameters", "n_trainable", "n_fits", "n_epochs")
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
Reader = Callable[[Examples, int], Prediction]


@dataclass(frozen=True)
class Question:
    """A task in one fold.

    Attributes
    ----------
    task : TaskConfig
    config : EvaluateConfig
    windows : TaskWindows
    split : Split
        Of the task.
    seed : int
    names : mapping
        `task`, `fold`, and `model` where one is judged.
    seen : mapping
        Participant -> whether the model has seen them.
    """

    task: TaskConfig
    config: EvaluateConfig
    windows: TaskWindows
    split: Split
    seed: int
    names: Mapping[str, str]
    seen: Mapping[str, bool]

    @property
    def within(self) -> bool:
        """Whether people of the test are known from training."""
        return self.task.within

    @property
    def budget(self) -> Budget:
        """Of tuning, the same for everyone."""
        return Budget(epochs=self.config.budget.epochs, candidates=self.config.budget.candidates)

    def examples(self, *, sfreq: float | None, preparation: Preparation) -> Examples:
        """Labelled segments with the parts they belong to.

        Raises
        ------
        ConfigError
            If the test has one class only, of which every score is a matter of chance.
        """
        found = labelled_examples(self.windows, sfreq=sfreq, preparation=preparation)
        parts_W = _parts(self, found, self.split)
        tested = sorted(set(map(str, found.labels_W[parts_W == "test"])))
        if self.task.classes and len(tested) == 1:
            raise ConfigError(
                f"the test of {self.names['task']} has the class {tested[0]} only; ask recordings that have all of "
                "them (studies, tasks), or keep something else apart (split)"
            )
        return replace(found, parts_W=parts_W)

    def trials(self) -> Iterator[tuple[float, int, Split]]:
        """Each share of the training people with each seed, and who is then trained on."""
        for share in self.config.shares:
            for seed in range(self.config.n_seeds):
                rng = child_rng(self.seed, f"few shot {self.names['task']} {self.names['fold']} {seed}")
                yield share, seed, share_split(self.split, self.windows, share, rng)


def judge_model(*, folder: Path, **asked: Any) -> Tables:
    """Scores of one model in all regimes.

    Parameters
    ----------
    folder : Path
        Of the pretrained model.
    **asked
        task, config, rows, manifests, split_file, seed, names: see `ask`.

    Returns
    -------
    scores, participants, audits : DataFrame

    Raises
    ------
    ContaminationError
        If the model has seen people of the test, and the config does not allow that.
    """
    names = asked["names"]
    try:
        model = load_model(folder)
        question = ask(**asked, card_file=folder / CARD)
        examples = question.examples(sfreq=model.sfreq, preparation=model.preparation)
        frozen = Frozen(model, examples)
    except (UnusableRecording, ConfigError) as error:
        return _unanswered(str(error), names, names["model"], asked["config"].regimes)

    def reader(regime: str) -> Reader:
        def read(part: Examples, seed: int) -> Prediction:
            drawn = int(child_rng(question.seed, f"{regime} {seed}").integers(2**31))
            return run_regime(
                regime,
                lambda: model.restarted(drawn) if regime == "scratch" else model,
                part,
                frozen,
                seed=drawn,
                budget=question.budget,
                within=question.within,
            )

        return read

    rng = child_rng(question.seed, f"evaluate/{names['task']}/{names['model']}/{names['fold']}")
    readers = {(str(names["model"]), str(regime)): reader(regime) for regime in question.config.regimes}
    scores, people = _all_scores(question, examples, readers, rng)
    audits = pd.DataFrame()
    if question.config.audits:
        found = audit_table(model, examples, frozen, **_audited(question, examples, rng))
        audits = _named(found, names, names["model"])
    return scores, people, audits


def judge_baselines(**asked: Any) -> Tables:
    """Scores of all baselines, on the channels that all recordings of the task share; as `judge_model`."""
    names, config = asked["names"], asked["config"]
    try:
        question = ask(**asked)
        examples = question.examples(sfreq=None, preparation="reve")
        x_WCT = examples.common_signals()
    except (UnusableRecording, ConfigError) as error:
        tables = [_unanswered(str(error), names, name, ("baseline",)) for name in config.baselines]
        return pd.concat([scores for scores, *_ in tables], ignore_index=True), pd.DataFrame(), pd.DataFrame()
    sfreq = examples.corpus[0].sfreq
    rng = child_rng(question.seed, f"evaluate/{names['task']}/baselines/{names['fold']}")

    def reader(name: str) -> Reader:
        def read(part: Examples, seed: int) -> Prediction:
            return run_baseline(
                name,
                x_WCT,
                part.labels_W,
                part.participants_W,
                part.parts_W,
                sfreq=sfreq,
                rng=child_rng(question.seed, f"{name} {seed}"),
                budget=question.budget,
                within=question.within,
            )

        return read

    scores, people = _all_scores(
        question, examples, {(name, "baseline"): reader(name) for name in config.baselines}, rng
    )
    audits = pd.DataFrame()
    if config.audits:
        audits = _named(signal_audit_table(examples, **_audited(question, examples, rng)), names, "band_power")
    return scores, people, audits


def _audited(question: Question, examples: Examples, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "target": question.names["task"],
        "rng": rng,
        "sites_W": np.array([site_of(row) for row in question.windows.rows])[examples.recording_W],
        "settings": ProbeSettings(n_permutations=question.config.n_permutations),
        "within": question.within,
    }


def _named(table: pd.DataFrame, names: Mapping[str, str], model: str) -> pd.DataFrame:
    return table.assign(task=names["task"], model=model, fold=int(names["fold"]))


def ask(
    *,
    task: TaskConfig,
    config: EvaluateConfig,
    rows: Sequence[RecordingRow],
    manifests: Mapping[str, Path],
    split_file: Path,
    seed: int,
    names: Mapping[str, str],
    card_file: Path | None = None,
) -> Question:
    """Find the windows of a task and who is tested, and look whether a model has seen them.

    Parameters
    ----------
    task : TaskConfig
    config : EvaluateConfig
    rows : sequence of RecordingRow
        The whole sheet.
    manifests : mapping
        Recording -> manifest of preprocess_meeg.
    split_file : Path
        Of the study's fold.
    seed : int
        Of the study.
    names : mapping
        `task`, `fold`, and `model` where one is judged.
    card_file : Path, optional
        The model card.

    Raises
    ------
    ContaminationError
        If the model has seen people of the test, and that is not allowed.
    """
    windows = find_windows(task, rows, manifests)
    for reason in windows.lost:
        logger.warning("left out: %s", reason)
    whole = from_json(split_file.read_text(), file=str(split_file), rows=rows)
    split = split_of_task(task, windows, whole, int(names["fold"]))
    tested = [row for row in windows.rows if row.recording in split.test]
    seen = {participant_of(row): False for row in tested}
    if card_file is not None:
        # a task within people is of people known by its nature, and its rows are marked
        allowed = config.allow_seen_subjects or task.within
        card, name = read_card(card_file.parent), str(card_file)
        seen = check_contamination(card, tested, allow_seen_subjects=allowed, file=name)
    return Question(task, config, windows, split, seed, names, seen)


def _all_scores(
    question: Question, examples: Examples, readers: Mapping[tuple[str, str], Reader], rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of all readers for each share and seed."""
    scores: list[pd.DataFrame] = []
    people: list[pd.DataFrame] = []
    for share, seed, split in question.trials():
        part = replace(examples, parts_W=_parts(question, examples, split))
        for (model, regime), read in readers.items():
            entities: dict[str, Any] = {
                "task": question.names["task"],
                "model": model,
                "regime": regime,
                "share": share,
                "fold": int(question.names["fold"]),
                "seed": seed,
                "split": question.task.split,
            }
            try:
                found = read(part, seed)
            except ConfigError as error:
                scores.append(_missing(str(error)).assign(**entities))
                continue
            table, persons = _scored(question, part, found, rng)
            scores.append(table.assign(**entities))
            people.append(persons.assign(**entities))
    return pd.concat(scores, ignore_index=True), pd.concat(people, ignore_index=True) if people else pd.DataFrame()


def _parts(question: Question, examples: Examples, split: Split) -> Array:
    counts = np.bincount(examples.recording_W, minlength=len(examples.corpus))
    return parts_of(question.windows, list(counts), split)


def _scored(
    question: Question, examples: Examples, found: Prediction, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows for one prediction, and for each test participant."""
    people_N = examples.participants_W[found.windows_N]
    table = score_predictions(
        found.proba_NL,
        examples.labels_W[found.windows_N],
        people_N,
        classes=found.classes if len(found.classes) else None,
        target=question.names["task"],
        probe="model",
        rng=rng,
        rule=found.rule,
        note="within subjects: participants of the test are known from training" if question.within else "",
        recordings_N=examples.recording_W[found.windows_N],
        settings=ProbeSettings(n_permutations=question.config.n_permutations),
    )
    spent = {name: getattr(found, name) for name in SPENT}
    seen = any(question.seen[person] for person in set(people_N))
    labels_N = examples.labels_W[found.windows_N]
    values = not len(found.classes)
    predicted_N = found.proba_NL[:, 0] if values else found.classes[found.proba_NL.argmax(axis=1)]
    predictions = pd.DataFrame({"participant": people_N, "label": labels_N, "predicted": predicted_N})
    persons = participant_scores(predictions, question.names["task"], not values)
    return (
        table.drop(columns=["target", "probe"]).assign(**spent, seen=seen),
        persons.drop(columns="target"),
    )


def _missing(reason: str) -> pd.DataFrame:
    table = missing_row("", reason).drop(columns=["target", "probe"])
    return table.assign(**dict.fromkeys(SPENT, 0), seen=False)


def _unanswered(reason: str, names: Mapping[str, str], model: str, regimes: Sequence[str]) -> Tables:
    """Rows of a task that cannot be asked, with the reason."""
    logger.warning("not evaluated: %s", reason)
    facts: dict[str, Any] = {
        "task": names["task"],
        "model": model,
        "share": 1.0,
        "fold": int(names["fold"]),
        "seed": 0,
        "split": "",
    }
    rows = pd.concat([_missing(reason).assign(**facts, regime=regime) for regime in regimes], ignore_index=True)
    return rows, pd.DataFrame(), pd.DataFrame()
