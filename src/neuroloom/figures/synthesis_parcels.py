"""Single parcels: their measured and predicted time courses, and their r beside chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    CHANCE,
    SMALL,
    Look,
    band,
    check_columns,
    finish,
    is_left,
    large_text,
    mark,
    panel_grid,
    remark,
)
from neuroloom.figures.style import AFTER, BEFORE, plot_notice
from neuroloom.figures.synthesis_models import (
    NULL_LOOKS,
    NULLS,
    RULE,
    groups_of,
    in_group,
    is_found,
    looks_of,
    only,
    shown_models,
    split_name,
    splits_of,
)
from neuroloom.figures.synthesis_plots import GREY, KEYS, LIMITS
from neuroloom.synthesis.nulls import MEASURED
from neuroloom.synthesis.scoring import POOLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSIDE_80 = 1.2816  # SD, half the width that holds 80 % of a normal
BAND_80 = "#BBD7EA"
TRACES = (*KEYS, "scan", "parcel", "time", "measured", "predicted", "std")
PARCELS = (*KEYS, "target", "parcel", "group", "r", *LIMITS, "q_phase", "q_shift", "q_other", "n_participants")
RUNS = (*KEYS, "target", "scan", "parcel", "r", "r_high")


def plot_synthesis_traces(
    synthesis_traces: pd.DataFrame, synthesis_parcels: pd.DataFrame, synthesis: pd.DataFrame
) -> Figure:
    """Measured and predicted BOLD of a few parcels, which were chosen without looking at the prediction.

    Parameters
    ----------
    synthesis_traces : DataFrame
        Rows (model, split, scan, parcel, time); measured, predicted, std.
    synthesis_parcels : DataFrame
        As `collect_synthesis` gives it, for the model that is shown and the groups.
    synthesis : DataFrame
        r of each scan and parcel.

    Returns
    -------
    Figure
        A column for each scan, a row for each parcel; the band holds 80 % if the model knows its own uncertainty.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_traces.empty:
        return plot_notice("Traces", "No time course was kept.")
    check_columns(synthesis_traces, "synthesis_traces", TRACES, rule=RULE)
    check_columns(synthesis_parcels, "synthesis_parcels", PARCELS, rule=RULE)
    split = splits_of(synthesis_traces)[0]
    parcels = only(synthesis_parcels, split=split, target=MEASURED)
    model = next(iter(shown_models(parcels)), str(synthesis_traces["model"].iloc[0]))
    table = only(synthesis_traces, split=split, model=model)
    scores = only(synthesis, split=split, model=model, target=MEASURED).groupby(["scan", "parcel"])["r"].mean()
    group_of = parcels.drop_duplicates("parcel").set_index("parcel")["group"].fillna("")
    scans = list(table["scan"].unique())
    # tables are in the order of the alphabet, which puts invisible parcels first
    names = _by_group(table, parcels)
    with large_text():
        figure, panels = panel_grid(
            len(scans) * len(names), margin=1.0, row=1.35, columns=len(scans), sharex=False, sharey=True
        )
        for at, axes in enumerate(panels):
            scan, name = scans[at % len(scans)], names[at // len(scans)]
            own = only(table, scan=scan, parcel=name).sort_values("time")
            _draw_trace(axes, own)
            group = f" ({group_of[name]})" if group_of.get(name) else ""
            r = scores.get((scan, name), np.nan)
            told = f"r = {r:.2f}" if pd.notna(r) else "no r"
            first = f"{scan}\n" if at < len(scans) else ""
            axes.set_title(f"{first}{name}{group}: {told}", fontsize=SMALL)
            axes.tick_params(labelbottom=True)
            if at >= len(panels) - len(scans):
                axes.set_xlabel("s on the clock of the EEG")
        figure.supylabel("BOLD (SD of training)", fontsize=SMALL)
        legend = [
            mark("measured", color="black", ls="-", lw=1.4, marker=""),
            mark(f"predicted by {model}, {split_name(split)}", color=AFTER, ls="-", lw=1.8, marker=""),
            band("80 % of the prediction", BAND_80),
        ]
        return finish(figure, legend, columns=3)


def _by_group(traces: pd.DataFrame, parcels: pd.DataFrame) -> list[str]:
    """Parcels of the traces, visible ones first."""
    known = list(traces["parcel"].unique())
    of_groups = [set(in_group(parcels, group)["parcel"]) for group in groups_of(parcels)]
    return list(dict.fromkeys(name for group in of_groups for name in known if name in group))


def _draw_trace(axes: Axes, own: pd.DataFrame) -> None:
    time_V = own["time"].to_numpy(float)
    steps_V = np.diff(time_V)
    # volumes that were left out break the line, so that nothing is drawn that was not measured
    gaps_N = np.flatnonzero(steps_V > 1.5 * np.median(steps_V)) + 1 if len(steps_V) else np.zeros(0, int)
    time_V = np.insert(time_V, gaps_N, np.nan)
    measured_V, said_V, std_V = (
        np.insert(own[name].to_numpy(float), gaps_N, np.nan) for name in ("measured", "predicted", "std")
    )
    low_V, high_V = said_V - INSIDE_80 * std_V, said_V + INSIDE_80 * std_V
    axes.fill_between(time_V, low_V, high_V, color=BAND_80, lw=0, zorder=1)
    axes.plot(time_V, measured_V, color="black", lw=1.2, zorder=3, label="measured")
    axes.plot(time_V, said_V, color=AFTER, lw=1.7, zorder=2, label="predicted")
    axes.margins(x=0.01)


def plot_synthesis_nulls(synthesis: pd.DataFrame, synthesis_parcels: pd.DataFrame) -> Figure:
    """Mean r of each parcel beside what one scan reaches by chance.

    Parameters
    ----------
    synthesis : DataFrame
        Rows of all jobs, for r_high of the nulls.
    synthesis_parcels : DataFrame
        Mean r of each parcel with its interval over people, q against each null.

    Returns
    -------
    Figure
        A panel for each split, for the best of our models and the baseline. Filled marks are beyond all their nulls.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_parcels.empty:
        return plot_notice("Parcels and chance", "No model was asked for BOLD.")
    check_columns(synthesis, "synthesis", RUNS, rule=RULE)
    check_columns(synthesis_parcels, "synthesis_parcels", PARCELS, rule=RULE)
    looks = looks_of(synthesis_parcels)
    shown = {split: shown_models(only(synthesis_parcels, split=split)) for split in splits_of(synthesis_parcels)}
    places = [(split, model) for split, models in shown.items() for model in models]
    if not places:
        return plot_notice("Parcels and chance", "No model here has an r, and none is the baseline.")
    with large_text():
        figure, panels = panel_grid(len(places), margin=1.0, row=3.2, columns=max(map(len, shown.values())))
        for axes, (split, model) in zip(panels, places, strict=True):
            own = only(synthesis_parcels, split=split, model=model)
            nulls = only(synthesis, split=split, model=model)
            _draw_parcels(axes, own, nulls[nulls["target"] != MEASURED], looks[model])
            people = own["n_participants"].max()
            axes.set_title(f"{model}, {split_name(split)}, n = {people:.0f}", fontsize=SMALL, pad=20)
            axes.set_xlabel("parcels, by their r")
        for axes in filter(is_left, panels):
            axes.set_ylabel("r, mean over people")
        legend = [
            mark("q < 0.05 against all nulls", **GREY, marker="o", ms=5),
            mark("not beyond chance", **GREY, marker="o", ms=5, mfc="white"),
            mark("95 % over people", **GREY, ls="-", lw=1.0, marker=""),
            mark("mean r with other people's BOLD", **{**NULL_LOOKS[NULLS[-1]], "marker": "_"}, ms=6, mew=1.4),
            band("one scan by chance, to 97.5 %", CHANCE),
        ]
        return finish(figure, legend, columns=3)


def _draw_parcels(axes: Axes, own: pd.DataFrame, nulls: pd.DataFrame, look: Look) -> None:
    measured = own[own["target"] == MEASURED].set_index("parcel")
    highest = nulls.groupby(["parcel", "target"])["r_high"].mean().groupby("parcel").max()
    others = own[own["target"] == NULLS[-1]].set_index("parcel")["r"]
    found = pd.Series(is_found(measured), index=measured.index)
    start = 0
    groups = [name for name in groups_of(own) if name != POOLED]
    for group in groups or [POOLED]:
        # what is constant has no r, and no place among those that have
        order = in_group(measured, group)["r"].dropna().sort_values(ascending=False).index
        at_P = start + np.arange(len(order))
        part = measured.loc[order]
        axes.bar(at_P, highest.reindex(order), width=1.0, color=CHANCE, lw=0, zorder=0)
        axes.vlines(at_P, part["ci_low"], part["ci_high"], color=look["color"], lw=0.9, zorder=2)
        face = np.where(found[order], look["color"], "white")
        axes.scatter(at_P, part["r"], s=18, c=face, edgecolors=look["color"], linewidths=0.9, zorder=3, label="r")
        axes.plot(at_P, others.reindex(order), "_", color="#7A7A7A", ms=5, mew=1.4, zorder=1, label="other")
        if groups and len(order):
            axes.text(at_P.mean(), 1.01, group, transform=axes.get_xaxis_transform(), ha="center", fontsize=SMALL)
        start += len(order) + 2
    if start <= 2:
        remark(axes, "no r: constant", float(np.mean(axes.get_ylim())), colour=look["color"])
    axes.axhline(0, color=BEFORE, lw=0.8, zorder=0)
    axes.set_xticks([])
