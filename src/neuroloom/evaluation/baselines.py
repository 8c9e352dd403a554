"""Classical and small-network readers of windows of signal, which a model has to beat with the same tuning budget.

Each takes windows, labels, participants and parts, is fitted on the training part, chooses among as many candidates as
a model has on the validation part by balanced accuracy (ties to the first), and predicts the test part. How many fits
and epochs it was given comes back with the prediction, to stand in a column beside the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroloom.config import ConfigError
from neuroloom.evaluation.examples import Group
from neuroloom.evaluation.leaks import check_apart
from neuroloom.evaluation.networks import (
    DEFAULT_BUDGET,
    Goal,
    Learner,
    Setting,
    Training,
    build_network,
    drawn_from,
    tune,
)
from neuroloom.evaluation.networks import Budget as Budget
from neuroloom.evaluation.readout import logistic, prepare, probabilities, unusable
from neuroloom.evaluation.splits import PARTS
from neuroloom.evaluation.statistics import merit_of
from neuroloom.records import Array

BANDS = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "low gamma": (30.0, 45.0),
}
SPATIAL_BAND = (4.0, 40.0)  # Hz, of CSP and the Riemannian reader; slower waves are mostly eyes and sweat
MAX_RANK = 32  # components that covariances are reduced to: 64 would make 2,080 features of a window
Predict = Callable[[Array], Array]


@dataclass(frozen=True)
class Prediction:
    """What a baseline, or a model, says of the test windows.

    Attributes
    ----------
    classes : array
        Labels, in the order of the columns; empty for values.
    windows_N : int array
        Test windows.
    proba_NL : array
        Probability of each class, or one column of values.
    n_fits, n_epochs : int
        Budget that was spent: candidates, and epochs of all of them together, which only networks have.
    rule : str
        What was chosen, from what, and how.
    n_trainable, n_parameters : int
        Numbers that were trained, and all that an answer depends on; 0 for classical readers.
    """

    classes: Array
    windows_N: Array
    proba_NL: Array
    n_fits: int
    n_epochs: int
    rule: str
    n_trainable: int = 0
    n_parameters: int = 0


@dataclass(frozen=True)
class _Task:
    """Windows of the parts with their codes."""

    x: dict[str, Array]
    y: dict[str, Array]
    n_classes: int
    sfreq: float


def run_baseline(
    name: str,
    x_WCT: Array,
    labels_W: Array,
    participants_W: Array,
    parts_W: Array,
    *,
    sfreq: float,
    rng: np.random.Generator,
    budget: Budget = DEFAULT_BUDGET,
    within: bool = False,
) -> Prediction:
    """Fit a baseline and predict the test windows.

    Parameters
    ----------
    name : str
        One of `BASELINES`: `majority`, `band_power_lda`, `csp_lda`, `riemann`, `eegnet`, `shallow`.
    x_WCT : float array
        Windows of signal; any unit, the same for all windows of a channel.
    labels_W : array
        Classes.
    participants_W : array of str
    parts_W : array of str
        `train`, `validation`, `test` or empty.
    sfreq : float
        Hz.
    rng : np.random.Generator
    budget : Budget
    within : bool
        Participants stand on several sides on purpose.

    Raises
    ------
    LeakError
        If a participant is in two parts (unless `within`).
    ConfigError
        If there is no such baseline, or the parts do not allow a fit.
    ValueError
        If lengths differ, the signal is not finite, or a window holds none.
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline {name}: there is none of this name; take one of {', '.join(BASELINES)}")
    labels_W = np.asarray(labels_W).astype(str)
    data = prepare(np.asarray(x_WCT).reshape(len(x_WCT), -1), labels_W, participants_W, parts_W)
    if not within:
        check_apart(data.participants_W, data.folds_NW)
    if reason := unusable(data):
        raise ConfigError(f"baseline {name}: {reason}; leave this fold out, or label more windows")
    at = {part: data.part(0, part) for part in PARTS}
    if silent := sum(int((np.ptp(x_WCT[at[part]], axis=(1, 2)) == 0).sum()) for part in PARTS):
        raise ValueError(f"baseline {name}: {silent} windows hold no signal (one value throughout); leave them out")
    x_by_part = {part: np.asarray(x_WCT)[at[part]] for part in PARTS}
    task = _Task(x_by_part, {part: data.target_W[at[part]] for part in PARTS}, data.n_outputs, sfreq)
    outcome = BASELINES[name](task, budget, rng)
    return Prediction(
        classes=np.unique(labels_W[np.asarray(parts_W) != ""]),
        windows_N=at["test"],
        proba_NL=outcome.proba_NL,
        n_fits=outcome.n_fits,
        n_epochs=outcome.n_epochs,
        rule=outcome.rule,
        n_trainable=outcome.n_weights,
        n_parameters=outcome.n_weights,
    )


@dataclass(frozen=True)
class Outcome:
    """The part of a prediction that a baseline knows."""

    proba_NL: Array
    n_fits: int
    rule: str
    n_epochs: int = 0
    n_weights: int = 0


Baseline = Callable[[_Task, Budget, np.random.Generator], Outcome]


def _choose(task: _Task, name: str, candidates: Sequence[Any], fit: Callable[[Any], Callable[[str], Array]]) -> Outcome:
    """The candidate with the best balanced accuracy on validation, and its prediction of the test part."""
    best, chosen, proba_NL = -1.0, None, np.empty(0)
    for candidate in candidates:
        predict = fit(candidate)
        merit = merit_of(task.y["validation"], predict("validation"))
        if merit > best + 1e-12:
            best, chosen, proba_NL = merit, candidate, predict("test")
    rule = f"{name} {chosen} of {list(candidates)} by balanced accuracy on validation"
    return Outcome(proba_NL, len(candidates), rule)


def _majority(task: _Task, budget: Budget, rng: np.random.Generator) -> Outcome:
    share_L = np.bincount(task.y["train"], minlength=task.n_classes) / len(task.y["train"])
    return Outcome(np.tile(share_L, (len(task.y["test"]), 1)), 0, "shares of the classes in training")


def band_power(x_WCT: Array, sfreq: float) -> Array:
    """Log power of each channel in the classical bands, (W, C x bands), band by band within a channel.

    Welch's spectrum with windows of 2 s (shorter where the signal is). Bands that reach beyond 0.9 x Nyquist are cut
    there; those that start beyond it are left out.

    Raises
    ------
    ValueError
        If the windows are too short for the slowest band.
    """
    from scipy.signal import welch

    n_times = min(int(2 * sfreq), x_WCT.shape[-1])
    freqs_F, psd_WCF = welch(x_WCT, sfreq, nperseg=n_times, axis=-1)
    edges = [(low, min(high, 0.45 * sfreq)) for low, high in BANDS.values() if low < 0.45 * sfreq]
    inside = [np.flatnonzero((freqs_F >= low) & (freqs_F < high)) for low, high in edges]
    if not all(len(at) for at in inside):
        raise ValueError(f"windows of {x_WCT.shape[-1] / sfreq:g} s: a band has no frequency; make them 1 s or longer")
    power_WCN = np.stack([psd_WCF[..., at].mean(axis=-1) for at in inside], axis=-1)
    return np.log(np.maximum(power_WCN, np.finfo(np.float64).tiny)).reshape(len(x_WCT), -1)


def _band_power_lda(task: _Task, budget: Budget, rng: np.random.Generator) -> Outcome:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = {part: band_power(task.x[part], task.sfreq) for part in PARTS}

    def fit(shrinkage: float | str) -> Callable[[str], Array]:
        model = make_pipeline(StandardScaler(), _lda(task, shrinkage)).fit(features["train"], task.y["train"])
        return lambda part: probabilities(model, features[part], task.n_classes)

    return _choose(task, "equal priors, shrinkage", budget.shrinkages[: budget.candidates], fit)


def _lda(task: _Task, shrinkage: float | str = "auto") -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    n_trained = len(np.unique(task.y["train"]))
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=np.full(n_trained, 1 / n_trained))


def _spatial(task: _Task) -> dict[str, Array]:
    """Windows in `SPATIAL_BAND`, on the components that carry the signal of the training part.

    Channels come to one SD first, so that EEG and MEG can stand together. Average references and interpolated
    channels leave covariances without full rank; fewer, whitened components mend that.
    """
    from scipy.signal import butter, sosfiltfilt

    band = np.array([SPATIAL_BAND[0], min(SPATIAL_BAND[1], 0.45 * task.sfreq)])
    sos = butter(4, band / (task.sfreq / 2), btype="bandpass", output="sos")
    filtered = {part: sosfiltfilt(sos, x_WCT, axis=-1) for part, x_WCT in task.x.items()}
    spread_C = filtered["train"].std(axis=(0, 2))
    keep_C = spread_C > 0  # a channel that is dead in all of training tells nothing later
    scaled = {part: x_WCT[:, keep_C] / spread_C[keep_C, None] for part, x_WCT in filtered.items()}
    mean_CC = np.tensordot(scaled["train"], scaled["train"], axes=((0, 2), (0, 2))) / scaled["train"][:, 0].size
    value_N, basis_CN = np.linalg.eigh(mean_CC)
    # Whitening would blow the null space of an average reference up to the size of the signal.
    kept_N = np.flatnonzero(value_N > 1e-6 * value_N[-1])[-MAX_RANK:]
    map_CN = basis_CN[:, kept_N] / np.sqrt(value_N[kept_N])
    return {part: map_CN.T @ x_WCT for part, x_WCT in scaled.items()}


def _csp_lda(task: _Task, budget: Budget, rng: np.random.Generator) -> Outcome:
    import mne

    x = _spatial(task)
    given = sorted(budget.components[: budget.candidates])
    candidates = [n for n in given if n <= x["train"].shape[1]] or [x["train"].shape[1]]

    def fit(n_components: int) -> Callable[[str], Array]:
        csp = mne.decoding.CSP(n_components=n_components, reg="ledoit_wolf", log=True)
        with mne.utils.use_log_level("error"):
            model = _lda(task).fit(csp.fit_transform(x["train"], task.y["train"]), task.y["train"])
            return lambda part: probabilities(model, csp.transform(x[part]), task.n_classes)

    return _choose(task, "components", candidates, fit)


def shrunk_covariance(x_WCT: Array) -> Array:
    """Covariance of each window, shrunk towards a multiple of the identity by the oracle approximation, (W, C, C).

    Source: Chen et al. 2010, IEEE Trans Signal Process 58:5016; in the form of scikit-learn's `oas`.
    """
    n_chans, n_times = x_WCT.shape[1:]
    x_WCT = x_WCT - x_WCT.mean(axis=-1, keepdims=True)
    covariance_WCC = x_WCT @ x_WCT.transpose(0, 2, 1) / n_times
    mean_W = np.trace(covariance_WCC, axis1=1, axis2=2) / n_chans
    square_W = (covariance_WCC**2).mean(axis=(1, 2))
    above_W, below_W = square_W + mean_W**2, (n_times + 1) * (square_W - mean_W**2 / n_chans)
    share_W = np.minimum(np.divide(above_W, below_W, out=np.ones_like(above_W), where=below_W > 0), 1.0)
    return (1 - share_W)[:, None, None] * covariance_WCC + (share_W * mean_W)[:, None, None] * np.eye(n_chans)


def _of_eigenvalues(matrix_WCC: Array, function: Callable[[Array], Array]) -> Array:
    """A function of symmetric matrices, through their eigenvalues."""
    value_WC, basis_WCC = np.linalg.eigh(matrix_WCC)
    return (basis_WCC * function(value_WC)[..., None, :]) @ np.swapaxes(basis_WCC, -1, -2)


def riemannian_mean(covariance_WCC: Array, *, tolerance: float = 1e-8, max_iter: int = 50) -> Array:
    """Mean of positive definite matrices under the affine-invariant metric, (C, C).

    Source: Moakher 2005, SIAM J Matrix Anal Appl 26:735; fixed point of the mean in tangent space.
    """
    mean_CC = covariance_WCC.mean(axis=0)
    for _ in range(max_iter):
        root_CC = _of_eigenvalues(mean_CC, np.sqrt)
        white_CC = _of_eigenvalues(mean_CC, lambda value: 1 / np.sqrt(value))
        step_CC = _of_eigenvalues(white_CC @ covariance_WCC @ white_CC, np.log).mean(axis=0)
        mean_CC = root_CC @ _of_eigenvalues(step_CC, np.exp) @ root_CC
        if np.linalg.norm(step_CC) < tolerance:
            break
    return mean_CC


def tangent_space(covariance_WCC: Array, reference_CC: Array) -> Array:
    """Matrices as vectors at a reference, (W, C (C + 1) / 2), where lengths are Riemannian distances from it.

    Source: Barachant et al. 2012, IEEE Trans Biomed Eng 59:920.
    """
    white_CC = _of_eigenvalues(reference_CC, lambda value: 1 / np.sqrt(value))
    log_WCC = _of_eigenvalues(white_CC @ covariance_WCC @ white_CC, np.log)
    row, column = np.triu_indices(len(reference_CC))
    return log_WCC[:, row, column] * np.where(row == column, 1.0, np.sqrt(2.0))


def _riemann(task: _Task, budget: Budget, rng: np.random.Generator) -> Outcome:
    from sklearn.preprocessing import StandardScaler

    covariance = {part: shrunk_covariance(x_WCT) for part, x_WCT in _spatial(task).items()}
    reference_CC = riemannian_mean(covariance["train"])
    tangent = {part: tangent_space(matrix_WCC, reference_CC) for part, matrix_WCC in covariance.items()}
    scaler = StandardScaler().fit(tangent["train"])
    scaled = {part: scaler.transform(tangent_WF) for part, tangent_WF in tangent.items()}

    def fit(penalty: float) -> Callable[[str], Array]:
        predict, _ = logistic(scaled["train"], task.y["train"], penalty, task.n_classes)
        return lambda part: predict(scaled[part])

    return _choose(task, "penalty", budget.strengths, fit)


def _network(kind: str) -> Baseline:
    """A baseline of braindecode's network, tuned by successive halving."""

    def run(task: _Task, budget: Budget, rng: np.random.Generator) -> Outcome:
        import torch

        mean_C, spread_C = task.x["train"].mean(axis=(0, 2)), task.x["train"].std(axis=(0, 2))
        scale_C = np.where(spread_C > 0, spread_C, 1.0)
        x_WCT = np.concatenate([(task.x[part] - mean_C[:, None]) / scale_C[:, None] for part in PARTS])
        groups = [Group(np.arange(len(x_WCT)), (torch.from_numpy(x_WCT.astype(np.float32)),))]
        ends = np.cumsum([len(task.y[part]) for part in PARTS])
        parts = dict(zip(PARTS, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
        goal = Goal(
            np.concatenate([task.y[part] for part in PARTS]), n_classes=task.n_classes, trained_N=parts["train"]
        )
        seed = int(rng.integers(2**31))  # one for all settings, which then differ by nothing else

        def learner(setting: Setting) -> Learner:
            with drawn_from(seed):
                network = build_network(kind, x_WCT.shape[1:], n_classes=task.n_classes, sfreq=task.sfreq)
            batch = budget.batch_size
            return Learner(Training(network, groups, goal, parts=parts, setting=setting, seed=seed, batch_size=batch))

        learners = [learner(setting) for setting in budget.settings]
        winner, n_epochs, rule = tune(learners, budget.settings, epochs=budget.epochs)
        return Outcome(winner.test_NL, len(learners), rule, n_epochs, winner.n_trained)

    return run


BASELINES: dict[str, Baseline] = {
    "majority": _majority,
    "band_power_lda": _band_power_lda,
    "csp_lda": _csp_lda,
    "riemann": _riemann,
    "eegnet": _network("eegnet"),
    "shallow": _network("shallow"),
}
