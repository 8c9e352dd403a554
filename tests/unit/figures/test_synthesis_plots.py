"""Figures of the synthesis: what is drawn equals the tables, what is missing is said, and no words overlap."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from neuroloom.figures.synthesis_models import (
    NULLS,
    group_name,
    groups_of,
    is_found,
    looks_of,
    models_of,
    only,
    shown_models,
    split_name,
)
from neuroloom.figures.synthesis_parcels import plot_synthesis_nulls, plot_synthesis_traces
from neuroloom.figures.synthesis_plots import (
    plot_synthesis_calibration,
    plot_synthesis_differences,
    plot_synthesis_scores,
)
from neuroloom.records import Array
from neuroloom.synthesis.predicted import Predicted
from neuroloom.synthesis.scoring import score_predictions
from neuroloom.synthesis.tables import collect_synthesis

from .test_token_plots import assert_readable, drawn, legend_words, panels, values, words

MODELS = {  # kind, share of the signal that it knows where EEG can see
    "mean": ("mean", 0.0),
    "ridge": ("ridge", 0.45),
    "artefact": ("artefact", 0.0),
    "cnn": ("cnn", 0.3),
    "neurobolt": ("neurobolt", 0.35),
    "sources": ("haemodynamic", 1.2),
    "tokens": ("haemodynamic", 0.6),
}
N_PARCELS, N_VOLUMES, T_R = 12, 48, 2.0
SEEN = {"visible": 1.0, "weak": 0.4, "invisible": 0.0}


def parcel_names(n_parcels: int = N_PARCELS) -> list[str]:
    return [f"{'left' if at % 2 else 'right'} {at // 2 + 1:02d}" for at in range(n_parcels)]


def centroids(n_parcels: int = N_PARCELS) -> Array:
    """On half a sphere, mm, left and right in turn."""
    up_P = np.linspace(0.1, 0.9, n_parcels)
    turn_P = np.pi * (np.arange(n_parcels) // 2) * 0.61
    wide_P = np.sqrt(1 - up_P**2)
    side_P = np.where(np.arange(n_parcels) % 2, -1, 1)
    return np.stack([62 * wide_P * side_P * (0.3 + 0.7 * abs(np.cos(turn_P))), -18 + 70 * wide_P * np.sin(turn_P),
                     70 * up_P], axis=1)  # fmt: skip


def smooth(rng: np.random.Generator, *shape: int) -> Array:
    """Slow series of unit variance."""
    noise = rng.standard_normal((*shape[:-1], shape[-1] + 4))
    slow = sum(noise[..., at : at + shape[-1]] for at in range(5))
    return np.asarray(slow / np.sqrt(5))


def group_of(n_parcels: int = N_PARCELS) -> dict[str, list[str]]:
    names = parcel_names(n_parcels)
    kinds = ["visible", "visible", "weak", "invisible"]
    return {kind: [name for at, name in enumerate(names) if kinds[at // 2 % 4] == kind] for kind in SEEN}


def scans_of(model: str, n_people: int, n_parcels: int, n_volumes: int) -> list[Predicted]:
    """The same BOLD for all models; each knows its share of what EEG can see of it."""
    kind, share = MODELS[model]
    groups = group_of(n_parcels)
    names = parcel_names(n_parcels)
    seen_P = np.array([next(SEEN[kind] for kind, one in groups.items() if name in one) for name in names])
    scans = []
    for person in range(n_people):
        rng = np.random.default_rng(person)
        true_PV = smooth(rng, n_parcels, n_volumes)
        own = np.random.default_rng([person, sum(model.encode())])
        error_PV = smooth(own, n_parcels, n_volumes)
        predicted_PV = np.zeros_like(true_PV) if kind == "mean" else share * seen_P[:, None] * true_PV + error_PV
        scale = 1.0 if kind == "mean" else 0.5
        scans.append(
            Predicted(
                scan=f"demo_north_sub-{person:02d}_task-rest",
                participant=f"demo/sub-{person:02d}",
                site="demo/north",
                task="rest",
                parcels=names,
                centroid_P3=centroids(n_parcels),
                t_r=T_R,
                onset_V=16.0 + T_R * np.arange(n_volumes),
                bold_true_PV=true_PV,
                bold_pred_PV=scale * predicted_PV,
                bold_std_PV=np.full_like(true_PV, np.nan if kind == "cnn" else 0.9),
                nuisance_VM=smooth(rng, 2, n_volumes).T,
            )
        )
    return scans


@cache
def synthesis_tables(
    models: tuple[str, ...] = tuple(MODELS),
    *,
    splits: tuple[str, ...] = ("subject",),
    n_people: int = 5,
    real: bool = False,
    n_parcels: int = N_PARCELS,
    n_volumes: int = N_VOLUMES,
    n_draws: int = 20,
) -> dict[str, pd.DataFrame]:
    """Tables of a study, from what its jobs leave; tokens are asked about some people only."""
    found: dict[str, list[pd.DataFrame]] = {}
    for split in splits:
        for model in models:
            scans = scans_of(model, n_people, n_parcels, n_volumes)
            scans = scans[: max(n_people - 2, 1)] if model == "tokens" else scans
            ceiling = None if real else {scan.scan: np.full(n_parcels, 0.85) for scan in scans}
            groups = {} if real else group_of(n_parcels)
            rng = np.random.default_rng(1)
            tables = score_predictions(scans, groups=groups, ceiling=ceiling, n_draws=n_draws, rng=rng, min_shift=20.0)
            facts: dict[str, Any] = {"model": model, "kind": MODELS[model][0], "split": split}
            facts |= {"fold": "all", "seed": 0, "seen": False}
            for name, table in tables.items():
                found.setdefault(name, []).append(table.assign(**facts))
    rows = {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}
    return collect_synthesis(rows, rng=np.random.default_rng(2), n=200)


def measured_of(tables: dict[str, pd.DataFrame], name: str, **wanted: Any) -> pd.DataFrame:
    return only(tables[name], target="measured", **wanted)


def axes_of(figure: Figure, split: str, group: str) -> Any:
    start = f"{split_name(split)}\n{group_name(group)}"
    (found,) = [axes for axes in panels(figure) if axes.get_title(loc="left").startswith(start)]
    return found


@pytest.mark.parametrize(("splits", "real"), [(("subject",), True), (("subject", "site"), False)])
def test_scores_are_drawn_with_their_intervals_and_nulls(splits: tuple[str, ...], real: bool) -> None:
    tables = synthesis_tables(("mean", "ridge", "sources", "tokens"), splits=splits, real=real)
    summary = tables["synthesis_summary"]
    figure = plot_synthesis_scores(summary)
    assert_readable(figure)
    groups = ["all"] if real else ["visible", "weak", "invisible", "all"]
    assert len(panels(figure)) == len(splits) * len(groups)
    for split in splits:
        for group in groups:
            axes, part = axes_of(figure, split, group), only(summary, split=split, group=group)
            measured = only(part, target="measured").dropna(subset=["r"])
            np.testing.assert_allclose(values(axes, "r"), np.sort(measured["r"]))
            np.testing.assert_allclose(values(axes, "ceiling"), np.sort(measured["ceiling"].dropna()))
            ends = {tuple(line.get_xdata()) for line in drawn(axes, "interval")}
            known = measured.dropna(subset=["ci_low"])
            assert ends >= set(zip(known["ci_low"], known["ci_high"], strict=True))
            for name in NULLS:
                np.testing.assert_allclose(values(axes, name), np.sort(only(part, target=name)["r"].dropna()))
    assert ("ceiling: true band power" in legend_words(figure)) is not real
    assert words(figure).count("no r: constant") == len(panels(figure))


def test_models_that_fewer_people_were_asked_about_say_so() -> None:
    summary = synthesis_tables(("ridge", "tokens"))["synthesis_summary"]
    told = [word for word in words(plot_synthesis_scores(summary)) if word.startswith("n = 3; ")]
    assert len(told) == 4, "one for each group of parcels"


def test_one_person_has_no_interval() -> None:
    tables = synthesis_tables(("ridge", "sources"), n_people=1)
    figure = plot_synthesis_scores(tables["synthesis_summary"])
    assert_readable(figure)
    assert all(np.isnan(line.get_xdata().astype(float)).all() for line in drawn(panels(figure)[0], "interval"))
    figure = plot_synthesis_differences(tables["synthesis_differences"])
    assert_readable(figure)
    assert [line.get_markerfacecolor() for line in drawn(panels(figure)[0], "difference")] == ["white"]
    for figure in (
        plot_synthesis_traces(tables["synthesis_traces"], tables["synthesis_parcels"], tables["synthesis"]),
        plot_synthesis_nulls(tables["synthesis"], tables["synthesis_parcels"]),
    ):
        assert_readable(figure)


def test_differences_are_those_of_the_table() -> None:
    differences = synthesis_tables()["synthesis_differences"]
    figure = plot_synthesis_differences(differences)
    assert_readable(figure)
    for group in ("visible", "weak", "invisible", "all"):
        axes, part = axes_of(figure, "subject", group), only(differences, group=group)
        np.testing.assert_allclose(values(axes, "difference"), np.sort(part["difference"].dropna()))
    assert panels(figure)[0].get_xlabel() == "r less that of ridge"
    hollow = [line.get_markerfacecolor() == "white" for line in drawn(panels(figure)[0], "difference")]
    assert sum(hollow) == 1, "three people were asked about tokens"


def test_calibration_is_coverage_less_what_was_asked() -> None:
    summary = synthesis_tables()["synthesis_summary"]
    figure = plot_synthesis_calibration(summary)
    assert_readable(figure)
    (row,) = only(summary, model="sources", target="measured", group="visible").to_dict("records")
    (line,) = drawn(axes_of(figure, "subject", "visible"), "sources")
    expected = [100 * row[f"coverage{level}"] - level for level in (50, 80, 95)]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert "cnn" not in legend_words(figure), "it gives no uncertainty"
    unsure = summary.assign(coverage50=np.nan, coverage80=np.nan, coverage95=np.nan)
    assert "No model says how sure it is." in words(plot_synthesis_calibration(unsure))


def test_traces_are_those_of_the_best_of_our_models() -> None:
    tables = synthesis_tables()
    figure = plot_synthesis_traces(tables["synthesis_traces"], tables["synthesis_parcels"], tables["synthesis"])
    assert_readable(figure)
    traces = only(tables["synthesis_traces"], model="sources")
    assert len(panels(figure)) == 6 * 2
    first = only(traces, parcel=traces["parcel"].iloc[0], scan=traces["scan"].iloc[0])
    for name in ("measured", "predicted"):
        (line,) = drawn(panels(figure)[0], name)
        np.testing.assert_allclose(line.get_ydata(), first[name])
    (score,) = only(tables["synthesis"], model="sources", target="measured", scan=first["scan"].iloc[0],
                    parcel=first["parcel"].iloc[0])["r"]  # fmt: skip
    assert panels(figure)[0].get_title(loc="left").endswith(f"right 01 (visible): r = {score:.2f}")


def test_traces_are_broken_where_volumes_were_left_out() -> None:
    tables = synthesis_tables(("ridge", "sources"))
    traces = tables["synthesis_traces"]
    cut = traces[~traces["time"].between(40.0, 60.0)]
    figure = plot_synthesis_traces(cut, tables["synthesis_parcels"], tables["synthesis"])
    (line,) = drawn(panels(figure)[0], "measured")
    assert np.isnan(line.get_ydata()).sum() == 1
    assert np.isnan(line.get_xdata()[list(line.get_xdata()).index(38.0) + 1])


def test_parcels_beyond_all_their_nulls_are_filled() -> None:
    tables = synthesis_tables()
    figure = plot_synthesis_nulls(tables["synthesis"], tables["synthesis_parcels"])
    assert_readable(figure)
    titles = [axes.get_title(loc="left").split(",")[0] for axes in panels(figure)]
    assert titles == ["sources", "ridge"]
    for axes, model in zip(panels(figure), titles, strict=True):
        own = measured_of(tables, "synthesis_parcels", model=model)
        filled = sum(
            int((to_rgba("white") != face).any()) for marks in axes.collections if marks.get_label() == "r"
            for face in marks.get_facecolors()
        )  # fmt: skip
        q_PN = own[["q_phase", "q_shift", "q_other"]]
        assert filled == int((q_PN <= 0.05).all(axis=1).sum())
        offsets = [marks.get_offsets()[:, 1] for marks in axes.collections if marks.get_label() == "r"]
        np.testing.assert_allclose(np.sort(np.concatenate(offsets)), np.sort(own["r"]))
    assert 0 < filled < N_PARCELS


def test_without_groups_all_parcels_stand_together() -> None:
    tables = synthesis_tables(("ridge", "neurobolt"), real=True)
    figure = plot_synthesis_nulls(tables["synthesis"], tables["synthesis_parcels"])
    assert_readable(figure)
    assert [axes.get_title(loc="left").split(",")[0] for axes in panels(figure)] == ["neurobolt", "ridge"]
    figure = plot_synthesis_traces(tables["synthesis_traces"], tables["synthesis_parcels"], tables["synthesis"])
    assert len(panels(figure)) == 2 * 2
    assert "(" not in panels(figure)[0].get_title(loc="left")


def test_q_of_a_null_that_is_missing_does_not_count() -> None:
    rows = pd.DataFrame({"q_phase": [0.01, 0.01, np.nan], "q_shift": [0.02, 0.2, np.nan], "q_other": np.nan})
    assert is_found(rows).tolist() == [True, False, False]
    assert is_found(rows, by_any=True).tolist() == [True, True, False]


def test_models_keep_their_order_and_colours() -> None:
    table = synthesis_tables()["synthesis_summary"]
    assert [name for name, _ in models_of(table)] == list(MODELS)
    assert groups_of(table) == ["visible", "weak", "invisible", "all"]
    fewer = only(table, kind="haemodynamic")
    assert looks_of(fewer) == {name: looks_of(table)[name] for name in ("sources", "tokens")}


def test_the_best_model_is_of_those_asked_about_most_people() -> None:
    parcels = synthesis_tables()["synthesis_parcels"]
    assert shown_models(parcels) == ["sources", "ridge"]
    better = parcels.assign(r=parcels["r"].where(parcels["model"] != "tokens", 0.99))
    assert shown_models(better) == ["sources", "ridge"], "tokens were asked about fewer people"
    assert shown_models(only(parcels, model="mean")) == []


def test_nothing_to_draw_is_said_and_a_missing_column_is_an_error() -> None:
    nothing = pd.DataFrame()
    assert "No model was asked for BOLD." in words(plot_synthesis_scores(nothing))
    assert "No model stands beside the baseline." in words(plot_synthesis_differences(nothing))
    assert "No time course was kept." in words(plot_synthesis_traces(nothing, nothing, nothing))
    assert "No model was asked for BOLD." in words(plot_synthesis_nulls(nothing, nothing))
    assert "No model was asked for BOLD." in words(plot_synthesis_calibration(nothing))
    summary = synthesis_tables()["synthesis_summary"]
    with pytest.raises(ValueError, match=r"synthesis_summary: no column ceiling, .* rule `collect_synthesis`"):
        plot_synthesis_scores(summary.drop(columns=["ceiling", "significant"]))
