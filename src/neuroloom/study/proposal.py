"""A config for a dataset that was looked at: what it can feed, in a size that this machine bears, with the reasons.

A section is a mapping that becomes YAML, and the comment above it, which says what was found and what follows from it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.evaluation.splits import participant_of, split_subjects
from neuroloom.study.survey import LEAST_PEOPLE, Survey
from neuroloom.synthesis.pairs import find_pairs

MAX_CLASSES = 4
MAX_FOLDS = 4
FEW = 12  # people, up to whom each is tested once: a score of two people says little
SMALL_CORES = 8  # fewer, without a GPU, and models are kept small
WIDTH = 108
SMALL: dict[str, Any] = {
    "tokenize": {"max_segments": 8, "n_permutations": 50},
    "evaluate": {
        "regimes": ["linear", "attentive", "scratch"],
        "shares": [1.0],
        "n_seeds": 2,
        "budget": {"epochs": 5, "candidates": 2},
        "n_permutations": 100,
    },
}


@dataclass(frozen=True)
class Machine:
    """What a study will run on."""

    cores: int
    gpus: int

    @property
    def small(self) -> bool:
        """Whether models have to be small."""
        return self.gpus == 0 and self.cores < SMALL_CORES


@dataclass(frozen=True)
class Section:
    """A part of a config, and why it is so."""

    comment: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A task that could be asked.

    Attributes
    ----------
    name : str
    values : mapping
        `by`, `classes` and limits, as the config has them.
    why : str
    """

    name: str
    values: Mapping[str, Any]
    why: str


def propose(survey: Survey, *, name: str, sheet: str, root: str, machine: Machine) -> list[Section]:
    """Sections of a config.

    Parameters
    ----------
    survey : Survey
    name : str
        Of the study.
    sheet, root : str
        Paths of the recordings sheet and of the dataset, as they will stand in the config.
    machine : Machine
    """
    labels = list(survey.columns)
    people = n_people(survey.rows)
    study = {"name": name, "bids_root": root, "root": root, "recordings": sheet, "labels": labels}
    sections = [Section(_describe(survey), {"study": study}), *_source(survey, name), *_window(survey)]
    n_folds = choose_folds(survey)
    questions = find_questions(survey, n_folds)
    learning = n_people(survey.of("eeg", "meg")) >= LEAST_PEOPLE and people >= LEAST_PEOPLE
    return [*sections, *(_learning(survey, questions, machine, n_folds) if learning else [_no_learning(survey)]),
            _federation(survey, questions if learning else []), _synthesis(survey)]  # fmt: skip


def render(sections: Sequence[Section]) -> str:
    """The YAML of a config with its comments."""
    import yaml

    blocks = ["# yaml-language-server: $schema=schema.json\n# Written by `neuroloom init`; an overlay of the default "
              "config. Change what you like.\n"]  # fmt: skip
    for section in sections:
        comment = "".join(f"# {line}\n" for line in textwrap.wrap(section.comment, WIDTH))
        blocks.append(comment + yaml.safe_dump(dict(section.values), sort_keys=False, width=WIDTH, allow_unicode=True))
    return "\n".join(blocks)


def n_people(rows: Iterable[RecordingRow]) -> int:
    """Number of participants."""
    return len({participant_of(row) for row in rows})


def find_questions(survey: Survey, n_folds: int) -> list[Question]:
    """Tasks that people and classes allow, the most telling first: what one person did, then who they are."""
    rows = survey.of("eeg") or survey.of("meg")
    modality = rows[0].modality if rows else "eeg"
    found = [_by_task(rows), _by_event(survey), *(_by_column(column, rows, n_folds) for column in survey.columns)]
    return [Question(one.name, {**one.values, "modality": modality}, one.why) for one in found if one]


def _by_task(rows: Sequence[RecordingRow]) -> Question | None:
    """Recordings of one task against those of another, of the same people."""
    people = {task: {participant_of(row) for row in rows if row.task == task} for task in {row.task for row in rows}}
    order = sorted(people, key=lambda task: (not task.lower().startswith("rest"), -len(people[task]), task))
    kept = [task for task in order if len(people[task]) >= LEAST_PEOPLE][:MAX_CLASSES]
    if len(kept) < 2 or len(set.intersection(*(people[task] for task in kept))) < LEAST_PEOPLE:
        return None
    counts = ", ".join(f"{task} ({len(people[task])} people)" for task in kept)
    why = f"asks which task a window is of: {counts}; the same people did them"
    return Question("task", {"by": "task", "classes": {task: [task] for task in kept}, "max_windows": 40}, why)


def _by_event(survey: Survey) -> Question | None:
    """Windows after events of one label against those of another."""
    kept = list(survey.events)[:MAX_CLASSES]
    if len(kept) < 2:
        return None
    counts = ", ".join(f"{label} ({survey.events[label]} people)" for label in kept)
    window = {"window": 2.0, "max_windows": 80}
    why = f"asks which event a window follows: {counts} (trial_type of events.tsv); set window and offset as you need"
    return Question("events", {"by": "event", "classes": {_word(label): [label] for label in kept}, **window}, why)


def _by_column(column: str, rows: Sequence[RecordingRow], n_folds: int) -> Question | None:
    """People of one kind against those of another, where each part of a split can have some of each."""
    of: dict[str, set[str]] = {}
    for row in rows:
        of.setdefault(row.labels.get(column, ""), set()).add(participant_of(row))
    kept = [value for value, who in of.items() if value and len(who) >= LEAST_PEOPLE][:MAX_CLASSES]
    if len(kept) < 2:
        return None
    values = {"by": column, "classes": {_word(value): [value] for value in kept}, "max_windows": 20}
    if not _everywhere(column, kept, rows, n_folds):
        return None
    counts = ", ".join(f"{value} ({len(of[value])} people)" for value in kept)
    return Question(_word(column), values, f"asks for {column} of participants.tsv: {counts}")


def _everywhere(column: str, values: Sequence[str], rows: Sequence[RecordingRow], n_folds: int) -> bool:
    """Whether training and test of each fold have people of each value."""
    row_of = {row.recording: row for row in rows}
    for fold in tested_folds(n_people(rows), n_folds):
        split = split_subjects(rows, n_folds=n_folds, fold=fold)
        for part in (split.train, split.test):
            there = {row_of[name].labels.get(column) for name in part}
            if not set(values) <= there:
                return False
    return True


def choose_folds(survey: Survey) -> int:
    """Parts that people are divided into: 4, or 3 where parts would be small or a column could not be asked for."""
    people = n_people(survey.rows)
    most = MAX_FOLDS if people >= LEAST_PEOPLE * MAX_FOLDS else LEAST_PEOPLE
    counts = range(most, LEAST_PEOPLE - 1, -1) if people >= LEAST_PEOPLE else ()
    return next((count for count in counts if find_questions(survey, count)), most)


def tested_folds(people: int, n_folds: int) -> list[int]:
    """Each part in turn where there are few people, else the first."""
    return list(range(n_folds)) if people <= FEW else [0]


def _word(text: str) -> str:
    """Letters and digits of a text, of which names are made."""
    return re.sub(r"[^A-Za-z0-9]", "", text) or "value"


def _describe(survey: Survey) -> str:
    counts = {kind: survey.of(kind) for kind in ("eeg", "meg", "bold")}
    found = ", ".join(f"{len(rows)} {kind.upper()} of {n_people(rows)} people" for kind, rows in counts.items() if rows)
    hours = f", {sum(survey.durations) / 3600:.1f} h of EEG and MEG" if survey.durations else ""
    tasks = ", ".join(sorted({row.task for row in survey.rows}))
    rates = f"; {', '.join(f'{rate:g}' for rate in survey.sfreqs)} Hz" if survey.sfreqs else ""
    return f"Found: {found}{hours}{rates}; tasks {tasks}; {len({row.site for row in survey.rows})} site(s)."


def _source(survey: Survey, name: str) -> list[Section]:
    """What the files do not say themselves."""
    facts: dict[str, Any] = {}
    said = []
    if survey.montage.unread:
        said.append(f"Of the EEG that was opened none could be read. The first: {survey.montage.unread}")
    if survey.montage.name:
        facts["montage"] = survey.montage.name
        said.append(f"The files have no electrode positions: those of the template {survey.montage.name} are taken.")
    if survey.montage.foreign:
        facts["types"] = dict.fromkeys(survey.montage.foreign, "misc")
        said.append("Channels that no montage knows are no electrodes: misc, or say eog, ecg, emg.")
    if survey.of("eeg", "meg") and not survey.line_freqs:
        said.append("No sidecar names the mains, so it is detected; or say line_freq: 50 or 60.")
    if survey.scanner_t_r:
        facts["scanner_t_r"] = survey.scanner_t_r
        said.append("EEG was recorded with BOLD: the scanner's artefacts are removed at its repetition time.")
    if survey.of("bold") and not survey.in_template:
        facts["atlas"] = "grid25"
        said.append("BOLD is in native space, so parcels are cubes; with fMRIPrep output in MNI space take atlas out.")
    return [Section(" ".join(said), {"sources": {name: facts}})] if facts or said else []


def _window(survey: Survey) -> list[Section]:
    shortest = min(survey.durations, default=60.0)
    if shortest >= 20:
        return []
    window = max(1.0, min(10.0, float(int(shortest / 2))))
    return [Section(f"The shortest recording has {shortest:g} s.", {"ingest": {"window": window}})]


def _no_learning(survey: Survey) -> Section:
    n = n_people(survey.of("eeg", "meg"))
    comment = (
        f"EEG or MEG of {n} people: training, validation and test need one person each, so nothing learns here. "
        "Recordings are read, cleaned and reported."
    )
    nothing: dict[str, Any] = {stage: {"use": []} for stage in ("tokenize", "pretrain", "evaluate")}
    return Section(comment, nothing | {"pretrain": {"use": [], "sweep": {"of": None}}})


def _learning(survey: Survey, questions: Sequence[Question], machine: Machine, n_folds: int) -> list[Section]:
    people = n_people(survey.rows)
    folds = tested_folds(people, n_folds)
    tested = "each is tested once" if people <= FEW else "one part is tested; more folds, more certainty and more time"
    split = Section(f"{people} people in {n_folds} parts; {tested}.", {"split": {"n_folds": n_folds, "folds": folds}})
    return [split, _models(survey, machine), _evaluation(questions, machine)]


def _models(survey: Survey, machine: Machine) -> Section:
    kinds = sorted({row.modality for row in survey.of("eeg", "meg")})
    size = f"{machine.cores} cores and {machine.gpus or 'no'} GPU"
    comment = f"This machine has {size}: " + (
        "one tokenizer and one small model. BrainTokenizer, BrainOmni and larger sizes stand in config/config.yaml."
        if machine.small
        else "the models of the default config. Published sizes stand beside theirs in config/config.yaml."
    )
    model: dict[str, Any] = {"modalities": kinds, **({"orientation": True} if "meg" in kinds else {})}
    models = {
        "use": ["reve"] if machine.small else ["reve", "brainomni"],
        "models": {"reve": model},
        "sweep": {"of": None},
    }
    tokenize = {"use": ["lipcot"], **SMALL["tokenize"]} if machine.small else {"use": ["lipcot", "braintokenizer"]}
    return Section(comment, {"tokenize": tokenize, "pretrain": models})


def _evaluation(questions: Sequence[Question], machine: Machine) -> Section:
    if not questions:
        comment = (
            "No question was found: no two tasks of the same people, no two kinds of events, no column of "
            "participants.tsv with two values of three people each. Write one under tasks, and its name under use."
        )
        return Section(comment, {"evaluate": {"use": []}})
    said = [f"`{one.name}` {one.why}." for one in questions]
    said += ["The first is asked; add the others to use as you like."] if len(questions) > 1 else []
    comment = " ".join([*said, "A recording is one length, order and day as well: read the audits beside a score."])
    asked = {"use": [questions[0].name], "tasks": {one.name: dict(one.values) for one in questions}}
    return Section(comment, {"evaluate": {**asked, **(SMALL["evaluate"] if machine.small else {})}})


def _federation(survey: Survey, questions: Sequence[Question]) -> Section:
    people: dict[str, list[RecordingRow]] = {}
    for row in survey.of("eeg"):
        people.setdefault(row.site, []).append(row)
    sites = sorted(site for site, rows in people.items() if n_people(rows) >= LEAST_PEOPLE)
    if len(sites) < 2 or not questions:
        comment = f"{len(sites)} site(s) with EEG of {LEAST_PEOPLE} people or more: nothing to federate."
        return Section(comment, {"federate": {"use": []}})
    arms = {"use": ["local", "fedavg"], "task": questions[0].name}
    return Section(
        f"Sites {', '.join(sites)}: each alone, and together without sharing recordings.", {"federate": arms}
    )


def _synthesis(survey: Survey) -> Section:
    try:
        pairs = find_pairs(survey.rows)
    except ConfigError as error:
        return Section(f"No synthesis of BOLD: {error}", {"synthesize": {"use": [], "export": None}})
    people = n_people(pair.eeg for pair in pairs)
    nothing: dict[str, Any] = {"synthesize": {"use": [], "export": None}}
    if people < LEAST_PEOPLE:
        comment = f"Synthesis needs EEG and BOLD of one scan of {LEAST_PEOPLE} people; there are {people} such people."
        return Section(comment, nothing)
    if not survey.in_template:
        return Section("Synthesis needs parcels that are the same in all people: BOLD in an MNI space.", nothing)
    comment = f"EEG with BOLD of {people} people: it is predicted from EEG of people who were not trained on."
    return Section(comment, {"synthesize": {"use": ["mean", "ridge", "sources"], "splits": ["subject"]}})
