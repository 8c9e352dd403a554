"""Rows of the tables of a paper, in the words and the order of the figures."""

from __future__ import annotations

import pandas as pd

from neuroloom.evaluation.tables import main_rows
from neuroloom.figures.arms import arm_name, arm_of, arms_of, main_scores
from neuroloom.figures.evaluation_plots import of_all_people
from neuroloom.figures.readers import MEASURES, full_name, readers_of
from neuroloom.figures.synthesis_models import NULLS, group_name, groups_of, models_of, split_name, splits_of
from neuroloom.synthesis.nulls import MEASURED
from neuroloom.tables import study_summary

__all__ = ["choose_evaluation", "choose_federation", "choose_synthesis", "choose_tokenizers", "study_summary"]


def choose_evaluation(summary: pd.DataFrame) -> pd.DataFrame:
    """A row for each reader of each task, all training people used, baselines first."""
    table = of_all_people(main_rows(summary))
    place = {reader: at for at, reader in enumerate(readers_of(table))}
    pairs = list(zip(table["model"], table["regime"], strict=True))
    named = table.assign(
        reader=[full_name(pair) for pair in pairs],
        place=[place[pair] for pair in pairs],
        measure=[MEASURES.get(name, name) for name in table["metric"]],
    )
    return named.sort_values(["task", "place"], kind="stable")


def choose_federation(summary: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm at each site, and at all of them."""
    table = main_scores(summary)
    place = {arm: at for at, arm in enumerate(arms_of(table))}
    arms = [arm_of(row) for row in table.to_dict("records")]
    named = table.assign(arm=[arm_name(arm) for arm in arms], place=[place[arm] for arm in arms])
    return named.sort_values(["place", "site"], kind="stable")


def choose_synthesis(summary: pd.DataFrame) -> pd.DataFrame:
    """A row for each model, split and group, with its nulls beside."""
    keys = ["model", "split", "group"]
    table = summary[summary["target"] == MEASURED]
    for null in NULLS:
        other = summary.loc[summary["target"] == null, [*keys, "r"]]
        table = table.merge(other.rename(columns={"r": f"null: {null}"}), on=keys, how="left")
    orders = {"split": splits_of(table), "group": groups_of(table), "model": [name for name, _ in models_of(table)]}
    ranks = {f"{key}_rank": table[key].map(names.index) for key, names in orders.items()}
    table = table.assign(**ranks, percent=100 * table["significant"]).sort_values(list(ranks))
    return table.assign(split=table["split"].map(split_name), group=table["group"].map(group_name))


def choose_tokenizers(tokenizers: pd.DataFrame) -> pd.DataFrame:
    """A row for each tokenizer, fold and device."""
    return tokenizers.sort_values(["tokenizer", "fold", "device"])
