"""Scores with what they are worth: intervals over participants, permutation nulls, false discoveries, variance shares.

Scores take weights of many draws at once (R), because the bootstrap asks for a thousand: a resample of participants is
a weight for each window, and windows are sorted once for all of them. With weights of one they are scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuroloom.records import Array

Scores = dict[str, Array]
FEW = 8  # participants, below which percentiles of resamples cover too little (measured on means of normals)
CELLS = 2_000_000  # draws x windows that are weighted at a time


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval, and the number of participants that it rests on."""

    score: float
    low: float
    high: float
    n_participants: int


def confusion(codes_W: Array, predicted_W: Array, n_classes: int, weights_RW: Array | None = None) -> Array:
    """Weight of each pair of true class (first) and predicted class, (R, L, L)."""
    cell_W = np.asarray(codes_W) * n_classes + predicted_W
    if weights_RW is None:
        return np.bincount(cell_W, minlength=n_classes**2).reshape(1, n_classes, n_classes).astype(float)
    hits_WN = (cell_W[:, None] == np.arange(n_classes**2)).astype(float)
    return (weights_RW @ hits_WN).reshape(-1, n_classes, n_classes)


def balanced_accuracy(confusion_RLL: Array) -> Array:
    """Mean recall of the classes that are there, (R,)."""
    total_RL = confusion_RLL.sum(axis=2)
    right_RL = np.diagonal(confusion_RLL, axis1=1, axis2=2)
    recall_RL = np.divide(right_RL, total_RL, out=np.zeros_like(total_RL), where=total_RL > 0)
    return _ratio(recall_RL.sum(axis=1), (total_RL > 0).sum(axis=1))


def merit_of(codes_W: Array, proba_WL: Array) -> float:
    """Balanced accuracy of the most likely class, by which candidates are chosen on the validation part."""
    return float(balanced_accuracy(confusion(codes_W, proba_WL.argmax(axis=1), proba_WL.shape[1]))[0])


def kappa(confusion_RLL: Array) -> Array:
    """Agreement beyond chance, (R,); NaN where all is one class. Source: Cohen 1960, Educ Psychol Meas 20:37."""
    total_R = confusion_RLL.sum(axis=(1, 2))
    observed_R = _ratio(np.trace(confusion_RLL, axis1=1, axis2=2), total_R)
    expected_R = _ratio((confusion_RLL.sum(axis=1) * confusion_RLL.sum(axis=2)).sum(axis=1), total_R**2)
    return _ratio(observed_R - expected_R, 1 - expected_R)


def ranking(positive_W: Array, scores_W: Array, weights_RW: Array | None = None) -> tuple[Array, Array]:
    """Area under the ROC curve and average precision of one class against the rest.

    Ties count as half an inversion in the first and as one threshold in the second, as in scikit-learn.

    Parameters
    ----------
    positive_W : bool array
    scores_W : array
        Higher means more likely positive.
    weights_RW : array, optional

    Returns
    -------
    auroc_R, auprc_R : array
        NaN in draws where one side is empty.
    """
    order_W = np.argsort(-scores_W, kind="stable")
    firsts = np.flatnonzero(np.r_[True, np.diff(scores_W[order_W]) != 0])
    weights_RW = np.ones((1, len(scores_W))) if weights_RW is None else weights_RW
    sorted_RW = weights_RW[:, order_W]
    positive_RN = np.add.reduceat(sorted_RW * positive_W[order_W], firsts, axis=1)
    negative_RN = np.add.reduceat(sorted_RW, firsts, axis=1) - positive_RN
    above_RN, false_RN = positive_RN.cumsum(axis=1), negative_RN.cumsum(axis=1)
    pairs_R = (negative_RN * (above_RN - positive_RN / 2)).sum(axis=1)
    auroc_R = _ratio(pairs_R, above_RN[:, -1] * false_RN[:, -1])
    precision_RN = np.divide(above_RN, above_RN + false_RN, out=np.zeros_like(above_RN), where=above_RN > 0)
    auprc_R = _ratio((positive_RN * precision_RN).sum(axis=1), above_RN[:, -1])
    return auroc_R, np.where(false_RN[:, -1] > 0, auprc_R, np.nan)


def class_scores(codes_W: Array, proba_WL: Array, weights_RW: Array | None = None) -> Scores:
    """Balanced accuracy, kappa, AUROC and AUPRC of predicted classes, each (R,).

    Two classes have one ROC curve, that of the second class; more have the mean over classes against the rest, of
    those that are there.

    Parameters
    ----------
    codes_W : int array
        True class, 0 to L - 1.
    proba_WL : array
        Any score that grows with the probability of a class.
    weights_RW : array, optional
        Weight of each window in each draw; one draw of ones by default.
    """
    n_classes = proba_WL.shape[1]
    counted_RLL = confusion(codes_W, proba_WL.argmax(axis=1), n_classes, weights_RW)
    ranked = range(1, 2) if n_classes == 2 else range(n_classes)
    both_2LR = np.array([ranking(codes_W == at, proba_WL[:, at], weights_RW) for at in ranked]).transpose(1, 0, 2)
    there_LR = np.isfinite(both_2LR)
    mean_2R = _ratio(np.where(there_LR, both_2LR, 0.0).sum(axis=1), there_LR.sum(axis=1))
    scores = {"balanced_accuracy": balanced_accuracy(counted_RLL), "kappa": kappa(counted_RLL)}
    return scores | {"auroc": mean_2R[0], "auprc": mean_2R[1]}


def value_scores(values_W: Array, predicted_W: Array, weights_RW: Array | None = None) -> Scores:
    """R2 of predicted values, (R,): 1 - squared error over squared deviation from the mean."""
    weights_RW = np.ones((1, len(values_W))) if weights_RW is None else weights_RW
    mean_R = _ratio(weights_RW @ values_W, weights_RW.sum(axis=1))
    spread_R = (weights_RW * (values_W - mean_R[:, None]) ** 2).sum(axis=1)
    return {"r2": 1 - _ratio(weights_RW @ (values_W - predicted_W) ** 2, spread_R)}


def _ratio(above_R: Array, below_R: Array) -> Array:
    below_R = np.asarray(below_R, float)
    return np.divide(above_R, below_R, out=np.full(below_R.shape, np.nan), where=below_R != 0)


def bootstrap_interval(
    draws_R: Array, *, score: float, n_participants: int, level: float = 0.95
) -> tuple[float, float]:
    """Interval from bootstrap draws, honest for few participants; NaN for fewer than two.

    Percentiles of a bootstrap are those of a normal with n in place of n - 1: too narrow for ten participants. The
    level is moved so that a mean gets its t interval (Hesterberg 2015, Am Stat 69:371). Below `FEW` participants
    resamples do not reach that far, and the interval is score +- t x bootstrap SD x sqrt(n / (n - 1)), which may go
    beyond the range of the score: that little is known.
    """
    from scipy.stats import norm, t

    draws_R = draws_R[np.isfinite(draws_R)]
    if n_participants < 2 or not len(draws_R):
        return float("nan"), float("nan")
    widened = float(np.sqrt(n_participants / (n_participants - 1)) * t.ppf((1 - level) / 2, n_participants - 1))
    if n_participants < FEW:
        return score + widened * float(draws_R.std()), score - widened * float(draws_R.std())
    low, high = np.quantile(draws_R, norm.cdf((widened, -widened)))
    return float(low), float(high)


def interval_of_mean(
    score_F: Array, low_F: Array, high_F: Array, n_participants_F: Array, *, level: float = 0.95
) -> tuple[float, float]:
    """Limits of the mean score of folds that test other people each, (F,).

    Each fold's limits are t x standard error of its own people. Errors of different people add up as squares, and so
    do their degrees of freedom (Welch 1947, Biometrika 34:28): three folds of two people know more than one of them.
    NaN where a fold has no limits, because one person alone was tested.
    """
    from scipy.stats import t

    if len(score_F) == 1:
        return float(low_F[0]), float(high_F[0])
    free_F = np.maximum(n_participants_F - 1.0, 1.0)
    mean, limits = float(score_F.mean()), []
    for side_F in (low_F, high_F):
        error_F = (side_F - score_F) / t.ppf((1 + level) / 2, free_F)
        variance_F = error_F**2
        total = float(variance_F.sum())
        free = total**2 / float((variance_F**2 / free_F).sum()) if total else 1.0
        sign = float(np.sign(error_F.sum()))
        limits.append(mean + sign * float(t.ppf((1 + level) / 2, free)) * np.sqrt(total) / len(score_F))
    return limits[0], limits[1]


def draw_participants(n_participants: int, *, n: int, rng: np.random.Generator) -> Array:
    """How often each participant is drawn in each of `n` resamples, (n, participants)."""
    return rng.multinomial(n_participants, np.full(n_participants, 1 / n_participants), size=n).astype(float)


def bootstrap_ci(
    score: Callable[[pd.DataFrame], float],
    frame: pd.DataFrame,
    *,
    by: str = "participant",
    rng: np.random.Generator,
    n: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Interval of any score of a table, resampling participants with all of their rows.

    Windows of one head are alike: resampling them one by one would give an interval several times too narrow.

    Parameters
    ----------
    score : callable
        Table -> score.
    frame : DataFrame
    by : str
        Column of what is resampled.
    rng : np.random.Generator
    n : int
        Resamples.
    level : float

    Returns
    -------
    interval : Interval
        NaN limits where there is one participant; look at `n_participants`.
    """
    rows = [np.asarray(at) for at in frame.groupby(by, sort=True).indices.values()]
    counts_RN = draw_participants(len(rows), n=n, rng=rng).astype(int)
    draws = [
        score(frame.take(np.concatenate([np.tile(at, k) for at, k in zip(rows, counts_N, strict=True)])))
        for counts_N in counts_RN
    ]
    whole = float(score(frame))
    limits = bootstrap_interval(np.array(draws), score=whole, n_participants=len(rows), level=level)
    return Interval(whole, *limits, len(rows))


def score_intervals(
    scores: Callable[[Array | None], Scores],
    participants_W: Array,
    *,
    rng: np.random.Generator,
    n: int = 1000,
    level: float = 0.95,
) -> dict[str, Interval]:
    """`bootstrap_ci` for scores that take weights of many draws at once.

    Parameters
    ----------
    scores : callable
        Weights (R, W), or None for weights of one -> scores (R,) by name.
    participants_W : array
    rng : np.random.Generator
    n, level
        As in `bootstrap_ci`.
    """
    people, which_W = np.unique(participants_W, return_inverse=True)
    counts_RN = draw_participants(len(people), n=n, rng=rng)
    # Weights of a thousand draws of all windows would not fit into memory.
    at_once = max(CELLS // max(len(which_W), 1), 1)
    drawn = [scores(counts_RN[at : at + at_once, which_W]) for at in range(0, n, at_once)]
    whole = scores(None)
    intervals = {}
    for name, value_R in whole.items():
        draws_R = np.concatenate([draw[name] for draw in drawn])
        limits = bootstrap_interval(draws_R, score=float(value_R[0]), n_participants=len(people), level=level)
        intervals[name] = Interval(float(value_R[0]), *limits, len(people))
    return intervals


def exchangeable(labels_W: Array, participants_W: Array, recordings_W: Array | None = None) -> tuple[Array, Array]:
    """What can be permuted: the largest units that hold one label each, and within what.

    A label of a person (group, site) moves between persons; a label of a recording (rest, task) between the recordings
    of a person; only one that changes inside a recording moves between windows. Permuting windows where a larger unit
    holds the label would call any difference between heads an effect.

    Returns
    -------
    units_W, within_W : int array
    """
    people_W = np.unique(participants_W, return_inverse=True)[1]
    if _constant(labels_W, people_W):
        return people_W, np.zeros(len(people_W), int)
    if recordings_W is not None:
        recording_W = np.unique(recordings_W, return_inverse=True)[1]
        if _constant(labels_W, recording_W):
            return recording_W, people_W
    return np.arange(len(people_W)), people_W


def _constant(labels_W: Array, units_W: Array) -> bool:
    """Whether all windows of a unit have one label."""
    _, first_N, unit_W = np.unique(units_W, return_index=True, return_inverse=True)
    labels_W = np.asarray(labels_W)
    return bool((labels_W[first_N][unit_W] == labels_W).all())


def permute_labels(labels_W: Array, *, units_W: Array, within_W: Array, rng: np.random.Generator) -> Array:
    """Labels moved between units of the same `within` group; the windows of a unit keep one label."""
    _, first_N, unit_W = np.unique(units_W, return_index=True, return_inverse=True)
    label_N = np.asarray(labels_W)[first_N]
    for group in np.unique(within_W):
        at_N = np.flatnonzero(within_W[first_N] == group)
        label_N[at_N] = label_N[rng.permutation(at_N)]
    return label_N[unit_W]


def permutation_p(observed: float, null_R: Array) -> float:
    """One-sided p of a score against scores of permuted labels, (1 + count) / (1 + n), never zero; NaN without a null.

    Source: Phipson and Smyth 2010, Stat Appl Genet Mol Biol 9:39.
    """
    null_R = np.asarray(null_R)[np.isfinite(null_R)]
    if not len(null_R) or not np.isfinite(observed):
        return float("nan")
    # Equal scores differ by rounding, and must count as reached.
    return float((1 + (null_R >= observed - 1e-12).sum()) / (1 + len(null_R)))


def fdr(p_N: Array | Sequence[float]) -> Array:
    """Adjusted p of Benjamini and Hochberg (1995, J R Stat Soc B 57:289), (N,); NaN stays and does not count."""
    from scipy.stats import false_discovery_control

    q_N = np.array(p_N, float)
    known_N = np.isfinite(q_N)
    if known_N.any():
        q_N[known_N] = false_discovery_control(q_N[known_N])
    return q_N


def variance_components(
    frame: pd.DataFrame, *, value: str = "score", sources: Sequence[str] = ("seed", "split", "subject")
) -> pd.DataFrame:
    """How much of the variance of a score is due to the seed, to the split and to the subject.

    Model: score = mean + seed + split + subject + rest, independent random effects. Half the mean squared difference of
    two rows is the sum of the variances of what differs between them, plus the rest; least squares over all pairs
    gives estimates without bias for tables of any gaps, also where each subject is tested in one split only.
    Estimates below zero, which chance allows, are set to zero. Source: Searle, Casella and McCulloch 1992, Variance
    Components, chapter 5 (moment estimates); Koch 1968, Technometrics 10:551 (symmetric differences).

    Parameters
    ----------
    frame : DataFrame
        One row for each score.
    value : str
        Column of the score.
    sources : sequence of str
        Columns.

    Returns
    -------
    components : DataFrame
        `source`, `variance`, `share` (of the sum), `levels`; NaN for a source with one level, or one that never
        differs without another one, which no table of this shape can tell apart.
    """
    rows = frame.dropna(subset=[value])
    codes_NM = np.stack([np.unique(rows[name].astype(str), return_inverse=True)[1] for name in sources], axis=1)
    # Pairs that differ in the same sources share one equation: at most 2 ** sources of them, however long the table.
    one, other = np.triu_indices(len(rows), k=1)
    differ_NM = codes_NM[one] != codes_NM[other]
    half_N = np.diff(rows[value].to_numpy(float)[np.stack([one, other])], axis=0)[0] ** 2 / 2
    patterns_NM, which_N, counts_N = np.unique(differ_NM, axis=0, return_inverse=True, return_counts=True)
    mean_N = np.bincount(which_N.ravel(), half_N) / counts_N
    design_NM = np.column_stack([patterns_NM, np.ones(len(patterns_NM))]).astype(float)
    root_N = np.sqrt(counts_N)
    estimate_M = np.linalg.lstsq(design_NM * root_N[:, None], mean_N * root_N, rcond=None)[0]
    variance_M = np.where(_estimable(design_NM), np.maximum(estimate_M, 0.0), np.nan)
    return pd.DataFrame(
        {
            "source": [*sources, "rest"],
            "variance": variance_M,
            "share": _ratio(variance_M, np.full(len(variance_M), np.nansum(variance_M))),
            "levels": [*(codes_NM.max(axis=0, initial=-1) + 1), len(rows)],
        }
    )


def _estimable(design_NM: Array) -> Array:
    """Columns that are no combination of the others, (M,)."""
    rank = np.linalg.matrix_rank(design_NM)
    ranks = [np.linalg.matrix_rank(np.delete(design_NM, at, axis=1)) for at in range(design_NM.shape[1])]
    return np.array([less < rank for less in ranks])
