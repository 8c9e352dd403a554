"""The arms of a study side by side: scores, gain over every site alone, rounds, cost, attacks and privacy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.tables import paired_difference, with_limits, with_q
from neuroloom.tables import concat_tables

KINDS = ("scores", "subjects", "rounds", "attacks")  # files of a job
ARM = ["strategy", "kind", "network"]
MEANS = ["score", "chance", "chance_high"]
POOLED = "all"
USED = "used"
COSTS = ["n_shared_bytes", "round_seconds", "train_seconds", "overhead", "epsilon", "n_used", "n_lost"]
GAINS = [*ARM, "site", "metric", "difference", "ci_low", "ci_high", "n_participants"]


def collect_federation(paths: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Tables of the jobs as those of the study.

    Parameters
    ----------
    paths : sequence of Path
        `<strategy>.<kind>.parquet` of all arms and folds.

    Returns
    -------
    tables : dict of DataFrame
        `federation`: one row for each arm, site (and `all`), fold, seed and metric, with `q`. `federation_summary`:
        means over folds and seeds. `federation_gains`: each arm against `local` of the same network, on the same
        participants. `federation_rounds`: each site in each round. `federation_cost`: one row for each arm.
        `federation_attacks`.
    """
    found = {kind: concat_tables([path for path in paths if path.name.endswith(f".{kind}.parquet")]) for kind in KINDS}
    scores = with_q(found["scores"])
    return {
        "federation": scores,
        "federation_summary": summary_table(scores),
        "federation_gains": gains_table(found["subjects"]),
        "federation_rounds": found["rounds"],
        "federation_cost": cost_table(found["rounds"]),
        "federation_attacks": found["attacks"],
    }


def summary_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over folds and seeds of each arm at each site: scores with limits, chance, the largest q, who was tested."""
    if scores.empty:
        return pd.DataFrame(columns=[*ARM, "site", "metric", *MEANS, "ci_low", "ci_high"])
    known = scores.assign(failed=scores["score"].isna(), reason=scores["note"].where(scores["score"].isna(), ""))
    grouped = known.groupby([*ARM, "site", "metric"], sort=False)
    table = grouped.agg(
        **{name: (name, "mean") for name in MEANS},
        q=("q", "max"),
        n_runs=("score", "count"),
        n_failed=("failed", "sum"),
        reason=("reason", lambda notes: "; ".join(dict.fromkeys(filter(None, notes)))),
        note=("note", "first"),
        seen=("seen", "any"),
    )
    folds = known.groupby([*ARM, "site", "metric", "fold"])[["n_participants", "n_windows"]].max()
    counts = folds.groupby([*ARM, "site", "metric"]).sum()
    return with_limits(table.join(counts), known).reset_index()


def gains_table(subjects: pd.DataFrame) -> pd.DataFrame:
    """How much better each arm is than the same network trained at each site alone.

    Parameters
    ----------
    subjects : DataFrame
        One row for each arm, fold, seed, site and test participant.

    Returns
    -------
    gains : DataFrame
        strategy, kind, network, site (and `all`), metric, mean over participants of the difference (means over seeds),
        its 95 % interval (t), n_participants. Without an arm `local` of the network, the arm is left out.
    """
    if subjects.empty:
        return pd.DataFrame(columns=GAINS)
    people = subjects.groupby([*ARM, "site", "metric", "participant"], as_index=False)["score"].mean()
    alone = people[people["kind"] == "local"].drop(columns=["strategy", "kind"])
    both = people[people["kind"] != "local"].merge(
        alone, on=["network", "site", "metric", "participant"], suffixes=("", "_alone")
    )
    both = both.assign(gain=both["score"] - both["score_alone"])
    lines: list[tuple[Any, ...]] = []
    for facts, part in both.groupby([*ARM, "metric"], sort=False):
        places = [*((str(site), one) for site, one in part.groupby("site")), (POOLED, part)]
        lines += [(*facts[:3], site, facts[3], *paired_difference(one["gain"].to_numpy(float))) for site, one in places]
    return pd.DataFrame(lines, columns=GAINS)


def cost_table(rounds: pd.DataFrame) -> pd.DataFrame:
    """What a round of each arm costs, and what of its time is not training.

    Parameters
    ----------
    rounds : DataFrame
        One row for each site and round.

    Returns
    -------
    cost : DataFrame
        strategy, kind, network; `n_shared_bytes` that one site sends in a round; means over rounds of the whole round
        and of training in it (s), `overhead` (the rest over training, of sites that are called one after the other);
        largest `epsilon`; `n_used` and `n_lost` site rounds.
    """
    if rounds.empty:
        return pd.DataFrame(columns=[*ARM, *COSTS])
    # a site that is judged at the end trains no more
    rows = rounds[rounds["status"] != "judged"]
    by_round = rows.groupby([*ARM, "fold", "seed", "round"], sort=False).agg(
        round_seconds=("round_seconds", "max"),
        train_seconds=("train_seconds", "sum"),
        n_shared_bytes=("bytes_up", "max"),
        n_used=("status", lambda status: int((status == USED).sum())),
        n_lost=("status", lambda status: int((status != USED).sum())),
        epsilon=("epsilon", "max"),
    )
    by_arm = by_round.groupby(ARM, sort=False)
    table = by_arm[["round_seconds", "train_seconds", "n_shared_bytes"]].mean()
    table["overhead"] = np.where(
        table["n_shared_bytes"] > 0, table["round_seconds"] / table["train_seconds"] - 1, np.nan
    )
    table = table.join(by_arm[["n_used", "n_lost"]].sum()).join(by_arm["epsilon"].max())
    return table.reset_index()[[*ARM, *COSTS]]
