"""Figures of the synthesis: models next to their nulls, differences to the baseline, calibration.

Tables are those of `synthesis.tables.collect_synthesis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    SHADE,
    SMALL,
    WIDTH,
    Look,
    Rows,
    check_columns,
    draw_rows,
    finish,
    is_left,
    large_text,
    mark,
    remark,
)
from neuroloom.figures.style import BEFORE, plot_notice
from neuroloom.figures.synthesis_models import (
    NULL_LOOKS,
    NULLS,
    RULE,
    baseline_of,
    group_name,
    groups_of,
    looks_of,
    model_rows,
    models_of,
    only,
    split_name,
    splits_of,
)
from neuroloom.synthesis.nulls import MEASURED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY: Look = {"color": "#666666"}
LEVELS = (50, 80, 95)
ROOM, PLAIN = 0.5, 0.34  # inches of a row with nulls, and without
KEYS = ("model", "kind", "split")
LIMITS = ("ci_low", "ci_high")
COUNTS = ("n_participants", "n_parcels")
SUMMARY = (*KEYS, "target", "group", "r", *LIMITS, "ceiling", "significant", *COUNTS)
DIFFERENCES = (*KEYS, "group", "other", "difference", *LIMITS, "n_participants")
CALIBRATION = (*KEYS, "target", "group", *(f"coverage{level}" for level in LEVELS))
Panels = dict[tuple[str, str], "Axes"]  # by split and group


def plot_synthesis_scores(synthesis_summary: pd.DataFrame) -> Figure:
    """Every model next to its nulls and the ceiling.

    Parameters
    ----------
    synthesis_summary : DataFrame
        Rows (model, kind, split, target, group); r with its interval over people, ceiling, significant, counts.

    Returns
    -------
    Figure
        A panel for each split and group of parcels. The large mark is mean r with its interval over people, small ones
        below it are the nulls. A model without r says so.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_summary.empty:
        return plot_notice("Synthesis", "No model was asked for BOLD.")
    check_columns(synthesis_summary, "synthesis_summary", SUMMARY, rule=RULE)
    table, looks = synthesis_summary, looks_of(synthesis_summary)
    places = _rows_of_splits(table)
    with large_text():
        heights = {split: 1.1 + ROOM * rows.height for split, rows in places.items()}
        figure, panels = _panels(table, heights, margin=1.2)
        for (split, group), axes in panels.items():
            part, rows = only(table, split=split, group=group), places[split]
            measured = part[part["target"] == MEASURED]
            draw_rows(axes, rows)
            axes.axvline(0, color=BEFORE, lw=0.8, zorder=0)
            wide = axes.get_yaxis_transform()
            axes.hlines(np.arange(1, len(rows.slots)), 0, 1, color=SHADE, lw=0.6, transform=wide)
            for row in measured.to_dict("records"):
                nulls = {one["target"]: one for one in only(part, model=row["model"]).to_dict("records")}
                most = measured["n_participants"].max()
                _draw_score(axes, row, nulls, rows.slots[row["model"]], looks[row["model"]], most=most)
            _name(axes, split, group, measured)
            _remark_missing(axes, rows, measured)
            axes.set_xlabel("mean r")
        next(iter(panels.values())).set_xlim(*_limits(table[table["target"].isin([MEASURED, *NULLS])]))
        return finish(figure, _score_legend(table), columns=3)


def _panels(
    table: pd.DataFrame, heights: Mapping[str, float], *, margin: float, sharey: Literal["all", "row"] = "row"
) -> tuple[Figure, Panels]:
    """A panel for each split, from above, as high as its models need, and each group, visible parcels first."""
    from matplotlib.figure import Figure

    groups = groups_of(table)
    figure = Figure(figsize=(WIDTH, margin + sum(heights.values())))
    grid = figure.subplots(
        *(len(heights), len(groups)),
        squeeze=False,
        sharex=True,
        sharey=sharey,
        height_ratios=list(heights.values()),
    )
    places = [(split, group) for split in heights for group in groups]
    return figure, dict(zip(places, grid.ravel(), strict=True))


def _rows_of_splits(table: pd.DataFrame) -> dict[str, Rows]:
    """The models that each split was asked of."""
    return {split: model_rows(only(table, split=split)) for split in splits_of(table)}


def _name(axes: Axes, split: str, group: str, measured: pd.DataFrame) -> None:
    """Title with n, and ticks that sharing takes from upper rows."""
    people, parcels = measured["n_participants"].max(), measured.get("n_parcels", pd.Series(dtype=float)).max()
    counted = f"\n{parcels:.0f} parcels" if parcels > 0 else ""
    words = f"{people:.0f} {'person' if people == 1 else 'people'}" if people > 0 else "nobody"
    axes.set_title(f"{split_name(split)}\n{group_name(group)}{counted}\n{words}", fontsize=SMALL)
    axes.tick_params(labelbottom=True)
    axes.locator_params(axis="x", nbins=4)


def _remark_missing(axes: Axes, rows: Rows, part: pd.DataFrame) -> None:
    """Where a model of the split has nothing in a group."""
    for name in set(rows.slots) - set(part["model"]):
        remark(axes, "no value", rows.slots[name])


def _draw_score(
    axes: Axes, row: Mapping[Any, Any], nulls: Mapping[str, Mapping[Any, Any]], y: float, look: Look, *, most: float
) -> None:
    if pd.isna(row["r"]):
        remark(axes, "no r: constant", y, colour=look["color"])
        return
    # nulls have lines of their own, because all of them lie near zero
    above = y - 0.2
    axes.plot([row[name] for name in LIMITS], [above] * 2, color=look["color"], lw=2.2, zorder=2, label="interval")
    axes.plot(row["r"], above, **look, ms=8, ls="", zorder=3, label="r")
    axes.plot(row["ceiling"], above, "|", color="black", ms=14, mew=1.8, zorder=3, label="ceiling")
    for place, name in zip((0.08, 0.24, 0.4), NULLS, strict=True):
        null = nulls.get(name, {"r": np.nan, **dict.fromkeys(LIMITS, np.nan)})
        axes.plot([null[limit] for limit in LIMITS], [y + place] * 2, color="#7A7A7A", lw=0.8, zorder=1)
        axes.plot(null["r"], y + place, **NULL_LOOKS[name], ms=5, mew=1.2, ls="", zorder=2, label=name)
    # means over other people are not to be compared unseen
    fewer = f"n = {row['n_participants']:.0f}; " if row["n_participants"] < most else ""
    if pd.notna(row["significant"]):
        text = f"{fewer}{100 * row['significant']:.0f} %"
        axes.text(0.99, y + 0.26, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=9)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Limits of r in all panels, with room for shares at the right."""
    # r is never beyond one, whatever an interval over few people says
    known = table[["r", *LIMITS, "ceiling"]].to_numpy(float)
    known = known[np.isfinite(known)]
    low, high = float(known.min(initial=-0.1)), float(known.max(initial=0.2))
    return max(low - 0.05, -1.02), min(high + 0.05 * (high - low), 1.02)


def _score_legend(table: pd.DataFrame) -> list[Any]:
    ceiling = [mark("ceiling: true band power", color="black", marker="|", ms=12, mew=1.8)]
    return [
        mark("mean r, 95 % over people", **GREY, marker="o", ls="-", lw=2.2),
        *(ceiling if table["ceiling"].notna().any() else []),
        *(mark(f"null: {name}", **NULL_LOOKS[name], ms=5) for name in NULLS),
        mark("62 %: share of parcels with q < 0.05", marker="", color="none"),
    ]


def plot_synthesis_differences(synthesis_differences: pd.DataFrame) -> Figure:
    """How much higher r is than that of the baseline, on the same scans and parcels.

    Parameters
    ----------
    synthesis_differences : DataFrame
        Rows (model, kind, split, group); other (the baseline), difference with its interval over people, counts.

    Returns
    -------
    Figure
        A panel for each split and group of parcels. A hollow mark has no interval: there are too few people.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_differences.empty:
        return plot_notice("Differences", "No model stands beside the baseline.")
    check_columns(synthesis_differences, "synthesis_differences", DIFFERENCES, rule=RULE)
    table, looks, places = (
        synthesis_differences,
        looks_of(synthesis_differences),
        _rows_of_splits(synthesis_differences),
    )
    other = baseline_of(table, table)
    with large_text():
        heights = {split: 1.2 + PLAIN * rows.height for split, rows in places.items()}
        figure, panels = _panels(table, heights, margin=0.9)
        for (split, group), axes in panels.items():
            part, rows = only(table, split=split, group=group), places[split]
            draw_rows(axes, rows)
            axes.axvline(0, color=BEFORE, lw=1.0, zorder=0)
            for row in part.to_dict("records"):
                _draw_difference(axes, row, rows.slots[row["model"]], looks[row["model"]])
            _name(axes, split, group, part)
            _remark_missing(axes, rows, part)
            axes.set_xlabel(f"r less that of {other}")
        known = table[["difference", *LIMITS]].to_numpy(float)
        known = known[np.isfinite(known)]
        low, high = float(known.min(initial=-0.1)), float(known.max(initial=0.1))
        next(iter(panels.values())).set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
        legend = [
            mark("mean over people, 95 %", **GREY, marker="o", ls="-", lw=1.8),
            mark("too few people for an interval", **GREY, marker="o", mfc="white", mew=1.5),
        ]
        return finish(figure, legend, columns=2)


def _draw_difference(axes: Axes, row: Mapping[Any, Any], y: float, look: Look) -> None:
    if pd.isna(row["difference"]):
        remark(axes, "no r: constant", y, colour=look["color"])
        return
    fill: Look = {"mfc": "white", "mew": 1.5} if pd.isna(row["ci_low"]) else {}
    axes.plot([row[name] for name in LIMITS], [y, y], color=look["color"], lw=1.8, zorder=2, label="interval")
    axes.plot(row["difference"], y, **look, **fill, ms=8, ls="", zorder=3, label="difference")


def plot_synthesis_calibration(synthesis_summary: pd.DataFrame) -> Figure:
    """How often what was measured lies in the interval that a model gives.

    Parameters
    ----------
    synthesis_summary : DataFrame
        Rows (model, kind, split, target, group); coverage50, coverage80, coverage95.

    Returns
    -------
    Figure
        A panel for each split and group of parcels; at 0, uncertainty is what it says, below it is too small.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_summary.empty:
        return plot_notice("Calibration", "No model was asked for BOLD.")
    check_columns(synthesis_summary, "synthesis_summary", CALIBRATION, rule=RULE)
    columns = [f"coverage{level}" for level in LEVELS]
    table = only(synthesis_summary, target=MEASURED)
    known = table[table[columns].notna().any(axis=1)]
    if known.empty:
        return plot_notice("Calibration", "No model says how sure it is.")
    looks = looks_of(table)
    with large_text():
        figure, panels = _panels(known, dict.fromkeys(splits_of(known), 3.2), margin=1.3, sharey="all")
        for (split, group), axes in panels.items():
            part = only(known, split=split, group=group)
            axes.axhline(0, color=BEFORE, lw=1.0, zorder=0)
            for row in part.to_dict("records"):
                # differences, as lines near the diagonal cannot be told apart
                covered = [100 * row[name] - level for name, level in zip(columns, LEVELS, strict=True)]
                axes.plot(LEVELS, covered, **looks[row["model"]], ms=6, lw=1.0, zorder=2, label=row["model"])
            _name(axes, split, group, part)
            axes.set(xlim=(44, 101), xticks=LEVELS)
            axes.set_xlabel("interval (%)")
            if is_left(axes):
                axes.set_ylabel("measured inside of it,\nless what it says\n(percentage points)")
        return finish(figure, _named_marks(looks, [name for name, _ in models_of(known)]), columns=4)


def _named_marks(looks: Mapping[str, Look], names: Sequence[str]) -> list[Any]:
    exact = mark("exact", color=BEFORE, ls="-", lw=1.0, marker="")
    return [*(mark(name, **looks[name], ls="-", lw=1.0) for name in names), exact]
