"""What a study costs to compute: time and memory by rule, speed of pretraining, and more jobs at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    COLOURS,
    SLOT,
    WIDTH,
    WORDS,
    Rows,
    check_columns,
    count_of,
    draw_rows,
    finish,
    large_text,
    looks_by_name,
    mark,
    rows_of,
)
from neuroloom.figures.style import AFTER, BEFORE, plot_notice
from neuroloom.runtime import RUNTIME, SCHEDULE, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE = "collect_runtime"
FLOPS = 6  # for each weight and token: 2 forward, 4 backward (Kaplan et al. 2020); products of attention are not in it
SPEED = ("model", "fold", "step", "tokens", "seconds", "waiting_seconds")
WAITING = "#BBBBBB"


def plot_computing_time(runtime: pd.DataFrame) -> Figure:
    """Time and memory by rule.

    Parameters
    ----------
    runtime : DataFrame
        Rows (rule); jobs, seconds, median_seconds, cpu_seconds, peak_mb.

    Returns
    -------
    Figure
        CPU seconds of all jobs of a rule, seconds of its median job, and the most memory that one of them took.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if runtime.empty:
        return plot_notice("Time and memory", "No job was timed.")
    check_columns(runtime, "runtime", RUNTIME, rule=RULE)
    rows = rule_rows(runtime["rule"], dict(zip(runtime["rule"], runtime["jobs"], strict=True)))
    shown = {
        "cpu_seconds": ("CPU time, all jobs (s)", AFTER),
        "median_seconds": ("clock, median job (s)", "#009E73"),
        "peak_mb": ("memory, largest job (MB)", "#E69F00"),
    }
    with large_text():
        figure = Figure(figsize=(WIDTH, 1.1 + SLOT * rows.height))
        panels = figure.subplots(1, 3, sharey=True)
        for axes, (column, (title, colour)) in zip(panels, shown.items(), strict=True):
            draw_rows(axes, rows)
            known = runtime.dropna(subset=[column])
            known = known[known[column] > 0]
            axes.set(xscale="log", xlabel=title)
            for row in known.to_dict("records"):
                _draw_bar(axes, row[column], rows.slots[row["rule"]], colour)
            _limit(axes, known[column].to_numpy(float))
        n_jobs, seconds = runtime["jobs"].sum(), runtime["cpu_seconds"].sum()
        panels[0].set_title(f"n = {n_jobs:.0f} jobs, {seconds / 3600:.2f} CPU hours")
        return finish(figure)


def rule_rows(rules: pd.Series, jobs: dict[Any, Any]) -> Rows:
    """Rules by stage, with the number of their jobs."""
    return rows_of({rule: (STAGES.get(rule, "other"), f"{rule}, {jobs[rule]:.0f}") for rule in rules})


def _limit(axes: Axes, values_N: np.ndarray) -> None:
    """Decades from below the shortest bar, and room for numbers at the ends of bars."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = np.floor(np.log10(values_N.min()) - 0.2), np.log10(values_N.max())
    axes.set_xlim(10**low, 10 ** (high + 0.35 * (high - low)))
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_bar(axes: Axes, value: float, y: float, colour: str) -> None:
    axes.barh(y, value, height=0.7, color=colour, lw=0, label="bar")
    axes.text(value, y, f" {count_of(value) if value >= 10 else f'{value:.1f}'}", va="center", fontsize=10, color=WORDS)


def plot_computing_speed(pretraining: pd.DataFrame, models: pd.DataFrame) -> Figure:
    """Tokens and floating point operations of pretraining in a second.

    Parameters
    ----------
    pretraining : DataFrame
        Rows (model, fold, step); tokens (all seen until then), seconds of the step, waiting_seconds (for data) in them.
    models : DataFrame
        parameters, and parameters_in_training where more are trained than are kept.

    Returns
    -------
    Figure
        Median of all steps of all folds, the line from the 5th to the 95th percentile of steps: tokens per second,
        6 FLOP for each weight and token per second, and the share of the time that was spent waiting for data.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if pretraining.empty:
        return plot_notice("Speed of pretraining", "No model was trained.")
    check_columns(pretraining, "pretraining", SPEED, rule="collect_pretraining")
    steps = step_speeds(pretraining, models)
    looks = looks_by_name(steps["model"])
    counts = steps.groupby("model").size()
    names = [f"{name}, n = {count}" for name, count in counts.items()]
    rows = Rows({name: at + 0.5 for at, name in enumerate(counts.index)}, names, {}, float(len(names)))
    shown = {
        "tokens_per_second": "tokens / s",
        "gflops": "GFLOP / s",
        "waiting": "waiting for data (% of a step)",
    }
    with large_text():
        figure = Figure(figsize=(WIDTH, 1.6 + 0.36 * rows.height))
        panels = figure.subplots(1, 3, sharey=True)
        for axes, (column, title) in zip(panels, shown.items(), strict=True):
            draw_rows(axes, rows)
            for name, own in steps.groupby("model"):
                low, middle, high = np.nanpercentile(own[column].to_numpy(float), (5, 50, 95))
                y = rows.slots[name]
                axes.plot([low, high], [y, y], color=looks[str(name)]["color"], lw=1.8, label="steps")
                axes.plot(middle, y, **looks[str(name)], ms=8, ls="", label="median")
            axes.set(xlabel=title, xlim=(0, None))
            axes.locator_params(axis="x", nbins=4)
        grey = {"color": "#666666"}
        return finish(
            figure, [mark("median of n steps", **grey, marker="o"), mark("5 to 95 % of steps", **grey, ls="-")]
        )


def step_speeds(pretraining: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Each step with its speed; the first of a run, which warms up, is left out.

    Parameters
    ----------
    pretraining, models : DataFrame
        As for `plot_computing_speed`.

    Returns
    -------
    DataFrame
        model, fold, step; tokens_per_second, gflops, waiting (%).
    """
    trained = models.get("parameters_in_training", pd.Series(np.nan, index=models.index))
    weights = models.assign(weights=trained.fillna(models["parameters"]))[["model", "fold", "weights"]]
    table = pretraining.sort_values(["model", "fold", "step"]).merge(weights, on=["model", "fold"], how="left")
    table = table.assign(new=table.groupby(["model", "fold"])["tokens"].diff()).dropna(subset=["new"])
    speed = table["new"] / table["seconds"]
    return table.assign(
        tokens_per_second=speed,
        gflops=FLOPS * table["weights"] * speed / 1e9,
        waiting=100 * table["waiting_seconds"] / table["seconds"],
    )[["model", "fold", "step", "tokens_per_second", "gflops", "waiting"]]


def plot_computing_cluster(schedule: pd.DataFrame) -> Figure:
    """What the jobs of this study would take with more of them at a time.

    Parameters
    ----------
    schedule : DataFrame
        Rows (n_jobs, rule); seconds.

    Returns
    -------
    Figure
        Left, hours of all rules, one after another, over the number of jobs at a time, beside what would be without
        rules that wait for each other; right, what is left of each stage with one job and with the most.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    if schedule.empty:
        return plot_notice("Many jobs at a time", "No job was timed.")
    check_columns(schedule, "schedule", SCHEDULE, rule=RULE)
    stages = schedule.assign(stage=schedule["rule"].map(STAGES).fillna("other"))
    parts = (
        stages.groupby(["n_jobs", "stage"], sort=False)["seconds"].sum().unstack("stage")[[*stages["stage"].unique()]]
    )
    total = parts.sum(axis=1)
    with large_text():
        figure = Figure(figsize=(WIDTH, 3.6))
        left, right = figure.subplots(1, 2)
        left.plot(total.index, total / 60, "o-", color=AFTER, lw=1.8, ms=5, label="computed")
        left.plot(total.index, total.iloc[0] / total.index / 60, ls="--", color=BEFORE, lw=1.2, label="ideal")
        left.set(xscale="log", yscale="log", xlabel="jobs at a time", ylabel="study (min)")
        left.set_xticks(total.index[::2], labels=[f"{n_jobs}" for n_jobs in total.index[::2]])
        left.xaxis.set_minor_locator(NullLocator())
        left.set_ylim(total.min() / 60 / 3, total.max() / 60 * 2)
        left.set_title(f"{total.iloc[0] / 60:.0f} min one after another, at least {total.iloc[-1] / 60:.1f} min")
        _draw_shares(right, parts)
        handles = [
            mark("computed, rule after rule", color=AFTER, marker="o", ls="-"),
            mark("ideal: time over jobs", color=BEFORE, ls="--"),
            *(mark(str(name), color=COLOURS[at % len(COLOURS)], marker="s") for at, name in enumerate(parts)),
        ]
        return finish(figure, handles, columns=5)


def _draw_shares(axes: Axes, parts: pd.DataFrame) -> None:
    """Shares of the stages with so many jobs at a time."""
    shares = 100 * parts.div(parts.sum(axis=1), axis=0)
    places = np.arange(len(shares))
    below = np.zeros(len(shares))
    for at, name in enumerate(shares):
        axes.bar(places, shares[name], bottom=below, width=0.8, color=COLOURS[at % len(COLOURS)], lw=0, label=str(name))
        below += shares[name].to_numpy(float)
    axes.set_xticks(places[::2], labels=[f"{n_jobs}" for n_jobs in shares.index[::2]])
    axes.set(xlabel="jobs at a time", ylabel="part of the time (%)", ylim=(0, 100))
