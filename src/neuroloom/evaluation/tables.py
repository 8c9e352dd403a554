"""All scores of a study in tidy tables: what was found by chance is told from what was not, and what varies why."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.statistics import fdr, interval_of_mean, variance_components
from neuroloom.tables import concat_tables

KEYS = ["task", "model", "regime", "share"]  # of one reader in one task
MAIN, MAIN_OF_VALUES = "balanced_accuracy", "r2"
LOWER_IS_BETTER = ("mean_absolute_error",)
BASELINE, SCRATCH = "baseline", "scratch"  # regimes that are no pretrained model
REFERENCE = "band_power_lda"  # the baseline that frozen features have to beat
LEVEL = 0.05  # of false discoveries
MEANS = ["score", "chance", "chance_high", "corrected"]
LARGEST = ["n_classes", "n_parameters", "n_trainable", "n_fits", "n_epochs", "q"]
DIFFERENCES = ["task", "share", "metric", "model", "regime", "other", "difference", "ci_low", "ci_high"]
VARIANCES = [*KEYS, "metric", "source", "variance", "part", "levels"]


def collect_evaluation(paths: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Tables of the jobs as those of the study.

    Parameters
    ----------
    paths : sequence of Path
        `<reader>.parquet`, `<reader>.subjects.parquet` and `<reader>.audits.parquet` of all tasks and folds.

    Returns
    -------
    tables : dict of DataFrame
        `evaluation`: one row for each task, model, regime, share, fold, seed and metric, with `q` (p, corrected for
        false discoveries over all tests of its metric). `evaluation_summary`: means over folds and seeds.
        `evaluation_subjects`: one row for each test participant. `evaluation_differences`: models against baselines on
        the same participants. `evaluation_variance`: parts of the variance of the participants' scores.
        `evaluation_audits`.
    """
    kinds = {"subjects": ".subjects.parquet", "audits": ".audits.parquet"}
    of_kind = {kind: [path for path in paths if path.name.endswith(end)] for kind, end in kinds.items()}
    scores = with_q(concat_tables([path for path in paths if path.name.count(".") == 1]))
    subjects, audits = concat_tables(of_kind["subjects"]), concat_tables(of_kind["audits"])
    return {
        "evaluation": scores,
        "evaluation_summary": summary_table(scores),
        "evaluation_subjects": subjects,
        "evaluation_differences": differences_table(subjects),
        "evaluation_variance": variance_table(subjects),
        "evaluation_audits": audits,
    }


def with_q(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores with `q`: p after Benjamini and Hochberg over the tests of each metric."""
    q = pd.Series(np.nan, index=scores.index, dtype=float)
    for metric in scores["metric"].unique() if len(scores) else ():
        at = scores.index[scores["metric"] == metric]
        q[at] = fdr(scores.loc[at, "p"].to_numpy(float))
    return scores.assign(q=q)


def main_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the score that a task is judged by: R2 where it has one, else balanced accuracy.

    Rows without a score stay: a reader that failed does so under the name of balanced accuracy.
    """
    if table.empty:
        return table
    of_values = set(table.loc[(table["metric"] == MAIN_OF_VALUES) & table["score"].notna(), "task"])
    main = table["task"].isin(of_values).map({True: MAIN_OF_VALUES, False: MAIN})
    failed = (table["metric"] == MAIN) & table["score"].isna()
    return table[(table["metric"] == main) | failed]


def summary_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of each reader, mean over folds and seeds.

    Parameters
    ----------
    scores : DataFrame
        As `with_q` gives them.

    Returns
    -------
    summary : DataFrame
        task, model, regime, share, metric; means of score, chance and chance_high; `corrected`, (score - chance) /
        (1 - chance); ci_low and ci_high, the interval over participants (`with_limits`); the largest q; `n_runs` with
        a score and `n_failed` without one; participants and windows of all folds; budgets; `note`, which says why runs
        failed.
    """
    if scores.empty:
        return pd.DataFrame(columns=[*KEYS, "metric", *MEANS, "ci_low", "ci_high"])
    known = scores.assign(
        corrected=(scores["score"] - scores["chance"]) / (1 - scores["chance"]),
        failed=scores["score"].isna(),
        reason=scores["note"].where(scores["score"].isna(), ""),
    )
    grouped = known.groupby([*KEYS, "metric"], sort=True)
    table = grouped.agg(
        **{name: (name, "mean") for name in MEANS},
        **{name: (name, "max") for name in LARGEST},
        n_runs=("score", "count"),
        n_failed=("failed", "sum"),
        note=("reason", lambda notes: "; ".join(dict.fromkeys(filter(None, notes)))),
        seen=("seen", "any"),
        split=("split", "max"),  # a fold that could not be asked does not know it
    )
    return with_limits(table.join(_of_folds(known)), known).reset_index()


def with_limits(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Means of runs with the interval of each: seeds test the same people, so that only folds make it narrower.

    Parameters
    ----------
    table : DataFrame
        One row for each group of runs; its index names the columns of a group.
    runs : DataFrame
        score, ci_low, ci_high, n_participants, fold and the columns of the index.
    """
    keys, values = list(table.index.names), ["score", "ci_low", "ci_high", "n_participants"]
    folds = runs.dropna(subset=["score"]).groupby([*keys, "fold"])[values].mean()
    found = {key: interval_of_mean(*part[values].to_numpy(float).T) for key, part in folds.groupby(keys)}
    limits = [found.get(key, (np.nan, np.nan)) for key in table.index]
    return table.assign(ci_low=[low for low, _ in limits], ci_high=[high for _, high in limits])


def best_rows(summary: pd.DataFrame, *, baselines: bool) -> pd.DataFrame:
    """The reader with the highest score for each task and share, among baselines or among pretrained models.

    Chosen by the score that is shown, with hindsight: the best of many is too good.

    Parameters
    ----------
    summary : DataFrame
        As `summary_table` gives it, of one metric for each task (`main_rows`).
    baselines : bool
    """
    chosen = summary["regime"] == BASELINE if baselines else ~summary["regime"].isin([BASELINE, SCRATCH])
    known = summary[chosen & summary["score"].notna()]
    return known.loc[known.groupby(["task", "share"])["score"].idxmax()] if len(known) else known


def _of_folds(scores: pd.DataFrame) -> pd.DataFrame:
    """Participants and windows: seeds test the same ones, folds others."""
    counts = scores.groupby([*KEYS, "metric", "fold"])[["n_participants", "n_windows"]].max()
    return counts.groupby([*KEYS, "metric"]).sum()


def differences_table(subjects: pd.DataFrame) -> pd.DataFrame:
    """How much better each model is than each baseline, and than itself from scratch, on the same participants.

    Parameters
    ----------
    subjects : DataFrame
        As in `evaluation_subjects`.

    Returns
    -------
    differences : DataFrame
        task, share, metric, model, regime, other (a baseline, or `scratch`), the mean over participants of the
        difference (larger is better; means over folds and seeds), its 95 % interval (t) and n_participants. People
        differ more from each other than readers do: pairing takes that out.
    """
    columns = [*DIFFERENCES, "n_participants"]
    if subjects.empty:
        return pd.DataFrame(columns=columns)
    rows = subjects.dropna(subset=["score"])
    means = rows.groupby(["task", "share", "metric", "model", "regime", "participant"])["score"].mean().reset_index()
    lines: list[tuple[Any, ...]] = []
    for facts, part in means.groupby(["task", "share", "metric"]):
        sign = -1.0 if facts[2] in LOWER_IS_BETTER else 1.0
        # one column for each reader, one row for each participant
        wide = part.pivot(index="participant", columns=["model", "regime"], values="score")
        readers: list[Any] = list(wide.columns)
        for reader, other in product(readers, repeat=2):
            if _compared(reader, other):
                named = SCRATCH if other[1] == SCRATCH else other[0]
                difference_N = sign * (wide[reader] - wide[other]).dropna().to_numpy(float)
                lines.append((*facts, *reader, named, *paired_difference(difference_N)))
    return pd.DataFrame(lines, columns=columns)


def _compared(reader: tuple[str, str], other: tuple[str, str]) -> bool:
    """A pretrained model is compared with every baseline, and with its own architecture from scratch."""
    if reader[1] in (BASELINE, SCRATCH):
        return False
    return other[1] == BASELINE or (other[1] == SCRATCH and other[0] == reader[0])


def paired_difference(difference_N: np.ndarray) -> tuple[float, float, float, int]:
    """Mean of the participants' differences, its limits by Student's t, and their number."""
    from scipy.stats import t

    n = len(difference_N)
    if n < 2:
        return (float(difference_N[0]) if n else float("nan")), float("nan"), float("nan"), n
    mean = float(difference_N.mean())
    half = float(t.ppf(0.975, n - 1) * difference_N.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half, n


def variance_table(subjects: pd.DataFrame) -> pd.DataFrame:
    """Variance of the participants' scores by seed, split and subject, for each reader in each task.

    Returns
    -------
    components : DataFrame
        task, model, regime, share (of the training people), metric, source, variance, `part` (of their sum), levels.
    """
    tables = []
    for names, rows in subjects.groupby([*KEYS, "metric"], sort=True) if len(subjects) else ():
        # what is kept apart has the name that the fold gets as a source of variance
        plain = rows.drop(columns="split", errors="ignore").dropna(subset=["score"])
        renamed = plain.rename(columns={"fold": "split", "participant": "subject"})
        if len(renamed) > 1:
            # the components' share is one of the variance, that of the rows one of the people
            found = variance_components(renamed).rename(columns={"share": "part"})
            facts: dict[str, Any] = dict(zip([*KEYS, "metric"], names, strict=True))
            tables.append(found.assign(**facts)[VARIANCES])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=VARIANCES)
