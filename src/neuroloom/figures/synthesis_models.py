"""Models of synthesis, splits and groups of parcels, in the words, the order and the colours of all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import Look, Rows, rows_of
from neuroloom.figures.style import AFTER, BAD
from neuroloom.records import Array
from neuroloom.synthesis.ceiling import INVISIBLE, VISIBLE, WEAK
from neuroloom.synthesis.config import Division
from neuroloom.synthesis.nulls import MEASURED, OTHER, PHASE, SHIFT
from neuroloom.synthesis.scoring import BETWEEN, LABELS, POOLED

RULE = "collect_synthesis"
LEVEL = 0.05  # of false discoveries
OURS, CONTROL, MEAN = "haemodynamic", "artefact", "mean"
ORDER = (MEAN, "ridge", CONTROL, "cnn", "neurobolt", OURS)
GROUPS = (VISIBLE, WEAK, INVISIBLE)
NULLS = (PHASE, SHIFT, OTHER)
TESTS = ["q_phase", "q_shift", "q_other"]
NULL_LOOKS: dict[str, Look] = {
    PHASE: {"color": "#7A7A7A", "marker": "*"},
    SHIFT: {"color": "#7A7A7A", "marker": "x"},
    OTHER: {"color": "#7A7A7A", "marker": "d"},
    LABELS: {"color": "#7A7A7A", "marker": "+"},
}
SPLITS = {"subject": "other people", "site": "other sites", "session": "other sessions", "scan": "end of each scan"}
KIND_LOOKS: dict[str, Look] = {
    MEAN: {"color": "#999999", "marker": "o"},
    "ridge": {"color": "#000000", "marker": "D"},
    CONTROL: {"color": BAD, "marker": "X"},
    "cnn": {"color": "#E69F00", "marker": "s"},
    "neurobolt": {"color": "#CC79A7", "marker": "^"},
}
OWN_LOOKS: tuple[Look, ...] = (
    {"color": AFTER, "marker": "o"},
    {"color": "#56B4E9", "marker": "v"},
    {"color": "#009E73", "marker": "P"},
    {"color": AFTER, "marker": "p"},
)
Model = tuple[str, str]  # name and kind


def models_of(table: pd.DataFrame) -> list[Model]:
    """Models of a table, from the simplest to ours; those of one kind by name."""
    found = [(str(name), str(kind)) for name, kind in table[["model", "kind"]].drop_duplicates().to_numpy()]
    return sorted(found, key=lambda model: (ORDER.index(model[1]) if model[1] in ORDER else len(ORDER), model[0]))


def model_rows(table: pd.DataFrame) -> Rows:
    """Models from the simplest to ours, without a heading."""
    named = rows_of({name: ("", name) for name, _ in models_of(table)})
    lowest = min(named.slots.values()) - 0.5
    return Rows({name: y - lowest for name, y in named.slots.items()}, named.names, {}, named.height - lowest)


def looks_of(table: pd.DataFrame) -> dict[str, Look]:
    """Colour and marker of each model: by kind, and in the order of their names where there are several of ours."""
    # by name and not by place, so that fewer models change as few colours as can be
    own = sorted(name for name, kind in models_of(table) if kind not in KIND_LOOKS)
    looks = {name: KIND_LOOKS[kind] for name, kind in models_of(table) if kind in KIND_LOOKS}
    return looks | {name: OWN_LOOKS[at % len(OWN_LOOKS)] for at, name in enumerate(own)}


def splits_of(table: pd.DataFrame) -> list[str]:
    """Splits, other people first."""
    return sorted(map(str, table["split"].unique()), key=list(get_args(Division)).index)


def groups_of(table: pd.DataFrame) -> list[str]:
    """Groups of parcels, those that EEG can see first; all parcels come last, and alone where nobody knows groups."""
    found = {name for names in table["group"].dropna().unique() for name in str(names).split(BETWEEN)} - {"", POOLED}
    return [*(name for name in (*GROUPS, *sorted(found - set(GROUPS))) if name in found), POOLED]


def main_group(table: pd.DataFrame) -> str:
    """The group that models are compared in: visible parcels where the truth is known."""
    return groups_of(table)[0]


def split_name(split: str) -> str:
    """What is kept apart, in words."""
    return SPLITS.get(split, f"other {split}s")


def group_name(group: str) -> str:
    """A group in words."""
    return {POOLED: "all parcels", WEAK: "weakly visible"}.get(group, group)


def baseline_of(differences: pd.DataFrame, table: pd.DataFrame) -> str | None:
    """The model that others are compared with; ridge regression where no table says it."""
    if len(differences):
        return str(differences["other"].iloc[0])
    ridges = [name for name, kind in models_of(table) if kind == "ridge"]
    return ridges[0] if ridges else None


def compared(models: Sequence[Model], baseline: str | None) -> list[str]:
    """Models that may be the best: neither the baseline, nor what is there to fail."""
    return [name for name, kind in models if name != baseline and kind not in (MEAN, CONTROL, "ridge")]


def shown_models(parcels: pd.DataFrame, baseline: str | None = None) -> list[str]:
    """The model of ours that is best in the parcels that matter, of those asked about most people, and the baseline.

    Parameters
    ----------
    parcels : DataFrame
        `synthesis_parcels` of one split.
    baseline : str, optional
        Ridge regression where there is no name.
    """
    table = parcels[parcels["target"] == MEASURED]
    kinds = dict(models_of(table))
    ridges = [name for name, kind in kinds.items() if kind == "ridge"]
    first = baseline if baseline in kinds else next(iter(ridges), None)
    rows = table[table["model"].isin(compared(list(kinds.items()), first)) & table["r"].notna()]
    own = rows[rows["kind"] == OURS]
    rows = own if len(own) else rows
    # the best of a few people would be the luckiest
    rows = rows[rows["n_participants"] == rows["n_participants"].max()]
    visible = in_group(rows, VISIBLE)
    means = (visible if len(visible) else rows).groupby("model")["r"].mean()
    return [*([str(means.idxmax())] if len(means) else []), *([first] if first else [])]


def in_group(parcels: pd.DataFrame, group: str) -> pd.DataFrame:
    """Rows of the parcels of a group; the groups of a parcel are one string."""
    if group == POOLED:
        return parcels
    return parcels[[group in str(names).split(BETWEEN) for names in parcels["group"].fillna("")]]


def is_found(parcels: pd.DataFrame, *, by_any: bool = False) -> Array:
    """Whether chance is ruled out for a parcel, after correction over the parcels, (P,).

    Parameters
    ----------
    parcels : DataFrame
        Measured rows of `synthesis_parcels`.
    by_any : bool
        By one null at least, which is the stricter question where nothing should be found; else by all that exist.
    """
    q_PN = parcels[TESTS].to_numpy(float)
    known_PN = np.isfinite(q_PN)
    if by_any:
        return np.asarray((np.where(known_PN, q_PN, 1.0) <= LEVEL).any(axis=1))
    return np.asarray((np.where(known_PN, q_PN, 0.0) <= LEVEL).all(axis=1) & known_PN.any(axis=1))


def only(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Rows with these values."""
    chosen = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
    return table[chosen]
