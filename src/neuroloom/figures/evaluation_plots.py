"""Figures of the evaluation: every reader in every task beside chance, and what few people are enough for."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.tables import KEYS, MAIN, REFERENCE, best_rows, main_rows
from neuroloom.figures.drawing import (
    CHANCE,
    REMARK,
    SLOT,
    SMALL,
    WIDTH,
    WORDS,
    Look,
    band,
    check_columns,
    draw_rows,
    draw_score,
    finish,
    large_text,
    looks_by_name,
    mark,
    panel_grid,
    words_on,
)
from neuroloom.figures.readers import (
    BASELINE_COLOUR,
    KIND_MARKS,
    MEASURES,
    REGIMES,
    full_name,
    look_of,
    models_of,
    name_of,
    reader_rows,
    readers_of,
)
from neuroloom.figures.style import AFTER, BAD, BEFORE, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE = "collect_evaluation"
REGIME_LOOKS: dict[str, Look] = {
    "linear": {"color": AFTER, "marker": "o", "ls": "-"},
    "attentive": {"color": "#56B4E9", "marker": "^", "ls": "-"},
    "lora": {"color": "#E69F00", "marker": "s", "ls": "--"},
    "full": {"color": BAD, "marker": "v", "ls": "--"},
    "scratch": {"color": "#CC79A7", "marker": "o", "mfc": "white", "ls": ":"},
}
OTHER_LOOK: Look = {"color": "#009E73", "marker": "P", "ls": "-."}
REFERENCE_LOOK: Look = {"color": BASELINE_COLOUR, "marker": "D", "ls": "-"}
BEST_LOOK: Look = {"color": "#666666", "marker": "x", "mew": 2.0, "ls": (0, (4, 2))}
ROWS = (*KEYS, "metric", "fold", "seed", "score", "note")
MEANS = ("score", "ci_low", "ci_high", "chance", "chance_high", "n_runs", "n_failed", "n_participants", "n_windows")
SUMMARY = (*KEYS, "metric", *MEANS, "n_classes", "q", "seen", "split", "note")


def plot_downstream(evaluation: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Every reader in every task, all training people used.

    Parameters
    ----------
    evaluation : DataFrame
        Rows (task, model, regime, share, fold, seed, metric); score, note.
    summary : DataFrame
        The same without fold and seed: mean score with its interval over participants, chance, chance_high, q, counts.

    Returns
    -------
    Figure
        A panel for each task, with baselines apart from models. Small points are runs (seeds and folds), the large
        mark is their mean; the band goes from mean chance to the limit of chance. The upper axis is chance-corrected.
        A reader without a score says why.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if summary.empty:
        return plot_notice("Tasks", "No task was asked.")
    check_columns(evaluation, "evaluation", ROWS, rule=RULE)
    check_columns(summary, "evaluation_summary", SUMMARY, rule=RULE)
    means, runs = of_all_people(main_rows(summary)), of_all_people(main_rows(evaluation))
    tasks, models, rows = sorted(means["task"].unique()), models_of(means), reader_rows(readers_of(means))
    with large_text():
        figure, panels = panel_grid(len(tasks), margin=1.4, row=1.5 + SLOT * rows.height)
        for axes, task in zip(panels, tasks, strict=True):
            part = means[means["task"] == task]
            draw_rows(axes, rows)
            for row in part.to_dict("records"):
                reader = (row["model"], row["regime"])
                points = runs[(runs["task"] == task) & (runs["model"] == reader[0]) & (runs["regime"] == reader[1])]
                runs_N = points["score"].dropna().to_numpy()
                draw_score(axes, row, runs_N, rows.slots[reader], look_of(reader, models))
            _name_task(axes, part)
        return finish(figure, _downstream_legend(models), columns=3)


def of_all_people(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the largest share of the training people that a task has."""
    return table[table["share"] == table.groupby("task")["share"].transform("max")]


def _name_task(axes: Axes, means: pd.DataFrame) -> None:
    """Title with n, and limits that leave room for remarks."""
    metric, chance = _metric_of(means), _nominal_chance(means)
    axes.set_xlabel(MEASURES.get(metric, metric))
    axes.set_title(_title(means), pad=8)
    known = means[["score", "ci_low", "chance"]].to_numpy(float)
    lowest = float(np.nanmin(known)) if np.isfinite(known).any() else 0.0
    low = max(lowest, -1.0) - 0.05 if chance is None else max(min(lowest, chance - 0.1) - 0.03, 0.0)
    if any(words_on(row) for row in means.to_dict("records")):
        low -= 0.2 * (1 - low)  # room for what has to be known
    axes.set_xlim(low, 1.0)
    axes.axvline(0 if chance is None else chance, color=BEFORE, lw=0.8, zorder=0)
    if chance is None:
        return
    _draw_corrected(axes, chance)


def _draw_corrected(axes: Axes, chance: float) -> None:
    """The upper axis, on which chance is 0 and perfect is 1."""

    def corrected(score: Any) -> Any:
        return (score - chance) / (1 - chance)

    def score(corrected: Any) -> Any:
        return chance + corrected * (1 - chance)

    upper = axes.secondary_xaxis("top", functions=(corrected, score))
    upper.set_xlabel("chance-corrected", fontsize=SMALL)
    upper.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "0.25", "0.5", "0.75", "1"])
    upper.tick_params(labelsize=SMALL)


def _metric_of(means: pd.DataFrame) -> str:
    """The metric of a task; that of failed readers does not count."""
    known = means.loc[means["score"].notna(), "metric"]
    return str(known.iloc[0]) if len(known) else MAIN


def _nominal_chance(means: pd.DataFrame) -> float | None:
    """What guessing gives; None where numbers are asked for."""
    n_classes = means["n_classes"].max()
    return 1 / n_classes if _metric_of(means) == MAIN and n_classes > 0 else None


def _title(means: pd.DataFrame) -> str:
    """Task, number of people and windows, and what is kept apart where it is not people."""
    first = means.sort_values("n_participants").iloc[-1]
    split = max(means["split"].astype(str))
    known = f", other {split}s of known people" if split in ("session", "run") else ""
    counts = f"n = {first['n_participants']:.0f} people, {first['n_windows']:.0f} windows"
    return f"{first['task']}\n{counts if first['n_participants'] else 'nobody was tested'}{known}"


def _downstream_legend(models: Sequence[str]) -> list[Any]:
    grey = {"color": "#666666"}
    return [
        mark("baseline", color=BASELINE_COLOUR, **KIND_MARKS["baseline"]),
        *(mark(name, color=look["color"], marker="o") for name, look in looks_by_name(models).items()),
        mark("frozen, mean of runs", **grey, **KIND_MARKS["frozen"]),
        mark("fine-tuned", **grey, **KIND_MARKS["fine-tuned"]),
        mark("from scratch", **grey, **KIND_MARKS["scratch"]),
        mark("one run (seed, fold)", **grey, marker="o", ms=3.5, alpha=0.6, mew=0),
        mark("95 % over people", **grey, ls="-", lw=1.8),
        band("chance, mean to 97.5 %", CHANCE),
        mark("q ≤ 0.05 in every run", color="black", marker="*"),
    ]


def plot_few_shot(summary: pd.DataFrame) -> Figure:
    """How scores grow with the share of the training people.

    Parameters
    ----------
    summary : DataFrame
        As for `plot_downstream`.

    Returns
    -------
    Figure
        A panel for each task and model: its regimes, band power + LDA, and the baseline that is best at each share,
        means over runs with intervals over participants. Grey is chance.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if summary.empty:
        return plot_notice("Few people", "No task was asked.")
    check_columns(summary, "evaluation_summary", SUMMARY, rule=RULE)
    means = main_rows(summary)
    shares = np.sort(means["share"].unique())
    if len(shares) < 2:
        return plot_notice("Few people", "One share of the training people was asked for; name more: evaluate.shares.")
    tasks, models = sorted(means["task"].unique()), models_of(means)
    columns = min(max(len(models), 1), 3)
    per_task = math.ceil(max(len(models), 1) / columns)
    with large_text():
        figure = Figure(figsize=(WIDTH, 1.2 + 3.3 * per_task * len(tasks)))
        grid = figure.subplots(per_task * len(tasks), columns, squeeze=False, sharex=True, sharey="row")
        for at, task in enumerate(tasks):
            panels = grid[at * per_task : (at + 1) * per_task].ravel()
            part = means[means["task"] == task]
            for axes, model in zip(panels, models or [""], strict=False):
                _draw_shares(axes, part, model, shares)
            for axes in panels[max(len(models), 1) :]:
                axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("share of the training people")
        for axes, metric in zip(
            grid[:, 0], np.repeat([_metric_of(means[means["task"] == t]) for t in tasks], per_task), strict=True
        ):
            axes.set_ylabel(MEASURES.get(str(metric), str(metric)))
        return finish(figure, _few_shot_legend(means), columns=3)


def _draw_shares(axes: Axes, means: pd.DataFrame, model: str, shares: np.ndarray) -> None:
    """Lines of one model beside the baselines, side by side at each share."""
    lines = [(_look_of_regime(regime), rows) for regime, rows in _regimes(means, model)]
    lines.append((BEST_LOOK, best_rows(means, baselines=True)))
    lines.append((REFERENCE_LOOK, means[means["model"] == REFERENCE]))
    step = 0.018 * max(np.log(shares[-1] / shares[0]), 0.5)
    _draw_chance(axes, means, shares)
    for at, (look, rows) in enumerate(lines):
        known = rows.dropna(subset=["score"]).sort_values("share")
        place = known["share"] * np.exp(step * (at - (len(lines) - 1) / 2))
        axes.vlines(place, known["ci_low"], known["ci_high"], color=look["color"], lw=1.2, alpha=0.6, zorder=2)
        axes.plot(place, known["score"], **look, ms=7, lw=1.6, zorder=3, label="line")
    axes.set(xscale="log", xlim=(shares[0] / np.exp(6 * step), shares[-1] * np.exp(6 * step)))
    axes.minorticks_off()
    axes.set_xticks(shares, labels=[f"{share:.3g} %" for share in 100 * shares])
    axes.set_title(f"{means['task'].iloc[0]}: {model or 'baselines'}\n{_people_of(means)}")
    _limit_scores(axes, means)
    _name_missing(axes, means[(means["model"] == model) & means["score"].isna()])


def _regimes(means: pd.DataFrame, model: str) -> list[tuple[str, pd.DataFrame]]:
    own = means[means["model"] == model]
    return [(regime, own[own["regime"] == regime]) for _, regime in readers_of(own)]


def _look_of_regime(regime: str) -> Look:
    return REGIME_LOOKS.get(regime, OTHER_LOOK)


def _draw_chance(axes: Axes, means: pd.DataFrame, shares: np.ndarray) -> None:
    """From mean chance to the highest limit of chance of any reader."""
    chance = means.groupby("share")[["chance", "chance_high"]].agg({"chance": "mean", "chance_high": "max"})
    axes.fill_between(shares, *chance.reindex(shares).to_numpy(float).T, color=CHANCE, lw=0, zorder=0)


def _people_of(means: pd.DataFrame) -> str:
    return f"n = {means['n_participants'].max():.0f} people"


def _limit_scores(axes: Axes, means: pd.DataFrame) -> None:
    """Limits for all panels of a task; an interval over few people may leave the scale."""
    values = means[["score", "ci_low", "chance"]].to_numpy(float)
    if np.isfinite(values).any():
        low = max(float(np.nanmin(values)), -1.0 if _nominal_chance(means) is None else 0.0)
        axes.set_ylim(low - 0.03, 1.02)


def _name_missing(axes: Axes, rows: pd.DataFrame) -> None:
    lines = []
    for (model, regime), part in rows.sort_values("share").groupby(["model", "regime"], sort=False):
        shares = ", ".join(f"{100 * share:.3g}" for share in part["share"])
        lines.append(f"no value: {name_of((str(model), str(regime)))}, {shares} %")
    if lines:
        axes.text(0.01, 0.99, "\n".join(lines), transform=axes.transAxes, fontsize=REMARK, va="top", color=WORDS)


def _few_shot_legend(means: pd.DataFrame) -> list[Any]:
    regimes = dict.fromkeys(regime for _, regime in readers_of(means[means["model"].isin(models_of(means))]))
    best = best_rows(means, baselines=True)
    names = ", ".join(sorted({full_name((row["model"], row["regime"])) for row in best.to_dict("records")}))
    return [
        *(mark(REGIMES.get(regime, regime), **{**_look_of_regime(regime), "lw": 1.6}) for regime in regimes),
        mark("band power + LDA", **REFERENCE_LOOK, lw=1.6),
        mark(f"best baseline: {textwrap.shorten(names, 44, placeholder=' …')}", **BEST_LOOK, lw=1.6),
        mark("95 % over people", color="#666666", ls="-", lw=1.2),
        band("chance, mean to 97.5 %", CHANCE),
    ]
