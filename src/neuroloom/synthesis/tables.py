"""Scores of all models, splits, folds and seeds as the tables of the study: means over people with their intervals.

Every mean goes the same way: folds and seeds of a scan, scans of a person, people. People are what intervals are about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.statistics import bootstrap_interval, draw_participants, fdr
from neuroloom.quarantine import SCHEMA, read_quarantine
from neuroloom.records import Array
from neuroloom.synthesis.nulls import MEASURED
from neuroloom.synthesis.scoring import BETWEEN, FC, POOLED, SHORT
from neuroloom.tables import QUARANTINE, concat_rows, concat_tables

KINDS = ("parcels", "scans", "connectivity", "traces", "attribution")  # files of a job
KEYS = ["model", "kind", "split"]
RUN = ["fold", "seed"]
BASELINE = "ridge"
FEWEST_PEOPLE = 4  # below, there is no interval
LEVEL = 0.05  # of false discoveries
MEANS = ["r", "r_high", "r_partial", "mse", "r2", "coherence", "ceiling"]
OF_SCANS = [*FC, "coverage50", "coverage80", "coverage95", "nll"]
LIMITS = ["ci_low", "ci_high"]
AGREEING = ["fc_static", "fc_dynamic"]  # which have intervals, too
SUMMARY = [
    *(*KEYS, "target", "group", *MEANS, *LIMITS, "of_ceiling", "n_participants", "n_scans", "n_volumes", "n_parcels"),
    *("significant", *OF_SCANS, *(f"{name}_{limit}" for name in AGREEING for limit in LIMITS), "note"),
]
TESTS = [f"{what}_{null}" for null in SHORT.values() for what in "pq"]
PARCELS = [*KEYS, "target", "parcel", "group", "x", "y", "z", "r", *LIMITS, "n_participants", *TESTS]
DIFFERENCES = [*KEYS, "group", "other", "difference", *LIMITS, "n_participants"]


def collect_synthesis(
    found: Sequence[Path] | Mapping[str, pd.DataFrame],
    *,
    rng: np.random.Generator,
    baseline: str = BASELINE,
    n: int = 1000,
) -> dict[str, pd.DataFrame]:
    """Tables of the jobs as those of the study.

    Parameters
    ----------
    found : sequence of Path, or mapping of str to DataFrame
        `<job>.<kind>.parquet` of all jobs, or the rows of all jobs by kind: `parcels`, `scans`, `connectivity` and
        `traces` of `score_predictions`, with the columns model, kind (of the model), split, fold and seed.
    rng : np.random.Generator
        Of the resamples.
    baseline : str
        Model that the others are compared with.
    n : int
        Resamples of people.

    Returns
    -------
    tables : dict of DataFrame
        `synthesis`, `synthesis_scans`, `synthesis_connectivity` and `synthesis_traces`: rows of all jobs.
        `synthesis_summary`, `synthesis_parcels` and `synthesis_differences`: `summary_table`, `parcels_table` and
        `differences_table`.
    """
    if isinstance(found, Mapping):
        rows = {kind: found.get(kind, pd.DataFrame()) for kind in KINDS}
    else:
        paths = {kind: [path for path in found if path.name.endswith(f".{kind}.parquet")] for kind in KINDS}
        rows = {kind: concat_tables(paths[kind]) for kind in KINDS}
    parcels = parcels_table(rows["parcels"], rng=rng, n=n)
    return {
        "synthesis": rows["parcels"],
        "synthesis_summary": summary_table(rows["parcels"], rows["scans"], parcels, rng=rng, n=n),
        "synthesis_parcels": parcels,
        "synthesis_differences": differences_table(rows["parcels"], baseline=baseline, rng=rng, n=n),
        **{f"synthesis_{kind}": rows[kind] for kind in KINDS[1:]},
    }


def pair_tables(paths: Sequence[str | Path], manifests: Sequence[str | Path] = ()) -> dict[str, pd.DataFrame]:
    """`pairs`: how each pair of EEG and BOLD was aligned; `pair_quarantine`: why others, or models, are left out.

    Parameters
    ----------
    paths : sequence of path
        One row for each pair.
    manifests : sequence of path
        Predictions of the models, or why there are none.
    """
    rows = [pd.read_parquet(path) for path in paths]
    lost = [row[QUARANTINE] for row in rows if row["quarantined"].any()]
    records = [json.loads(Path(path).read_text()) for path in manifests]
    lost += [pd.DataFrame([asdict(read_quarantine(record))]) for record in records if record.get("schema") == SCHEMA]
    quarantine = pd.concat(lost, ignore_index=True) if lost else pd.DataFrame(columns=QUARANTINE)
    return {"pairs": concat_rows([Path(path) for path in paths]), "pair_quarantine": quarantine.astype("string")}


def intervals(values_NP: Array, *, rng: np.random.Generator, n: int = 1000) -> tuple[Array, Array, Array, Array]:
    """Mean over people of each column, its bootstrap interval, and how many people have a value.

    Parameters
    ----------
    values_NP : array
        One row for each person (N); NaN where a person has no value.
    rng : np.random.Generator
    n : int
        Resamples of people.

    Returns
    -------
    mean_P, low_P, high_P, count_P : array
        NaN limits for fewer than four people: nobody knows what a fifth one would do.
    """
    known_NP = np.isfinite(values_NP)
    count_P = known_NP.sum(axis=0)
    filled_NP = np.where(known_NP, values_NP, 0.0)
    mean_P = np.where(count_P > 0, filled_NP.sum(axis=0) / np.maximum(count_P, 1), np.nan)
    # all columns see the same resamples: a parcel is not resampled apart from its neighbour
    weights_RN = draw_participants(len(values_NP), n=n, rng=rng)
    drawn_RP = weights_RN @ known_NP
    with np.errstate(invalid="ignore", divide="ignore"):
        draws_RP = weights_RN @ filled_NP / drawn_RP
    limits_P2 = np.full((len(mean_P), 2), np.nan)
    for at in np.flatnonzero(count_P >= FEWEST_PEOPLE):
        limits_P2[at] = bootstrap_interval(draws_RP[:, at], score=mean_P[at], n_participants=int(count_P[at]))
    return mean_P, limits_P2[:, 0], limits_P2[:, 1], count_P


def parcels_table(parcels: pd.DataFrame, *, rng: np.random.Generator, n: int = 1000) -> pd.DataFrame:
    """Each parcel of each model and split, over all people.

    Parameters
    ----------
    parcels : DataFrame
        Rows of all jobs.
    rng, n
        Of the resamples.

    Returns
    -------
    table : DataFrame
        model, kind, split, target, parcel, group, x, y, z (mm), mean r with its interval over people, n_participants.
        Measured rows have p_phase, p_shift and p_other, combined over scans (`combined_p`), and q of Benjamini and
        Hochberg over the parcels.
    """
    if parcels.empty:
        return pd.DataFrame(columns=PARCELS)
    people = _of_people(parcels, ["target", "parcel"], ["r"])
    places = parcels.drop_duplicates("parcel").set_index("parcel")[["group", "x", "y", "z"]]
    tables = []
    for facts, rows in people.groupby([*KEYS, "target"], sort=False):
        wide = rows.pivot(index="participant", columns="parcel", values="r").reindex(columns=places.index)
        mean_P, low_P, high_P, count_P = intervals(wide.to_numpy(float), rng=rng, n=n)
        scores = {"r": mean_P, "ci_low": low_P, "ci_high": high_P, "n_participants": count_P}
        named: dict[str, Any] = dict(zip([*KEYS, "target"], facts, strict=True))
        tables.append(places.assign(**named, **scores).reset_index())
    table = pd.concat(tables, ignore_index=True)
    return table.merge(_tests(parcels), on=[*KEYS, "target", "parcel"], how="left")[PARCELS]


def _tests(parcels: pd.DataFrame) -> pd.DataFrame:
    """Columns p, combined over scans, and q over parcels, of the measured rows."""
    measured = parcels[parcels["target"] == MEASURED]
    table = measured[[*KEYS, "target", "parcel"]].drop_duplicates()
    for null in SHORT.values():
        p = combined_p(measured, null).rename(f"p_{null}").reset_index()
        table = table.merge(p, on=[*KEYS, "parcel"], how="left")
        table[f"q_{null}"] = table.groupby(KEYS, sort=False)[f"p_{null}"].transform(
            lambda p_P: fdr(p_P.to_numpy(float))
        )
    return table


def combined_p(measured: pd.DataFrame, null: str) -> pd.Series:
    """One p for each model, split and parcel from those of the scans.

    The p of n draws are ranks: k / (n + 1), equally likely by chance. The middle of each rank becomes a z, and the sum
    of the z over the root of the number of scans is that of a normal: a small effect in all scans counts, one lucky
    scan does not. z of folds and seeds of one scan are averaged, as they are not independent, which can only make p
    larger. Source: Stouffer et al. 1949, The American Soldier 1, p. 45; Lancaster 1961, J Am Stat Assoc 56:223 (mid-p).

    Parameters
    ----------
    measured : DataFrame
        Measured rows, one for each model, split, fold, seed, scan and parcel.
    null : str
        `phase`, `shift` or `other`.
    """
    from scipy.stats import norm

    middle = measured[f"p_{null}"] - 0.5 / (measured[f"n_{null}"] + 1)
    z = measured.assign(z=norm.isf(middle.to_numpy(float))).dropna(subset=["z"])
    of_scans = z.groupby([*KEYS, "parcel", "scan"], sort=False)["z"].mean()
    grouped = of_scans.groupby([*KEYS, "parcel"], sort=False)
    total: pd.Series = grouped.sum() / np.sqrt(grouped.size())
    return pd.Series(norm.sf(total.to_numpy(float)), index=total.index)


def summary_table(
    parcels: pd.DataFrame, scans: pd.DataFrame, tested: pd.DataFrame, *, rng: np.random.Generator, n: int = 1000
) -> pd.DataFrame:
    """Each model and split in each group of parcels, next to its nulls.

    Parameters
    ----------
    parcels, scans : DataFrame
        Rows of all jobs.
    tested : DataFrame
        As `parcels_table` gives it.
    rng, n
        Of the resamples.

    Returns
    -------
    summary : DataFrame
        model, kind, split, target, group (and `all`); r with its interval over people, r_high (mean over parcels: what
        one parcel of one scan reaches by chance), r_partial, mse, r2, coherence, ceiling, means over parcels, then
        scans, then people; `of_ceiling`, mean r over mean ceiling where that is known; people, scans, volumes and
        parcels; `significant`, share of parcels with q_phase < 0.05; agreement of connectivity with its intervals over
        people; calibration; `note`.
        Rows `shuffled parcels` are a null of connectivity alone, and count nobody.
    """
    if parcels.empty:
        return pd.DataFrame(columns=SUMMARY)
    grouped = _by_group(parcels)
    # a ratio of means: that of one scan has a noisy r above, and may have a small ceiling below
    attained = grouped.assign(attained=grouped["r"].where(grouped["ceiling"].notna()))
    attained["ceiling"] = attained["ceiling"].where(attained["r"].notna())
    where = [*KEYS, "target", "group"]
    people = _of_people(attained, ["target", "group"], [*MEANS, "attained"])
    means = people.groupby(where, sort=False)[[*MEANS, "attained"]].mean()
    table = means.assign(of_ceiling=means["attained"] / means["ceiling"]).drop(columns="attained")
    table = table.join(_limits(people, where, "r", rng=rng, n=n)[LIMITS]).join(_counts(grouped, where))
    known = _by_group(tested[tested["target"] == MEASURED]).dropna(subset=["q_phase"])
    share = (known["q_phase"] < LEVEL).groupby([known[name] for name in where]).mean().rename("significant")
    table = table.join(share)
    if len(scans):
        scanned = _of_people(scans, ["target", "group"], OF_SCANS)
        of_scans = scanned.groupby(where, sort=False)[OF_SCANS].mean()
        table = table.join(of_scans, how="outer").join(scans.groupby(where)["note"].agg(_notes))
        for name in AGREEING:
            table = table.join(_limits(scanned, where, name, rng=rng, n=n)[LIMITS].add_prefix(f"{name}_"))
    return table.reset_index().reindex(columns=SUMMARY)


def differences_table(
    parcels: pd.DataFrame, *, baseline: str = BASELINE, rng: np.random.Generator, n: int = 1000
) -> pd.DataFrame:
    """How much higher the r of each model is than that of a baseline, on the same scans and parcels.

    Parameters
    ----------
    parcels : DataFrame
        Rows of all jobs.
    baseline : str
        Name of a model; without its rows the table is empty.
    rng, n
        Of the resamples.

    Returns
    -------
    differences : DataFrame
        model, kind, split, group (and `all`), other (the baseline), mean over people of the difference of r, its
        interval (people are resampled with both of their r), n_participants. A model without r has NaN.
    """
    if parcels.empty:
        return pd.DataFrame(columns=DIFFERENCES)
    cell = ["split", "group", "participant", "scan", "parcel"]
    measured = _by_group(parcels[parcels["target"] == MEASURED])
    r = measured.groupby([*dict.fromkeys([*KEYS, *cell])], sort=False)["r"].mean().reset_index()
    # pairs of the same scan and parcel: people and parcels differ more than models do
    chosen = r["model"] == baseline
    base = r[chosen].drop(columns=["model", "kind"])
    both = r[~chosen].merge(base, on=cell, suffixes=("", "_base"))
    both = both.assign(difference=both["r"] - both["r_base"], other=baseline)
    where = [*KEYS, "group", "other"]
    scans = both.groupby([*where, "participant", "scan"], sort=False)["difference"].mean()
    people = scans.groupby([*where, "participant"], sort=False).mean().reset_index()
    return _limits(people, where, "difference", rng=rng, n=n).reset_index().reindex(columns=DIFFERENCES)


def _by_group(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows once for each group of their parcel, and once for all."""
    names = rows["group"].fillna("").map(lambda text: [POOLED, *filter(None, text.split(BETWEEN))])
    return rows.assign(group=names).explode("group", ignore_index=True)


def _of_people(rows: pd.DataFrame, by: list[str], values: list[str]) -> pd.DataFrame:
    """Means of each person: over the parcels of a job, over folds and seeds of a scan, over scans."""
    where = [*KEYS, *by, "participant"]
    scans = rows.groupby([*where, "scan", *RUN], sort=False)[values].mean().groupby([*where, "scan"], sort=False).mean()
    return scans.groupby(where, sort=False).mean().reset_index()


def _limits(people: pd.DataFrame, where: list[str], value: str, *, rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Mean over people of one value, its interval and their number, indexed by `where`."""
    lines: dict[Any, tuple[float, ...]] = {}
    for facts, rows in people.groupby(where, sort=False):
        found = intervals(rows[[value]].to_numpy(float), rng=rng, n=n)
        lines[facts] = tuple(column_P[0] for column_P in found)
    index = pd.MultiIndex.from_tuples(list(lines), names=where)
    return pd.DataFrame(list(lines.values()), index=index, columns=[value, *LIMITS, "n_participants"])


def _counts(grouped: pd.DataFrame, where: list[str]) -> pd.DataFrame:
    """People, scans, volumes and parcels: seeds test the same volumes of a scan, folds others."""
    counted = grouped.groupby(where, sort=False)
    counts = counted.agg(n_participants=("participant", "nunique"), n_scans=("scan", "nunique"))
    # several parcels of a scan have the same volumes
    volumes = grouped.groupby([*where, "scan", "fold"], sort=False)["n_volumes"].max()
    return counts.assign(n_volumes=volumes.groupby(where, sort=False).sum(), n_parcels=counted["parcel"].nunique())


def _notes(notes: pd.Series) -> str:
    return "; ".join(dict.fromkeys(filter(None, notes)))
