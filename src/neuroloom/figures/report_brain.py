"""The brain of the report that turns: r of each parcel inside a cortex, small enough to be part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.figures.synthesis_models import (
    MEAN,
    NULLS,
    group_name,
    in_group,
    is_found,
    models_of,
    only,
    shown_models,
    split_name,
    splits_of,
)
from neuroloom.records import Array
from neuroloom.synthesis.ceiling import INVISIBLE
from neuroloom.synthesis.nulls import MEASURED

COARSE = 642  # the first vertices of each side of fsaverage5 are those of fsaverage3
PLACE = ["parcel", "x", "y", "z"]
VALUES = {"r": "r, mean over people", "beyond": "r minus its highest null"}
COLOURS, SHADES = "RdBu_r", 21


def brain_view(synthesis_parcels: pd.DataFrame) -> dict[str, Any] | None:
    """What the canvas needs: parcels, maps, a cortex and colours; None where no parcel has a place.

    Parameters
    ----------
    synthesis_parcels : DataFrame
        Rows (model, kind, split, target, parcel); group, x, y, z (mm, MNI), r, q against each null.

    Returns
    -------
    dict
        `parcels` (name, x, y, z, group, square), `maps` (name, people, found and each of `VALUES` by parcel), `values`
        (name, largest absolute value of all maps), `colours` from lowest to highest, `vertices` (mm), `faces`.
    """
    if synthesis_parcels.empty or not set(PLACE) <= set(synthesis_parcels):
        return None
    table = synthesis_parcels[np.isfinite(synthesis_parcels[PLACE[1:]].to_numpy(float)).all(axis=1)]
    measured = table[(table["target"] == MEASURED) & (table["kind"] != MEAN)]
    if measured["r"].notna().sum() == 0:
        return None
    parcels = measured.drop_duplicates("parcel").sort_values("parcel")
    hidden = set(in_group(parcels, INVISIBLE)["parcel"])
    maps = _maps(table, measured, list(parcels["parcel"]))
    vertex_X3, face_F3 = cortex()
    return {
        "parcels": [
            {**row, "group": group_name(str(group)) if pd.notna(group) else "", "square": row["parcel"] in hidden}
            for row, group in zip(parcels[PLACE].round(1).to_dict("records"), parcels["group"], strict=True)
        ],
        "maps": maps,
        "values": [{"key": key, "name": name, "most": _most(maps, key)} for key, name in VALUES.items()],
        "colours": colours(),
        "vertices": vertex_X3.astype(float).round(1).tolist(),
        "faces": face_F3.tolist(),
    }


def _maps(table: pd.DataFrame, measured: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """One for each split and model, the model of the static figure first."""
    maps = []
    for split in splits_of(measured):
        own = only(measured, split=split)
        first = shown_models(own)
        for name in [*first, *(name for name, _ in models_of(own) if name not in first)]:
            rows = only(own, model=name).set_index("parcel").reindex(names)
            nulls = only(table, split=split, model=name)
            highest = nulls[nulls["target"].isin(NULLS)].groupby("parcel")["r"].max().reindex(names)
            maps.append(
                {
                    "name": f"{name}, {split_name(split)}",
                    "people": int(rows["n_participants"].max()),
                    "found": is_found(rows).tolist(),
                    "r": _rounded(rows["r"]),
                    "beyond": _rounded(rows["r"] - highest),
                }
            )
    return maps


def _rounded(values: pd.Series) -> list[float | None]:
    return [round(float(value), 3) if np.isfinite(value) else None for value in values]


def _most(maps: Sequence[dict[str, Any]], key: str) -> float:
    """One scale for all maps, or the weaker would look as strong."""
    return max([abs(value) for one in maps for value in one[key] if value is not None], default=0.1) or 0.1


def colours() -> list[str]:
    """Colours from the lowest to the highest value, as `#rrggbb`."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(matplotlib.colormaps[COLOURS](at / (SHADES - 1))) for at in range(SHADES)]


@cache
def cortex() -> tuple[Array, Array]:
    """Pial surface of both sides, coarse: vertices (X, 3) in mm MNI, and faces (F, 3).

    Its spheres are icosahedra that were divided again and again, so the first vertices are those of a coarser one, and
    their convex hull is its faces.
    """
    from nilearn.datasets import load_fsaverage
    from scipy.spatial import ConvexHull

    mesh = load_fsaverage("fsaverage5")
    vertices, faces = [], []
    for at, side in enumerate(("left", "right")):
        hull = ConvexHull(mesh["sphere"].parts[side].coordinates[:COARSE])
        vertices.append(mesh["pial"].parts[side].coordinates[:COARSE])
        faces.append(hull.simplices + at * COARSE)
    return np.concatenate(vertices), np.concatenate(faces)
