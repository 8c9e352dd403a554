"""Means go over parcels, scans and people in this order, p over scans, and few people have no interval."""

from collections import namedtuple
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from neuroloom.evaluation.statistics import fdr
from neuroloom.schema import ConfigError
from neuroloom.synthesis.jobs import left_out
from neuroloom.synthesis.nulls import MEASURED, PHASE
from neuroloom.synthesis.scoring import LABELS
from neuroloom.synthesis.tables import (
    DIFFERENCES,
    PARCELS,
    SUMMARY,
    collect_synthesis,
    combined_p,
    differences_table,
    intervals,
    pair_tables,
    parcels_table,
    summary_table,
)

LABELS_OF = {"p0": "visible", "p1": "visible", "p2": "visible;deep", "p3": ""}
N_DRAWS = 199


def rows_of(
    rng: np.random.Generator,
    *,
    model: str = "ours",
    effect: float = 0.3,
    people: int = 8,
    scans: int = 2,
    folds: int = 1,
    seeds: int = 1,
) -> pd.DataFrame:
    """Rows of one model: `effect` is the mean r of the visible parcels, p is uniform without one."""
    lines = []
    for person, scan, fold, seed, parcel in product(range(people), range(scans), range(folds), range(seeds), LABELS_OF):
        shared = {
            **{"model": model, "kind": model, "split": "cross_subject", "fold": fold, "seed": seed},
            **{"scan": f"{person}_{scan}", "participant": f"{person}", "site": "n", "task": f"{scan}"},
            **{"parcel": parcel, "group": LABELS_OF[parcel], "x": 1.0, "y": 2.0, "z": 3.0, "n_volumes": 57 + scan},
        }
        planted = effect if LABELS_OF[parcel] else 0.0
        r = planted + 0.1 * rng.standard_normal()
        p = (1 + rng.binomial(N_DRAWS, norm.sf(10 * r))) / (N_DRAWS + 1)
        tests = {
            f"{what}_{null}": value
            for null in ("phase", "shift", "other")
            for what, value in zip("pn", (p, N_DRAWS), strict=True)
        }
        scores = {"r": r, "r_partial": r / 2, "mse": 1.0, "r2": r**2, "coherence": 0.3, "ceiling": 0.6}
        lines.append({**shared, "target": MEASURED, **scores, **tests})
        lines.append({**shared, "target": PHASE, "r": 0.01 * rng.standard_normal(), "r_high": 0.4, "ceiling": 0.6})
    return pd.DataFrame(lines)


def scan_rows_of(parcels: pd.DataFrame) -> pd.DataFrame:
    facts = ["model", "kind", "split", "fold", "seed", "scan", "participant", "site", "task"]
    scans = parcels[facts].drop_duplicates()
    rows = [
        scans.assign(target=target, group=group, fc_static=fc, fc_dynamic=fc / 2, coverage80=cover, note=note)
        for group in ("all", "visible")
        for target, fc, cover, note in (
            (MEASURED, 0.6, 0.8, ""),
            (LABELS, 0.0, np.nan, ""),
            (PHASE, np.nan, np.nan, "short"),
        )
    ]
    return pd.concat(rows, ignore_index=True).assign(fc_fluctuation=np.nan, coverage50=0.5, coverage95=0.95, nll=1.0)


def test_means_go_over_parcels_scans_and_people_in_this_order(rng: np.random.Generator) -> None:
    parcels = rows_of(rng, people=5, scans=3, folds=2, seeds=2)
    # one person has one scan, and one parcel of another is unknown: neither may weigh more or less than the others
    parcels = parcels[(parcels["participant"] != "0") | (parcels["scan"] == "0_1")].reset_index(drop=True)
    parcels.loc[(parcels["scan"] == "1_0") & (parcels["parcel"] == "p0"), "r"] = np.nan
    measured = parcels[(parcels["target"] == MEASURED) & parcels["parcel"].isin(["p0", "p1", "p2"])]
    jobs = measured.groupby(["participant", "scan", "fold", "seed"])["r"].mean()
    expected = jobs.groupby(["participant", "scan"]).mean().groupby("participant").mean().mean()
    table = summary_table(parcels, pd.DataFrame(), parcels_table(parcels, rng=rng), rng=rng).set_index(
        ["target", "group"]
    )
    row = table.loc[(MEASURED, "visible")]
    assert row["r"] == pytest.approx(expected)
    assert (row["n_participants"], row["n_scans"], row["n_parcels"]) == (5, 13, 3)
    assert row["n_volumes"] == 2 * (4 * (57 + 58 + 59) + 58)  # of two folds; seeds test the same volumes
    assert row["ci_low"] < expected < row["ci_high"]


def test_the_summary_has_every_group_and_the_share_of_the_ceiling(rng: np.random.Generator) -> None:
    parcels = rows_of(rng)
    tables = collect_synthesis({"parcels": parcels, "scans": scan_rows_of(parcels)}, rng=rng)
    summary = tables["synthesis_summary"].set_index(["target", "group"])
    assert list(tables["synthesis_summary"]) == SUMMARY
    assert set(summary.loc[MEASURED].index) == {"all", "visible", "deep"}
    visible = summary.loc[(MEASURED, "visible")]
    assert visible["r"] == pytest.approx(0.3, abs=0.05)
    assert visible["of_ceiling"] == pytest.approx(visible["r"] / 0.6)
    assert visible["significant"] == 1.0
    assert summary.loc[(MEASURED, "all"), "significant"] == 0.75
    assert summary.loc[(MEASURED, "visible"), ["fc_static", "fc_dynamic", "coverage80"]].tolist() == [0.6, 0.3, 0.8]
    null = summary.loc[(PHASE, "visible")]
    assert (null["r_high"], null["note"]) == (pytest.approx(0.4), "short")
    assert null["ci_low"] < 0.02
    assert np.isnan(null["significant"])
    assert summary.loc[(LABELS, "all"), "fc_static"] == 0.0
    assert np.isnan(summary.loc[(LABELS, "all"), "r"])


def test_agreement_of_connectivity_has_an_interval_over_people(rng: np.random.Generator) -> None:
    parcels = rows_of(rng)
    scans = scan_rows_of(parcels)
    scans["fc_static"] += scans["participant"].astype("category").cat.codes / 10
    summary = collect_synthesis({"parcels": parcels, "scans": scans}, rng=rng)["synthesis_summary"]
    (row,) = summary[(summary["target"] == MEASURED) & (summary["group"] == "all")].to_dict("records")
    person_N = scans[scans["target"] == MEASURED].groupby("participant")["fc_static"].mean()
    assert row["fc_static"] == pytest.approx(person_N.mean())
    assert person_N.min() < row["fc_static_ci_low"] < row["fc_static"] < row["fc_static_ci_high"] < person_N.max()
    assert row["fc_dynamic_ci_low"] == pytest.approx(row["fc_dynamic_ci_high"]), "people do not differ in it"


def test_the_ceiling_counts_only_where_it_is_known(rng: np.random.Generator) -> None:
    parcels = rows_of(rng)
    parcels.loc[parcels["parcel"] == "p3", "ceiling"] = np.nan
    table = summary_table(parcels, pd.DataFrame(), parcels_table(parcels, rng=rng), rng=rng).set_index(
        ["target", "group"]
    )
    assert table.loc[(MEASURED, "all"), "of_ceiling"] == pytest.approx(table.loc[(MEASURED, "visible"), "of_ceiling"])
    unknown = parcels.assign(ceiling=np.nan)
    table = summary_table(unknown, pd.DataFrame(), parcels_table(unknown, rng=rng), rng=rng)
    assert table["of_ceiling"].isna().all()


def test_parcels_have_intervals_places_and_q(rng: np.random.Generator) -> None:
    parcels = rows_of(rng)
    table = parcels_table(parcels, rng=rng)
    assert list(table) == PARCELS
    measured = table[table["target"] == MEASURED].set_index("parcel")
    assert (measured.loc[["p0", "p1", "p2"], "ci_low"] > 0).all()
    assert measured.loc["p3", "ci_low"] < 0 < measured.loc["p3", "ci_high"]
    np.testing.assert_allclose(measured["q_phase"], fdr(measured["p_phase"].to_numpy()))
    assert measured.loc["p0", ["x", "y", "z", "n_participants"]].tolist() == [1, 2, 3, 8]
    one = parcels[(parcels["target"] == MEASURED) & (parcels["parcel"] == "p1")]
    assert measured.loc["p1", "r"] == pytest.approx(one.groupby("participant")["r"].mean().mean())
    assert table.loc[table["target"] == PHASE, "p_phase"].isna().all()


def test_combined_p_is_uniform_without_an_effect_and_small_with_a_weak_one(rng: np.random.Generator) -> None:
    found = {}
    for effect in (0.0, 0.05):
        p = norm.sf(rng.normal(10 * effect, 1.0, (2000, 10)))
        rows = pd.DataFrame({"p_phase": ((1 + rng.binomial(N_DRAWS, p)) / (N_DRAWS + 1)).ravel()})
        facts = {"model": "m", "kind": "m", "split": "s", "fold": 0, "seed": 0, "n_phase": N_DRAWS}
        rows = rows.assign(**facts, parcel=np.repeat(np.arange(2000), 10), scan=np.tile(np.arange(10), 2000))
        found[effect] = combined_p(rows, "phase").to_numpy()
    for level in (0.05, 0.5):
        error = 3 * np.sqrt(level * (1 - level) / 2000)
        assert (found[0.0] <= level).mean() == pytest.approx(level, abs=error)
    # one scan alone finds z = 0.5 in 13 % of cases, ten of them in 47 %
    assert (found[0.05] <= 0.05).mean() == pytest.approx(norm.sf(norm.isf(0.05) - 0.5 * np.sqrt(10)), abs=0.05)


def test_seeds_of_one_scan_are_no_further_evidence(rng: np.random.Generator) -> None:
    rows = rows_of(rng, people=1, scans=1)
    measured = rows[rows["target"] == MEASURED]
    many = pd.concat([measured.assign(seed=seed) for seed in range(20)])
    np.testing.assert_allclose(combined_p(many, "phase"), combined_p(measured, "phase"))


def test_few_people_have_no_interval(rng: np.random.Generator) -> None:
    for people, known in ((1, False), (3, False), (4, True)):
        values_NP = rng.standard_normal((people, 2))
        mean_P, low_P, high_P, count_P = intervals(values_NP, rng=rng)
        np.testing.assert_allclose(mean_P, values_NP.mean(axis=0))
        assert np.isfinite([low_P, high_P]).all() == known
        assert np.isnan([low_P, high_P]).all() != known
        assert count_P.tolist() == [people] * 2
    values_NP = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 5.0], [4.0, np.nan], [6.0, np.nan]])
    mean_P, low_P, _, count_P = intervals(values_NP, rng=rng)
    assert mean_P.tolist() == [3.2, 5.0]
    assert count_P.tolist() == [5, 1]
    assert np.isfinite(low_P).tolist() == [True, False]


def test_intervals_cover_what_they_say(rng: np.random.Generator) -> None:
    for people in (5, 12):
        _, low_P, high_P, _ = intervals(rng.standard_normal((people, 1000)), rng=rng)
        covered = ((low_P < 0) & (high_P > 0)).mean()
        assert covered == pytest.approx(0.95, abs=0.025)


def test_models_are_compared_on_the_same_scans_and_parcels(rng: np.random.Generator) -> None:
    ours, ridge = rows_of(rng, effect=0.4), rows_of(rng, model="ridge", effect=0.2)
    ridge = ridge[ridge["scan"] != "0_1"]
    table = differences_table(pd.concat([ours, ridge], ignore_index=True), rng=rng).set_index("group")
    assert (table.loc["visible", ["model", "other", "n_participants"]] == ["ours", "ridge", 8]).all()
    assert table.loc["visible", "difference"] == pytest.approx(0.2, abs=0.05)
    assert table.loc["visible", "ci_low"] > 0
    cell = ["participant", "scan", "parcel"]
    pairs = ours.query("target == @MEASURED").merge(ridge.query("target == @MEASURED"), on=cell)
    people = (pairs["r_x"] - pairs["r_y"]).groupby([pairs["participant"], pairs["scan"]]).mean().groupby("participant")
    assert table.loc["all", "difference"] == pytest.approx(people.mean().mean())


def test_without_the_baseline_there_is_nothing_to_compare(rng: np.random.Generator) -> None:
    alone = rows_of(rng, people=2)
    assert differences_table(alone, rng=rng).empty
    assert list(differences_table(alone, rng=rng)) == DIFFERENCES
    same = differences_table(pd.concat([alone, alone.assign(model="other")]), baseline="other", rng=rng)
    assert same["difference"].abs().max() == 0
    assert same["ci_low"].isna().all()


def test_a_model_without_r_stays_in_the_tables(rng: np.random.Generator) -> None:
    mean = rows_of(rng, model="mean")
    blank = ["r", "r_partial", "r2", "coherence", "p_phase", "p_shift", "p_other"]
    mean[blank] = np.nan
    tables = collect_synthesis({"parcels": pd.concat([mean, rows_of(rng, model="ridge")])}, rng=rng)
    row = tables["synthesis_summary"].query("model == 'mean' and target == @MEASURED and group == 'all'").iloc[0]
    assert row[["r", "ci_low", "of_ceiling", "significant"]].isna().all()
    assert (row["mse"], row["n_participants"]) == (1.0, 8)
    assert tables["synthesis_differences"]["difference"].isna().all()
    of_mean = tables["synthesis_parcels"].query("model == 'mean' and target == @MEASURED")
    assert of_mean[["p_phase", "q_phase"]].isna().all(axis=None)


def test_files_and_frames_give_the_same_tables(rng: np.random.Generator, tmp_path: Path) -> None:
    ours, ridge = rows_of(rng), rows_of(rng, model="ridge")
    for name, rows in (("ours", ours), ("ridge", ridge)):
        rows.to_parquet(tmp_path / f"{name}.parcels.parquet")
        scan_rows_of(rows).to_parquet(tmp_path / f"{name}.scans.parquet")
    both = pd.concat([ours, ridge], ignore_index=True)
    framed = {"parcels": both, "scans": pd.concat([scan_rows_of(ours), scan_rows_of(ridge)], ignore_index=True)}
    found = [
        collect_synthesis(given, rng=np.random.default_rng(2), n=200) for given in (sorted(tmp_path.iterdir()), framed)
    ]
    assert set(found[0]) == {
        *("synthesis", "synthesis_summary", "synthesis_parcels", "synthesis_differences"),
        *("synthesis_scans", "synthesis_connectivity", "synthesis_traces", "synthesis_attribution"),
    }
    for name, table in found[0].items():
        pd.testing.assert_frame_equal(table, found[1][name], check_dtype=False)


def test_a_study_without_predictions_has_empty_tables(rng: np.random.Generator) -> None:
    tables = collect_synthesis([], rng=rng)
    assert all(table.empty for table in tables.values())
    assert list(tables["synthesis_summary"]) == SUMMARY


def test_pairs_are_a_table_and_those_that_cannot_be_used_another(tmp_path: Path) -> None:
    good = {"recording": "s_n_sub-1_task-rest", "quarantined": False, "n_volumes": 57, "start": 3.0, "drift": 2e-5}
    row = {
        "recording": "s_n_sub-2_task-rest",
        "stage": "align_pair",
        "file": "x",
        "reason": "no trigger",
        "remedy": "mark",
    }
    paths = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    pd.DataFrame([good]).to_parquet(paths[0])
    pd.DataFrame([{**row, "quarantined": True}]).to_parquet(paths[1])
    tables = pair_tables(paths)
    assert list(tables["pairs"]["recording"]) == ["s_n_sub-1_task-rest"]
    assert tables["pair_quarantine"].to_dict("records") == [row]
    assert pair_tables(paths[:1])["pair_quarantine"].empty


def test_a_model_that_was_left_out_is_told_with_its_reason(tmp_path: Path) -> None:
    Output = namedtuple("Output", "store fitted manifest parcels")
    output = Output(*(tmp_path / f"m.{kind}" for kind in ("zarr", "fitted", "manifest.json", "parcels.parquet")))
    with left_out(output, "sources"):
        raise ConfigError("nobody is left to test")
    (row,) = pair_tables([], [output.manifest])["pair_quarantine"].to_dict("records")
    assert (row["recording"], row["stage"], row["reason"]) == ("sources", "synthesize_bold", "nobody is left to test")
