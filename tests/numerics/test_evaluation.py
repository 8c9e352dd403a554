"""Evaluation against formulas, scikit-learn and statsmodels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from neuroloom.evaluation.baselines import riemannian_mean, shrunk_covariance, tangent_space
from neuroloom.evaluation.probes import linear_probe
from neuroloom.evaluation.readout import ProbeSettings, _decomposed
from neuroloom.evaluation.statistics import (
    bootstrap_interval,
    class_scores,
    draw_participants,
    fdr,
    value_scores,
    variance_components,
)

Scored = dict[str, np.ndarray]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_equal_those_of_scikit_learn(n_classes: int, weighted: bool, rng: np.random.Generator) -> None:
    from sklearn.metrics import average_precision_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score

    codes_W, proba_WL = rng.integers(0, n_classes, 300), rng.random((300, n_classes)).round(2)  # with ties
    proba_WL[np.arange(300), codes_W] += 0.3
    weights_W = rng.integers(0, 4, 300).astype(float) if weighted else np.ones(300)
    given: Any = {"sample_weight": weights_W}
    scores = class_scores(codes_W, proba_WL, weights_W[None] if weighted else None)
    predicted_W = proba_WL.argmax(axis=1)
    ranked = [1] if n_classes == 2 else range(n_classes)
    auroc = [roc_auc_score(codes_W == at, proba_WL[:, at], **given) for at in ranked]
    auprc = [average_precision_score(codes_W == at, proba_WL[:, at], **given) for at in ranked]
    expected = {
        "balanced_accuracy": balanced_accuracy_score(codes_W, predicted_W, **given),
        "kappa": cohen_kappa_score(codes_W, predicted_W, **given),
        "auroc": np.mean(auroc),
        "auprc": np.mean(auprc),
    }
    assert {name: value_R[0] for name, value_R in scores.items()} == pytest.approx(expected, abs=1e-12)


def test_r2_equals_that_of_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.metrics import r2_score

    values_W, weights_W = rng.standard_normal(50), rng.integers(0, 3, 50).astype(float)
    predicted_W = values_W + rng.standard_normal(50)
    found = value_scores(values_W, predicted_W, weights_W[None])["r2"][0]
    assert found == pytest.approx(r2_score(values_W, predicted_W, sample_weight=weights_W), abs=1e-12)


def test_false_discoveries_equal_those_of_statsmodels(rng: np.random.Generator) -> None:
    from statsmodels.stats.multitest import multipletests

    p_N = np.concatenate([rng.random(40), rng.random(10) * 1e-3])
    assert fdr(p_N) == pytest.approx(multipletests(p_N, method="fdr_bh")[1], abs=1e-15)


@pytest.mark.parametrize("n_participants", [3, 6, 10, 30])
def test_the_interval_of_a_mean_covers_at_its_level(n_participants: int, rng: np.random.Generator) -> None:
    """Windows of a participant share an offset: only participants are independent."""
    n_studies, covered = 600, 0
    for _ in range(n_studies):
        mean_N = rng.standard_normal(n_participants) + rng.standard_normal(n_participants) / np.sqrt(20)
        draws_R = draw_participants(n_participants, n=1000, rng=rng) @ mean_N / n_participants
        low, high = bootstrap_interval(draws_R, score=float(mean_N.mean()), n_participants=n_participants)
        covered += low <= 0 <= high
    error = np.sqrt(0.95 * 0.05 / n_studies)
    assert covered / n_studies == pytest.approx(0.95, abs=3 * error)


def test_permutation_p_values_are_uniform_without_an_effect(rng: np.random.Generator) -> None:
    from neuroloom.evaluation.statistics import permutation_p

    p_N = []
    for _ in range(600):
        null_R = rng.standard_normal(100)
        p_N.append(permutation_p(float(rng.standard_normal()), null_R[:99]))
    assert np.mean(np.array(p_N) <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 600))
    assert np.mean(p_N) == pytest.approx(0.505, abs=3 * np.sqrt(1 / 12 / 600))


def test_variance_components_are_recovered(rng: np.random.Generator) -> None:
    """Subjects are tested in one split each, as in cross-validation; the mean of many tables has no bias."""
    truth = {"seed": 0.5, "split": 1.0, "subject": 4.0, "rest": 0.25}
    found = []
    for _ in range(60):
        table = pd.DataFrame([(seed, subject % 10, subject) for seed in range(6) for subject in range(40)])
        table.columns = pd.Index(["seed", "split", "subject"])
        parts = [rng.standard_normal(50)[table[name]] * np.sqrt(truth[name]) for name in ("seed", "split", "subject")]
        table["score"] = sum(parts) + 0.5 * rng.standard_normal(len(table))
        found.append(variance_components(table)["variance"].to_numpy())
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(60)
    for at, name in enumerate(truth):
        assert mean[at] == pytest.approx(truth[name], abs=3 * error[at]), name
    shares = variance_components(table)["share"]
    assert shares.sum() == pytest.approx(1.0)


def study(rng: np.random.Generator, *, distance: float) -> dict[str, Any]:
    person_W = np.repeat(np.arange(40), 50)
    labels_W = rng.choice(["a", "b"], len(person_W))
    features_WF = rng.standard_normal((len(person_W), 10))
    features_WF[:, 0] += distance * (labels_W == "b")
    parts_W = np.where(person_W < 16, "train", np.where(person_W < 22, "validation", "test"))
    return {"features_WF": features_WF, "labels_W": labels_W, "participants_W": person_W.astype(str), "parts": parts_W}


@pytest.mark.parametrize("distance", [0.0, 2.0])
def test_a_probe_reaches_the_bayes_rate_and_not_more(distance: float, rng: np.random.Generator) -> None:
    """Two normal classes of unit spread: the best accuracy is Phi(distance / 2), which for noise is chance."""
    settings = ProbeSettings(n_permutations=100, n_resamples=300)
    table = linear_probe(**study(rng, distance=distance), target="x", rng=rng, settings=settings).table
    found = table.set_index(["probe", "metric"]).loc[("linear", "balanced_accuracy")]
    best = norm.cdf(distance / 2)
    error = np.sqrt(best * (1 - best) / found["n_windows"])
    assert found["score"] == pytest.approx(best, abs=3 * error + 0.005)  # and what the fit of 800 windows loses
    assert found["chance"] == pytest.approx(0.5, abs=0.01)
    assert (found["p"] < 0.01) == (distance > 0)


@pytest.mark.parametrize("shape", [(60, 8), (20, 50)])
def test_the_ridge_of_the_null_equals_that_of_scikit_learn(shape: tuple[int, int], rng: np.random.Generator) -> None:
    from sklearn.linear_model import Ridge

    x_WF, other_WF, goal_WN = rng.standard_normal(shape), rng.standard_normal((7, shape[1])), rng.random((shape[0], 3))
    x_WF -= x_WF.mean(axis=0)
    goal_WN -= goal_WN.mean(axis=0)
    read, weigh_F = _decomposed(x_WF, goal_WN)
    expected_WN = Ridge(alpha=2.5, fit_intercept=False).fit(x_WF, goal_WN).predict(other_WF)
    assert read(other_WF, 1 / (weigh_F + 2.5)) == pytest.approx(expected_WN, abs=1e-10)


def test_shrunk_covariance_equals_that_of_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.covariance import oas

    x_WCT = rng.standard_normal((3, 5, 40)) * np.arange(1, 6)[:, None]
    for covariance_CC, window_CT in zip(shrunk_covariance(x_WCT), x_WCT, strict=True):
        assert covariance_CC == pytest.approx(oas(window_CT.T)[0], abs=1e-12)


def test_tangent_vectors_have_riemannian_lengths(rng: np.random.Generator) -> None:
    """Their length is the affine-invariant distance from the reference, which no mixing of channels changes."""
    from scipy.linalg import eigvalsh

    covariance_WCC = shrunk_covariance(rng.standard_normal((12, 6, 50)))
    mean_CC = riemannian_mean(covariance_WCC)
    tangent_WF = tangent_space(covariance_WCC, mean_CC)
    distance_W = [np.sqrt((np.log(eigvalsh(one, mean_CC)) ** 2).sum()) for one in covariance_WCC]
    assert np.linalg.norm(tangent_WF, axis=1) == pytest.approx(distance_W)
    assert tangent_WF.mean(axis=0) == pytest.approx(np.zeros(21), abs=1e-7)  # what makes it the mean
    mixing_CC = rng.standard_normal((6, 6))
    mixed_WCC = mixing_CC @ covariance_WCC @ mixing_CC.T
    assert riemannian_mean(mixed_WCC) == pytest.approx(mixing_CC @ mean_CC @ mixing_CC.T, abs=1e-6)
    assert riemannian_mean(np.stack([np.diag([1.0, 4.0]), np.diag([4.0, 9.0])])) == pytest.approx(np.diag([2.0, 6.0]))
