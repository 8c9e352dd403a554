"""Figures of the whole study: what is drawn equals the tables, what is missing is said, and no words overlap."""

import numpy as np
import pandas as pd
import pytest

from neuroloom.federated.tables import POOLED
from neuroloom.figures.computing_plots import (
    FLOPS,
    plot_computing_cluster,
    plot_computing_speed,
    plot_computing_time,
    step_speeds,
)
from neuroloom.figures.federation_privacy import plot_federation_privacy
from neuroloom.figures.gallery import FIGURES
from neuroloom.figures.quality_plots import plot_quality_sites
from neuroloom.figures.study_plots import plot_study_pipeline

from .test_federation_plots import federation_tables
from .test_token_plots import assert_readable, drawn, legend_words, panels, words

Tables = dict[str, pd.DataFrame]


def test_the_pipeline_tells_the_numbers_of_the_study(study_tables: Tables) -> None:
    drawing = FIGURES["study_pipeline"]
    figure = drawing.draw(study_tables)
    said = words(figure)
    assert {"3 people at 2 sites", "EEG: 3 recordings", "MEG: 4 min usable", "1 quarantined"} <= set(said)
    assert {"Recordings", "Cleaning", "Tokens", "Foundation models", "Tasks", "Federation", "EEG to fMRI"} <= set(said)
    best = study_tables["headline"].query("section == 'evaluation'").iloc[0]
    assert any(f"{best['score']:.2f} [{best['ci_low']:.2f}, {best['ci_high']:.2f}]" in word for word in said)
    weights = study_tables["models"].query("model == 'reve'")["parameters"].iloc[0]
    assert f"reve: {weights / 1e3:.0f} k weights" in said


def test_the_pipeline_has_no_box_of_what_the_study_lacks(study_tables: Tables) -> None:
    given = [study_tables[name] for name in FIGURES["study_pipeline"].tables]
    said = set(words(plot_study_pipeline(*given)))
    assert {"Recordings", "Cleaning"} <= said
    assert not {"Tokens", "Tasks", "Federation", "EEG to fMRI"} & said


def test_every_recording_is_a_point_at_its_site(study_tables: Tables) -> None:
    meeg, bold = study_tables["qc_meeg"], study_tables["qc_bold"]
    figure = plot_quality_sites(study_tables["recordings"], meeg, bold)
    assert_readable(figure)
    found = {axes.get_xlabel().replace("\n", " "): axes for axes in panels(figure)}
    expected = {
        "bad channels (%)": 100 * meeg["n_bads"] / meeg["n_channels"],
        "rejected windows (%)": 100 * meeg["n_rejected"] / meeg["n_windows"],
        "mains over neighbours (dB)": [*meeg["line_db_before"], *meeg["line_db_after"]],
        "mean framewise displacement (mm)": bold["fd_mean"],
        "median temporal SNR": bold["tsnr_median"],
    }
    for name, values in expected.items():
        shown = np.concatenate([line.get_xdata() for line in drawn(found[name], "recording")])
        np.testing.assert_allclose(sorted(shown), sorted(values))
        low, high = found[name].get_xlim()
        assert low <= min(values) <= max(values) <= high
    assert {"north, n = 2", "south, n = 1"} <= set(words(figure))
    assert "mains before cleaning" in legend_words(figure)


def test_a_study_of_one_modality_has_no_empty_panels(study_tables: Tables) -> None:
    figure = plot_quality_sites(study_tables["recordings"], pd.DataFrame(), study_tables["qc_bold"])
    assert panels(figure)[0].get_xlabel() == "mean framewise\ndisplacement (mm)"
    assert "mains before cleaning" not in legend_words(figure)
    nothing = plot_quality_sites(study_tables["recordings"], pd.DataFrame(), pd.DataFrame())
    assert "No recording was cleaned." in words(nothing)


def test_epsilon_is_that_of_the_ledgers_and_scores_are_those_of_all_sites() -> None:
    tables = federation_tables(("fedavg", "local", "private"), n=3, seeds=2)
    rounds = tables["federation_rounds"]
    rounds.loc[(rounds["seed"] == 0) & (rounds["epsilon"] == 7), "epsilon"] = 5.0
    figure = plot_federation_privacy(rounds, tables["federation_summary"])
    assert_readable(figure)
    scores, spent = panels(figure)
    lines = drawn(spent, "epsilon")
    assert len(lines) == rounds.loc[rounds["strategy"] == "private", "site"].nunique()
    assert all(list(line.get_ydata()) == [5.0, 7.0] for line in lines), "a run is charged whole, after those before it"
    pooled = tables["federation_summary"].query("site == @POOLED and metric == 'balanced_accuracy'")
    means = sorted(float(line.get_xdata()[0]) for line in drawn(scores, "mean"))
    np.testing.assert_allclose(means, sorted(pooled["score"]))
    assert any("private (personal): epsilon 7" in word for word in legend_words(figure))


def test_a_federation_without_noise_says_so() -> None:
    tables = federation_tables(("fedavg", "local"))
    figure = plot_federation_privacy(tables["federation_rounds"], tables["federation_summary"])
    assert any(word.startswith("No arm had noise") for word in words(figure))
    empty = plot_federation_privacy(pd.DataFrame(), pd.DataFrame())
    assert "No round was run." in words(empty)
    assert POOLED in set(tables["federation_summary"]["site"])


def test_bars_are_those_of_the_rules(study_tables: Tables) -> None:
    runtime = study_tables["runtime"]
    figure = plot_computing_time(runtime)
    assert_readable(figure)
    for axes, column in zip(panels(figure), ("cpu_seconds", "median_seconds", "peak_mb"), strict=True):
        assert sorted(bar.get_width() for bar in axes.patches) == sorted(runtime[column])
        assert axes.get_xlabel().endswith(("(s)", "(MB)"))
    assert f"n = {runtime['jobs'].sum()} jobs, {runtime['cpu_seconds'].sum() / 3600:.2f} CPU hours" in words(figure)


def test_speed_is_tokens_and_operations_in_a_second() -> None:
    curve = {"model": "m", "fold": 0, "step": [1, 2, 3], "tokens": [100, 300, 500], "seconds": [9.0, 0.5, 0.25]}
    pretraining = pd.DataFrame({**curve, "waiting_seconds": [0.0, 0.05, 0.0]})
    models = pd.DataFrame({"model": ["m"], "fold": [0], "parameters": [1e6], "parameters_in_training": [2e6]})
    steps = step_speeds(pretraining, models)
    assert list(steps["tokens_per_second"]) == [400, 800]
    assert list(steps["gflops"]) == pytest.approx([FLOPS * 2e6 * 400 / 1e9, FLOPS * 2e6 * 800 / 1e9])
    assert list(steps["waiting"]) == pytest.approx([10, 0])
    kept = step_speeds(pretraining, models.drop(columns="parameters_in_training"))
    np.testing.assert_allclose(kept["gflops"], steps["gflops"] / 2)
    figure = plot_computing_speed(pretraining, models)
    assert_readable(figure)
    assert [float(drawn(axes, "median")[0].get_xdata()[0]) for axes in panels(figure)[:1]] == [600]
    assert "m, n = 2" in words(figure)


def test_more_jobs_at_a_time_take_as_long_as_the_schedule_says(study_tables: Tables) -> None:
    schedule = study_tables["schedule"]
    figure = plot_computing_cluster(schedule)
    assert_readable(figure)
    (line,) = drawn(panels(figure)[0], "computed")
    np.testing.assert_allclose(line.get_ydata() * 60, schedule.groupby("n_jobs")["seconds"].sum())
    heights = [bar.get_height() for bar in panels(figure)[1].patches]
    assert sum(heights) == pytest.approx(100 * schedule["n_jobs"].nunique())


@pytest.mark.parametrize("plot", [plot_computing_time, plot_computing_cluster])
def test_a_table_without_rows_gives_a_notice(plot: object) -> None:
    assert "No job was timed." in words(plot(pd.DataFrame()))  # type: ignore[operator]


def test_a_table_without_its_columns_is_refused(study_tables: Tables) -> None:
    with pytest.raises(ValueError, match=r"no column peak_mb.*collect_runtime"):
        plot_computing_time(study_tables["runtime"].drop(columns="peak_mb"))
    with pytest.raises(ValueError, match=r"no column n_bads.*collect_tables"):
        plot_quality_sites(study_tables["recordings"], study_tables["qc_meeg"].drop(columns="n_bads"), pd.DataFrame())
    with pytest.raises(ValueError, match=r"no column waiting_seconds.*collect_pretraining"):
        plot_computing_speed(study_tables["pretraining"].drop(columns="waiting_seconds"), study_tables["models"])
