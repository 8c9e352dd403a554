"""Tables of the study: false discoveries, means over seeds and folds, pairs of readers, parts of the variance."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from neuroloom.evaluation.statistics import fdr, interval_of_mean, variance_components
from neuroloom.evaluation.tables import (
    collect_evaluation,
    differences_table,
    main_rows,
    summary_table,
    variance_table,
    with_q,
)

METRICS = ("balanced_accuracy", "kappa")


def scores_table(rng: np.random.Generator, *, folds: int = 2, seeds: int = 3) -> pd.DataFrame:
    """As `judge_model` and `judge_baselines` write it."""
    lines: list[dict[str, Any]] = []
    readers = (("reve", "linear"), ("reve", "scratch"), ("band_power_lda", "baseline"), ("majority", "baseline"))
    for model, regime in readers:
        for share in (0.25, 1.0):
            for fold in range(folds):
                for seed in range(seeds):
                    for metric in METRICS:
                        score = rng.uniform(0.5, 0.9)
                        facts = {"model": model, "regime": regime, "share": share, "fold": fold, "seed": seed}
                        limits = {"score": score, "ci_low": score - 0.1, "ci_high": score + 0.1}
                        chance = {"chance": 0.5, "chance_high": 0.6, "p": rng.uniform(0.001, 0.2)}
                        counts = {"n_windows": 40, "n_participants": 3 + fold, "n_classes": 2, "n_parameters": 1000}
                        spent = {"n_trainable": 10, "n_fits": 4, "n_epochs": 8, "rule": "r", "note": "n", "seen": False}
                        line = {"task": "eyes", "metric": metric, **facts, **limits, **chance, **counts, **spent}
                        lines.append({**line, "split": "subject"})
    return pd.DataFrame(lines)


def subjects_table(rng: np.random.Generator, *, gain: float = 0.1, n_people: int = 8) -> pd.DataFrame:
    """People differ much, readers little: `reve` is better than a baseline by `gain`."""
    people = rng.normal(0.6, 0.15, n_people)
    readers = {("reve", "linear"): gain, ("reve", "scratch"): -0.05, ("band_power_lda", "baseline"): 0.0}
    lines = [
        {
            "task": "eyes",
            "model": model,
            "regime": regime,
            "share": 1.0,
            "fold": person % 2,
            "seed": seed,
            "participant": f"s{person}",
            "metric": "balanced_accuracy",
            "score": people[person] + better + rng.normal(0, 0.01),
            "n_windows": 20,
        }
        for (model, regime), better in readers.items()
        for person in range(n_people)
        for seed in range(3)
    ]
    return pd.DataFrame(lines)


def reader(table: pd.DataFrame, **facts: Any) -> pd.Series:
    chosen = table[np.logical_and.reduce([table[name] == value for name, value in facts.items()])]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_false_discoveries_are_counted_for_each_metric_alone(rng: np.random.Generator) -> None:
    table = scores_table(rng)
    table.loc[3, "p"] = np.nan
    corrected = with_q(table)
    assert np.isnan(corrected.loc[3, "q"])
    for metric in METRICS:
        part = corrected[corrected["metric"] == metric]
        np.testing.assert_allclose(part["q"], fdr(part["p"].to_numpy()))
    known = corrected.dropna(subset=["q"])
    assert (known["q"] >= known["p"]).all()
    assert (known["q"] > known["p"]).any()


def test_the_summary_is_the_mean_over_folds_and_seeds(rng: np.random.Generator) -> None:
    table = with_q(scores_table(rng))
    summary = summary_table(table)
    facts = {"task": "eyes", "model": "reve", "regime": "linear", "share": 0.25, "metric": "balanced_accuracy"}
    runs = table[np.logical_and.reduce([table[name] == value for name, value in facts.items()])]
    row = reader(summary, **facts)
    assert len(summary) == 4 * 2 * 2
    assert row["score"] == pytest.approx(runs["score"].mean())
    folds = runs.groupby("fold")[["score", "ci_low", "ci_high", "n_participants"]].mean()
    limits = interval_of_mean(*folds.to_numpy(float).T)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(limits), "seeds do not make it narrower, folds do"
    assert limits[1] - limits[0] < (runs["ci_high"] - runs["ci_low"]).mean()
    assert row["corrected"] == pytest.approx(2 * (runs["score"].mean() - 0.5))
    assert row["q"] == runs["q"].max()
    assert (row["n_runs"], row["n_failed"], row["note"]) == (6, 0, "")
    assert row["n_participants"] == 3 + 4, "other people in each fold, the same for each seed"
    assert row["n_windows"] == 80


def test_a_run_that_failed_is_counted_and_says_why(rng: np.random.Generator) -> None:
    table = scores_table(rng)
    linear = (table["model"] == "reve") & (table["regime"] == "linear") & (table["share"] == 0.25)
    unknown = ["score", "ci_low", "ci_high", "chance", "chance_high", "p"]
    table.loc[linear & (table["seed"] == 0), unknown] = np.nan
    table.loc[linear & (table["seed"] == 0), "note"] = "one class in training"
    table.loc[(table["model"] == "majority"), unknown] = np.nan
    table.loc[(table["model"] == "majority"), "note"] = "no majority"
    summary = main_rows(summary_table(with_q(table)))
    some = reader(summary, model="reve", regime="linear", share=0.25)
    assert (some["n_runs"], some["n_failed"], some["note"]) == (4, 2, "one class in training")
    assert np.isfinite(some["score"])
    none = reader(summary, model="majority", share=1.0)
    assert (none["n_runs"], none["n_failed"], none["note"]) == (0, 6, "no majority")
    assert np.isnan(none["score"])


def test_a_task_of_numbers_is_judged_by_r2_and_keeps_readers_without_a_score(rng: np.random.Generator) -> None:
    table = scores_table(rng)
    values = table[table["metric"] == "balanced_accuracy"].assign(task="age", metric="r2")
    failed = values["model"] == "majority"
    values.loc[failed, "score"] = np.nan
    values.loc[failed, "metric"] = "balanced_accuracy"
    chosen = main_rows(pd.concat([table, values], ignore_index=True))
    assert set(chosen.loc[chosen["task"] == "eyes", "metric"]) == {"balanced_accuracy"}
    age = chosen[chosen["task"] == "age"]
    assert set(age.loc[age["score"].notna(), "metric"]) == {"r2"}
    assert set(age.loc[age["score"].isna(), "model"]) == {"majority"}
    assert len(age) == len(values)


def test_readers_are_compared_on_the_same_people(rng: np.random.Generator) -> None:
    subjects = subjects_table(rng)
    table = differences_table(subjects)
    assert set(zip(table["model"], table["regime"], table["other"], strict=True)) == {
        ("reve", "linear", "band_power_lda"),
        ("reve", "linear", "scratch"),
    }
    row = reader(table, other="band_power_lda")
    means = subjects.groupby(["model", "regime", "participant"])["score"].mean()
    one, other = means["reve"]["linear"], means["band_power_lda"]["baseline"]
    expected = ttest_rel(one, other).confidence_interval(0.95)
    assert row["difference"] == pytest.approx((one - other).mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high))
    assert row["n_participants"] == 8
    # people apart from each other would hide it
    assert 0 < row["ci_low"] < row["ci_high"] < one.std()


def test_a_smaller_error_is_better(rng: np.random.Generator) -> None:
    subjects = subjects_table(rng).assign(metric="mean_absolute_error")
    assert reader(differences_table(subjects), other="band_power_lda")["difference"] == pytest.approx(-0.1, abs=0.02)


def test_people_whom_one_reader_lacks_do_not_count_and_one_has_no_interval(rng: np.random.Generator) -> None:
    subjects = subjects_table(rng)
    lost = (subjects["model"] == "band_power_lda") & ~subjects["participant"].isin(["s1", "s2"])
    table = differences_table(subjects[~lost])
    assert reader(table, other="band_power_lda")["n_participants"] == 2
    alone = differences_table(subjects[subjects["participant"] == "s1"])
    assert alone[["ci_low", "ci_high"]].isna().all(axis=None)
    assert reader(alone, other="band_power_lda")["difference"] == pytest.approx(0.1, abs=0.05)


def test_the_variance_has_parts_and_keeps_the_share_of_the_people(rng: np.random.Generator) -> None:
    subjects = pd.concat([subjects_table(rng), subjects_table(rng).assign(share=0.25)], ignore_index=True)
    table = variance_table(subjects)
    assert set(table["share"]) == {0.25, 1.0}
    part = table[(table["share"] == 0.25) & (table["model"] == "reve") & (table["regime"] == "linear")]
    assert list(part["source"]) == ["seed", "split", "subject", "rest"]
    chosen = subjects[(subjects["share"] == 0.25) & (subjects["model"] == "reve") & (subjects["regime"] == "linear")]
    expected = variance_components(chosen.rename(columns={"fold": "split", "participant": "subject"}))
    np.testing.assert_allclose(part["part"], expected["share"])
    np.testing.assert_allclose(part["variance"], expected["variance"])
    assert part["part"].sum() == pytest.approx(1)
    assert part.set_index("source")["part"]["subject"] > 0.5


def test_scores_that_are_missing_have_no_variance(rng: np.random.Generator) -> None:
    subjects = subjects_table(rng)
    subjects.loc[subjects["regime"] == "scratch", "score"] = np.nan
    assert set(variance_table(subjects)["regime"]) == {"linear", "baseline"}


def test_all_jobs_become_the_tables_of_the_study(rng: np.random.Generator, tmp_path: Path) -> None:
    scores, subjects = scores_table(rng), subjects_table(rng)
    audits = pd.DataFrame([{"audit": "identity", "task": "eyes", "model": "reve", "fold": 0, "score": 0.4}])
    paths = []
    for name in ("reve", "baselines"):
        kept = scores["regime"] != "baseline" if name == "reve" else scores["regime"] == "baseline"
        people = subjects["regime"] != "baseline" if name == "reve" else subjects["regime"] == "baseline"
        tables = {
            "": scores[kept],
            ".subjects": subjects[people],
            ".audits": audits if name == "reve" else pd.DataFrame(),
        }
        for kind, table in tables.items():
            paths.append(tmp_path / f"{name}{kind}.parquet")
            table.to_parquet(paths[-1])
    found = collect_evaluation(paths)
    assert len(found["evaluation"]) == len(scores)
    assert found["evaluation"]["q"].notna().all()
    assert len(found["evaluation_subjects"]) == len(subjects)
    assert len(found["evaluation_audits"]) == 1
    pd.testing.assert_frame_equal(found["evaluation_variance"], variance_table(found["evaluation_subjects"]))
    pd.testing.assert_frame_equal(found["evaluation_summary"], summary_table(found["evaluation"]))
    pd.testing.assert_frame_equal(found["evaluation_differences"], differences_table(found["evaluation_subjects"]))
    for name, table in found.items():
        table.to_parquet(tmp_path / f"{name}.parquet")


def test_jobs_without_a_score_give_tables_without_a_row(tmp_path: Path) -> None:
    """As a task that nobody could be asked leaves them."""
    missing = scores_table(np.random.default_rng(1))[:2].assign(score=np.nan, p=np.nan, note="no window")
    missing.to_parquet(tmp_path / "reve.parquet")
    paths = [tmp_path / "reve.parquet"]
    for kind in ("subjects", "audits"):
        pd.DataFrame().to_parquet(tmp_path / f"reve.{kind}.parquet")
        paths.append(tmp_path / f"reve.{kind}.parquet")
    found = collect_evaluation(paths)
    assert len(found["evaluation"]) == 2
    assert found["evaluation"]["q"].isna().all()
    assert set(found["evaluation_summary"]["note"]) == {"no window"}
    for name in ("evaluation_subjects", "evaluation_differences", "evaluation_variance", "evaluation_audits"):
        assert found[name].empty
    assert all(table.empty for table in collect_evaluation([]).values())
