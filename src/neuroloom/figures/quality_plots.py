"""Quality of the recordings over sites: what preprocessing found and took out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    SLOT,
    WIDTH,
    Look,
    Rows,
    check_columns,
    draw_rows,
    finish,
    large_text,
    mark,
    rows_of,
)
from neuroloom.figures.style import AFTER, BAD, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE = "collect_tables"
KINDS: dict[str, Look] = {
    "eeg": {"color": AFTER, "marker": "o"},
    "meg": {"color": "#009E73", "marker": "s"},
    "bold": {"color": BAD, "marker": "D"},
}
MEEG = (
    *("recording", "n_channels", "n_bads", "n_ocular", "n_muscle", "n_windows", "n_rejected"),
    *("line_db_before", "line_db_after"),
)
BOLD = ("recording", "fd_mean", "tsnr_median", "n_volumes", "n_censored")
OF_MEEG = {
    "bads": "bad channels (%)",
    "components": "components out\n(eyes, muscle)",
    "rejected": "rejected\nwindows (%)",
    "line": "mains over\nneighbours (dB)",
}
OF_BOLD = {
    "fd_mean": "mean framewise\ndisplacement (mm)",
    "censored": "censored\nvolumes (%)",
    "tsnr_median": "median\ntemporal SNR",
}
HEIGHT = 1.0  # inches of what is no row


def plot_quality_sites(recordings: pd.DataFrame, qc_meeg: pd.DataFrame, qc_bold: pd.DataFrame) -> Figure:
    """What preprocessing found, a point for each recording, by site and modality.

    Parameters
    ----------
    recordings : DataFrame
        recording, study, site, modality.
    qc_meeg, qc_bold : DataFrame
        QC rows of the recordings.

    Returns
    -------
    Figure
        Above EEG and MEG, below BOLD, a panel for each measure. A black line is the median of a site's recordings.
        Mains are hollow before cleaning.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if qc_meeg.empty and qc_bold.empty:
        return plot_notice("Quality", "No recording was cleaned.")
    parts = _measured(recordings, qc_meeg, qc_bold)
    several = recordings["study"].nunique() > 1
    rows = [_rows(table, several) for table, _ in parts]
    heights = [HEIGHT + SLOT * one.height for one in rows]
    with large_text():
        figure = Figure(figsize=(WIDTH, 0.5 + sum(heights)))
        pages = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False).ravel()
        for page, (table, named), places in zip(pages, parts, rows, strict=True):
            for axes, name in zip(page.subplots(1, len(named), squeeze=False)[0], named, strict=True):
                _draw_measure(axes, table, places, name)
                axes.set_xlabel(named[name])
        return finish(figure, _legend(len(qc_meeg) > 0), columns=4)


Part = tuple[pd.DataFrame, dict[str, str]]  # measures of recordings, and what they are in words


def _measured(recordings: pd.DataFrame, meeg: pd.DataFrame, bold: pd.DataFrame) -> list[Part]:
    """Of each kind of recording that there is."""
    places = recordings[["recording", "study", "site", "modality"]]
    parts: list[Part] = []
    if len(meeg):
        check_columns(meeg, "qc_meeg", MEEG, rule=RULE)
        measures = meeg.assign(
            bads=100 * meeg["n_bads"] / meeg["n_channels"],
            components=meeg["n_ocular"] + meeg["n_muscle"],
            rejected=100 * meeg["n_rejected"] / meeg["n_windows"].where(meeg["n_windows"] > 0),
            line=meeg["line_db_after"],
        )
        parts.append((measures.merge(places, on="recording"), OF_MEEG))
    if len(bold):
        check_columns(bold, "qc_bold", BOLD, rule=RULE)
        measures = bold.assign(censored=100 * bold["n_censored"] / bold["n_volumes"])
        parts.append((measures.merge(places, on="recording"), OF_BOLD))
    return parts


def _rows(table: pd.DataFrame, several: bool) -> Rows:
    """Sites by modality, each with the number of its recordings."""
    counts = table.groupby(["modality", "study", "site"]).size()
    keys = sorted(counts.index, key=lambda key: (list(KINDS).index(key[0]), *key))
    named = {key: f"{f'{key[1]} ' if several else ''}{key[2]}, n = {counts[key]}" for key in keys}
    return rows_of({key: (key[0].upper(), name) for key, name in named.items()})


def _draw_measure(axes: Axes, table: pd.DataFrame, rows: Rows, name: str) -> None:
    draw_rows(axes, rows)
    for key, own in table.groupby(["modality", "study", "site"]):
        look = KINDS[str(key[0])]
        if name == "line":
            _draw_points(axes, own["line_db_before"], rows.slots[key], {**look, "mfc": "white"}, median=False)
        _draw_points(axes, own[name], rows.slots[key], look)
    shown = ["line_db_before", name] if name == "line" else [name]
    low, high = min(table[shown].min().min(), 0.0), table[shown].max().max()
    high = high if high > low else 1.0  # where nothing was found, nothing has to look like much
    axes.set_xlim(low - 0.04 * (high - low), high + 0.06 * (high - low))
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:g}")


def _draw_points(axes: Axes, values: pd.Series, y: float, look: Look, *, median: bool = True) -> None:
    known_N = np.sort(values.dropna().to_numpy(float))
    if not len(known_N):
        return
    # one after another, so that equal recordings are seen as many
    places_N = y + (np.linspace(-0.3, 0.3, len(known_N)) if len(known_N) > 1 else np.zeros(1))
    axes.plot(known_N, places_N, **look, ms=4, mew=0.9, ls="", alpha=0.8, zorder=2, label="recording")
    if median:
        axes.plot([np.median(known_N)] * 2, [y - 0.45, y + 0.45], color="black", lw=1.8, zorder=3, label="median")


def _legend(mains: bool) -> list[Any]:
    grey: Look = {"color": "#666666", "marker": "o"}
    return [
        mark("a recording", **grey, ms=5),
        *([mark("mains before cleaning", **grey, mfc="white", ms=5)] if mains else []),
        mark("median of the site", color="black", marker="|", ms=12, mew=1.8),
    ]
