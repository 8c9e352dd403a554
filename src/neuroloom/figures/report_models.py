"""The report's section on pretraining: in words, whether models learned, and what size and data were worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neuroloom.figures.drawing import count_of
from neuroloom.figures.model_plots import (
    NULLS,
    curve_of,
    family,
    last_losses,
    loss_of,
    nulls_at_end,
    reason_of,
    validated,
)
from neuroloom.figures.report_pictures import embed_figures
from neuroloom.figures.report_tables import select, to_table
from neuroloom.figures.verdicts import Answer, Verdict, but

CLEAR = 0.01  # of the loss: a smaller lead over a null, which has no interval, proves nothing
MODEL_COLUMNS = {
    "model": "model",
    "fold": "fold",
    "architecture": "architecture",
    "role": "role",
    "n_train": "recordings (training)",
    "n_validation": "recordings (validation)",
    "n_people": "people",
    "parameters": "weights",
    "steps": "steps",
    "tokens": "tokens",
    "loss": "training loss",
    "last": "validation loss",
    "null": "best null",
    "unusable": "no model because",
}


def models_section(tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path]) -> dict[str, Any]:
    """What the template needs: verdicts, figures and the table of the models."""
    curves, models = tables["pretraining"], tables["models"]
    return {
        "verdicts": [*pretraining_verdicts(curves, models), *scaling_verdicts(curves, models)],
        "figures": embed_figures(drawn, "models"),
        "table": to_table(select(_with_losses(curves, models), MODEL_COLUMNS), "models"),
    }


def _with_losses(curves: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Cards with the last validation loss and the lowest null."""
    if models.empty:
        return models
    lows = [
        min(nulls_at_end(curve_of(curves, card)).values(), default=float("nan")) for card in models.to_dict("records")
    ]
    return last_losses(curves, models).assign(null=lows)


def pretraining_verdicts(curves: pd.DataFrame, models: pd.DataFrame) -> list[Verdict]:
    """Whether each model (not those of the sweep) got below its nulls, on recordings of other people.

    Parameters
    ----------
    curves, models : DataFrame
        `pretraining` and `models`.
    """
    cards = models[models["role"] == "model"] if len(models) else models
    several = cards.groupby("model")["fold"].nunique() if len(cards) else None
    verdicts = []
    for card in last_losses(curves, cards).to_dict("records") if len(cards) else ():
        name = (
            f"{card['model']}, fold {card['fold']}"
            if several is not None and several[card["model"]] > 1
            else card["model"]
        )
        curve = curve_of(curves, card)
        if curve.empty:
            verdicts.append(Verdict("unknown", f"{name}: {reason_of(cards[cards['model'] == card['model']])}."))
        else:
            verdicts.append(_learned(str(name), curve, float(card["last"])))
    return verdicts


def _learned(name: str, curve: pd.DataFrame, last: float) -> Verdict:
    nulls = nulls_at_end(curve)
    if pd.isna(last) or not nulls:
        return Verdict("unknown", f"{name}: it was not validated beside a null.")
    below = [value > last for value in nulls.values()]
    listed = " and ".join(f"{value:.3g} ({NULLS[null].removeprefix('null: ')})" for null, value in nulls.items())
    tokens = count_of(float(validated(curve, loss_of(curve))["tokens"].iloc[-1]))
    lead = min(nulls.values()) / last - 1
    answer: Answer = ("yes" if lead > CLEAR else "open") if all(below) else "in part" if any(below) else "no"
    words = {"in part": "is below only some of", "no": "is not below"}.get(answer, "is below")
    little = f"; below the nearest by {100 * lead:.1f} % alone{but(answer)}" if answer == "open" else ""
    return Verdict(
        answer, f"{name}: after {tokens} tokens its validation loss of {last:.3g} {words} the nulls, {listed}{little}."
    )


def scaling_verdicts(curves: pd.DataFrame, models: pd.DataFrame) -> list[Verdict]:
    """Whether the loss falls with size, and with data, in the models of the sweep.

    Parameters
    ----------
    curves, models : DataFrame
        `pretraining` and `models`.
    """
    if models.empty or not (models["role"] == "sweep").any():
        return []
    cards = last_losses(curves, family(models)).dropna(subset=["last", "parameters"])
    means = cards.groupby(["model", "less"], sort=False)[["parameters", "n_train", "last"]].mean().reset_index()
    full = means[~means["less"]].sort_values("parameters")
    verdicts = [_by_size(full)] if len(full) > 1 else []
    for row in means[means["less"]].to_dict("records"):
        same = full[full["parameters"] == row["parameters"]]
        if len(same):
            verdicts.append(_by_data(row, same.iloc[0].to_dict()))
    return verdicts or [Verdict("unknown", "The sweep has no two models to compare.")]


def _by_size(full: pd.DataFrame) -> Verdict:
    steps = full["last"].diff().dropna()
    answer: Answer = "yes" if (steps < 0).all() else "in part" if (steps < 0).any() else "no"
    words = {"yes": "falls with each size", "in part": "does not fall with each size", "no": "does not fall with size"}
    listed = ", ".join(f"{row['last']:.3g} ({count_of(row['parameters'])} weights)" for row in full.to_dict("records"))
    return Verdict(answer, f"The validation loss {words[answer]}: {listed}.")


def _by_data(less: Mapping[Any, Any], full: Mapping[Any, Any]) -> Verdict:
    better = full["last"] < less["last"]
    words = "lower" if better else "not lower"
    counts = (
        f"{full['n_train']:.0f} recordings ({full['last']:.3g}) than with {less['n_train']:.0f} ({less['last']:.3g})"
    )
    return Verdict("yes" if better else "no", f"At the same size, the validation loss is {words} with {counts}.")
