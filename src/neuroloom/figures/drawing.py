"""What the figures of all sections are drawn with: colours and marks by name, panels, the legend, checks of a table."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.tables import LEVEL
from neuroloom.figures.style import AFTER, BAD, BEFORE, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Look = dict[str, Any]  # colour and marker, as matplotlib takes them
WIDTH = 10.0  # inches, 1,100 px
TEXT, SMALL, REMARK = 13, 12, 9  # pt: a page of 390 px shows figures at a third of their size
COLOURS = (AFTER, BAD, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPXp"  # colour is not the only difference
LINES = ("-", "--", "-.", ":")
SHADE, CHANCE, WORDS = "#E4E4E4", "#D0D0D0", "#444444"
SLOT = 0.27  # inches
HEADING, GAP = 1.2, 0.4  # slots


@dataclass(frozen=True)
class Rows:
    """Where what is compared stands, from the top, in slots.

    Attributes
    ----------
    slots : dict
        Place of each key.
    names : list of str
        Of the rows, in words.
    headings : dict
        Place of the name of each group.
    height : float
    """

    slots: dict[Any, float]
    names: list[str]
    headings: dict[str, float]
    height: float


@contextmanager
def large_text() -> Iterator[None]:
    """The style of all figures, with text for figures as wide as the page."""
    import matplotlib

    with figure_style():
        matplotlib.rc("font", size=TEXT)
        matplotlib.rc("axes", titlesize=TEXT, labelsize=SMALL)
        matplotlib.rc("legend", fontsize=SMALL)
        yield


def panel_grid(
    n_panels: int, *, margin: float, row: float, columns: int = 2, sharex: bool = False, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels.

    Parameters
    ----------
    n_panels : int
    margin, row : float
        Inches of the legend, and of each row of panels.
    columns : int
        Most panels side by side.
    sharex, sharey : bool

    Returns
    -------
    figure : Figure
    panels : list of Axes
        In the order of reading.
    """
    from matplotlib.figure import Figure

    columns = min(n_panels, columns)
    n_rows = math.ceil(n_panels / columns)
    figure = Figure(figsize=(WIDTH, margin + row * n_rows))
    panels = figure.subplots(n_rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for axes in panels[n_panels:]:
        axes.remove()
    return figure, list(panels[:n_panels])


def is_left(axes: Axes) -> bool:
    """Whether a panel is the first of its row, where the names of rows stand."""
    place = axes.get_subplotspec()
    return place is None or place.is_first_col()


def rows_of(named: Mapping[Any, tuple[str, str]]) -> Rows:
    """Places of rows, with a heading above each group.

    Parameters
    ----------
    named : mapping
        Key of a row -> (group, name), rows of a group one after another.
    """
    slots: dict[Any, float] = {}
    headings: dict[str, float] = {}
    y = 0.0
    for key, (group, _) in named.items():
        if group not in headings:
            y += GAP if headings else 0.0
            headings[group], y = y + HEADING / 2, y + HEADING
        slots[key], y = y + 0.5, y + 1.0
    return Rows(slots, [name for _, name in named.values()], headings, y)


def draw_rows(axes: Axes, rows: Rows) -> None:
    """Limits, lines between groups, and names in the first panel of a row."""
    labels = is_left(axes)
    axes.set(ylim=(rows.height + 0.2, 0.0))
    axes.set_yticks(list(rows.slots.values()), labels=rows.names)
    axes.tick_params(axis="y", length=0, labelleft=labels)
    for at, (name, y) in enumerate(rows.headings.items()):
        if at:
            axes.axhline(y - HEADING / 2 - GAP / 2, color=BEFORE, lw=0.8)
        if labels:
            place = axes.get_yaxis_transform()
            axes.text(0.0, y, f"{name}  ", transform=place, weight="bold", ha="right", va="center", fontsize=TEXT)


def remark(axes: Axes, words: str, y: float, *, colour: str = WORDS) -> None:
    """A few words at the left of a row."""
    text = axes.text(0.01, y, words, transform=axes.get_yaxis_transform(), va="center", color=colour, zorder=6)
    text.set(fontsize=REMARK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8})


def draw_score(
    axes: Axes, row: Mapping[Any, Any], runs_N: np.ndarray, y: float, look: Look, *, length: int = 52
) -> None:
    """A score with its interval beside chance, and the runs that it is the mean of.

    Parameters
    ----------
    axes : Axes
    row : mapping
        score, ci_low, ci_high, chance, chance_high, q; n_runs, n_failed, seen; note, which says why there is no score.
    runs_N : array
        Scores of the runs, (N,).
    y : float
    look : dict
    length : int
        Letters that there is room for.
    """
    if pd.isna(row["score"]):
        reason = textwrap.shorten(f"no value: {row['note']}", length, placeholder=" …")
        remark(axes, reason, y, colour=look["color"])
        return
    axes.barh(y, row["chance_high"] - row["chance"], left=row["chance"], height=1, color=CHANCE, lw=0, zorder=1)
    axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=look["color"], lw=1.8, solid_capstyle="butt", zorder=3)
    # one after another, so that equal scores are seen as many
    places = y + (np.linspace(-0.3, 0.3, len(runs_N)) if len(runs_N) > 1 else np.zeros(1))
    axes.plot(runs_N, places, "o", ms=3.5, color=look["color"], alpha=0.5, mew=0, zorder=2, ls="", label="run")
    axes.plot(row["score"], y, **look, ms=8, ls="", zorder=4, label="mean")
    if row["q"] <= LEVEL:
        place = axes.get_yaxis_transform()
        axes.plot(1.0, y, "*", ms=8, color="black", mew=0, transform=place, clip_on=False, zorder=5, label="found")
    if words := words_on(row):
        remark(axes, words, y)


def words_on(row: Mapping[Any, Any]) -> str:
    """What has to be known beside a score."""
    failed = f"{row['n_runs']:.0f} of {row['n_runs'] + row['n_failed']:.0f} runs" if row["n_failed"] else ""
    return ", ".join(filter(None, [failed, "people seen" if row["seen"] else ""]))


def finish(figure: Figure, handles: Sequence[Any] = (), *, columns: int = 3) -> Figure:
    """Put the legend below all panels and fix the size of tick labels, which are made only when a figure is saved."""
    for axes in figure.axes:
        axes.tick_params(which="both", labelsize=SMALL)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.2, handletextpad=0.5)
    return figure


def check_columns(table: pd.DataFrame, name: str, columns: Sequence[str], *, rule: str) -> None:
    """Refuse a table that cannot be drawn.

    Raises
    ------
    ValueError
        With the columns that it lacks, and the rule that writes them.
    """
    if missing := [column for column in columns if column not in table]:
        raise ValueError(
            f"table {name}: no column {', '.join(missing)} among {', '.join(map(str, table.columns))}; "
            f"write it again with the rule `{rule}`"
        )


def looks_by_name(names: Iterable[str]) -> dict[str, Look]:
    """Colour and marker of each name, in the order of names, so that all figures agree."""
    return {
        name: {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)]}
        for at, name in enumerate(sorted(set(names)))
    }


def mark(label: str, **look: Any) -> Any:
    """A mark of the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **{"ls": "", "ms": 8, "label": label, **look})


def band(label: str, colour: str = SHADE) -> Any:
    """A shaded area of the legend."""
    from matplotlib.patches import Patch

    return Patch(color=colour, lw=0, label=label)


def hollow(look: Look, size: float) -> dict[str, Any]:
    """The same mark with nothing in it."""
    return {**look, "mfc": "none", "ms": size, "mew": 1.3, "ls": ""}


def n_of(counts: pd.Series) -> str:
    """How many a score is a mean over, with the range where rows differ: `n = 3-4`."""
    low, high = counts.min(), counts.max()
    return f"n = {low:.0f}" + (f"-{high:.0f}" if high > low else "")


def span_of(seconds: float) -> str:
    """Seconds in words: 48 min, 1.3 h."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def score_of(value: float) -> str:
    """Two digits, without a sign before nothing."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def count_of(number: float) -> str:
    """A large number in words of three digits: 431 k, 1.2 M."""
    if not np.isfinite(number):
        return "?"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"
