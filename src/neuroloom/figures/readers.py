"""Who reads a task, in the words and the order of all figures and tables of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from neuroloom.evaluation.tables import BASELINE
from neuroloom.figures.drawing import Look, Rows, looks_by_name, rows_of

BASELINES = {
    "majority": "majority",
    "band_power_lda": "band power + LDA",
    "csp_lda": "CSP + LDA",
    "riemann": "Riemann",
    "eegnet": "EEGNet",
    "shallow": "ShallowFBCSP",
}
REGIMES = {
    "linear": "linear, frozen",
    "attentive": "attentive, frozen",
    "lora": "LoRA",
    "full": "all fine-tuned",
    "scratch": "from scratch",
}
KINDS = {"linear": "frozen", "attentive": "frozen", "lora": "fine-tuned", "full": "fine-tuned", "scratch": "scratch"}
KIND_MARKS: dict[str, Look] = {
    "frozen": {"marker": "o"},
    "fine-tuned": {"marker": "s"},
    "scratch": {"marker": "o", "mfc": "white", "mew": 1.5},
    BASELINE: {"marker": "D"},
}
BASELINE_COLOUR = "#000000"
MEASURES = {"balanced_accuracy": "balanced accuracy", "r2": "R²"}
Reader = tuple[str, str]  # model, or name of the baseline, and regime


def readers_of(table: pd.DataFrame) -> list[Reader]:
    """Readers of a table, baselines first, then models by name; each group in the order of effort."""
    pairs = table[["model", "regime"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(((str(model), str(regime)) for model, regime in pairs), key=_rank)


def _rank(reader: Reader) -> tuple[Any, ...]:
    model, regime = reader
    if regime == BASELINE:
        return 0, "", _place(model, list(BASELINES)), model
    return 1, model, _place(regime, list(REGIMES)), regime


def _place(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known)


def name_of(reader: Reader) -> str:
    """A reader in words, without the name of its model."""
    model, regime = reader
    return BASELINES.get(model, model) if regime == BASELINE else REGIMES.get(regime, regime)


def full_name(reader: Reader) -> str:
    """A reader in words: `reve (linear, frozen)`."""
    return name_of(reader) if reader[1] == BASELINE else f"{reader[0]} ({name_of(reader)})"


def kind_of(reader: Reader) -> str:
    """What a reader is: a baseline, frozen, fine-tuned or from scratch."""
    return BASELINE if reader[1] == BASELINE else KINDS.get(reader[1], "fine-tuned")


def look_of(reader: Reader, models: Sequence[str]) -> Look:
    """Colour by model, mark by kind."""
    colour = BASELINE_COLOUR if reader[1] == BASELINE else looks_by_name(models)[reader[0]]["color"]
    return {"color": colour, **KIND_MARKS[kind_of(reader)]}


def models_of(table: pd.DataFrame) -> list[str]:
    """Names of the models of a table, baselines aside."""
    return sorted(table.loc[table["regime"] != BASELINE, "model"].unique())


def reader_rows(readers: Sequence[Reader]) -> Rows:
    """Places of the readers, baselines and models apart."""
    groups = {reader: "baselines" if reader[1] == BASELINE else reader[0] for reader in readers}
    return rows_of({reader: (group, name_of(reader)) for reader, group in groups.items()})
