"""Figures that ask what a score is worth: what else could have answered, and why it varies."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.tables import KEYS, main_rows
from neuroloom.figures.drawing import (
    CHANCE,
    REMARK,
    SLOT,
    TEXT,
    WORDS,
    Look,
    band,
    check_columns,
    draw_rows,
    finish,
    is_left,
    large_text,
    looks_by_name,
    mark,
    panel_grid,
)
from neuroloom.figures.evaluation_plots import RULE, of_all_people
from neuroloom.figures.readers import BASELINE_COLOUR, BASELINES, MEASURES, reader_rows, readers_of
from neuroloom.figures.style import AFTER, BEFORE, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSICAL = {"band_power": "band power", **BASELINES}  # readers of audits that are no model
LEAKS = {"identity": "who it is", "site": "where it was"}
TASK_AUDITS = {"none": "signal as it is"}
LEAK_GROUP, TASK_GROUP = "what leaks", "the task, read from"
AUDITS = (*KEYS[:2], "fold", "audit", "probe", "metric", "score", "ci_low", "ci_high", "chance", "chance_high")
COUNTS = ("n_participants", "note")
VARIANCE = (*KEYS, "source", "variance", "part", "levels")
SOURCES = {"subject": AFTER, "split": "#E69F00", "seed": "#009E73", "rest": "#BBBBBB"}
SOURCE_WORDS = {"subject": "people", "split": "split (fold)", "seed": "seed", "rest": "rest"}
AUDIT_SLOT, FEW_MARKS = 0.2, 3  # inches of a mark, where an audit has so few
UNTOLD = "not told apart"


@dataclass(frozen=True)
class AuditRows:
    """Where audits stand, from the top, in slots.

    Attributes
    ----------
    slots : dict
        Place of each (audit, model, fold).
    audits, groups : dict
        Place of their words.
    height : float
    """

    slots: dict[tuple[str, str, int], float]
    audits: dict[str, float]
    groups: dict[str, float]
    height: float


def plot_audits(audits: pd.DataFrame) -> Figure:
    """What else could have answered: linear probes of people and sites, and of the task in what is left of a signal.

    Parameters
    ----------
    audits : DataFrame
        Rows (task, model, fold, audit, probe, metric); score with ci_low and ci_high, chance, chance_high, note.

    Returns
    -------
    Figure
        A panel for each task: a mark with its interval over participants for each audit, model and fold; the band goes
        from mean chance to the limit of chance. An audit that could not be made says why.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if audits.empty:
        return plot_notice("Audits", "No audit was made: evaluate.audits is off, or no task could be asked.")
    check_columns(audits, "evaluation_audits", [*AUDITS, *COUNTS], rule=RULE)
    table = _judged(audits)
    tasks, looks, layout = sorted(table["task"].unique()), _looks(table), _layout(table)
    slot = AUDIT_SLOT if _most_marks(layout) <= FEW_MARKS else 0.7 * AUDIT_SLOT
    with large_text():
        figure, panels = panel_grid(len(tasks), margin=1.2, row=0.8 + slot * layout.height)
        for axes, task in zip(panels, tasks, strict=True):
            part = table[table["task"] == task]
            _draw_frame(axes, layout, title=_title(part), labels=is_left(axes))
            for row in part.to_dict("records"):
                _draw_audit(axes, row, layout.slots[_key(row)], looks[row["model"]])
            axes.set_xlabel(" or ".join(MEASURES.get(name, name) for name in sorted(part["metric"].unique())))
        legend = [
            *(mark(CLASSICAL.get(name, name), **look) for name, look in looks.items()),
            mark("95 % over people", color="#666666", ls="-", lw=1.8),
            band("chance, mean to 97.5 %", CHANCE),
        ]
        return finish(figure, legend, columns=4)


def _judged(audits: pd.DataFrame) -> pd.DataFrame:
    """Rows of the probes, each by the score it is judged by."""
    probes = audits[audits["probe"] != "majority"]
    leaks = probes["audit"].isin(list(LEAKS))
    # who and where are classes, also in a task of numbers
    named = probes[leaks & (probes["metric"] == "balanced_accuracy")]
    return pd.concat([named, main_rows(probes[~leaks])], ignore_index=True)


def _looks(table: pd.DataFrame) -> dict[str, Look]:
    """As in all figures of the models; what is classical is black."""
    names = set(table["model"])
    looks = looks_by_name(name for name in names if name not in CLASSICAL)
    return {name: {"color": BASELINE_COLOUR, "marker": "D"} for name in sorted(names & set(CLASSICAL))} | looks


def _key(row: dict[Any, Any]) -> tuple[str, str, int]:
    return str(row["audit"]), str(row["model"]), int(row["fold"])


def _layout(table: pd.DataFrame) -> AuditRows:
    """Leaks, then the task; the audits as the table has them, in them the models."""
    looks, keys = list(_looks(table)), {_key(row) for row in table.to_dict("records")}
    slots: dict[tuple[str, str, int], float] = {}
    audits: dict[str, float] = {}
    groups: dict[str, float] = {}
    y = 0.4
    named = list(dict.fromkeys(table["audit"]))
    for group, wanted in ((LEAK_GROUP, True), (TASK_GROUP, False)):
        names = [name for name in named if (name in LEAKS) == wanted]
        if names:
            groups[group], y = y + 0.6, y + 1.5
        for name in names:
            own = sorted((key for key in keys if key[0] == name), key=lambda key: (looks.index(key[1]), key[2]))
            slots |= {key: y + 0.5 + at for at, key in enumerate(own)}
            length = max(len(own), 1.4)
            audits[name], y = y + len(own) / 2, y + length + 0.5
    return AuditRows(slots, audits, groups, y)


def _most_marks(layout: AuditRows) -> int:
    return max(sum(key[0] == name for key in layout.slots) for name in layout.audits)


def _draw_frame(axes: Axes, layout: AuditRows, *, title: str, labels: bool) -> None:
    words = {**LEAKS, **TASK_AUDITS}
    axes.set(ylim=(layout.height, 0.0), title=title)
    axes.set_yticks(list(layout.audits.values()), labels=[words.get(name, name) for name in layout.audits])
    axes.tick_params(axis="y", length=0, labelleft=labels)
    for at, (name, y) in enumerate(layout.groups.items()):
        if at:
            axes.axhline(y - 0.8, color=BEFORE, lw=0.8)
        axes.text(0.01, y, name, transform=axes.get_yaxis_transform(), weight="bold", va="center", fontsize=TEXT)


def _title(table: pd.DataFrame) -> str:
    """Task, and the people that are tested; the leaks have others."""
    leaks = table["audit"].isin(list(LEAKS))
    tested, known = (part["n_participants"].max() for part in (table[~leaks], table[leaks]))
    counts = f"n = {tested:.0f} people" if tested > 0 else "nobody was tested"
    return f"{table['task'].iloc[0]}\n{counts}" + (f", {known:.0f} for what leaks" if known > 0 else "")


def _draw_audit(axes: Axes, row: dict[Any, Any], y: float, look: Look) -> None:
    if pd.isna(row["score"]):
        reason = textwrap.shorten(f"no value: {row['note']}", 56, placeholder=" …")
        axes.text(0.01, y, reason, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=look["color"])
        return
    axes.barh(y, row["chance_high"] - row["chance"], left=row["chance"], height=1, color=CHANCE, lw=0, zorder=1)
    axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=look["color"], lw=1.8, solid_capstyle="butt", zorder=2)
    axes.plot(row["score"], y, **look, ms=6.5, ls="", zorder=3, label="score")


def plot_variance(variance: pd.DataFrame) -> Figure:
    """Why scores of participants vary, all training people used.

    Parameters
    ----------
    variance : DataFrame
        Rows (task, model, regime, share, source); variance, part (of the sum), levels.

    Returns
    -------
    Figure
        A panel for each task: a bar for each reader, divided among people, split, seed and the rest; at its right the
        SD that all parts make together. A source that cannot be told apart is named in the legend.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if variance.empty:
        return plot_notice("Variance", "No reader was scored on more than one participant or run.")
    check_columns(variance, "evaluation_variance", VARIANCE, rule=RULE)
    table = of_all_people(variance)
    tasks, rows = sorted(table["task"].unique()), reader_rows(readers_of(table))
    with large_text():
        figure, panels = panel_grid(len(tasks), margin=1.1, row=0.9 + SLOT * rows.height)
        for axes, task in zip(panels, tasks, strict=True):
            part = table[table["task"] == task]
            draw_rows(axes, rows)
            for (model, regime), sources in part.groupby(["model", "regime"]):
                _draw_parts(axes, sources.set_index("source"), rows.slots[str(model), str(regime)])
            axes.set(xlim=(0, 1.16), xticks=[0, 0.25, 0.5, 0.75, 1], title=_levels_title(part))
            axes.set_xticklabels(["0", "0.25", "0.5", "0.75", "1"])
            axes.set_xlabel("part of the variance of people's scores", loc="left")
        lost = untold(table)
        words = {name: f"{word}: {UNTOLD}" if name in lost else word for name, word in SOURCE_WORDS.items()}
        return finish(figure, [band(words[name], colour) for name, colour in SOURCES.items()], columns=4)


def _draw_parts(axes: Axes, sources: pd.DataFrame, y: float) -> None:
    parts = sources["part"].reindex(list(SOURCES))
    if not parts.notna().any():
        axes.text(0.01, y, f"no value: {_why_none(sources)}", va="center", fontsize=REMARK, color=WORDS)
        return
    left = 0.0
    for name, width in parts.dropna().items():
        axes.barh(y, width, left=left, height=0.7, color=SOURCES[str(name)], lw=0, label=str(name))
        left += width
    total = float(np.sqrt(sources["variance"].sum()))
    axes.text(1.015, y, f"SD {total:.2f}", va="center", fontsize=REMARK, color=WORDS)


def _why_none(sources: pd.DataFrame) -> str:
    return f"sources are {UNTOLD} in so few runs" if sources["variance"].isna().all() else "scores do not vary"


def _levels_title(table: pd.DataFrame) -> str:
    """Task, and how many people, folds and seeds there were."""
    levels = table.groupby("source")["levels"].max()
    counts = [f"n = {levels.get('subject', 0):.0f} people"]
    for name, word in (("split", "fold"), ("seed", "seed")):
        counts.append(f"{levels.get(name, 0):.0f} {word}{'' if levels.get(name) == 1 else 's'}")
    return f"{table['task'].iloc[0]}\n{', '.join(counts)}"


def untold(variance: pd.DataFrame) -> Sequence[str]:
    """Sources that the scores of no reader tell apart."""
    known = variance.groupby("source")["variance"].count()
    return [name for name in SOURCES if not known.get(name, 0)]
