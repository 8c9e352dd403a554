"""What embeddings hold, read by the simplest reader: linear probes for tasks, and for what should not be there.

Every probe ends in rows of one table, each score beside its chance, its interval over participants and the majority.
The scaler and the probe see the training part only; the strength of the penalty is chosen on the validation part.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.leaks import check_apart, check_label_leak
from neuroloom.evaluation.readout import (
    DEFAULT_SETTINGS,
    Data,
    ProbeSettings,
    fit_all,
    null_scores,
    prepare,
    score,
    unusable,
)
from neuroloom.evaluation.splits import time_parts
from neuroloom.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    confusion,
    draw_participants,
    exchangeable,
    permutation_p,
    permute_labels,
    score_intervals,
)
from neuroloom.records import Array


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes
    ----------
    table : DataFrame
        One row for each metric, of the `linear` probe and of the `majority`.
    participants : DataFrame
        One row for each test participant: balanced accuracy (of the classes they have), or mean absolute error.
    predictions : DataFrame
        One row for each test window: window, fold, participant, label, predicted.
    penalties : tuple of float
        The one chosen in each fold.
    """

    table: pd.DataFrame
    participants: pd.DataFrame = field(default_factory=pd.DataFrame)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    penalties: tuple[float, ...] = ()


def linear_probe(
    features_WF: Array,
    labels_W: Array,
    participants_W: Array,
    *,
    parts: Array,
    target: str,
    rng: np.random.Generator,
    recordings_W: Array | None = None,
    settings: ProbeSettings = DEFAULT_SETTINGS,
    within: bool = False,
) -> ProbeResult:
    """Logistic regression of a label (ridge regression of a number) on frozen features.

    Chance: labels are permuted between the units that can be exchanged (`exchangeable`), and a ridge classifier, whose
    refits cost one matrix product together, goes through the same training, choice and test with each; p compares it
    with its own score for the labels as they are.

    Parameters
    ----------
    features_WF : array
    labels_W : array
        Of float type: regression. Else classes.
    participants_W : array of str
    parts : array of str (W) or (folds, W)
        `train`, `validation`, `test` or empty; the tests of several folds are scored together.
    target : str
        Name of what is asked, for the table.
    rng : np.random.Generator
    recordings_W : array of str, optional
        Makes recordings the units of a label that a whole recording has.
    settings : ProbeSettings
    within : bool
        Participants stand on several sides on purpose; the rows are marked so.

    Returns
    -------
    result : ProbeResult
        NaN with a reason in `note` where the labels do not allow a probe.

    Raises
    ------
    LeakError
        If a participant is in two parts (unless `within`), or a feature is the label.
    ValueError
        If features are not finite or lengths differ.
    """
    data = prepare(features_WF, labels_W, participants_W, parts)
    if not within:
        check_apart(data.participants_W, data.folds_NW)
    check_label_leak(data.features_WF, np.asarray(labels_W), windows=np.flatnonzero((data.folds_NW != "").any(axis=0)))
    note = "within subjects: participants of the test are known from training" if within else ""
    return _probe(data, target=target, rng=rng, recordings_W=recordings_W, settings=settings, note=note)


def site_probe(
    features_WF: Array,
    sites_W: Array,
    participants_W: Array,
    *,
    rng: np.random.Generator,
    target: str = "site",
    settings: ProbeSettings = DEFAULT_SETTINGS,
) -> ProbeResult:
    """Whether the site (or device) of unknown participants can be read off the features.

    Participants of each site are dealt into folds, so that each is tested once by a probe that knows others of the
    same site. The last fifth of the windows of training participants chooses the penalty.

    Parameters
    ----------
    features_WF, sites_W, participants_W : array
    rng : np.random.Generator
    target : str
    settings : ProbeSettings

    Returns
    -------
    result : ProbeResult
        Sites of one participant are left out and named in `note`; NaN where fewer than two sites are left.
    """
    people_W, sites_W = np.asarray(participants_W).astype(str), np.asarray(sites_W).astype(str)
    people = {site: rng.permutation(np.unique(people_W[sites_W == site])) for site in np.unique(sites_W)}
    alone = [site for site, names in people.items() if len(names) < 2]
    note = f"left out, with one participant: {', '.join(alone)}" if alone else ""
    sizes = [len(names) for site, names in people.items() if site not in alone]
    if len(sizes) < 2:
        return ProbeResult(missing_row(target, f"fewer than two sites have two participants; {note}".strip("; ")))
    n_folds = min(5, *sizes)
    fold_of = {name: at % n_folds for names in people.values() for at, name in enumerate(names)}
    fold_W = np.array([fold_of[name] for name in people_W])
    # Whole participants cannot be spared for validation where a site has two.
    late_W = np.zeros(len(people_W), bool)
    for name in fold_of:
        windows_N = np.flatnonzero(people_W == name)
        late_W[windows_N[-max(len(windows_N) // 5, 1) :]] = True
    folds_NW = np.stack(
        [np.where(fold_W == fold, "test", np.where(late_W, "validation", "train")) for fold in range(n_folds)]
    )
    folds_NW[:, np.isin(sites_W, alone)] = ""
    data = prepare(features_WF, sites_W, people_W, folds_NW)
    return _probe(data, target=target, rng=rng, recordings_W=None, settings=settings, note=note)


def identity_probe(
    features_WF: Array,
    participants_W: Array,
    *,
    recordings_W: Array,
    starts_W: Array,
    rng: np.random.Generator,
    target: str = "participant",
    settings: ProbeSettings = DEFAULT_SETTINGS,
) -> ProbeResult:
    """Whether the participant can be read off the features: early windows of each recording train, late ones test.

    The score is the mean over participants of the share of their windows that is recognised. Chance: the test windows
    of each participant as a block are given to a participant drawn without replacement, so that chance is 1 / n.

    Parameters
    ----------
    features_WF, participants_W, recordings_W : array
    starts_W : array
        Where each window starts in its recording.
    rng : np.random.Generator
    target : str
    settings : ProbeSettings

    Returns
    -------
    result : ProbeResult
        One metric, `balanced_accuracy`.
    """
    people_W, parts_W = np.asarray(participants_W).astype(str), time_parts(recordings_W, starts_W)
    known = set(people_W[parts_W == "train"])
    lost = sorted(set(people_W) - known)
    notes = [f"left out, with recordings under 10 windows: {', '.join(lost)}"] if lost else []
    if len(set(zip(people_W, np.asarray(recordings_W).astype(str), strict=True))) == len(set(people_W)):
        notes.append("one recording each: the person is not told from the recording")
    if len(known) < 2:
        return ProbeResult(missing_row(target, "; ".join(["fewer than two participants", *notes])))
    data = prepare(features_WF, people_W, people_W, parts_W)
    data, proba_WL, penalties, hints = fit_all(data, settings, rng)
    rows = [_identity_row(target, name, data, scores_WL, rng, settings) for name, scores_WL in proba_WL.items()]
    rule = f"first half of each recording trains, last 30 % tested, a tenth between; {_rule(data, settings)}"
    notes += [*hints, f"{settings.n_permutations} permutations of {len(known)} blocks, not refitted"]
    table = _table(rows, rule=rule, note="; ".join(notes))
    return replace(_result(data, table, proba_WL["linear"], target), penalties=penalties)


def _identity_row(
    target: str, probe: str, data: Data, proba_WL: Array, rng: np.random.Generator, settings: ProbeSettings
) -> dict[str, Any]:
    n_people = data.n_outputs
    counted_LL = confusion(data.target_W[data.tested], proba_WL.argmax(axis=1), n_people)[0]
    share_LL = counted_LL / counted_LL.sum(axis=1, keepdims=True)
    # Each participant is a class: recalls are averaged, as a class drawn twice must count twice.
    draws_R = draw_participants(n_people, n=settings.n_resamples, rng=rng) @ np.diag(share_LL) / n_people
    recall = float(np.trace(share_LL) / n_people)
    limits = bootstrap_interval(draws_R, score=recall, n_participants=n_people)
    # Permuting windows would break up what is alike within a test block, and give a null that is too narrow.
    given_RL = [rng.permutation(n_people) for _ in range(settings.n_permutations)]
    null_R = np.array([share_LL[np.arange(n_people), given_L].mean() for given_L in given_RL])
    p = permutation_p(recall, null_R) if probe == "linear" else float("nan")
    return _row(data, target, probe, "balanced_accuracy", Interval(recall, *limits, n_people), null_R, p)


def score_predictions(
    output_NL: Array,
    labels_N: Array,
    participants_N: Array,
    *,
    classes: Array | None,
    target: str,
    probe: str,
    rng: np.random.Generator,
    rule: str,
    note: str = "",
    recordings_N: Array | None = None,
    settings: ProbeSettings = DEFAULT_SETTINGS,
) -> pd.DataFrame:
    """Rows for the predictions of any model, in the table of the probes.

    Chance: the labels of the test are permuted between exchangeable units against predictions that stay, an exact test
    of their independence that needs no refit.

    Parameters
    ----------
    output_NL : array
        Probabilities of `classes`; one column of values where that is None.
    labels_N, participants_N : array
        Of the test windows.
    classes : array or None
        Sorted.
    target, probe, rule, note : str
        Columns of the table; `probe` names the model.
    rng : np.random.Generator
    recordings_N : array, optional
    settings : ProbeSettings

    Raises
    ------
    ValueError
        If a label is not among the classes.
    """
    labels_N, people_N = np.asarray(labels_N), np.asarray(participants_N).astype(str)
    if classes is not None and len(unknown := np.setdiff1d(labels_N, classes)):
        raise ValueError(
            f"label {unknown[0]} is not among the classes {', '.join(map(str, classes))}; name all of them"
        )
    target_N = labels_N if classes is None else np.searchsorted(classes, labels_N)
    data = Data(output_NL[:, :0], target_N, classes, people_N, np.full((1, len(labels_N)), "test"))
    units_N, within_N = exchangeable(target_N, people_N, recordings_N)
    permuted = [
        permute_labels(target_N, units_W=units_N, within_W=within_N, rng=rng) for _ in range(settings.n_permutations)
    ]
    null = [score(data, output_NL, target_W=given_N) for given_N in permuted]
    rows = []
    scored = score_intervals(partial(score, data, output_NL), people_N, rng=rng, n=settings.n_resamples)
    for metric, interval in scored.items():
        null_R = np.array([one[metric][0] for one in null])
        rows.append(_row(data, target, probe, metric, interval, null_R, permutation_p(interval.score, null_R)))
    hint = f"{settings.n_permutations} permutations of {len(np.unique(units_N))} units, not refitted"
    return pd.DataFrame(rows).assign(rule=rule, note="; ".join(filter(None, [note, hint])))


def _probe(
    data: Data, *, target: str, rng: np.random.Generator, recordings_W: Array | None, settings: ProbeSettings, note: str
) -> ProbeResult:
    """Fit, choose, test, and put the score beside its null, its interval and the majority."""
    if reason := unusable(data):
        return ProbeResult(missing_row(target, "; ".join(filter(None, [reason, note]))))
    data, outputs, penalties, hints = fit_all(data, settings, rng)
    null, observed, n_units = null_scores(data, recordings_W, settings=settings, rng=rng)
    rows, people_W = [], data.participants_W[data.tested]
    for name, output_WL in outputs.items():
        scored = score_intervals(partial(score, data, output_WL), people_W, rng=rng, n=settings.n_resamples)
        for metric, interval in scored.items():
            p = permutation_p(observed[metric][0], null[metric]) if name == "linear" else float("nan")
            rows.append(_row(data, target, name, metric, interval, null[metric], p))
    hints += [f"{settings.n_permutations} permutations of {n_units} units, ridge refitted"]
    table = _table(rows, rule=_rule(data, settings), note="; ".join(filter(None, [note, *hints])))
    return replace(_result(data, table, outputs["linear"], target), penalties=penalties)


def _rule(data: Data, settings: ProbeSettings) -> str:
    strengths = ", ".join(f"{penalty:g}" for penalty in settings.penalties)
    by = "squared error" if data.classes is None else "balanced accuracy"
    return f"penalty of {strengths} by {by} on validation, ties to the strongest"


def _row(
    data: Data, target: str, probe: str, metric: str, interval: Interval, null_R: Array, p: float
) -> dict[str, Any]:
    known_R = null_R[np.isfinite(null_R)]
    return {
        "target": target,
        "probe": probe,
        "metric": metric,
        "score": interval.score,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "chance": float(known_R.mean()) if len(known_R) else float("nan"),
        "chance_high": float(np.quantile(known_R, 0.975)) if len(known_R) else float("nan"),
        "p": p,
        "n_windows": len(np.unique(data.tested)),
        "n_participants": interval.n_participants,
        "n_classes": 0 if data.classes is None else len(data.classes),
    }


def _table(rows: list[dict[str, Any]], *, rule: str, note: str) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return table.assign(rule=np.where(table["probe"] == "majority", "majority of training", rule), note=note)


def missing_row(target: str, reason: str) -> pd.DataFrame:
    """The row of a probe that could not be made, with the reason as its note."""
    unknown = dict.fromkeys(("score", "ci_low", "ci_high", "chance", "chance_high", "p"), float("nan"))
    counts = dict.fromkeys(("n_windows", "n_participants", "n_classes"), 0)
    row = {"target": target, "probe": "linear", "metric": "balanced_accuracy", **unknown, **counts}
    return _table([row], rule="none", note=reason)


def _result(data: Data, table: pd.DataFrame, output_WL: Array, target: str) -> ProbeResult:
    windows_N = data.tested
    predicted_N = output_WL[:, 0] if data.classes is None else data.classes[output_WL.argmax(axis=1)]
    labels_N = data.target_W[windows_N] if data.classes is None else data.classes[data.target_W[windows_N]]
    sizes = [len(data.part(fold, "test")) for fold in range(len(data.folds_NW))]
    facts = {"window": windows_N, "fold": np.repeat(np.arange(len(sizes)), sizes)}
    people = {"participant": data.participants_W[windows_N], "label": labels_N, "predicted": predicted_N}
    predictions = pd.DataFrame({**facts, **people})
    return ProbeResult(table, participant_scores(predictions, target, data.classes is not None), predictions)


def participant_scores(predictions: pd.DataFrame, target: str, classes: bool) -> pd.DataFrame:
    """Balanced accuracy over the classes that each participant has, or mean absolute error."""
    if classes:
        right = predictions.assign(hit=predictions["predicted"] == predictions["label"])
        scores = right.groupby(["participant", "label"])["hit"].mean().groupby("participant").mean()
    else:
        errors = predictions.assign(error=(predictions["predicted"] - predictions["label"]).abs())
        scores = errors.groupby("participant")["error"].mean()
    metric = "balanced_accuracy" if classes else "mean_absolute_error"
    table = pd.DataFrame({"score": scores, "n_windows": predictions.groupby("participant").size()}).reset_index()
    return table.assign(target=target, metric=metric)[["target", "participant", "metric", "score", "n_windows"]]
