"""The brain that turns holds the numbers of the table, and a cortex that they lie in."""

import json

import numpy as np
import pandas as pd

from neuroloom.figures.report_brain import brain_view, cortex
from neuroloom.figures.synthesis_models import NULLS, is_found, only

from .test_synthesis_plots import MODELS, N_PARCELS, synthesis_tables


def test_values_are_those_of_the_table_and_one_scale_holds_them() -> None:
    parcels = synthesis_tables()["synthesis_parcels"]
    view = brain_view(parcels)
    assert view is not None
    names = [parcel["parcel"] for parcel in view["parcels"]]
    assert len(names) == N_PARCELS
    assert [one["name"] for one in view["maps"]][:2] == ["sources, other people", "ridge, other people"]
    assert len(view["maps"]) == len(MODELS) - 1, "a constant has no r"
    own = only(parcels, model="sources", split="subject")
    measured = only(own, target="measured").set_index("parcel").loc[names]
    nulls = own[own["target"].isin(NULLS)].groupby("parcel")["r"].max()[names]
    first = view["maps"][0]
    np.testing.assert_allclose(first["r"], measured["r"], atol=6e-4)
    np.testing.assert_allclose(first["beyond"], measured["r"] - nulls, atol=6e-4)
    assert first["found"] == is_found(measured).tolist()
    assert view["values"][0]["most"] == max(abs(r) for one in view["maps"] for r in one["r"] if r is not None)
    squares = {parcel["parcel"] for parcel in view["parcels"] if parcel["square"]}
    assert squares == {name for name in names if measured.loc[name, "group"] == "invisible"}
    assert len(json.dumps(view)) < 100_000


def test_a_parcel_without_a_number_has_none() -> None:
    parcels = synthesis_tables(("ridge", "sources"))["synthesis_parcels"].copy()
    gone = (parcels["parcel"] == "left 01") & (parcels["model"] == "sources") & (parcels["target"] == "measured")
    parcels.loc[gone, "r"] = np.nan
    view = brain_view(parcels)
    assert view is not None
    at = [parcel["parcel"] for parcel in view["parcels"]].index("left 01")
    assert view["maps"][0]["r"][at] is view["maps"][0]["beyond"][at] is None
    json.dumps(view, allow_nan=False)


def test_without_places_there_is_no_brain() -> None:
    parcels = synthesis_tables(("ridge", "sources"))["synthesis_parcels"]
    assert brain_view(pd.DataFrame()) is None
    assert brain_view(parcels.drop(columns=["x", "y", "z"])) is None
    assert brain_view(parcels.assign(x=np.nan)) is None


def test_the_cortex_is_closed_and_in_millimetres() -> None:
    vertex_X3, face_F3 = cortex()
    # Euler: two surfaces without holes
    edges = {tuple(sorted(pair)) for face in face_F3 for pair in (face[:2], face[1:], face[::2])}
    assert len(vertex_X3) - len(edges) + len(face_F3) == 2 * 2
    assert 120 < np.ptp(vertex_X3[:, 0]) < 160
    assert 150 < np.ptp(vertex_X3[:, 1]) < 200
