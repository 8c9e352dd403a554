"""What privacy costs a federation: epsilon in the ledgers of the sites, and scores of arms with and without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.federated.tables import ARM, POOLED
from neuroloom.figures.arms import (
    RULE,
    Arm,
    arm_name,
    arm_rows,
    arms_of,
    lines_of_arms,
    look_of_arm,
    main_scores,
)
from neuroloom.figures.drawing import (
    CHANCE,
    WIDTH,
    Look,
    band,
    check_columns,
    draw_rows,
    draw_score,
    finish,
    large_text,
    mark,
)
from neuroloom.figures.federation_plots import GREY, SUMMARY, of_arm
from neuroloom.figures.style import BEFORE, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPENT = (*ARM, "fold", "seed", "site", "round", "status", "epsilon")
JUDGED = "judged"
NO_RUNS = np.full(1, np.nan)  # means alone


def plot_federation_privacy(federation_rounds: pd.DataFrame, federation_summary: pd.DataFrame) -> Figure:
    """Epsilon that the ledgers of the sites came to, and what it costs in score.

    Parameters
    ----------
    federation_rounds : DataFrame
        Rows (strategy, kind, network, fold, seed, site, round); status, epsilon (infinite without noise).
    federation_summary : DataFrame
        Scores of all arms, as for `plot_federation_scores`.

    Returns
    -------
    Figure
        Left, the scores at all sites together of the arms with noise and of the arms of the same networks without.
        Right, a line for each site and arm with noise, which grows by runs. Without any noise, words that say so.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if federation_rounds.empty:
        return plot_notice("Privacy", "No round was run.")
    check_columns(federation_rounds, "federation_rounds", SPENT, rule=RULE)
    check_columns(federation_summary, "federation_summary", SUMMARY, rule=RULE)
    spent = federation_rounds[federation_rounds["status"] != JUDGED]
    spent = spent[np.isfinite(spent["epsilon"].to_numpy(float))]
    if spent.empty:
        return plot_notice("Privacy", "No arm had noise: nothing bounds what can be learnt about one person.")
    private, networks = arms_of(spent), set(spent["network"])
    table = main_scores(federation_summary)
    table = table[(table["site"] == POOLED) & table["network"].isin(networks)]
    rows = arm_rows(arms_of(table))
    with large_text():
        figure = Figure(figsize=(WIDTH, max(3.6, 1.6 + 0.3 * rows.height)))
        left, right = figure.subplots(1, 2)
        _draw_scores(left, table, private, rows)
        _draw_spent(right, spent, private)
        return finish(figure, _legend(private, spent), columns=3)


def _draw_spent(axes: Axes, spent: pd.DataFrame, private: list[Arm]) -> None:
    """A run is charged whole before its first step, so that the ledger grows by runs and not by rounds."""
    from matplotlib.ticker import MaxNLocator

    looks = lines_of_arms(private)
    for arm in private:
        for _, one in of_arm(spent, arm).groupby("site"):
            total_R = np.sort(one.groupby(["fold", "seed"])["epsilon"].max())
            runs_R = np.arange(1, len(total_R) + 1)
            axes.plot(runs_R, total_R, **looks[arm], ms=7, lw=1.4, alpha=0.8, label="epsilon")
    axes.set(xlabel="runs in the ledger of a site", ylabel="epsilon, all runs together")
    axes.set_ylim(0, 1.12 * spent["epsilon"].max())
    axes.margins(x=0.15)
    axes.set_title(f"n = {spent['site'].nunique()} sites")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _draw_scores(axes: Axes, table: pd.DataFrame, private: list[Arm], rows: Any) -> None:
    draw_rows(axes, rows)
    for arm in arms_of(table):
        (row,) = of_arm(table, arm).to_dict("records")
        fill: Look = {} if arm in private else {"mfc": "white", "mew": 1.5}
        draw_score(axes, {**row, "note": row["reason"]}, NO_RUNS, rows.slots[arm], {**look_of_arm(arm), **fill})
    chance = table["chance"].mean()
    axes.axvline(chance, color=BEFORE, lw=0.8, zorder=0)
    axes.set_xlabel("balanced accuracy, all sites")
    axes.set_xlim(right=1.0)  # an interval over few people may leave the scale
    axes.set_title(f"n = {table['n_participants'].max():.0f} people")


def _legend(private: list[Arm], spent: pd.DataFrame) -> list[Any]:
    looks = lines_of_arms(private)
    return [
        *(
            mark(f"{arm_name(arm)}: epsilon {of_arm(spent, arm)['epsilon'].max():.3g}", **looks[arm], lw=1.4)
            for arm in private
        ),
        mark("with noise", **GREY, marker="o"),
        mark("without", **GREY, marker="o", mfc="white", mew=1.5),
        mark("95 % over people", **GREY, ls="-", lw=1.8),
        band("chance, mean to 97.5 %", CHANCE),
        mark("q ≤ 0.05 in every run", color="black", marker="*"),
    ]
