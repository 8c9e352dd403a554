"""Connectivity of predicted BOLD beside that of measured BOLD."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    SMALL,
    WIDTH,
    WORDS,
    Look,
    Rows,
    check_columns,
    draw_rows,
    finish,
    large_text,
    mark,
    n_of,
    remark,
)
from neuroloom.figures.style import BEFORE, plot_notice
from neuroloom.figures.synthesis_maps import COLOURS
from neuroloom.figures.synthesis_models import NULL_LOOKS, RULE, looks_of, model_rows, only, shown_models, splits_of
from neuroloom.figures.synthesis_plots import KEYS, LIMITS, PLAIN
from neuroloom.records import Array
from neuroloom.synthesis.nulls import MEASURED, OTHER
from neuroloom.synthesis.scoring import LABELS, POOLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAIRS = (*KEYS, "parcel", "other", "measured", "predicted")
MEASURES = {"fc_static": "static", "fc_dynamic": "in sliding windows"}
AGREEMENT = (*KEYS, "target", "group", *MEASURES)
INTERVALS = {name: [f"{name}_{limit}" for limit in LIMITS] for name in MEASURES}


def plot_synthesis_connectivity(
    synthesis_connectivity: pd.DataFrame,
    synthesis_parcels: pd.DataFrame,
    synthesis_summary: pd.DataFrame,
    synthesis_scans: pd.DataFrame,
) -> Figure:
    """Connectivity that was measured and that was predicted, in the first split, and how far they agree.

    Parameters
    ----------
    synthesis_connectivity : DataFrame
        Rows (model, kind, split, parcel, other); measured, predicted.
    synthesis_parcels : DataFrame
        Places of the parcels, and which model is the best of ours.
    synthesis_summary, synthesis_scans : DataFrame
        Rows (model, kind, split, target, group); fc_static, fc_dynamic, of all scans together, with `_ci_low` and
        `_ci_high`, and of each.

    Returns
    -------
    Figure
        Matrices, left half of the brain first, each from back to front; below, the agreement of every model.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_connectivity.empty:
        return plot_notice("Connectivity", "No model was asked for BOLD.")
    check_columns(synthesis_connectivity, "synthesis_connectivity", PAIRS, rule=RULE)
    check_columns(
        synthesis_summary, "synthesis_summary", (*AGREEMENT, *chain(*INTERVALS.values()), "n_participants"), rule=RULE
    )
    check_columns(synthesis_scans, "synthesis_scans", AGREEMENT, rule=RULE)
    split = splits_of(synthesis_connectivity)[0]
    pairs, parcels = only(synthesis_connectivity, split=split), only(synthesis_parcels, split=split)
    shown = [name for name in shown_models(parcels) if name in set(pairs["model"])] or [str(pairs["model"].iloc[0])]
    # names of parcels say nothing of neighbours
    order = _by_place(parcels)
    matrices = {"measured": _matrix(only(pairs, model=shown[0]), "measured", order)}
    matrices |= {f"predicted by {name}": _matrix(only(pairs, model=name), "predicted", order) for name in shown}
    rows = model_rows(synthesis_summary)
    with large_text():
        figure, upper, lower = _connectivity_axes(len(matrices), rows.height)
        known = np.abs(np.concatenate([r_PP.ravel() for r_PP in matrices.values()]))
        # one scale for all, or a flat prediction would look as strong as what was measured
        highest = float(np.nanmax(known, initial=0.1))
        for axes, (title, r_PP) in zip(upper, matrices.items(), strict=True):
            picture = axes.imshow(r_PP, cmap=COLOURS, vmin=-highest, vmax=highest, interpolation="nearest")
            axes.set_title(title, fontsize=SMALL, pad=22)
            axes.set(xticks=[], yticks=[])
            _mark_halves(axes, order)
        figure.colorbar(picture, ax=list(upper), label="r, mean over scans", shrink=0.8, aspect=15)
        table = only(synthesis_summary, split=split, group=POOLED)
        scans = only(synthesis_scans, split=split, group=POOLED, target=MEASURED)
        for axes, name in zip(lower, MEASURES, strict=True):
            _draw_agreement(axes, table, scans, name, rows)
        return finish(figure, _agreement_legend(), columns=3)


def _connectivity_axes(n_matrices: int, height: float) -> tuple[Figure, Sequence[Axes], Sequence[Axes]]:
    from matplotlib.figure import Figure

    high = 3.3, 1.1 + PLAIN * height
    figure = Figure(figsize=(WIDTH, sum(high) + 1.0))
    # two layouts, because matrices are square and rows of models are not
    parts = figure.subfigures(2, 1, height_ratios=high, squeeze=False).ravel()
    upper = parts[0].subplots(1, n_matrices, squeeze=False).ravel()
    return figure, upper, parts[1].subplots(1, len(MEASURES), sharex=True, sharey=True)


def _by_place(parcels: pd.DataFrame) -> pd.Series:
    """Side of each parcel, those of the left first, each from back to front; as they come where nothing is known."""
    places = parcels.drop_duplicates("parcel")
    side = np.where(places["x"].isna(), "", np.where(places["x"] < 0, "left", "right"))
    ordered = places.assign(side=side).sort_values(["side", "y"], kind="stable")
    return ordered.set_index("parcel")["side"]


def _matrix(pairs: pd.DataFrame, value: str, order: pd.Series) -> Array:
    wide = pairs.pivot_table(index="parcel", columns="other", values=value, dropna=False)
    return np.asarray(wide.reindex(index=order.index, columns=order.index).to_numpy(float))


def _mark_halves(axes: Axes, order: pd.Series) -> None:
    for side in filter(None, order.unique()):
        at_P = np.flatnonzero(order == side)
        where = axes.get_xaxis_transform()
        axes.text(at_P.mean(), 1.01, side, transform=where, ha="center", va="bottom", fontsize=SMALL)
        if at_P[0]:
            axes.axhline(at_P[0] - 0.5, color="black", lw=0.6)
            axes.axvline(at_P[0] - 0.5, color="black", lw=0.6)


def _draw_agreement(axes: Axes, table: pd.DataFrame, scans: pd.DataFrame, name: str, rows: Rows) -> None:
    looks = looks_of(table)
    draw_rows(axes, rows)
    axes.axvline(0, color=BEFORE, lw=0.8, zorder=0)
    for model, y in rows.slots.items():
        own = only(table, model=model)
        measured = own[own["target"] == MEASURED]
        mean = measured[name]
        if not mean.notna().any():
            remark(axes, "no value", y, colour=looks.get(model, {"color": WORDS})["color"])
            continue
        scan_N = only(scans, model=model)[name].dropna().to_numpy()
        # one after another, so that equal scans are seen as many
        places_N = y + np.linspace(-0.25, 0.25, len(scan_N))
        axes.plot(scan_N, places_N, "o", ms=2.5, color=looks[model]["color"], alpha=0.4, mew=0, label="scan")
        for place, null in ((-0.28, OTHER), (0.28, LABELS)):
            known = own.loc[own["target"] == null, name]
            axes.plot(known, [y + place] * len(known), **NULL_LOOKS[null], ms=6, mew=1.3, ls="", zorder=3, label=null)
        limits = measured[INTERVALS[name]].to_numpy(float)[0]
        axes.plot(limits, [y, y], color=looks[model]["color"], lw=1.8, solid_capstyle="butt", zorder=2)
        axes.plot(mean, [y], **looks[model], ms=8, ls="", zorder=4, label="mean")
    people = n_of(table.loc[table["target"] == MEASURED, "n_participants"].dropna())
    axes.set_title(f"connectivity, {MEASURES[name]}: {people} people", fontsize=SMALL)
    axes.set_xlabel("agreement (r over pairs of parcels)")


def _agreement_legend() -> list[Any]:
    grey: Look = {"color": "#666666", "marker": "o"}
    nulls = [mark(f"null: {name}", **NULL_LOOKS[name], ms=6, mew=1.3) for name in (OTHER, LABELS)]
    interval = mark("95 % over people", color="#666666", ls="-", lw=1.8)
    return [mark("mean over people", **grey), interval, mark("one scan", **grey | {"ms": 3, "alpha": 0.5}), *nulls]
