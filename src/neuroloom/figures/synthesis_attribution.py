"""What of the EEG goes with a parcel: bands, electrodes and lags, in measured BOLD and in predicted BOLD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import SMALL, WORDS, Look, check_columns, finish, large_text, mark, panel_grid
from neuroloom.figures.style import AFTER, BAD, BEFORE, plot_notice
from neuroloom.figures.synthesis_maps import COLOURS
from neuroloom.figures.synthesis_models import RULE, only, splits_of
from neuroloom.synthesis.ceiling import INVISIBLE
from neuroloom.synthesis.nulls import MEASURED
from neuroloom.synthesis.scoring import BETWEEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ATTRIBUTION = ("source", "split", "parcel", "band", "electrode", "x", "y", "z", "lag", "r")
N_DRIVEN = 3  # parcels that are shown
FEWEST_ELECTRODES = 4  # of a topography
SPHERE = 0.095  # m, of the head that electrodes are drawn on
BAND_COLOURS = (AFTER, BAD, "#009E73", "#CC79A7", "#E69F00")


def plot_synthesis_attribution(synthesis_attribution: pd.DataFrame, synthesis_parcels: pd.DataFrame) -> Figure:
    """Which bands, electrodes and lags go with a few parcels, measured and predicted, in the first split.

    Parameters
    ----------
    synthesis_attribution : DataFrame
        Rows (source, split, parcel, band, electrode, lag); x, y, z (m, head frame), r.
    synthesis_parcels : DataFrame
        Groups of the parcels.

    Returns
    -------
    Figure
        A row for each parcel: the two that go most with any power, by what was measured, and one that is invisible.
        Left, topographies of the band and lag with the largest |r|; right, all lags at its electrode.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_attribution.empty:
        return plot_notice("Bands, electrodes and lags", "No model was asked what of the EEG goes with its parcels.")
    check_columns(synthesis_attribution, "synthesis_attribution", ATTRIBUTION, rule=RULE)
    split = splits_of(synthesis_attribution)[0]
    table = only(synthesis_attribution, split=split)
    group_of = synthesis_parcels.drop_duplicates("parcel").set_index("parcel")["group"].fillna("")
    parcels = _driven(only(table, source=MEASURED), group_of)
    sources = [MEASURED, *sorted(set(table["source"]) - {MEASURED})][:2]
    if not parcels:
        return plot_notice("Bands, electrodes and lags", "No parcel has a value.")
    with large_text():
        figure, panels = panel_grid(len(parcels) * 3, margin=1.0, row=2.9, columns=3, sharey=False)
        highest = float(table.loc[table["parcel"].isin(parcels), "r"].abs().max())
        for at, parcel in enumerate(parcels):
            own, places = only(table, parcel=parcel), panels[3 * at : 3 * at + 3]
            named = f"{parcel} ({group_of[parcel]})" if group_of.get(parcel) else parcel
            _draw_parcel(figure, places, own, sources, named=named, highest=highest)
        return finish(figure, _lag_legend(sources, list(dict.fromkeys(table["band"]))), columns=5)


def _driven(measured: pd.DataFrame, group_of: pd.Series) -> list[str]:
    """Parcels to show, chosen by what was measured alone."""
    strongest = measured.assign(size=measured["r"].abs()).groupby("parcel")["size"].max().dropna()
    ranked = list(strongest.sort_values(ascending=False, kind="stable").index)
    hidden = [name for name in ranked if INVISIBLE in str(group_of.get(name, "")).split(BETWEEN)]
    seen = [name for name in ranked if name not in hidden]
    return [*seen[: N_DRIVEN - bool(hidden)], *hidden[:1]]


def _draw_parcel(
    figure: Figure, places: Sequence[Axes], own: pd.DataFrame, sources: Sequence[str], *, named: str, highest: float
) -> None:
    """Topographies and lags, where what was measured is strongest."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    # chosen by what was measured alone, so that the prediction may disagree
    measured = only(own, source=MEASURED)
    peak = measured.iloc[int(np.nanargmax(measured["r"].abs()))]
    for axes, source in zip(places, sources, strict=False):
        _draw_scalp(axes, only(own, source=source, band=peak["band"], lag=peak["lag"]), highest, source)
    words = f"{named}: {peak['band']}, {peak['lag']:g} s before the volume"
    places[0].set_title(words, fontsize=SMALL, pad=16, weight="bold", loc="left")
    figure.colorbar(ScalarMappable(Normalize(-highest, highest), COLOURS), ax=places[1], label="r", shrink=0.7)
    _draw_lags(places[2], only(own, electrode=peak["electrode"]), sources, str(peak["electrode"]))
    places[2].set_ylim(-1.1 * highest, 1.1 * highest)


def _draw_scalp(axes: Axes, rows: pd.DataFrame, highest: float, title: str) -> None:
    rows = rows.dropna(subset=["x", "y", "z", "r"]).drop_duplicates("electrode")
    axes.set_xlabel(title, fontsize=SMALL)
    if len(rows) < FEWEST_ELECTRODES:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, f"{len(rows)} electrodes", transform=axes.transAxes, ha="center", fontsize=SMALL)
        return
    _draw_topography(axes, rows, highest)


def _draw_topography(axes: Axes, rows: pd.DataFrame, highest: float) -> None:
    import mne

    places = dict(zip(rows["electrode"], rows[["x", "y", "z"]].to_numpy(float), strict=True))
    info = mne.create_info(list(places), sfreq=1.0, ch_types="eeg", verbose="error")
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), verbose="error")
    look: Look = {"cmap": COLOURS, "vlim": (-highest, highest), "contours": 0, "sensors": True, "sphere": SPHERE}
    label = axes.get_xlabel()
    mne.viz.plot_topomap(rows["r"].to_numpy(float), info, axes=axes, show=False, **look)
    axes.set_xlabel(label, fontsize=SMALL)


def _draw_lags(axes: Axes, own: pd.DataFrame, sources: Sequence[str], electrode: str) -> None:
    for at, band in enumerate(dict.fromkeys(own["band"])):
        for source, line in zip(sources, ("-", "--"), strict=False):
            curve = only(own, band=band, source=source).groupby("lag")["r"].mean()
            axes.plot(curve.index, curve, color=BAND_COLOURS[at % len(BAND_COLOURS)], ls=line, lw=1.6, label=source)
    axes.axhline(0, color=BEFORE, lw=0.8, zorder=0)
    axes.set_title(f"at {electrode}", fontsize=SMALL, pad=16)
    axes.set(xlabel="s before the volume", ylabel="r")


def _lag_legend(sources: Sequence[str], bands: Sequence[str]) -> list[Any]:
    lines = [
        mark(band, color=BAND_COLOURS[at % len(BAND_COLOURS)], ls="-", lw=1.6, marker="")
        for at, band in enumerate(bands)
    ]
    both = zip(sources, ("-", "--"), strict=False)
    return [*lines, *(mark(source, color=WORDS, ls=line, lw=1.6, marker="") for source, line in both)]
