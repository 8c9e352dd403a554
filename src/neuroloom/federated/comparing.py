"""One arm of the comparison in one fold: alone, all together in one place, or federated; the same windows for all.

Every arm passes as often over every window (`rounds` times `local_epochs`), starts from the same weights, draws with
the same seeds and is judged after its last round, without a choice: so arms differ in what is shared, and how.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.config import RecordingRow
from neuroloom.evaluation.config import TaskConfig
from neuroloom.evaluation.contamination import check_contamination
from neuroloom.evaluation.probes import missing_row, score_predictions
from neuroloom.evaluation.readout import ProbeSettings
from neuroloom.evaluation.splits import PARTS, Split, from_json, participant_of, site_of, split_within
from neuroloom.evaluation.tasks import find_windows
from neuroloom.federated.attacking import attack_rows
from neuroloom.federated.client import PREDICTIONS, app, person_table, prediction_table, training_of
from neuroloom.federated.config import FederateConfig, StrategyConfig
from neuroloom.federated.deploying import deployed
from neuroloom.federated.grid import InProcessGrid
from neuroloom.federated.rounds import SiteRound
from neuroloom.federated.server import ServerFile, TooFewSitesError, last_state, serve
from neuroloom.federated.site import Run, SiteFile, open_sites, site_label, split_parts, write_json
from neuroloom.federated.tables import KINDS, POOLED
from neuroloom.federated.training import SiteTraining
from neuroloom.models.base import load_model
from neuroloom.provenance import child_rng
from neuroloom.quarantine import UnusableRecording
from neuroloom.schema import ConfigError
from neuroloom.training.checkpoint import CARD, read_card, run_folder

logger = logging.getLogger(__name__)
WITHIN = "within subjects: some participants of the test are known from training, in other runs"


@dataclass(frozen=True)
class Arm:
    """What is compared, and on whom.

    Attributes
    ----------
    name : str
        Of the strategy.
    config : FederateConfig
    task : TaskConfig
    rows : tuple of RecordingRow
        Of the task.
    manifests : mapping
        Recording -> manifest.
    split : Split
    model : Path, optional
        Folder of the pretrained model.
    folder : Path
        Each site and the server get one inside it.
    ledgers : Path
        Folder of what privacy was spent, which outlives the run.
    fold, seed : int
        Of the split, and of the study.
    """

    name: str
    config: FederateConfig
    task: TaskConfig
    rows: tuple[RecordingRow, ...]
    manifests: Mapping[str, Path]
    split: Split
    model: Path | None
    folder: Path
    ledgers: Path
    fold: int
    seed: int

    @property
    def strategy(self) -> StrategyConfig:
        """Settings of the arm."""
        return self.config.strategies[self.name]

    def run(self, number: int) -> Run:
        """One repetition; arms differ in nothing but what is shared, so the seed is the same for all."""
        drawn = int(child_rng(self.seed, f"federate {self.fold} {number}").integers(2**31))
        name = f"fold-{self.fold}/{self.name}/seed-{number}"
        return Run(name=name, strategy=self.strategy, settings=self.config, task=self.task, seed=drawn)

    def site_files(self, run: Run) -> list[SiteFile]:
        """What each site is given: its own recordings and nothing else."""
        files = []
        for site, parts in self.parts.items():
            own = tuple(row for row in self.rows if site_of(row) == site and row.recording in parts)
            files.append(self._site_file(site, own, parts, run))
        return files

    @cached_property
    def parts(self) -> dict[str, dict[str, str]]:
        """Site -> recording -> part: that of the fold, or of the runs of a site that has too few people to divide."""
        whole, found = split_parts(self.split), {}
        for site in sorted({site_of(row) for row in self.rows}):
            own = [row for row in self.rows if site_of(row) == site]
            within = len({participant_of(row) for row in own}) < len(PARTS)
            named = {row.recording: whole[row.recording] for row in own if row.recording in whole}
            found[site] = self._by_run(own) if within else named
        return found

    def _by_run(self, own: Sequence[RecordingRow]) -> dict[str, str]:
        """Runs of the same people kept apart; a run without one of the classes can be trained on, not judged by."""
        try:
            windows = find_windows(self.task, own, self.manifests)
            labelled = zip(windows.rows, windows.labels, strict=True)
            full = [row for row, label_N in labelled if len(set(label_N)) == len(self.task.classes)]
            parts = split_parts(split_within(full, by="run", fold=self.fold))
        except ConfigError:
            parts = {}
        return {row.recording: parts.get(row.recording, "train") for row in own}

    @cached_property
    def known(self) -> set[str]:
        """Participants who are tested and trained on, in different runs."""
        of_part: dict[str, set[str]] = {part: set() for part in PARTS}
        person = {row.recording: participant_of(row) for row in self.rows}
        for parts in self.parts.values():
            for recording, part in parts.items():
                of_part[part].add(person[recording])
        return of_part["test"] & of_part["train"]

    def _site_file(self, site: str, own: tuple[RecordingRow, ...], parts: Mapping[str, str], run: Run) -> SiteFile:
        label = site_label(site)
        return SiteFile(
            site=site,
            run=run,
            rows=own,
            manifests={row.recording: str(self.manifests[row.recording]) for row in own},
            parts={row.recording: parts[row.recording] for row in own},
            model=str(self.model) if self.model else None,
            state=str(self.folder / run.name / label),
            ledger=str(self.ledgers / f"{label}.jsonl"),
        )


@dataclass(frozen=True)
class Outcome:
    """What came out of one repetition.

    Attributes
    ----------
    rounds : list of SiteRound
    predictions : DataFrame
        As `client.prediction_table`.
    trainings : list of SiteTraining
        With the last weights, one for each site, or one for all.
    """

    rounds: list[SiteRound]
    predictions: pd.DataFrame
    trainings: list[SiteTraining] = field(default_factory=list)


def compare(
    *,
    name: str,
    config: FederateConfig,
    task: TaskConfig,
    rows: Sequence[RecordingRow],
    manifests: Mapping[str, Path],
    split_file: Path,
    model: Path | None,
    folder: Path,
    ledgers: Path,
    fold: int,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """All repetitions of one arm.

    Parameters
    ----------
    name : str
        Of the strategy.
    config : FederateConfig
    task : TaskConfig
    rows : sequence of RecordingRow
        The whole sheet.
    manifests : mapping
        Recording -> manifest of preprocess_meeg.
    split_file : Path
        Of the fold, in which no device is held out.
    model : Path, optional
        Folder of the pretrained model.
    folder : Path
        For the state of sites and server.
    ledgers : Path
        For what privacy was spent.
    fold, seed : int

    Returns
    -------
    tables : dict of DataFrame
        `scores` (one row for each site, for all of them, seed and metric), `subjects`, `rounds`, `attacks`.

    Raises
    ------
    ContaminationError
        If the model has seen people of the test, and that is not allowed.
    """
    asked = tuple(row for row in rows if row.recording in manifests)
    split = from_json(split_file.read_text(), file=str(split_file), rows=rows)
    arm = Arm(name, config, task, asked, manifests, split, model, folder, ledgers, fold, seed)
    facts: dict[str, Any] = {"strategy": name, "kind": arm.strategy.kind, "network": arm.strategy.network, "fold": fold}
    try:
        seen, note = _met(arm)
    except (ConfigError, UnusableRecording) as error:
        logger.warning("%s is left out: %s", name, error)
        nothing = {table: pd.DataFrame() for table in KINDS}
        return {**nothing, "scores": _missing(POOLED, str(error)).assign(**facts, seed=0)}
    settings = [name, config.model_dump(mode="json"), task.model_dump(mode="json"), fold, seed]
    with run_folder(folder, settings) as state:  # a job that was killed goes on with the sites and rounds it has
        tables = _all_repetitions(replace(arm, folder=state), facts, seen, note)
    return {table: pd.concat(found, ignore_index=True) if found else pd.DataFrame() for table, found in tables.items()}


def _all_repetitions(
    arm: Arm, facts: Mapping[str, Any], seen: Mapping[str, bool], note: str
) -> dict[str, list[pd.DataFrame]]:
    tables: dict[str, list[pd.DataFrame]] = {table: [] for table in KINDS}
    for number in range(arm.config.n_seeds):
        rng = child_rng(arm.seed, f"federate/{arm.fold}/{arm.name}/{number}")
        known: dict[str, Any] = {**facts, "seed": number}
        try:
            outcome, left_out = _repeated(arm, arm.run(number))
        except (ConfigError, UnusableRecording, TooFewSitesError) as error:
            logger.warning("%s is left out: %s", arm.name, error)
            tables["scores"].append(_missing(POOLED, str(error)).assign(**known))
            continue
        scores, subjects = _scored(outcome.predictions, arm, seen, note, rng)
        lost = [_missing(site, reason) for site, reason in left_out.items()]
        tables["scores"].append(pd.concat([scores, *lost], ignore_index=True).assign(**known))
        tables["subjects"].append(subjects.assign(**known))
        tables["rounds"].append(pd.DataFrame([asdict(row) for row in outcome.rounds]).assign(**known))
        if arm.config.attacks:
            tables["attacks"].append(attack_rows(outcome.trainings, rng=rng).assign(**known))
    return tables


def _repeated(arm: Arm, run: Run) -> tuple[Outcome, dict[str, str]]:
    """One repetition, and the sites that could not take part, with the reason."""
    files, left_out = [], {}
    for file in arm.site_files(run):
        try:
            training_of(file)
            files.append(file)
        except UnusableRecording as error:
            left_out[file.site] = str(error)
    if not files:
        raise ConfigError("no site can take part: " + "; ".join(f"{site}: {why}" for site, why in left_out.items()))
    if run.strategy.kind == "local":
        found = [_alone(training_of(file)) for file in files]
    elif run.strategy.kind == "centralised":
        found = [_alone(SiteTraining(open_sites(files), run, folder=arm.folder / run.name, model=arm.model))]
    else:
        found = [_federated(arm, run, files)]
    return _joined(found), left_out


def _alone(training: SiteTraining) -> Outcome:
    """The same rounds without anybody else."""
    rows = []
    for number in range(1, training.run.settings.rounds + 1):
        update = training.round(number, {})
        rows.append(
            SiteRound(
                round=number,
                site=training.data.site,
                status="used",
                n_windows=float(update.n_windows),
                loss=update.loss,
                validation=update.validation,
                epsilon=update.epsilon,
                train_seconds=update.seconds,
                site_seconds=update.seconds,
                round_seconds=update.seconds,
            )
        )
    table = prediction_table(training, training.finish({}))
    rows.append(_last(training))
    return Outcome(rows, table, [training])


def _federated(arm: Arm, run: Run, files: Sequence[SiteFile]) -> Outcome:
    """The rounds of Flower: all sites in this process, or each in processes of its own."""
    folder = arm.folder / run.name
    paths = {file.site: write_json(folder / f"{site_label(file.site)}.json", file) for file in files}
    model = str(arm.model) if arm.model else None
    server = ServerFile(run=run, sites=tuple(paths), model=model, state=str(folder / "server"))
    trainings = [training_of(file) for file in files]
    if arm.config.mode == "deployment":
        result = deployed(folder, paths, server)
        shared = last_state(server)
        for training in trainings:  # trained elsewhere: their own parts lie in the folders of the sites
            training.finish(shared)
    else:
        logging.getLogger("flwr").setLevel(logging.WARNING)  # it prints every round
        configs = {at + 2: {"site-file": str(path)} for at, path in enumerate(paths.values())}
        result = serve(InProcessGrid(app, configs), server)
    tables = [pd.read_parquet(Path(file.state) / PREDICTIONS) for file in files]
    rows = [SiteRound(**row) for row in result["rounds"]] + [_last(training) for training in trainings]
    return Outcome(rows, pd.concat(tables, ignore_index=True), trainings)


def _last(training: SiteTraining) -> SiteRound:
    """How a site does after the last round, in the place where the next round would begin."""
    number = training.run.settings.rounds + 1
    return SiteRound(number, training.data.site, "judged", validation=training.validated())


def _joined(found: Sequence[Outcome]) -> Outcome:
    return Outcome(
        rounds=[row for one in found for row in one.rounds],
        predictions=pd.concat([one.predictions for one in found], ignore_index=True),
        trainings=[training for one in found for training in one.trainings],
    )


def _met(arm: Arm) -> tuple[dict[str, bool], str]:
    """Whether the pretrained model has seen each participant of the test, and a note about those of training."""
    part_of = {name: part for parts in arm.parts.values() for name, part in parts.items()}
    test = [row for row in arm.rows if part_of.get(row.recording) == "test"]
    if arm.model is None:
        return {participant_of(row): False for row in test}, "starts untrained"
    load_model(arm.model)  # one that there was nothing to train on says so
    card, file = read_card(arm.model), str(arm.model / CARD)
    # where the runs of one person are kept apart, that person is known by the nature of it, and the rows are marked
    known = [row for row in test if participant_of(row) in arm.known]
    strange = [row for row in test if participant_of(row) not in arm.known]
    seen = check_contamination(card, known, allow_seen_subjects=True, file=file) | check_contamination(
        card, strange, allow_seen_subjects=arm.config.allow_seen_subjects, file=file
    )
    train = [row for row in arm.rows if part_of.get(row.recording) == "train"]
    met = check_contamination(card, train, allow_seen_subjects=True, file=file)
    return seen, f"pretraining has seen {sum(met.values())} of {len(met)} people of the training parts"


def _scored(
    table: pd.DataFrame, arm: Arm, seen: Mapping[str, bool], note: str, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of each site and of all, and of each test participant."""
    classes = np.array(sorted(arm.task.classes))
    scores, people = [], []
    for site, part in _places(table):
        found = score_predictions(
            part[classes].to_numpy(),
            part["label"].to_numpy(),
            part["participant"].to_numpy(),
            classes=classes,
            target=str(arm.config.task),
            probe="federated",
            rng=rng,
            rule=f"after {arm.config.rounds} rounds of {arm.config.local_epochs} passes, without a choice",
            note="; ".join(filter(None, [note, WITHIN if arm.known & set(part["participant"]) else ""])),
            recordings_N=part["recording"].to_numpy(),
            settings=ProbeSettings(n_permutations=arm.config.n_permutations),
        )
        met = any(seen[person] for person in set(part["participant"]))
        scores.append(found.drop(columns=["target", "probe"]).assign(site=site, task=arm.config.task, seen=met))
        if site != POOLED:
            people.append(person_table(part).assign(site=site))
    return pd.concat(scores, ignore_index=True), pd.concat(people, ignore_index=True)


def _places(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from ((str(site), part) for site, part in table.groupby("site"))
    yield POOLED, table


def _missing(site: str, reason: str) -> pd.DataFrame:
    return missing_row("", reason).drop(columns=["target", "probe"]).assign(site=site, task="", seen=False)
