"""Figures of the federation: every arm at every site beside chance, what is gained over every site alone, and rounds.

Tables are those of `federated.tables.collect_federation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.federated.tables import ARM, POOLED, USED
from neuroloom.figures.arms import (
    CENTRALISED,
    RULE,
    Arm,
    arm_name,
    arm_rows,
    arms_of,
    lines_of_arms,
    look_of_arm,
    main_scores,
    sites_of,
)
from neuroloom.figures.drawing import (
    CHANCE,
    SLOT,
    Look,
    band,
    check_columns,
    draw_rows,
    draw_score,
    finish,
    is_left,
    large_text,
    mark,
    panel_grid,
    remark,
)
from neuroloom.figures.style import BEFORE, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTERS = {1: 110, 2: 52, 3: 35, 4: 25}  # that a panel has room for, with so many side by side
GREY: Look = {"color": "#666666"}
TOGETHER = "all sites"
KEPT = (USED, "judged")  # the others say why nothing of a site was used
RUNS = (*ARM, "site", "metric", "score")
MEANS = ("score", "ci_low", "ci_high", "chance", "chance_high", "q", "n_runs", "n_failed")
SUMMARY = (*ARM, "site", "metric", *MEANS, "reason", "seen", "n_participants", "n_windows")
GAINS = (*ARM, "site", "metric", "difference", "ci_low", "ci_high", "n_participants")
ROUNDS = (*ARM, "fold", "seed", "site", "round", "status", "n_windows", "validation")


def plot_federation_scores(federation: pd.DataFrame, federation_summary: pd.DataFrame) -> Figure:
    """Every arm at every site, and all sites together.

    Parameters
    ----------
    federation : DataFrame
        Rows (strategy, kind, network, site, fold, seed, metric); score.
    federation_summary : DataFrame
        The same without fold and seed: mean score with its interval over people, chance, chance_high, q, counts.

    Returns
    -------
    Figure
        A panel for each site and one for all of them; in it each arm, networks apart. Small points are runs, the large
        mark is their mean; the band goes from mean chance to the limit of chance. An arm without a score says why.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if federation_summary.empty:
        return plot_notice("Federation", "No arm of a federation was run.")
    check_columns(federation, "federation", RUNS, rule=RULE)
    check_columns(federation_summary, "federation_summary", SUMMARY, rule=RULE)
    means, runs = main_scores(federation_summary), main_scores(federation)
    arms, sites = arms_of(means), [*sites_of(means), POOLED]
    rows, columns = arm_rows(arms), min(len(sites), 4)
    with large_text():
        figure, panels = panel_grid(len(sites), margin=0.9, row=1.1 + SLOT * rows.height, columns=columns, sharex=True)
        for axes, site in zip(panels, sites, strict=True):
            draw_rows(axes, rows)
            part, points = means[means["site"] == site], runs[runs["site"] == site]
            for arm in arms:
                _draw_arm(axes, of_arm(part, arm), of_arm(points, arm), rows.slots[arm], arm, LETTERS[columns])
            name_site(axes, site, part["n_participants"].max())
            axes.set_xlabel(f"balanced accuracy\n({part['n_windows'].max():.0f} windows)")
        _limit_scores(panels[0], means)
        return finish(figure, _score_legend(), columns=3)


def name_site(axes: Axes, site: str, n_people: float) -> None:
    """Title of a panel."""
    words = f"n = {n_people:.0f} {'person' if n_people == 1 else 'people'}" if n_people > 0 else "nobody was tested"
    axes.set_title(f"{TOGETHER if site == POOLED else site}\n{words}", weight="bold" if site == POOLED else "normal")
    axes.tick_params(labelbottom=True)  # which sharing takes from upper rows


def of_arm(table: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """Rows of one arm."""
    return table[np.logical_and.reduce([table[name] == value for name, value in zip(ARM, arm, strict=True)])]


def _draw_arm(axes: Axes, means: pd.DataFrame, runs: pd.DataFrame, y: float, arm: Arm, length: int) -> None:
    if means.empty:
        remark(axes, "no value", y, colour=look_of_arm(arm)["color"])
        return
    (row,) = means.to_dict("records")
    row["note"] = row["reason"].removeprefix(f"{row['site']}: ")
    draw_score(axes, row, runs["score"].dropna().to_numpy(), y, look_of_arm(arm), length=length)


def _limit_scores(axes: Axes, means: pd.DataFrame) -> None:
    """Limits of all panels; an interval over few people may leave the scale."""
    known = means[["score", "ci_low", "chance"]].to_numpy(float)
    low = max(float(np.nanmin(known)) - 0.05, 0.0) if np.isfinite(known).any() else 0.0
    axes.set_xlim(low, 1 + 0.12 * (1 - low))  # room for the star
    axes.set_xticks([tick for tick in (0, 0.25, 0.5, 0.75, 1) if tick >= low])
    axes.xaxis.set_major_formatter("{x:g}")


def _score_legend() -> list[Any]:
    return [
        mark("mean of runs", **GREY, marker="o"),
        mark("one run (seed, fold)", **GREY, marker="o", ms=3.5, alpha=0.6, mew=0),
        mark("95 % over people (none for one)", **GREY, ls="-", lw=1.8),
        band("chance, mean to 97.5 %", CHANCE),
        mark("q ≤ 0.05 in every run", color="black", marker="*"),
    ]


def plot_federation_gains(federation_gains: pd.DataFrame) -> Figure:
    """What each arm gains over the same network trained at every site alone, on the same people.

    Parameters
    ----------
    federation_gains : DataFrame
        Rows (strategy, kind, network, site, metric); difference with ci_low and ci_high, n_participants.

    Returns
    -------
    Figure
        A panel for each site and one for all of them. A hollow mark has no interval: one person was tested.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if federation_gains.empty:
        return plot_notice("Gain over every site alone", "No arm stands beside an arm `local` of the same network.")
    check_columns(federation_gains, "federation_gains", GAINS, rule=RULE)
    gains = main_scores(federation_gains)
    arms, sites = arms_of(gains), [*sites_of(gains), POOLED]
    rows, columns = arm_rows(arms), min(len(sites), 4)
    with large_text():
        figure, panels = panel_grid(len(sites), margin=0.9, row=1.1 + SLOT * rows.height, columns=columns, sharex=True)
        for axes, site in zip(panels, sites, strict=True):
            draw_rows(axes, rows)
            axes.axvline(0, color=BEFORE, lw=1.0, zorder=0)
            part = gains[gains["site"] == site]
            for arm in arms:
                _draw_gain(axes, of_arm(part, arm), rows.slots[arm], look_of_arm(arm))
            name_site(axes, site, part["n_participants"].max())
            axes.set_xlabel("gain in balanced\naccuracy over local")
        panels[0].set_xlim(*_gain_limits(gains))
        panels[0].locator_params(axis="x", nbins=4)
        legend = [
            mark("mean over people, means over runs", **GREY, marker="o"),
            mark("one person: no interval", **GREY, marker="o", mfc="white", mew=1.5),
            mark("95 % over people (t)", **GREY, ls="-", lw=1.8),
        ]
        return finish(figure, legend, columns=3)


def _draw_gain(axes: Axes, gains: pd.DataFrame, y: float, look: Look) -> None:
    known = gains.dropna(subset=["difference"]).to_dict("records")
    if not known:
        remark(axes, "no value", y, colour=look["color"])
    for row in known:
        alone = pd.isna(row["ci_low"])
        axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=look["color"], lw=1.8, solid_capstyle="butt", zorder=2)
        fill: Look = {"mfc": "white", "mew": 1.5} if alone else {}
        axes.plot(row["difference"], y, **look, **fill, ms=8, ls="", zorder=3, label="gain")


def _gain_limits(gains: pd.DataFrame) -> tuple[float, float]:
    """Limits around zero that let no small gain look large; none is above 1, whatever an interval says."""
    known = gains[["difference", "ci_low", "ci_high"]].to_numpy(float)
    known = known[np.isfinite(known)]
    low, high = float(known.min(initial=-0.1)), float(known.max(initial=0.1))
    margin = 0.06 * (high - low)
    return max(low - margin, -1.05), min(high + margin, 1.05)


def plot_federation_rounds(federation_rounds: pd.DataFrame, federation: pd.DataFrame) -> Figure:
    """How each arm does on the people of the validation, round by round.

    Parameters
    ----------
    federation_rounds : DataFrame
        Rows (strategy, kind, network, fold, seed, site, round); status, n_windows (to train), validation (with the
        weights that the round begins with).
    federation : DataFrame
        n_classes, for chance.

    Returns
    -------
    Figure
        A panel for each network and site: a line for each arm, mean over seeds and folds. Centralised training has one
        model and the people of all sites. A cross marks a round in which nothing of the site was used.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if federation_rounds.empty:
        return plot_notice("Rounds", "No round was run.")
    check_columns(federation_rounds, "federation_rounds", ROUNDS, rule=RULE)
    check_columns(federation, "federation", ["n_classes"], rule=RULE)
    table = federation_rounds.assign(passed=federation_rounds["round"] - 1)
    arms, sites = arms_of(table), sites_of(table) or [TOGETHER]
    networks, columns = list(dict.fromkeys(arm[2] for arm in arms)), min(len(sites), 3)
    per_network = columns * math.ceil(len(sites) / columns)
    looks = lines_of_arms(arms)
    with large_text():
        n_panels = per_network * len(networks)
        figure, panels = panel_grid(n_panels, margin=1.1, row=2.9, columns=columns, sharex=True)
        # each network begins on a row of its own
        for at, network in enumerate(networks):
            own = panels[at * per_network : (at + 1) * per_network]
            for axes, site in zip(own, sites, strict=False):
                part = table[(table["network"] == network) & table["site"].isin([site, *_together(table)])]
                _draw_arms(axes, part, looks)
                axes.axhline(1 / max(federation["n_classes"].max(), 1), color="black", ls=":", lw=1.2, zorder=1)
                axes.set_title(f"{network}: {site}\n{_count(part[part['site'] == site])}")
            for axes in own[len(sites) :]:
                axes.remove()
            for axes in own[len(sites) - columns : len(sites)]:
                axes.set_xlabel("rounds passed")
                axes.tick_params(labelbottom=True)
        for axes in filter(is_left, figure.axes):
            axes.set_ylabel("balanced accuracy,\nvalidation")
        return finish(figure, _round_legend(looks, lost=not table["status"].isin(KEPT).all()), columns=4)


def _count(rounds: pd.DataFrame) -> str:
    """What each point is a mean over, and how much it was trained on."""
    n_runs = len(rounds[["fold", "seed"]].drop_duplicates())
    return f"{n_runs} {'run' if n_runs == 1 else 'runs'}, {rounds['n_windows'].max():.0f} windows to train"


def _together(table: pd.DataFrame) -> list[str]:
    """What centralised training calls all sites."""
    return sorted(table.loc[table["kind"] == CENTRALISED, "site"].unique())


def _draw_arms(axes: Axes, rounds: pd.DataFrame, looks: Mapping[Arm, Look]) -> None:
    from matplotlib.ticker import MaxNLocator

    for arm in arms_of(rounds):
        own, colour = of_arm(rounds, arm), looks[arm]["color"]
        # a round without a value breaks the line, so that nothing is drawn that was not measured
        line = own.groupby("passed")["validation"].mean()
        ceiling = arm[1] == CENTRALISED
        axes.plot(line.index, line, **looks[arm], lw=1.0 if ceiling else 1.7, ms=5.5, zorder=3 - ceiling, label="line")
        lost = own.loc[~own["status"].isin(KEPT), "passed"].unique()
        axes.plot(lost, np.zeros(len(lost)), "x", color=colour, ms=7, mew=1.8, zorder=4, label="lost")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylim(-0.03, 1.03)


def _round_legend(looks: Mapping[Arm, Look], *, lost: bool) -> list[Any]:
    """Each look once; arms of two networks may have the same."""
    # looks are dicts, which cannot be keys
    names: dict[tuple[Any, ...], list[str]] = {}
    for arm, look in looks.items():
        names.setdefault(tuple(look.items()), []).append(arm_name(arm))
    return [
        *(mark(", ".join(same), **{**dict(look), "lw": 1.7, "ms": 6}) for look, same in names.items()),
        mark("chance", color="black", ls=":", lw=1.2),
        *([mark("nothing used in that round", **GREY, marker="x", mew=1.8)] if lost else []),
    ]
