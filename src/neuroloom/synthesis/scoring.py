"""Scores of the test scans of one model, one kind of split and one fold, as tidy tables with their nulls as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.statistics import permutation_p
from neuroloom.records import Array
from neuroloom.synthesis import metrics
from neuroloom.synthesis.connectivity import (
    agreement,
    dynamic_fc,
    fisher_z,
    fluctuation,
    label_null,
    other_null,
    static_fc,
    window_of,
)
from neuroloom.synthesis.nulls import MEASURED, OTHER, PHASE, SHIFT, Null, draw_nulls, mates, p_values
from neuroloom.synthesis.predicted import Predicted

POOLED = "all"  # group of all parcels
BETWEEN = ";"  # names of the groups of one parcel
LABELS = "shuffled parcels"  # null of connectivity
HIGH = 0.975  # quantile of the draws of a null
SHORT = {PHASE: "phase", SHIFT: "shift", OTHER: "other"}
FC = ("fc_static", "fc_dynamic", "fc_fluctuation")
SCAN = ["scan", "participant", "site", "task"]
PARCEL_COLUMNS = [
    *SCAN,
    *("parcel", "x", "y", "z", "target", "r", "r_high", "r_partial", "mse", "r2", "coherence"),
    *("n_volumes", "n_effective", "p_effective"),
    *(f"{what}_{null}" for what in "pn" for null in SHORT.values()),
    "ceiling",
]
SCAN_COLUMNS = [
    *SCAN,
    *("group", "target", "n_parcels", "n_volumes", "n_null"),
    *(f"{before}{name}{after}" for name in ("r", *FC) for before, after in (("", ""), ("", "_high"), ("p_", ""))),
    *(f"coverage{round(100 * level)}" for level in metrics.LEVELS),
    *("nll", "note"),
]
TRACE_COLUMNS = [*SCAN, "parcel", "time", "measured", "predicted", "std"]
N_TRACED = 2  # participants, and parcels of each group, whose time courses are kept


Connectivity = dict[str, Array]  # (W, P, P) by quantity


def score_predictions(
    scans: Sequence[Predicted],
    *,
    groups: Mapping[str, Sequence[str]],
    ceiling: Mapping[str, Array] | None,
    n_draws: int,
    rng: np.random.Generator,
    min_shift: float = 20.0,
    window: float = 40.0,
    band: tuple[float, float] = metrics.BAND,
    connectivity: Mapping[str, Array] | None = None,
) -> dict[str, pd.DataFrame]:
    """Score predicted BOLD scan by scan.

    Parameters
    ----------
    scans : sequence of Predicted
        All test scans, with the same parcels.
    groups : mapping of str to parcels
        Such as `visible` and `invisible`; they may overlap. `all` is added.
    ceiling : mapping of str to array (P,), optional
        Correlation that is attainable in each scan.
    n_draws : int
        Of each null, where there are as many.
    rng : np.random.Generator
    min_shift : float
        s, of the circular shifts: longer than EEG window and haemodynamic response, or it is no null.
    window : float
        s, of dynamic connectivity; windows overlap by half.
    band : tuple of float
        Hz, of the coherence.
    connectivity : mapping of str to array (P, P), optional
        Correlation matrix that a model gives for each scan besides its prediction; static connectivity is then that.

    Returns
    -------
    tables : dict of DataFrame
        `parcels`: one row for each scan, parcel and target (`measured`, and the nulls `phase randomised`, `circular
        shift`, `other subject`). A row of a null holds the mean of its draws and `r_high`, their 97.5 % quantile.
        p_phase, p_shift and p_other are those of the measured row against each null, of n_phase, n_shift and n_other
        draws; p_effective is that of Student's t with n_effective values.
        `scans`: one row for each scan, group and target: r, mean over parcels; agreement of static and dynamic
        connectivity, and of its fluctuation; calibration. A row of a null holds mean and `..._high` of its draws, and
        p of the measured scan. `note` says which null is missing, and why.
        `connectivity`: mean over scans, r of each pair of parcels.
        `traces`: time courses of some parcels of one scan of two participants.

    Raises
    ------
    ValueError
        If there is no scan, parcels or ceilings do not fit, or a group names a parcel that is not there.
    """
    _check(scans, groups, ceiling)
    labels = scans[0].parcels
    at_of = {POOLED: np.arange(len(labels))} | {name: _indices(labels, chosen) for name, chosen in groups.items()}
    given = connectivity or {}
    connected = {scan.scan: _both_connectivities(scan, given.get(scan.scan), window=window) for scan in scans}
    parcels, by_scan = [], []
    for scan in scans:
        others = mates(scan, scans)
        nulls = draw_nulls(scan, others, n_draws=n_draws, min_shift=min_shift, rng=rng)
        attainable_P = np.full(len(labels), np.nan) if ceiling is None else np.asarray(ceiling[scan.scan], float)
        parcels.append(parcel_rows(scan, nulls, attainable_P=attainable_P, band=band))
        of_others = [connected[other.scan][0] for other in others]
        by_scan += [
            scan_rows(
                scan,
                nulls,
                group=name,
                at_P=at_P,
                connected=connected[scan.scan],
                of_others=of_others,
                n_draws=n_draws,
                rng=rng,
            )
            for name, at_P in at_of.items()
        ]
    frame = pd.concat(parcels, ignore_index=True)
    return {
        "parcels": frame.assign(group=frame["parcel"].map(group_names(labels, groups))),
        "scans": pd.concat(by_scan, ignore_index=True),
        "connectivity": connectivity_table(labels, list(connected.values())),
        "traces": traces_table(scans, groups),
    }


def _check(
    scans: Sequence[Predicted], groups: Mapping[str, Sequence[str]], ceiling: Mapping[str, Array] | None
) -> None:
    if not scans:
        raise ValueError("no scan to score: give the predictions of one test scan at least")
    labels, names = scans[0].parcels, [scan.scan for scan in scans]
    if len(set(names)) < len(names):
        raise ValueError(
            f"{sorted({name for name in names if names.count(name) > 1})}: scored twice; give each scan once"
        )
    for scan in scans:
        if scan.parcels != labels:
            raise ValueError(f"{scan.scan}: other parcels than {scans[0].scan}; predict all scans with one atlas")
        if ceiling is not None and np.shape(ceiling.get(scan.scan, ())) != (len(labels),):
            raise ValueError(
                f"{scan.scan}: no ceiling of {len(labels)} parcels; give one for each scan, or None for all"
            )
    for name, chosen in groups.items():
        if name == POOLED or BETWEEN in name or not set(chosen) <= set(labels):
            strange = sorted(set(chosen) - set(labels))
            raise ValueError(f"group {name!r} with parcels {strange} that no scan has; mend its name or its parcels")


def _indices(labels: Sequence[str], chosen: Sequence[str]) -> Array:
    return np.flatnonzero(np.isin(labels, list(chosen)))


def _facts(scan: Predicted) -> dict[str, Any]:
    return {"scan": scan.scan, "participant": scan.participant, "site": scan.site, "task": scan.task}


def group_names(labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Names of the groups of each parcel, in one string."""
    members = {name: set(chosen) for name, chosen in groups.items()}
    return {label: BETWEEN.join(name for name, chosen in members.items() if label in chosen) for label in labels}


def parcel_rows(
    scan: Predicted, nulls: Mapping[str, Null], *, attainable_P: Array, band: tuple[float, float] = metrics.BAND
) -> pd.DataFrame:
    """Scores of one scan: a row for each parcel, measured and of each null (`score_predictions`)."""
    true_PV, predicted_PV = scan.bold_true_PV, scan.bold_pred_PV
    r_P = metrics.correlation(true_PV, predicted_PV)
    size_P = metrics.effective_size(true_PV, predicted_PV)
    where = dict(zip("xyz", np.asarray(scan.centroid_P3, float).T, strict=True))
    shared = {**_facts(scan), "parcel": scan.parcels, **where, "ceiling": attainable_P, "n_volumes": scan.n_volumes}
    measured = {
        "target": MEASURED,
        "r": r_P,
        "r_partial": metrics.partial_correlation(true_PV, predicted_PV, scan.nuisance_VM),
        "mse": metrics.mean_squared_error(true_PV, predicted_PV),
        "r2": metrics.r_squared(true_PV, predicted_PV),
        "coherence": metrics.coherence(true_PV, predicted_PV, t_r=scan.t_r, band=band),
        "n_effective": size_P,
        "p_effective": metrics.correlation_p(r_P, size_P),
        **{f"p_{SHORT[target]}": p_values(r_P, null.r_RP) for target, null in nulls.items()},
        **{f"n_{SHORT[target]}": len(null.r_RP) for target, null in nulls.items()},
    }
    frames = [pd.DataFrame({**shared, **measured})]
    for target, null in nulls.items():
        # a parcel may be unknown in one of the other participants: pandas passes over it
        draws = pd.DataFrame(null.r_RP, columns=scan.parcels)
        spread = {"r": draws.mean().to_numpy(), "r_high": draws.quantile(HIGH).to_numpy(float)}
        frames.append(pd.DataFrame({**shared, "target": target, **spread, "coherence": null.coherence_P}))
    rows = pd.concat(frames, ignore_index=True)
    return rows.reindex(columns=PARCEL_COLUMNS)


def scan_rows(
    scan: Predicted,
    nulls: Mapping[str, Null],
    *,
    group: str,
    at_P: Array,
    connected: tuple[Connectivity, Connectivity],
    of_others: Sequence[Connectivity],
    n_draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Scores of one scan over one group of parcels, measured and of each null (`score_predictions`).

    Parameters
    ----------
    scan, nulls
        And its nulls.
    group : str
    at_P : int array
        Its parcels.
    connected : tuple of mapping
        Measured and predicted connectivity of all parcels.
    of_others : sequence of mapping
        Measured connectivity of other participants.
    n_draws : int
        Of the shuffled labels.
    rng : np.random.Generator
    """
    true, predicted = (_part(one, at_P) for one in connected)
    others = [_part(one, at_P) for one in of_others[:n_draws]]
    r_P = metrics.correlation(scan.bold_true_PV[at_P], scan.bold_pred_PV[at_P])
    observed = {"r": _mean(r_P)} | {name: agreement(true[name], predicted[name]) for name in FC}
    calibrated = metrics.calibration(scan.bold_true_PV[at_P], scan.bold_pred_PV[at_P], scan.bold_std_PV[at_P])
    rows: list[dict[str, Any]] = [{"target": MEASURED, **observed, **calibrated}]
    for target, null in nulls.items():
        # the draws of all parcels go together, so their mean keeps the covariance of the parcels
        draws = {"r": pd.DataFrame(null.r_RP[:, at_P]).mean(axis=1).to_numpy(float)}
        # random phases and shifts are the same for all parcels, and leave their connectivity as it was
        if target == OTHER:
            draws |= {name: other_null([one[name] for one in others], predicted[name]) for name in FC}
        rows.append({"target": target, "note": null.note, **_null_row(draws, observed)})
    shuffled = {name: label_null(true[name], predicted[name], n=n_draws, rng=rng) for name in FC}
    rows.append({"target": LABELS, **_null_row(shuffled, observed)})
    facts = {**_facts(scan), "group": group, "n_parcels": len(at_P), "n_volumes": scan.n_volumes}
    return pd.DataFrame([{**facts, "note": "", **row} for row in rows]).reindex(columns=SCAN_COLUMNS)


def _null_row(draws: Mapping[str, Array], observed: Mapping[str, float]) -> dict[str, Any]:
    """Mean and upper quantile of the draws of each quantity, and p of what was observed."""
    row: dict[str, Any] = {"n_null": max((len(draws_R) for draws_R in draws.values()), default=0)}
    for name, draws_R in draws.items():
        known_R = draws_R[np.isfinite(draws_R)]
        row[name] = _mean(known_R)
        row[f"{name}_high"] = float(np.quantile(known_R, HIGH)) if len(known_R) else np.nan
        row[f"p_{name}"] = permutation_p(observed[name], known_R)
    return row


def _mean(values_N: Array) -> float:
    """Mean of what is known; NaN where nothing is."""
    known_N = values_N[np.isfinite(values_N)]
    return float(known_N.mean()) if len(known_N) else float("nan")


def _both_connectivities(
    scan: Predicted, given_PP: Array | None, *, window: float
) -> tuple[Connectivity, Connectivity]:
    """Measured and predicted; the static one as the model gives it, where it does."""
    measured, predicted = (
        _connectivity(bold_PV, t_r=scan.t_r, window=window) for bold_PV in (scan.bold_true_PV, scan.bold_pred_PV)
    )
    return measured, predicted if given_PP is None else {**predicted, FC[0]: fisher_z(given_PP)[None]}


def _connectivity(bold_PV: Array, *, t_r: float, window: float) -> Connectivity:
    width = window_of(window, t_r=t_r)
    dynamic_WPP = dynamic_fc(bold_PV, width=width, step=width // 2)
    quantities = (static_fc(bold_PV)[None], dynamic_WPP, fluctuation(dynamic_WPP))
    return dict(zip(FC, quantities, strict=True))


def _part(connected: Connectivity, at_P: Array) -> Connectivity:
    return {name: z_WPP[:, at_P[:, None], at_P] for name, z_WPP in connected.items()}


def connectivity_table(labels: Sequence[str], connected: Sequence[tuple[Connectivity, Connectivity]]) -> pd.DataFrame:
    """Static connectivity of each ordered pair of parcels, r of the mean z of the scans where it is known."""
    one_N, other_N = np.nonzero(~np.eye(len(labels), dtype=bool))
    columns = {"parcel": np.asarray(labels)[one_N], "other": np.asarray(labels)[other_N]}
    for at, name in enumerate(("measured", "predicted")):
        z_SN = np.stack([pair[at]["fc_static"][0][one_N, other_N] for pair in connected])
        columns[name] = np.tanh(pd.DataFrame(z_SN).mean().to_numpy(float))
    return pd.DataFrame(columns)


def traces_table(scans: Sequence[Predicted], groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Time courses of the first known parcels of each group in the first scans of different participants.

    They are chosen without looking at the prediction, so that all models show the same ones, and none its best.
    """
    first = {scan.participant: scan for scan in reversed(scans)}
    tables = []
    for scan in [scan for scan in scans if first[scan.participant] is scan][:N_TRACED]:
        known = [
            label for label, bold_V in zip(scan.parcels, scan.bold_true_PV, strict=True) if np.isfinite(bold_V).all()
        ]
        of_groups = [[label for label in known if label in set(chosen)] for chosen in groups.values()] or [known]
        for label in dict.fromkeys(label for chosen in of_groups for label in chosen[:N_TRACED]):
            at = scan.parcels.index(label)
            series = {"measured": scan.bold_true_PV, "predicted": scan.bold_pred_PV, "std": scan.bold_std_PV}
            values = {name: np.asarray(bold_PV[at], float) for name, bold_PV in series.items()}
            tables.append(pd.DataFrame({**_facts(scan), "parcel": label, "time": scan.onset_V, **values}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=TRACE_COLUMNS)
