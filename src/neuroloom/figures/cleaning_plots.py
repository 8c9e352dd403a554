"""Where cleaning loses what its bounds ask for, in a figure and in words: EEG from the scanner, second by second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import WIDTH, Look, check_columns, finish, large_text, looks_by_name, mark
from neuroloom.figures.style import BEFORE, plot_notice
from neuroloom.signals.scanner_scores import FROM_START, FROM_STOP, HARMONIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("what", "site", "recordings", "x", "x_unit", "mean", "worst", "unit", "bound")
SHOWN = 15.0  # s to either side of the scanner's start and stop
LOSSES = {
    "scanner_r_second": "r within each second",
    "scanner_r_without": "r of all without this second",
}
HEART = {"cardiac_drop": "heartbeats, dB down", "cardiac_over_eeg": "planted heartbeats over EEG, dB"}


def plot_cleaning_curves(cleaning_curves: pd.DataFrame) -> Figure:
    """Correlation with EEG outside the scanner around its start and stop, and heartbeats harmonic by harmonic.

    Parameters
    ----------
    cleaning_curves : DataFrame
        Rows (what, site, x, x_unit); recordings, mean, worst, unit and bound.

    Returns
    -------
    Figure
        A colour for each site: the mean of its recordings (solid) and the worst at each point (dashed).

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    check_columns(cleaning_curves, "cleaning_curves", COLUMNS, rule="score_cleaning")
    if cleaning_curves.empty:
        return plot_notice("Cleaning", "No EEG from a scanner was scored.")
    looks = looks_by_name(cleaning_curves["site"])
    with large_text():
        figure = Figure(figsize=(WIDTH, 10.5))
        panels = figure.subplots(3, 2)
        for row, (what, label) in enumerate(LOSSES.items()):
            for axes, x_unit in zip(panels[row], (FROM_START, FROM_STOP), strict=True):
                near = (cleaning_curves["x_unit"] == x_unit) & (cleaning_curves["x"].abs() <= SHOWN)
                _draw_sites(axes, cleaning_curves[near & (cleaning_curves["what"] == what)], looks, marks=False)
                axes.axvline(0, color=BEFORE, lw=0.8, zorder=0)
                axes.set(title=label, xlabel=x_unit)
            panels[row][1].sharey(panels[row][0])
            panels[row][0].autoscale(axis="y")
        for axes, (what, label) in zip(panels[2], HEART.items(), strict=True):
            _draw_sites(axes, cleaning_curves[cleaning_curves["what"] == what], looks, marks=True)
            axes.set(title=label, xlabel=HARMONIC, ylim=(min(axes.get_ylim()[0], 0), None))
        panels[2][1].axhline(0, color=BEFORE, lw=0.8, zorder=0)
        return finish(figure, _legend(cleaning_curves, looks), columns=3)


def _draw_sites(axes: Axes, table: pd.DataFrame, looks: dict[str, Look], *, marks: bool) -> None:
    for site, look in looks.items():
        part = table[table["site"] == site].sort_values("x")
        shape: dict[str, Any] = {"marker": look["marker"], "ms": 5} if marks else {}
        axes.plot(part["x"], part["mean"], color=look["color"], **shape, lw=1.6, label=f"{site} mean")
        axes.plot(part["x"], part["worst"], color=look["color"], **shape, lw=1.2, ls="--", label=f"{site} worst")
    for bound in table["bound"].dropna().unique():
        axes.axhline(bound, color="black", lw=1.0, ls=":", label="bound")


def _legend(table: pd.DataFrame, looks: dict[str, Look]) -> list[Any]:
    most = table.groupby("site")["recordings"].max()
    return [
        *(
            mark(f"{site}, n = {most[site]}", color=look["color"], marker=look["marker"])
            for site, look in looks.items()
        ),
        mark("mean of recordings", color="#666666", ls="-", lw=1.6),
        mark("worst recording", color="#666666", ls="--", lw=1.2),
        mark("bound", color="black", ls=":", lw=1.0),
    ]


def cleaning_reasons(cleaning: pd.DataFrame, cleaning_curves: pd.DataFrame) -> list[str]:
    """What the curves show of each bound that is not met, a sentence for each site.

    Parameters
    ----------
    cleaning, cleaning_curves : DataFrame
        The tables of `score_cleaning`.
    """
    missed = cleaning[cleaning["met"] == "NO"]
    said = []
    for what, tell in (("scanner_r", _tell_scanner), ("cardiac_worst", _tell_heart)):
        for row in missed[missed["what"] == what].to_dict("records"):
            said.append(tell(row, cleaning_curves[cleaning_curves["site"] == row["site"]]))
    return said


def _tell_scanner(row: dict[Any, Any], curves: pd.DataFrame) -> str:
    """The second that costs most, and how r is next to the scanner's start and stop."""
    without = curves[curves["what"] == "scanner_r_without"]
    without = without[without["recordings"] == without["recordings"].max()]  # or the worst could be missing
    within = curves[curves["what"] == "scanner_r_second"]
    costs = without.sort_values("worst").to_dict("records")[-1]
    beside = within[within["x"].abs() < 1].groupby("x_unit")["mean"].mean()
    at_start, at_stop = (beside.get(unit, np.nan) for unit in (FROM_START, FROM_STOP))
    verdict = "meet the bound" if costs["worst"] >= costs["bound"] else "still not meet the bound"
    first = costs["x_unit"] == FROM_START and costs["x"] == without.loc[without["x_unit"] == FROM_START, "x"].min()
    return (
        f"{row['site']}: r is {row['worst']:.3f} in the worst recording. Of all seconds, the one that costs most is "
        f"{_when(costs)}{', the first of the recording' if first else ''}: without it, the worst recording would have "
        f"{costs['worst']:.3f} and {verdict}. Within a second, r is {at_start:.2f} beside the scanner's "
        f"start, {at_stop:.2f} beside its stop and {within['mean'].median():.2f} in the median second."
    )


def _when(point: dict[Any, Any]) -> str:
    side = "before" if point["x"] < 0 else "after"
    return f"{abs(point['x']) - 0.5:g} to {abs(point['x']) + 0.5:g} s {side} {point['x_unit'].removeprefix('s from ')}"


def _tell_heart(row: dict[Any, Any], curves: pd.DataFrame) -> str:
    """Which harmonics miss the bound, and how strong heartbeats are against EEG there, before and after."""
    drop = curves[curves["what"] == "cardiac_drop"].set_index("x")
    planted_N = curves[curves["what"] == "cardiac_over_eeg"].set_index("x")["mean"]
    missed_N = (drop["worst"] < drop["bound"]).to_numpy()
    left_N = planted_N - drop["mean"]
    return (
        f"{row['site']}: heartbeats fall by {row['worst']:.1f} dB in the worst recording, at harmonic "
        f"{' and '.join(f'{x:g}' for x in drop.index[missed_N])}. There, on average, they were planted at "
        f"{_span(planted_N[missed_N])} dB against EEG and {_span(left_N[missed_N])} dB are left; at the other "
        f"harmonics they were planted at {_span(planted_N[~missed_N])} dB and {_span(left_N[~missed_N])} dB are left."
    )


def _span(values_N: pd.Series) -> str:
    """Lowest to highest, with signs; `no` where there are none."""
    if values_N.empty:
        return "no"
    low, high = (f"{round(value):+d}" for value in (values_N.min(), values_N.max()))
    return low if low == high else f"{low} to {high}"
