"""Where in the brain synthesis succeeds: r of each parcel in a glass brain and on the surface."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import SMALL, WIDTH, Look, check_columns, large_text, mark
from neuroloom.figures.style import PRINTED, plot_notice
from neuroloom.figures.synthesis_models import RULE, in_group, is_found, only, shown_models, split_name, splits_of
from neuroloom.figures.synthesis_parcels import PARCELS
from neuroloom.records import Array
from neuroloom.synthesis.ceiling import INVISIBLE
from neuroloom.synthesis.nulls import MEASURED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACES = (*PARCELS, "x", "y", "z")
NEAR = 20.0  # mm from its centroid that a parcel is drawn on the surface
COLOURS = "RdBu_r"
BRAIN, SCALE = 4.4, 0.8  # inches of a model, and of the colour scale
SURFACE = (2.4, 2.1)  # inches of one side
VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))
Box = tuple[float, float, float, float]  # left, bottom, width and height as shares of the figure


def plot_synthesis_maps(synthesis_parcels: pd.DataFrame) -> Figure:
    """Mean r of each parcel in the brain, for the best of our models and the baseline, in the first split.

    Parameters
    ----------
    synthesis_parcels : DataFrame
        Rows (model, kind, split, target, parcel); group, x, y, z (mm, MNI), r, q against each null.

    Returns
    -------
    Figure
        For each model a glass brain with a mark at each centroid, and the surface of fsaverage5, on which a vertex has
        the value of the nearest parcel within 20 mm. Parcels that are not beyond chance are hollow, and grey on the
        surface; squares are invisible to EEG.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if synthesis_parcels.empty:
        return plot_notice("Maps", "No model was asked for BOLD.")
    check_columns(synthesis_parcels, "synthesis_parcels", PLACES, rule=RULE)
    split = splits_of(synthesis_parcels)[0]
    table = only(synthesis_parcels, split=split, target=MEASURED)
    table = table[np.isfinite(table[["x", "y", "z", "r"]].to_numpy(float)).all(axis=1)]
    shown = [name for name in shown_models(table) if name in set(table["model"])]
    if not shown:
        return plot_notice("Maps", "No parcel has both a place and an r.")
    # one scale for both, or the weaker would look as strong
    highest = max(float(table.loc[table["model"].isin(shown), "r"].abs().max()), 0.1)
    with large_text():
        figure = _brain_figure(len(shown))
        for at, name in enumerate(shown):
            own = only(table, model=name)
            words = f"{name}, {split_name(split)}: {is_found(own).sum()} of {len(own)} parcels beyond chance"
            _draw_brain(figure, own, f"{words}, n = {own['n_participants'].max():.0f}", highest, top=BRAIN * at)
        _draw_scale(figure, highest, marked=len(in_group(table, INVISIBLE)) > 0)
        return figure


def _brain_figure(n_models: int) -> Figure:
    from matplotlib.figure import Figure

    # brains have their places given: automatic layouts know nothing of nilearn's axes
    figure = Figure(figsize=(WIDTH, BRAIN * n_models + SCALE))
    figure.set_layout_engine("none")
    return figure


def _place(figure: Figure, left: float, top: float, width: float, height: float) -> Box:
    """Share of the figure of a box in inches from the upper left corner."""
    wide, high = figure.get_size_inches()
    return left / wide, 1 - (top + height) / high, width / wide, height / high


def _draw_brain(figure: Figure, own: pd.DataFrame, title: str, highest: float, *, top: float) -> None:
    left, bottom, _, height = _place(figure, 0.1, top + 0.08, 1.0, 0.25)
    figure.text(left, bottom + height, title, va="top", fontsize=SMALL, weight="bold")
    _draw_glass(figure, own, highest, _place(figure, 0.1, top + 0.4, WIDTH - 0.2, 1.9))
    boxes = [_place(figure, 0.05 + 2.48 * at, top + 2.35, *SURFACE) for at in range(len(VIEWS))]
    _draw_surfaces(figure, own, highest, boxes)


def _draw_glass(figure: Figure, own: pd.DataFrame, highest: float, box: Box) -> None:
    """Marks at the centroids; nilearn makes the axes of its brain."""
    import matplotlib
    from matplotlib.colors import Normalize
    from nilearn.plotting import plot_glass_brain

    display = plot_glass_brain(None, display_mode="lyrz", figure=figure, axes=figure.add_axes(box), annotate=False)
    colour_P4 = matplotlib.colormaps[COLOURS](Normalize(-highest, highest)(own["r"].to_numpy(float)))
    found_P, hidden_P = is_found(own), own.index.isin(in_group(own, INVISIBLE).index)
    at_P3 = own[["x", "y", "z"]].to_numpy(float)
    for chosen_P, marker in ((~hidden_P, "o"), (hidden_P, "s")):
        for filled_P, face_P4 in ((chosen_P & found_P, colour_P4), (chosen_P & ~found_P, np.ones_like(colour_P4))):
            if filled_P.any():
                look = {"marker": marker, "edgecolors": "#333333", "linewidths": 0.7, "zorder": 3}
                display.add_markers(at_P3[filled_P], marker_color=list(face_P4[filled_P]), marker_size=42, **look)


def _draw_surfaces(figure: Figure, own: pd.DataFrame, highest: float, boxes: Sequence[Box]) -> None:
    from nilearn.datasets import load_fsaverage, load_fsaverage_data
    from nilearn.surface import PolyData, SurfaceImage

    mesh = load_fsaverage("fsaverage5")
    folds = SurfaceImage(mesh["inflated"], load_fsaverage_data(mesh="fsaverage5", data_type="sulcal").data)
    value_P = np.where(is_found(own), own["r"].to_numpy(float), np.nan)
    at_P3 = own[["x", "y", "z"]].to_numpy(float)
    values = {
        side: on_surface(mesh["pial"].parts[side].coordinates, at_P3, value_P, side=side) for side in ("left", "right")
    }
    image = SurfaceImage(mesh["inflated"], PolyData(**values))
    for box, (side, view) in zip(boxes, VIEWS, strict=True):
        axes = figure.add_axes(box)
        axes.imshow(_picture(image, folds, side=side, view=view, highest=highest), aspect="auto")
        axes.set_axis_off()
        axes.set_title(f"{side}, {view}", fontsize=SMALL, y=0.84, loc="center")


def _picture(image: Any, folds: Any, *, side: str, view: str, highest: float) -> Array:
    """One side of the surface as pixels, (rows, columns, RGBA).

    20,000 triangles make 30 MB of SVG, and would be projected, sorted and drawn again for each file.
    """
    from matplotlib.figure import Figure
    from matplotlib.image import imread
    from nilearn.plotting import plot_surf_stat_map

    own, pixels = Figure(figsize=SURFACE), BytesIO()
    own.set_layout_engine("none")
    plot_surf_stat_map(
        stat_map=image,
        hemi=side,
        view=view,
        bg_map=folds,
        bg_on_data=False,
        cmap=COLOURS,
        vmin=-highest,
        vmax=highest,
        colorbar=False,
        axes=own.add_axes((0, 0, 1, 1), projection="3d"),
        figure=own,
    )
    own.savefig(pixels, format="png", dpi=PRINTED)
    pixels.seek(0)
    return imread(pixels)


def on_surface(vertex_X3: Array, centroid_P3: Array, value_P: Array, *, side: str) -> Array:
    """Value of the nearest parcel of the same side at each vertex, (X,); NaN where none is near.

    Parameters
    ----------
    vertex_X3, centroid_P3 : array
        mm, MNI.
    value_P : array
    side : str
        `left` or `right`; a parcel on the midline belongs to both.
    """
    from scipy.spatial import KDTree

    x_P = centroid_P3[:, 0] * (-1 if side == "left" else 1)
    same_P = np.flatnonzero(x_P >= 0)
    value_X = np.full(len(vertex_X3), np.nan)
    if len(same_P):
        distance_X, nearest_X = KDTree(centroid_P3[same_P]).query(vertex_X3)
        value_X = np.where(distance_X <= NEAR, value_P[same_P][nearest_X], np.nan)
    return value_X


def _draw_scale(figure: Figure, highest: float, *, marked: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    _, high = figure.get_size_inches()
    axes = figure.add_axes(_place(figure, 0.5, high - SCALE + 0.1, 3.2, 0.18))
    bar = figure.colorbar(ScalarMappable(Normalize(-highest, highest), COLOURS), cax=axes, orientation="horizontal")
    bar.set_label("r, mean over people", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    bar.ax.locator_params(nbins=5)
    edge: Look = {"mec": "#333333", "mew": 0.7}
    legend = [
        mark("q < 0.05 against all nulls", marker="o", mfc="#B2182B", **edge),
        mark("not beyond chance", marker="o", mfc="white", **edge),
        *([mark("invisible to EEG", marker="s", mfc="white", **edge)] if marked else []),
    ]
    figure.legend(handles=legend, loc="lower right", ncols=2, fontsize=SMALL, handletextpad=0.3)
