"""Figure of what linear probes read off tokens: what should be there, what leaks, and the optimism of a split."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from neuroloom.figures.drawing import (
    CHANCE,
    TEXT,
    WIDTH,
    Look,
    band,
    check_columns,
    finish,
    hollow,
    large_text,
    looks_by_name,
    mark,
    n_of,
)
from neuroloom.figures.style import BEFORE, plot_notice
from neuroloom.figures.token_plots import RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXPECTED, LEAKS, EMPTY = "what should be there", "what leaks", "a label without meaning"
GROUPS = {"participant": LEAKS, "site": LEAKS, "coin": EMPTY}  # every other target is expected
FIRST = ("task", "event")
SHUFFLED = "published"
OTHERS = ("chance", "chance_high", "n_classes", "n_participants", "note")
COLUMNS = ("tokenizer", "fold", "features", "split", "target", "probe", "metric", "score", "ci_low", "ci_high", *OTHERS)
SLOT, GAP, HEADER = 0.24, 0.5, 1.3  # inches; the others in slots


@dataclass(frozen=True)
class Layout:
    """Where rows stand, from the top, in slots.

    Attributes
    ----------
    slots : dict
        Place of each (target, tokenizer, split, fold).
    targets, groups : dict
        Place of their words.
    height : float
    """

    slots: dict[tuple[Any, ...], float]
    targets: dict[str, float]
    groups: dict[str, float]
    height: float


def plot_token_probes(tokenizer_probes: pd.DataFrame) -> Figure:
    """What linear probes read off tokens, beside chance.

    Parameters
    ----------
    tokenizer_probes : DataFrame
        Rows (tokenizer, fold, features, split, target, probe, metric); score with ci_low and ci_high, chance,
        chance_high (97.5 % of the null), n_classes, n_participants (of the test), note. Only balanced accuracy is
        drawn.

    Returns
    -------
    Figure
        A panel for each kind of features. Filled marks: participants (time, sites) apart; hollow ones: windows
        shuffled within participants, as published. The band goes from mean chance to the limit of chance; a dash is
        the majority. Where no probe could be fitted stands why.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if tokenizer_probes.empty:
        return plot_notice("Probes", "No probe was fitted: too few recordings were tokenized.")
    check_columns(tokenizer_probes, "tokenizer_probes", COLUMNS, rule=RULE)
    table = tokenizer_probes[tokenizer_probes["metric"] == "balanced_accuracy"]
    if table.empty:
        return plot_notice("Probes", "No target of the probes has classes; numbers are in the table.")
    looks, layout = looks_by_name(table["tokenizer"]), _layout(table)
    kinds = sorted(table["features"].unique(), reverse=True)
    with large_text():
        figure = Figure(figsize=(WIDTH, 2.4 + SLOT * layout.height))
        for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
            _draw_frame(axes, layout, title=f"probe of the {kind}")
            for row in table[table["features"] == kind].to_dict("records"):
                _draw_probe(axes, row, layout.slots[_key(row)], looks[row["tokenizer"]])
        _write_targets(figure.axes[0], layout, table)
        return finish(figure, _legend(looks), columns=2)


def _key(row: dict[Any, Any]) -> tuple[Any, ...]:
    return row["target"], row["tokenizer"], row["split"], row["fold"]


def _layout(table: pd.DataFrame) -> Layout:
    """Groups, in them targets, in them tokenizers with the honest split first."""
    rows = {_key(row) for row in table.to_dict("records")}
    slots: dict[tuple[Any, ...], float] = {}
    targets: dict[str, float] = {}
    groups: dict[str, float] = {}
    y = 0.0
    for group in (EXPECTED, LEAKS, EMPTY):
        names = {row[0] for row in rows if GROUPS.get(row[0], EXPECTED) == group}
        if names:
            groups[group], y = y + 0.4, y + HEADER
        for name in sorted(names, key=_rank):
            keys = sorted((key for key in rows if key[0] == name), key=lambda key: (key[1], key[2] == SHUFFLED, key[3]))
            slots |= {key: y + 0.5 + at for at, key in enumerate(keys)}
            length = max(len(keys), 2)  # a target's name has two lines
            targets[name], y = y + len(keys) / 2, y + length + GAP
    return Layout(slots, targets, groups, y)


def _rank(target: str) -> tuple[int, str]:
    return (FIRST.index(target) if target in FIRST else len(FIRST)), target


def _draw_frame(axes: Axes, layout: Layout, *, title: str) -> None:
    axes.set(ylim=(layout.height, -0.3), xlim=(0, 1.02), title=title, xlabel="balanced accuracy")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "0.25", "0.5", "0.75", "1"])
    for y in list(layout.groups.values())[1:]:
        axes.axhline(y - 0.65, color=BEFORE, lw=0.8)
    axes.tick_params(axis="y", length=0)


def _write_targets(axes: Axes, layout: Layout, table: pd.DataFrame) -> None:
    words = []
    for name in layout.targets:
        part = table[table["target"] == name]
        n_classes = part["n_classes"].max()
        words.append(f"{name}\n{n_classes:.0f} classes, {n_of(part['n_participants'])}" if n_classes > 0 else name)
    axes.set_yticks(list(layout.targets.values()), labels=words)
    for name, y in layout.groups.items():
        axes.text(0.01, y, name, transform=axes.get_yaxis_transform(), weight="bold", va="center", fontsize=TEXT)


def _draw_probe(axes: Axes, row: dict[Any, Any], y: float, look: Look) -> None:
    if row["probe"] == "majority":
        axes.plot(row["score"], y, color="black", marker="|", ms=9, mew=1.4, ls="", zorder=2, label="majority")
        return
    if pd.isna(row["score"]):
        reason = textwrap.shorten(str(row["note"]).split(";")[0], 56, placeholder=" …")
        axes.text(0.02, y, reason, va="center", fontsize=10, color=look["color"])
        return
    axes.barh(y, row["chance_high"] - row["chance"], left=row["chance"], height=1, color=CHANCE, lw=0, zorder=1)
    axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=look["color"], lw=1.8, solid_capstyle="butt", zorder=2)
    shuffled = row["split"] == SHUFFLED
    drawn = {**hollow(look, 8), "mfc": "white"} if shuffled else {**look, "ms": 7.5, "ls": ""}
    axes.plot(row["score"], y, **drawn, zorder=3, label="shuffled" if shuffled else "apart")


def _legend(looks: dict[str, Look]) -> Sequence[Any]:
    grey = {"color": "#666666", "marker": "o"}
    return [
        *(mark(name, **look) for name, look in looks.items()),
        mark("filled: people (or time, for participant) apart", **grey),
        mark("hollow: windows shuffled, as published", **hollow(grey, 8)),
        mark("interval over participants", color="#666666", ls="-", lw=1.8),
        band("chance, mean to 97.5 %", CHANCE),
        mark("majority of training", color="black", marker="|", mew=1.4, ms=9),
    ]
