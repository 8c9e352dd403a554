"""Figures of what a federation costs, and of what its models give away about the people they were trained on."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.tables import LEVEL
from neuroloom.federated.tables import ARM, POOLED
from neuroloom.figures.arms import CENTRALISED, RULE, Arm, arm_rows, arms_of, look_of_arm, sites_of
from neuroloom.figures.drawing import (
    SLOT,
    SMALL,
    WIDTH,
    WORDS,
    Look,
    band,
    check_columns,
    count_of,
    draw_rows,
    finish,
    hollow,
    large_text,
    mark,
    panel_grid,
    remark,
)
from neuroloom.figures.federation_plots import GREY, TOGETHER, of_arm
from neuroloom.figures.style import BEFORE, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COST = (*ARM, "n_shared_bytes", "round_seconds", "train_seconds", "overhead")
REST = "#BBBBBB"
MEMBERSHIP, IDENTITY = ("loss", "calibrated_loss"), "subject_identity"
ASKED = {"loss": "by loss", "calibrated_loss": "by fall of loss"}
LEVELS = {"window": "windows", "subject": "people"}
AFTER_TRAINING, BEFORE_TRAINING = "after training", "before training"
RUN = ["attack", "level", "metric", "state", "site"]
NUMBERS = ["score", "ci_low", "ci_high", "chance"]
ATTACKS = (*ARM, "fold", "seed", *RUN, *NUMBERS, "p", "n_members", "n_others", "note")
ATTACK_SLOT = 0.36  # inches: two marks stand in a row
LETTERS = 25  # that a panel has room for
METRICS = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}


def plot_federation_cost(federation_cost: pd.DataFrame) -> Figure:
    """What a round of each arm costs: bytes that a site sends, seconds, and what of them is not training.

    Parameters
    ----------
    federation_cost : DataFrame
        Rows (strategy, kind, network); n_shared_bytes, round_seconds, train_seconds, overhead (a share).

    Returns
    -------
    Figure
        Bytes on a logarithmic axis, seconds of training and the rest, and the rest in percent of training. Arms that
        send nothing say so, and have no rest.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if federation_cost.empty:
        return plot_notice("Cost", "No round was run.")
    check_columns(federation_cost, "federation_cost", COST, rule=RULE)
    rows = arm_rows(arms_of(federation_cost))
    with large_text():
        figure = Figure(figsize=(WIDTH, 1.6 + SLOT * rows.height))
        panels = figure.subplots(1, 3, sharey=True)
        for axes in panels:
            draw_rows(axes, rows)
        for row in federation_cost.to_dict("records"):
            arm: Arm = (row["strategy"], row["kind"], row["network"])
            _draw_cost(panels, row, rows.slots[arm], look_of_arm(arm))
        _limit_costs(panels, federation_cost)
        legend = [band("training", GREY["color"]), band("the rest: messages, validation, aggregation", REST)]
        return finish(figure, legend, columns=2)


def _draw_cost(panels: Any, row: Mapping[Any, Any], y: float, look: Look) -> None:
    sent, seconds, rest = panels
    if row["n_shared_bytes"] > 0:
        sent.plot(row["n_shared_bytes"], y, **look, ms=8, ls="", label="bytes")
        _say(sent, f"   {count_of(row['n_shared_bytes'])}B", row["n_shared_bytes"], y)
    else:
        remark(sent, "nothing is sent", y)
    trained, beside = row["train_seconds"], row["round_seconds"] - row["train_seconds"]
    seconds.barh(y, trained, height=0.7, color=look["color"], lw=0, label="training")
    if pd.isna(row["overhead"]):
        remark(rest, "no messages", y)
        return
    # clocks of sites and server may disagree by a little
    seconds.barh(y, max(beside, 0), left=trained, height=0.7, color=REST, lw=0, label="rest")
    rest.barh(y, 100 * row["overhead"], height=0.7, color=REST, lw=0, label="overhead")
    _say(rest, f" {100 * row['overhead']:.0f} %", max(100 * row["overhead"], 0), y)


def _say(axes: Axes, words: str, x: float, y: float) -> None:
    axes.text(x, y, words, va="center", fontsize=10, color=WORDS)


def _limit_costs(panels: Any, cost: pd.DataFrame) -> None:
    """Whole decades of bytes, and room for the numbers at the ends of bars."""
    sent, seconds, rest = panels
    known = cost.loc[cost["n_shared_bytes"] > 0, "n_shared_bytes"].to_numpy(float)
    low, high = (known.min(), known.max()) if len(known) else (1.0, 1.0)
    sent.set(xscale="log", xlim=(10 ** np.floor(np.log10(low) - 0.5), 10 ** (np.log10(high) + 1.2)))
    sent.set(xlabel="bytes", title="one site sends in a round")
    seconds.set(xlabel="seconds", title="a round, site after site", xlim=(0, None))
    most = cost["overhead"].max()
    rest.set(xlabel="% of training", title="the rest, over training", xlim=(0, 130 * most if most > 0 else 1))


def plot_federation_attacks(federation_attacks: pd.DataFrame) -> Figure:
    """What the models of each arm give away: who was in training, and who a person is.

    Parameters
    ----------
    federation_attacks : DataFrame
        Rows (strategy, kind, network, fold, seed, attack, level, metric, state, site); score with ci_low and ci_high,
        chance, n_members, n_others, note.

    Returns
    -------
    Figure
        Above, membership: AUROC by the loss, or by its fall in training, of windows and of people. Below, identity:
        balanced accuracy at each site. Filled marks are after training, hollow ones before; means over runs, lines are
        means of the runs' intervals. A dotted line, or a dash, is chance.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if federation_attacks.empty:
        return plot_notice("Attacks", "No attack was made: federate.attacks is off, or no arm was run.")
    check_columns(federation_attacks, "federation_attacks", ATTACKS, rule=RULE)
    means = mean_attacks(federation_attacks)
    means = means[means["metric"].isin(METRICS)]
    arms, asked = arms_of(means), _questions(means)
    rows = arm_rows(arms)
    with large_text():
        height = 1.25 + ATTACK_SLOT * rows.height
        figure, panels = panel_grid(len(asked), margin=0.9, row=height, columns=4)
        for axes, (attack, level, site) in zip(panels, asked, strict=True):
            draw_rows(axes, rows)
            part = means[(means["attack"] == attack) & (means["level"] == level) & (means["site"] == site)]
            for arm in arms:
                _draw_attack(axes, of_arm(part, arm), rows.slots[arm], look_of_arm(arm))
            _name_attack(axes, part)
        return finish(figure, _attack_legend(), columns=3)


def mean_attacks(attacks: pd.DataFrame) -> pd.DataFrame:
    """Means over runs of the score of each attack, of its limits and of chance; `p` is the largest of all runs."""
    grouped = attacks.groupby([*ARM, *RUN], sort=False, dropna=False)
    means = {name: (name, "mean") for name in NUMBERS}
    counts = {name: (name, "max") for name in ("p", "n_members", "n_others")}
    return grouped.agg(**means, **counts, n_runs=("score", "count"), note=("note", "first")).reset_index()


def attack_table(attacks: pd.DataFrame) -> pd.DataFrame:
    """Rows after training, with the score before it beside: means over runs."""
    if attacks.empty:
        return attacks
    means = mean_attacks(attacks)
    keys = [*ARM, "attack", "level", "metric", "site"]
    before = means.loc[means["state"] == BEFORE_TRAINING, [*keys, "score"]].rename(columns={"score": "before"})
    return means[means["state"] == AFTER_TRAINING].merge(before, on=keys, how="left")


def _questions(means: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Attack, level and site of each panel."""
    found = set(means[["attack", "level", "site"]].itertuples(index=False, name=None))
    # one site has too few people for membership
    members = [(attack, level, POOLED) for attack in MEMBERSHIP for level in LEVELS]
    together = sorted(means.loc[(means["kind"] == CENTRALISED) & (means["site"] != POOLED), "site"].unique())
    people = [(IDENTITY, "subject", site) for site in [*sites_of(means), *together]]
    return [question for question in [*members, *people] if question in found]


def _draw_attack(axes: Axes, means: pd.DataFrame, y: float, look: Look) -> None:
    """After training above, before training below it; a state that was not asked has no mark."""
    for row in means.to_dict("records"):
        trained = row["state"] == AFTER_TRAINING
        place = y - 0.18 if trained else y + 0.2
        if pd.isna(row["score"]):
            remark(axes, textwrap.shorten(f"no value: {row['note']}", LETTERS, placeholder=" …"), place)
            continue
        alpha = 1.0 if trained else 0.5
        axes.plot(
            [row["ci_low"], row["ci_high"]], [place, place], color=look["color"], lw=1.4 * alpha + 0.4, alpha=alpha
        )
        axes.plot(row["chance"], place, "|", color="black", ms=8, mew=1.3, zorder=2, label="chance")
        drawn = {**look, "ms": 7, "ls": ""} if trained else {**hollow(look, 6), "mfc": "white"}
        axes.plot(row["score"], place, **drawn, zorder=3, label=row["state"])
        if trained and row["p"] <= LEVEL:
            side: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
            axes.plot(1.0, place, "*", ms=8, color="black", mew=0, **side, label="found")


def _name_attack(axes: Axes, part: pd.DataFrame) -> None:
    """Title with n, and the whole scale: an interval over few people may leave it."""
    first = part.iloc[0]
    identity = first["attack"] == IDENTITY
    # centralised training names all its sites, which is too long for a title
    site = TOGETHER if len(part) and (part["kind"] == CENTRALISED).all() else first["site"]
    asked = f"Who is it?\n{site}" if identity else f"In training?\n{ASKED[first['attack']]}, {LEVELS[first['level']]}"
    members, others = (part[name].max() for name in ("n_members", "n_others"))
    axes.set_title(f"{asked}\nn = {members:.0f}" + ("" if identity else f" and {others:.0f} others"), fontsize=SMALL)
    axes.set(xlim=(-0.02, 1.1), xticks=[0, 0.5, 1], xlabel=METRICS[first["metric"]])
    axes.set_xticklabels(["0", "0.5", "1"])
    if not identity:
        axes.axvline(0.5, color=BEFORE, lw=0.8, zorder=0)


def _attack_legend() -> list[Any]:
    return [
        mark("after training, mean of runs", **GREY, marker="o", ms=7),
        mark("before training", **{**hollow({**GREY, "marker": "o"}, 6), "mfc": "white"}),
        mark("95 % over people", **GREY, ls="-", lw=1.8),
        mark("chance", color="black", marker="|", mew=1.3),
        mark("p ≤ 0.05 in every run, after training", color="black", marker="*"),
    ]
