"""The reader of a probe: standardised features, a penalty chosen on the validation part, and the null of it all.

The penalty multiplies the squared weights per training window, so that one list of strengths serves studies of all
sizes, and ridge and logistic regression alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuroloom.evaluation.splits import PARTS
from neuroloom.evaluation.statistics import (
    Scores,
    class_scores,
    exchangeable,
    merit_of,
    permute_labels,
    value_scores,
)
from neuroloom.records import Array

MAX_ITER = 300
Predict = Callable[[Array], Array]


@dataclass(frozen=True)
class ProbeSettings:
    """How hard a probe tries.

    Attributes
    ----------
    penalties : tuple of float
        Strengths of the penalty on standardised features, per training window, strongest first: 1 / (C x windows) of
        the logistic regression.
    n_permutations, n_resamples : int
        Of the null and of the interval.
    max_train : int
        More training windows than this are thinned at random, which costs a linear probe little.
    """

    penalties: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001, 0.0001)
    n_permutations: int = 200
    n_resamples: int = 1000
    max_train: int = 5000


DEFAULT_SETTINGS = ProbeSettings()


@dataclass(frozen=True)
class Data:
    """Windows with what is asked of them; `target_W` holds codes of `classes`, or values where there are none."""

    features_WF: Array
    target_W: Array
    classes: Array | None
    participants_W: Array
    folds_NW: Array

    @property
    def n_outputs(self) -> int:
        """Classes, or 1 for a value."""
        return 1 if self.classes is None else len(self.classes)

    def part(self, fold: int, part: str) -> Array:
        """Windows of a part of a fold."""
        return np.flatnonzero(self.folds_NW[fold] == part)

    @property
    def tested(self) -> Array:
        """Windows of the test parts of all folds, in a row."""
        return np.concatenate([self.part(fold, "test") for fold in range(len(self.folds_NW))])


def prepare(features_WF: Array, labels_W: Array, participants_W: Array, parts: Array) -> Data:
    """Check the windows and give classes numbers; labels of float type stay values.

    Raises
    ------
    ValueError
        If lengths differ, or features or values are not finite.
    """
    features_WF, labels_W = np.asarray(features_WF, np.float64), np.asarray(labels_W)
    folds_NW = np.atleast_2d(np.asarray(parts).astype(str))
    lengths = {len(features_WF), len(labels_W), len(participants_W), folds_NW.shape[1]}
    if len(lengths) > 1:
        raise ValueError(f"features, labels, participants and parts have {sorted(lengths)} windows; give one of each")
    if broken := int((~np.isfinite(features_WF)).any(axis=1).sum()):
        raise ValueError(f"features of {broken} of {len(features_WF)} windows are not finite; leave these windows out")
    people_W, used_W = np.asarray(participants_W).astype(str), (folds_NW != "").any(axis=0)
    if np.issubdtype(labels_W.dtype, np.floating):
        if not np.isfinite(labels_W[used_W]).all():
            raise ValueError("labels are not all finite; leave these windows out (an empty part)")
        return Data(features_WF, labels_W, None, people_W, folds_NW)
    classes = np.unique(labels_W[used_W])
    codes_W = np.searchsorted(classes, labels_W).clip(max=max(len(classes) - 1, 0))
    return Data(features_WF, codes_W, classes, people_W, folds_NW)


def unusable(data: Data) -> str:
    """Why there can be no probe; empty where there can."""
    for fold in range(len(data.folds_NW)):
        if empty := [part for part in PARTS if not len(data.part(fold, part))]:
            return f"fold {fold}: no window in {' and '.join(empty)}"
        seen = data.target_W[data.part(fold, "train")]
        if len(np.unique(seen)) < 2:
            return f"fold {fold}: one class in training" if data.classes is not None else "one value in training"
    return ""


def fit_all(
    data: Data, settings: ProbeSettings, rng: np.random.Generator
) -> tuple[Data, dict[str, Array], tuple[float, ...], list[str]]:
    """Data with thinned training parts, outputs for the tested windows by probe, penalties, and remarks."""
    folds_NW = data.folds_NW.copy()
    for fold, parts_W in enumerate(folds_NW):
        surplus = data.part(fold, "train")
        # Only training is thinned: fewer test windows would cost precision where it is reported.
        parts_W[rng.permutation(surplus)[settings.max_train :]] = ""
    data = replace(data, folds_NW=folds_NW)
    fits = [_fit_fold(data, fold, settings) for fold in range(len(folds_NW))]
    outputs = {
        "linear": np.concatenate([fit[0] for fit in fits]),
        "majority": np.concatenate([_majority(data, fold) for fold in range(len(folds_NW))]),
    }
    unseen = sorted({str(name) for fold in range(len(folds_NW)) for name in _unseen(data, fold)})
    hints = [f"not in some training part: {', '.join(unseen)}"] if unseen else []
    hints += ["a chosen fit did not converge"] if any(fit[2] for fit in fits) else []
    return data, outputs, tuple(fit[1] for fit in fits), hints


def _unseen(data: Data, fold: int) -> Array:
    """Classes that are tested and were not trained."""
    tested_N = np.setdiff1d(data.target_W[data.part(fold, "test")], data.target_W[data.part(fold, "train")])
    return np.empty(0) if data.classes is None else data.classes[tested_N]


def _scaled(data: Data, fold: int) -> dict[str, Array]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(data.features_WF[data.part(fold, "train")])
    return {part: scaler.transform(data.features_WF[data.part(fold, part)]) for part in PARTS}


def _fit_fold(data: Data, fold: int, settings: ProbeSettings) -> tuple[Array, float, bool]:
    """Output for the test part of a fold, the penalty, and whether the fit failed to converge."""
    x, y = _scaled(data, fold), {part: data.target_W[data.part(fold, part)] for part in PARTS}
    best: tuple[float, Array, float, bool] = (-np.inf, np.empty(0), np.nan, False)
    for penalty, predict, failed in _path(x["train"], y["train"], data, settings):
        merit = _merit(data, y["validation"], predict(x["validation"]))
        if merit > best[0] + 1e-12:  # rounding must not win against a stronger penalty
            best = (merit, predict(x["test"]), penalty, failed)
    return best[1:]


def _path(x_WF: Array, y_W: Array, data: Data, settings: ProbeSettings) -> list[tuple[float, Predict, bool]]:
    """A fitted probe for each penalty."""
    if data.classes is None:
        return [(penalty, _ridge(x_WF, y_W, penalty), False) for penalty in settings.penalties]
    return [(penalty, *logistic(x_WF, y_W, penalty, data.n_outputs)) for penalty in settings.penalties]


def _ridge(x_WF: Array, y_W: Array, penalty: float) -> Predict:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=penalty * len(x_WF)).fit(x_WF, y_W)
    return lambda other_WF: model.predict(other_WF)[:, None]


def logistic(x_WF: Array, y_W: Array, penalty: float, n_classes: int) -> tuple[Predict, bool]:
    """Logistic regression of balanced classes: what predicts probabilities, and whether the fit did not converge."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (penalty * len(x_WF)), class_weight="balanced", max_iter=MAX_ITER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, which the note tells
        model.fit(x_WF, y_W)

    return lambda other_WF: probabilities(model, other_WF, n_classes), bool(np.max(model.n_iter_) >= MAX_ITER)


def probabilities(model: Any, features_WF: Array, n_classes: int) -> Array:
    """Probabilities of all classes (W, L) by a model of scikit-learn's, also of those that training did not have."""
    proba_WL = np.zeros((len(features_WF), n_classes))
    proba_WL[:, model.classes_] = model.predict_proba(features_WF)
    return proba_WL


def _majority(data: Data, fold: int) -> Array:
    """The most frequent class of the training part, or its mean, for each tested window."""
    y_W, n_tested = data.target_W[data.part(fold, "train")], len(data.part(fold, "test"))
    if data.classes is None:
        return np.full((n_tested, 1), y_W.mean())
    return np.tile(np.bincount(y_W, minlength=data.n_outputs) / len(y_W), (n_tested, 1))


def _merit(data: Data, y_W: Array, output_WL: Array) -> float:
    """What the penalty is chosen by: balanced accuracy, or the squared error with its sign turned."""
    if data.classes is None:
        return -float(((y_W - output_WL[:, 0]) ** 2).mean())
    return merit_of(y_W, output_WL)


def score(data: Data, output_WL: Array, weights_RW: Array | None = None, target_W: Array | None = None) -> Scores:
    """Scores of outputs for the tested windows, each (R,)."""
    y_W = (data.target_W if target_W is None else target_W)[data.tested]
    if data.classes is None:
        return value_scores(y_W, output_WL[:, 0], weights_RW)
    return class_scores(y_W, output_WL, weights_RW)


def null_scores(
    data: Data, recordings_W: Array | None, *, settings: ProbeSettings, rng: np.random.Generator
) -> tuple[Scores, Scores, int]:
    """Scores of a ridge reader for permuted labels (R,), for the labels as they are (1,), and the number of units.

    Features do not change between permutations, so that one decomposition and one product fit them all; each chooses
    its own penalty on the validation part. Class indicators are divided by the frequency of the class, which makes
    the ridge reader one of balanced classes.
    """
    used_W = (data.folds_NW != "").any(axis=0)
    recordings_N = None if recordings_W is None else np.asarray(recordings_W)[used_W]
    units_N, within_N = exchangeable(data.target_W[used_W], data.participants_W[used_W], recordings_N)
    target_RW = np.tile(data.target_W, (settings.n_permutations + 1, 1))
    for target_W in target_RW[1:]:
        target_W[used_W] = permute_labels(target_W[used_W], units_W=units_N, within_W=within_N, rng=rng)
    output_RWL = np.concatenate(
        [_ridge_outputs(data, fold, target_RW, settings) for fold in range(len(data.folds_NW))], axis=1
    )
    scored = [score(data, output_WL, target_W=y_W) for output_WL, y_W in zip(output_RWL, target_RW, strict=True)]
    null = {name: np.concatenate([one[name] for one in scored[1:]]) for name in scored[0]}
    return null, scored[0], len(np.unique(units_N))


def _ridge_outputs(data: Data, fold: int, target_RW: Array, settings: ProbeSettings) -> Array:
    """Output for the test part of a fold for each of many labellings, (R, W, L)."""
    # Choosing a penalty for the true labels alone would give them something that the permuted ones lack.
    x = _scaled(data, fold)
    goal_WN, mean_N = _goals(data, target_RW[:, data.part(fold, "train")])
    read, weigh_F = _decomposed(x["train"], goal_WN)
    known_RW, best_R = target_RW[:, data.part(fold, "validation")], np.full(len(target_RW), -np.inf)
    chosen_RWL = np.zeros((len(target_RW), len(x["test"]), data.n_outputs))
    for penalty in settings.penalties:
        shrink_F = 1 / (weigh_F + penalty * len(x["train"]))
        judged_RWL = _by_labelling(read(x["validation"], shrink_F) + mean_N, data.n_outputs)
        merit_R = np.array([_merit(data, y_W, out_WL) for y_W, out_WL in zip(known_RW, judged_RWL, strict=True)])
        better_R = merit_R > best_R + 1e-12
        best_R = np.maximum(best_R, merit_R)
        chosen_RWL[better_R] = _by_labelling(read(x["test"], shrink_F) + mean_N, data.n_outputs)[better_R]
    return chosen_RWL


def _goals(data: Data, target_RW: Array) -> tuple[Array, Array]:
    """Regression targets without their mean, (W, R x L), and that mean."""
    goal_RWL = target_RW[:, :, None].astype(float)
    if data.classes is not None:
        goal_RWL = (target_RW[:, :, None] == np.arange(data.n_outputs)).astype(float)
        # A class that the permutation took out of training would divide by zero.
        goal_RWL /= np.maximum(goal_RWL.mean(axis=1, keepdims=True), 1 / target_RW.shape[1])
    goal_WN = goal_RWL.transpose(1, 0, 2).reshape(target_RW.shape[1], -1)
    mean_N = goal_WN.mean(axis=0)
    return goal_WN - mean_N, mean_N


def _decomposed(x_WF: Array, goal_WN: Array) -> tuple[Callable[[Array, Array], Array], Array]:
    """Ridge regression for any penalty: a reader of other windows, and the eigenvalues that a penalty is added to.

    From the smaller of the two Gram matrices, features by features or windows by windows.
    """
    wide = x_WF.shape[1] > len(x_WF)
    weigh_F, basis_NF = np.linalg.eigh(x_WF @ x_WF.T if wide else x_WF.T @ x_WF)
    goal_FN = basis_NF.T @ (goal_WN if wide else x_WF.T @ goal_WN)
    map_NF = x_WF.T @ basis_NF if wide else basis_NF

    def read(other_WF: Array, shrink_F: Array) -> Array:
        return ((other_WF @ map_NF) * shrink_F) @ goal_FN

    return read, np.maximum(weigh_F, 0.0)


def _by_labelling(output_WN: Array, n_outputs: int) -> Array:
    return output_WN.reshape(len(output_WN), -1, n_outputs).transpose(1, 0, 2)
