"""The ClientApp of Flower: what a site does when a message comes. The same in one process and behind TLS.

A SuperNode is told one thing, `site-file` in its node config (`site.SiteFile`), and the app opens nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from neuroloom.evaluation.probes import participant_scores
from neuroloom.federated.config import FederateConfig, StrategyConfig
from neuroloom.federated.secure import Facts, asked_securely, masked_if_asked, secure_reply
from neuroloom.federated.site import Run, SiteData, SiteFile, open_site, read_site_file
from neuroloom.federated.training import SiteTraining
from neuroloom.federated.wire import ARRAYS, FACTS, WEIGHT, RefusedError, Tensors, digest, reply_message
from neuroloom.records import Array

PREDICTIONS = "predictions.parquet"  # stays at the site
FACT_COLUMNS = ["site", "participant", "recording", "label"]  # of predictions; the others are classes
KEPT = 64  # sites of one process, in a simulation
app = ClientApp()


@app.train(mods=[masked_if_asked])
def train(message: Message, context: Context) -> Message:
    """A round: shared weights in, shared weights out."""
    before = perf_counter()
    file, training = _site(context)
    schema, asked = training.schema, asked_securely(message)
    number, tensors = _received(message, training, asked)
    update = training.round(number, tensors)
    metrics: dict[str, float | list[float]] = {
        WEIGHT: float(update.n_windows),
        "loss": update.loss,
        "validation": update.validation,
        "train-seconds": update.seconds,
        "seconds": perf_counter() - before,
        "started-from": float(update.started_from),
        "epsilon": update.epsilon,
    }
    if asked is not None:
        return secure_reply(message, schema.flat(update.tensors) - schema.flat(tensors), {"site": file.site} | metrics)
    facts = _facts(number, tensors, training, file)
    return reply_message(message, tensors=schema.pack(update.tensors), metrics=metrics, facts=facts)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """After the last round: scores of the people of the test, without their names; predictions stay here."""
    file, training = _site(context)
    number, tensors = _received(message, training)
    proba_NL = training.finish(tensors)
    table = prediction_table(training, proba_NL)
    folder = Path(file.state)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / PREDICTIONS)
    return reply_message(
        message,
        tensors=None,
        metrics={
            WEIGHT: float(len(table)),
            "validation": training.validated(),
            "balanced-accuracy": person_table(table)["score"].tolist(),
        },
        facts=_facts(number, tensors, training, file),
    )


def _facts(
    number: int, tensors: Tensors, training: SiteTraining, file: SiteFile
) -> dict[str, str | int | float | bool]:
    """What a reply says of itself."""
    return {"round": number, "base": digest(tensors), "schema": training.schema.digest, "site": file.site}


def prediction_table(training: SiteTraining, proba_NL: Array) -> pd.DataFrame:
    """Each test window: site, participant, recording, label, and probability of each class."""
    data, classes = training.data, training.run.classes
    windows_N = data.parts["test"]
    return pd.DataFrame(
        {
            "site": data.sites_W[windows_N],
            "participant": data.participants_W[windows_N],
            "recording": data.recordings_W[windows_N],
            "label": np.array(classes)[data.target_W[windows_N]],
            **{name: proba_NL[:, at] for at, name in enumerate(classes)},
        }
    )


def person_table(table: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy of each participant of predictions, as `participant_scores`."""
    classes = np.array(table.columns.drop(FACT_COLUMNS))
    said = classes[table[list(classes)].to_numpy().argmax(axis=1)]
    known = table[["participant", "label"]].assign(predicted=said)
    return participant_scores(known, "", True).drop(columns="target")


def _site(context: Context) -> tuple[SiteFile, SiteTraining]:
    path = context.node_config.get("site-file")
    if not isinstance(path, str):
        raise ValueError("node config: no site-file; start the SuperNode with --node-config 'site-file=\"PATH\"'")
    return _opened(path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=KEPT)
def _opened(path: str, changed: int) -> tuple[SiteFile, SiteTraining]:
    """A file is read once in a process, unless it changes, however many messages come."""
    file = read_site_file(Path(path))
    return file, training_of(file)


def training_of(file: SiteFile) -> SiteTraining:
    """The training of one site, the same one for equal files."""
    return _trained(file.model_dump_json())


@lru_cache(maxsize=KEPT)
def _trained(text: str) -> SiteTraining:
    file = SiteFile.model_validate_json(text)
    # windows depend neither on the repetition nor on what is shared of a network
    plain = Run(
        name="",
        strategy=StrategyConfig(kind="local", network=file.run.strategy.network),
        settings=FederateConfig(),
        task=file.run.task,
        seed=0,
    )
    return site_training(
        file, _windows(file.model_copy(update={"run": plain, "state": "", "ledger": None}).model_dump_json())
    )


def site_training(file: SiteFile, data: SiteData) -> SiteTraining:
    """The training of one site from its windows."""
    return SiteTraining(
        data,
        file.run,
        folder=Path(file.state),
        model=Path(file.model) if file.model else None,
        ledger=Path(file.ledger) if file.ledger else None,
    )


@lru_cache(maxsize=KEPT)
def _windows(text: str) -> SiteData:
    return open_site(SiteFile.model_validate_json(text))


def forget() -> None:
    """Drop what was kept of sites."""
    for kept in (_opened, _trained, _windows):
        kept.cache_clear()


def _received(
    message: Message, training: SiteTraining, asked: tuple[Array, Facts] | None = None
) -> tuple[int, Tensors]:
    """Round and shared weights of a message, or of what secure aggregation asked with it.

    What the server sends is checked as the server checks a site.
    """
    schema = training.schema
    facts: Any = asked[1] if asked else message.content.config_records[FACTS]
    if facts["schema"] != schema.digest:
        raise RefusedError(f"the server shares other tensors ({facts['schema']}) than this site ({schema.digest})")
    tensors = schema.split(asked[0]) if asked else schema.unpack(message.content.array_records[ARRAYS])
    if digest(tensors) != facts["digest"]:
        raise RefusedError("the shared weights are not those that the server named")
    if facts["run"] != training.run.name:
        raise RefusedError(f"the server runs {facts['run']}, the site file is of {training.run.name}")
    return int(facts["round"]), tensors
