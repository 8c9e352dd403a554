"""Training curves and cards of many models as tidy tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

CURVE = ("step", "tokens", "lr", "loss", "grad_norm", "seconds", "waiting_seconds")


def pretraining_tables(
    curves: Sequence[Path], cards: Sequence[Path], *, sweep: Collection[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves and cards of the models of a study.

    Parameters
    ----------
    curves, cards : sequence of Path
        `<model>/fold-<fold>/metrics.parquet` and `card.json`.
    sweep : collection of str
        Models that were trained to be compared in size alone.

    Returns
    -------
    curves : DataFrame
        model, fold, and a column for each thing measured: step, tokens (all seen until then), loss, `validation_*` ...
    models : DataFrame
        model, fold, architecture, role (`model` or `sweep`), unusable (the reason where there is no model), n_train,
        n_validation (recordings), n_people, and the facts of the card.
    """
    lines = []
    for path in curves:
        table = pd.read_parquet(path)
        if len(table):
            # the loop counts the tokens of a step
            table = table.assign(tokens=table["tokens"].cumsum())
            lines.append(table.assign(**_entities(path)))
    empty = pd.DataFrame({"model": pd.Series(dtype="string"), **{name: pd.Series(dtype=float) for name in CURVE}})
    return (pd.concat(lines, ignore_index=True) if lines else empty), pd.DataFrame([_of_card(p, sweep) for p in cards])


def _entities(path: Path) -> dict[str, Any]:
    return {"model": path.parent.parent.name, "fold": int(path.parent.name.removeprefix("fold-"))}


def _of_card(path: Path, sweep: Collection[str]) -> dict[str, Any]:
    card, entities = json.loads(path.read_text()), _entities(path)
    counts = card.get("recordings", {})
    return {
        **entities,
        "architecture": card.get("architecture", ""),
        "role": "sweep" if entities["model"] in sweep else "model",
        "unusable": card.get("unusable", {}).get("reason", ""),
        "n_train": counts.get("train", 0),
        "n_validation": counts.get("validation", 0),
        "n_people": len(card.get("seen_subjects", [])),
        **{name: value for name, value in card.get("facts", {}).items() if not isinstance(value, dict | list)},
    }
