"""Maps, connectivity and attribution of the synthesis: what is drawn equals the tables, and what is missing is said."""

import numpy as np
import pandas as pd
import pytest

from neuroloom.figures.synthesis_attribution import plot_synthesis_attribution
from neuroloom.figures.synthesis_connectivity import plot_synthesis_connectivity
from neuroloom.figures.synthesis_maps import NEAR, on_surface, plot_synthesis_maps
from neuroloom.figures.synthesis_models import is_found, only

from .test_synthesis_plots import centroids, parcel_names, synthesis_tables
from .test_token_plots import assert_readable, drawn, legend_words, panels, values, words

MODELS = ("mean", "ridge", "sources")
ELECTRODES = {"Fp1": (-0.03, 0.09, 0.0), "Cz": (0.0, 0.0, 0.1), "Oz": (0.0, -0.09, 0.02), "T7": (-0.08, 0.0, 0.0),
              "T8": (0.08, 0.0, 0.0)}  # fmt: skip


def attribution(*, n_electrodes: int = 5, predicted: bool = True) -> pd.DataFrame:
    """Alpha power at Oz, 6 s before, goes with two parcels; a third goes with nothing."""
    rows = []
    strength = {"right 01": -0.6, "left 01": -0.4, "right 02": -0.1, "right 04": 0.01}
    for source, gain in (("measured", 1.0), ("sources", 1.5))[: 1 + predicted]:
        for parcel, most in strength.items():
            for band, share in (("theta", 0.1), ("alpha", 1.0)):
                for name, place in list(ELECTRODES.items())[:n_electrodes]:
                    for lag in (0.0, 2.0, 4.0, 6.0, 8.0):
                        r = gain * most * share * (1.0 if name == "Oz" else 0.3) * np.exp(-(((lag - 6) / 3) ** 2))
                        where = dict(zip("xyz", place, strict=True))
                        facts = {"source": source, "split": "subject", "parcel": parcel, "band": band, "lag": lag}
                        rows.append({**facts, "electrode": name, **where, "r": r})
    return pd.DataFrame(rows)


def test_maps_say_how_many_parcels_are_beyond_chance() -> None:
    parcels = synthesis_tables(MODELS)["synthesis_parcels"]
    figure = plot_synthesis_maps(parcels)
    assert figure.bbox.width == pytest.approx(1100)
    for model in ("sources", "ridge"):
        own = only(parcels, model=model, target="measured")
        title = f"{model}, other people: {is_found(own).sum()} of {len(own)} parcels beyond chance, n = 5"
        assert title in words(figure)
    assert {"invisible to EEG", "not beyond chance"} <= set(legend_words(figure))
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(pictures) == 2 * 4
    coloured = [np.ptp(np.asarray(picture)[..., :3], axis=-1) > 0.01 for picture in pictures]
    assert all(np.any(coloured[at : at + 4]) for at in (0, 4)), "some parcels of each model are beyond chance"
    assert np.mean(coloured) < 0.9, "the others and the ground are grey"


def test_maps_of_parcels_without_a_place_or_an_r_say_so() -> None:
    parcels = synthesis_tables(MODELS, real=True)["synthesis_parcels"]
    nowhere = "No parcel has both a place and an r."
    assert nowhere in words(plot_synthesis_maps(parcels.assign(x=np.nan)))
    assert nowhere in words(plot_synthesis_maps(only(parcels, model="mean")))
    assert "No model was asked for BOLD." in words(plot_synthesis_maps(pd.DataFrame()))
    known = parcels.assign(r=parcels["r"].where(parcels["parcel"] != "left 01"))
    figure = plot_synthesis_maps(only(known, model="ridge"))
    assert any(word.startswith("ridge, other people: ") and " of 11 parcels" in word for word in words(figure))
    assert "invisible to EEG" not in legend_words(figure)


def test_a_vertex_has_the_value_of_the_nearest_parcel_of_its_side() -> None:
    centroid_P3 = np.array([[-30.0, 0.0, 0.0], [-50.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 60.0, 0.0]])
    vertex_X3 = np.array([[-31.0, 1.0, 0.0], [-49.0, 0.0, 2.0], [-1.0, 0.0, 0.0], [-1.0, 60.0, 0.0],
                          [-30.0, 0.0, NEAR + 1]])  # fmt: skip
    value_P = np.array([0.1, 0.2, 0.3, 0.4])
    left_X = on_surface(vertex_X3, centroid_P3, value_P, side="left")
    np.testing.assert_array_equal(left_X, [0.1, 0.2, np.nan, 0.4, np.nan])
    right_X = on_surface(vertex_X3[2:4], centroid_P3, value_P, side="right")
    np.testing.assert_array_equal(right_X, [0.3, 0.4])
    assert np.isnan(on_surface(vertex_X3, centroid_P3[:2], value_P[:2], side="right")).all()


def test_matrices_are_ordered_by_place() -> None:
    tables = synthesis_tables(MODELS)
    figure = plot_synthesis_connectivity(*(tables[f"synthesis_{name}"] for name in
                                           ("connectivity", "parcels", "summary", "scans")))  # fmt: skip
    assert_readable(figure)
    place = pd.Series([(x > 0, y) for x, y, _ in centroids()], index=parcel_names())
    order = sorted(place.index, key=lambda name: place[name])
    pairs = only(tables["synthesis_connectivity"], model="sources").set_index(["parcel", "other"])
    pictures = [axes.get_images()[0].get_array() for axes in panels(figure) if axes.get_images()]
    for picture, value in zip(pictures[:2], ("measured", "predicted"), strict=True):
        assert picture[0, 3] == pytest.approx(pairs.loc[(order[0], order[3]), value])
        assert picture[7, 2] == pytest.approx(pairs.loc[(order[7], order[2]), value])
    assert len(pictures) == 3


def test_agreement_stands_beside_its_nulls() -> None:
    tables = synthesis_tables(MODELS)
    figure = plot_synthesis_connectivity(*(tables[f"synthesis_{name}"] for name in
                                           ("connectivity", "parcels", "summary", "scans")))  # fmt: skip
    (axes,) = [axes for axes in panels(figure) if axes.get_title(loc="left").startswith("connectivity, static")]
    pooled = only(tables["synthesis_summary"], group="all")
    for target, label in (("measured", "mean"), ("other subject",) * 2, ("shuffled parcels",) * 2):
        expected = only(pooled, target=target)["fc_static"].dropna()
        np.testing.assert_allclose(values(axes, label), np.sort(expected))
    people = only(pooled, target="measured")[["fc_static_ci_low", "fc_static_ci_high"]].dropna()
    assert len(people)
    assert {tuple(line.get_xdata()) for line in axes.lines} >= set(people.itertuples(index=False, name=None))
    assert words(figure).count("no value") == 2, "the mean of training has no connectivity"
    scans = only(tables["synthesis_scans"], group="all", target="measured")["fc_static"].dropna()
    np.testing.assert_allclose(values(axes, "scan"), np.sort(scans))


def test_attribution_shows_parcels_by_what_was_measured() -> None:
    parcels = synthesis_tables(MODELS)["synthesis_parcels"]
    table = attribution()
    figure = plot_synthesis_attribution(table, parcels)
    assert_readable(figure)
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert [title for title in titles if "before" in title] == [
        "right 01 (visible): alpha, 6 s before the volume",
        "left 01 (visible): alpha, 6 s before the volume",
        "right 04 (invisible): alpha, 6 s before the volume",
    ]
    lags = [axes for axes in panels(figure) if axes.get_title(loc="left") == "at Oz"]
    own = only(table, parcel="right 01", electrode="Oz", band="alpha")
    for source in ("measured", "sources"):
        lines = drawn(lags[0], source)
        assert any(np.allclose(line.get_ydata(), only(own, source=source)["r"]) for line in lines)
    assert {"theta", "alpha", "measured", "sources"} == set(legend_words(figure))


def test_attribution_without_predictions_electrodes_or_rows() -> None:
    parcels = synthesis_tables(MODELS, real=True)["synthesis_parcels"]
    few = plot_synthesis_attribution(attribution(n_electrodes=3, predicted=False), parcels)
    assert_readable(few)
    assert words(few).count("3 electrodes") == 3
    assert "sources" not in legend_words(few)
    none = attribution().assign(r=np.nan)
    assert "No parcel has a value." in words(plot_synthesis_attribution(none, parcels))
    empty = words(plot_synthesis_attribution(pd.DataFrame(), parcels))
    assert "No model was asked what of the EEG goes with its parcels." in empty
