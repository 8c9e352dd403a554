"""Intervals, nulls and variance shares behave at their edges."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from neuroloom.evaluation.statistics import (
    bootstrap_ci,
    bootstrap_interval,
    class_scores,
    exchangeable,
    fdr,
    interval_of_mean,
    permutation_p,
    permute_labels,
    score_intervals,
    variance_components,
)


def test_participants_are_resampled_and_not_windows(rng: np.random.Generator) -> None:
    people = np.repeat(np.arange(12), 50)
    frame = pd.DataFrame({"participant": people, "value": rng.standard_normal(12)[people]})
    interval = bootstrap_ci(lambda table: table["value"].mean(), frame, rng=rng, n=400)
    means = frame.groupby("participant")["value"].mean()
    assert interval.n_participants == 12
    assert interval.high - interval.low == pytest.approx(2 * 2.2 * means.std() / np.sqrt(12), rel=0.25)  # t of 11


def test_one_participant_gives_no_interval(rng: np.random.Generator) -> None:
    frame = pd.DataFrame({"participant": ["a"] * 9, "value": np.arange(9.0)})
    interval = bootstrap_ci(lambda table: table["value"].mean(), frame, rng=rng, n=20)
    assert (interval.score, interval.n_participants) == (4.0, 1)
    assert np.isnan([interval.low, interval.high]).all()


def test_fewer_participants_give_a_wider_interval(rng: np.random.Generator) -> None:
    draws_R = rng.standard_normal(5000)
    widths = [np.ptp(bootstrap_interval(draws_R, score=0.0, n_participants=n)) for n in (3, 7, 8, 20, 1000)]
    assert all(wide > narrow for wide, narrow in pairwise(widths))
    assert widths[-1] == pytest.approx(2 * 1.96, rel=0.05)


def test_scores_of_weights_are_those_of_repeated_windows(rng: np.random.Generator) -> None:
    codes_W, proba_WL = rng.integers(0, 3, 60), rng.random((60, 3)).round(1)
    weights_RW = rng.integers(0, 3, (4, 60)).astype(float)
    weighted = class_scores(codes_W, proba_WL, weights_RW)
    for at, weights_W in enumerate(weights_RW.astype(int)):
        repeated = class_scores(np.repeat(codes_W, weights_W), np.repeat(proba_WL, weights_W, axis=0))
        for name, value_R in repeated.items():
            assert weighted[name][at] == pytest.approx(value_R[0])


def test_both_bootstraps_agree(rng: np.random.Generator) -> None:
    people = np.repeat(np.arange(15), 20)
    codes_W = rng.integers(0, 2, 300)
    proba_WL = np.stack([1 - codes_W, codes_W], axis=1) * 0.3 + rng.random((300, 2))
    fast = score_intervals(lambda weights: class_scores(codes_W, proba_WL, weights), people, rng=rng)["auroc"]
    frame = pd.DataFrame({"participant": people, "code": codes_W, "a": proba_WL[:, 0], "b": proba_WL[:, 1]})

    def auroc(table: pd.DataFrame) -> float:
        return float(class_scores(table["code"].to_numpy(), table[["a", "b"]].to_numpy())["auroc"][0])

    slow = bootstrap_ci(auroc, frame, rng=rng, n=400)
    assert fast.score == slow.score
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.015)


def test_a_class_that_is_not_there_does_not_count() -> None:
    scores = class_scores(np.array([0, 0, 1, 1]), np.eye(3)[[0, 1, 1, 1]])
    assert scores["balanced_accuracy"][0] == 0.75
    lonely = class_scores(np.zeros(4, int), np.eye(2)[[0, 1, 0, 0]])
    assert lonely["balanced_accuracy"][0] == 0.75
    assert np.isnan(lonely["auroc"][0])
    assert np.isnan(lonely["auprc"][0])


def test_labels_move_between_the_largest_units_that_hold_one(rng: np.random.Generator) -> None:
    people = np.repeat(["a", "b", "c", "d"], 6)
    recordings = np.repeat([f"r{k}" for k in range(8)], 3)
    trait = np.repeat(["x", "y", "x", "y"], 6)
    state = np.tile(np.repeat(["rest", "task"], 3), 4)
    event = np.tile(["left", "right"], 12)
    assert len(np.unique(exchangeable(trait, people, recordings)[0])) == 4
    units_W, within_W = exchangeable(state, people, recordings)
    assert len(np.unique(units_W)) == 8
    assert len(np.unique(exchangeable(event, people, recordings)[0])) == 24
    moved = np.stack([permute_labels(state, units_W=units_W, within_W=within_W, rng=rng) for _ in range(40)])
    for recording in np.unique(recordings):
        assert all(len(set(row)) == 1 for row in moved[:, recordings == recording])
    for person in np.unique(people):
        assert all(sorted(row) == ["rest"] * 3 + ["task"] * 3 for row in moved[:, people == person])
    assert len(np.unique(moved, axis=0)) > 8  # of 16 ways


def test_p_is_never_zero_and_knows_what_it_cannot_say() -> None:
    assert permutation_p(1.0, np.zeros(99)) == 0.01
    assert permutation_p(0.0, np.zeros(99)) == 1.0
    assert permutation_p(0.5, np.array([0.4, np.nan, 0.6, 0.1])) == 0.5
    assert np.isnan(permutation_p(np.nan, np.zeros(9)))
    assert np.isnan(permutation_p(1.0, np.empty(0)))


def test_missing_p_values_stay_missing_and_do_not_count() -> None:
    q_N = fdr([0.01, np.nan, 0.04])
    assert np.isnan(q_N[1])
    assert q_N[[0, 2]] == pytest.approx(fdr([0.01, 0.04]))


def test_a_source_that_cannot_be_told_apart_is_nan(rng: np.random.Generator) -> None:
    frame = pd.DataFrame({"seed": 0, "split": np.repeat(range(4), 5), "subject": range(20)})
    table = variance_components(frame.assign(score=rng.standard_normal(20))).set_index("source")
    assert np.isnan(table.loc["seed", "variance"])  # one level
    assert np.isnan(table.loc["subject", "variance"])  # each row is another subject, so that subject is the rest
    assert np.isfinite(table.loc["split", "variance"])
    assert table["levels"].tolist() == [1, 4, 20, 20]


def test_the_interval_of_folds_knows_what_all_of_their_people_know(rng: np.random.Generator) -> None:
    """Three folds of eight people, as wide as 24 people in one; Monte Carlo over studies."""
    covered, widths = [], []
    for _ in range(3000):
        people_FN = rng.standard_normal((3, 8))
        mean_F, error_F = people_FN.mean(axis=1), people_FN.std(axis=1, ddof=1) / np.sqrt(8)
        half_F = t.ppf(0.975, 7) * error_F
        low, high = interval_of_mean(mean_F, mean_F - half_F, mean_F + half_F, np.full(3, 8.0))
        covered.append(low <= 0 <= high)
        widths.append(high - low)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    assert np.mean(widths) == pytest.approx(2 * t.ppf(0.975, 21) / np.sqrt(24), rel=0.05)


def test_the_interval_of_one_fold_is_its_own_and_of_a_fold_without_one_is_none() -> None:
    one = [np.array([value]) for value in (0.6, 0.4, 0.7, 5.0)]
    assert interval_of_mean(*one) == (0.4, 0.7)
    low_F, high_F = np.array([0.4, np.nan]), np.array([0.7, np.nan])
    assert np.isnan(interval_of_mean(np.array([0.6, 0.5]), low_F, high_F, np.array([5.0, 1.0]))).all()
