"""The report's section on the federation: whether it helps, what it costs, who took part, what is kept and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.federated.config import FederateConfig
from neuroloom.federated.tables import ARM
from neuroloom.figures.arms import arm_name, arm_of, arms_of, main_scores
from neuroloom.figures.federation_audits import attack_table
from neuroloom.figures.federation_verdicts import (
    attack_verdicts,
    bound_of,
    gain_verdicts,
    privacy_verdicts,
    with_bounds,
)
from neuroloom.figures.participation import participation_table, participation_verdicts
from neuroloom.figures.report_pictures import embed_figures
from neuroloom.figures.report_tables import select, to_table

OTHERS = ("kappa", "auroc", "auprc")  # beside the score that arms are judged by
ABOUT = {"network": "network", "arm": "arm", "site": "site"}
LIMITS = {"ci_low": "from", "ci_high": "to"}
SCORE_COLUMNS = {
    **ABOUT,
    "score": "balanced accuracy",
    **LIMITS,
    "chance": "chance",
    "chance_high": "chance up to",
    "q": "q",
    **{name: name for name in OTHERS},
    "n_participants": "people",
    "n_windows": "windows",
    "n_runs": "runs",
    "n_failed": "failed",
    "reason": "failed because",
    "seen": "people seen",
    "note": "note",
}
GAIN_COLUMNS = {**ABOUT, "difference": "gain over local", **LIMITS, "n_participants": "people", "remark": "remark"}
COST_COLUMNS = {
    "network": "network",
    "arm": "arm",
    "n_shared_bytes": "bytes from a site in a round",
    "of_fedavg": "of fedavg's",
    "round_seconds": "round (s)",
    "train_seconds": "training in it (s)",
    "overhead": "the rest over training",
    "bound": "epsilon",
    "n_used": "site rounds used",
    "n_lost": "not used",
}
PRIVACY_COLUMNS = {
    "name": "arm",
    "unit": "unit",
    "bound": "epsilon",
    "delta": "delta",
    "clip_norm": "clipping norm",
    "noise_multiplier": "noise over clipping norm",
    "sample_rate": "sampling rate",
    "rounds": "rounds",
    "noise": "noise",
}
ATTACK_COLUMNS = {
    **ABOUT,
    "attack": "attack",
    "level": "of",
    "metric": "metric",
    "before": "before training",
    "score": "after training",
    **LIMITS,
    "chance": "chance",
    "p": "largest p",
    "n_members": "people in training",
    "n_others": "others",
    "n_runs": "runs",
    "note": "note",
}


def federation_section(
    tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path], *, privacy: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the template needs: verdicts, figures and tables.

    Parameters
    ----------
    tables : mapping
        `federation_summary`, `federation_gains`, `federation_rounds`, `federation_cost`, `federation_attacks`.
    drawn : mapping
        Figures by name.
    privacy : sequence of mapping
        As `privacy_settings` gives them.
    """
    summary, gains, rounds, cost, attacks = (
        tables[f"federation_{name}"] for name in ("summary", "gains", "rounds", "cost", "attacks")
    )
    return {
        "verdicts": [
            *gain_verdicts(summary, gains),
            *participation_verdicts(rounds, summary),
            *privacy_verdicts(cost, privacy),
            *attack_verdicts(attacks),
        ],
        "figures": embed_figures(drawn, "federation"),
        "scores": to_table(select(_named(_wide(summary)), SCORE_COLUMNS), "federation_summary"),
        "gains": to_table(select(_named(_remarked(gains)), GAIN_COLUMNS), "federation_gains"),
        "cost": to_table(select(_named(_compared(cost)), COST_COLUMNS), "federation_cost"),
        "participation": to_table(participation_table(rounds, summary), "federation_rounds"),
        "privacy": to_table(select(with_bounds(cost, privacy), PRIVACY_COLUMNS), "federation_cost"),
        "attacks": to_table(select(_named(attack_table(attacks)), ATTACK_COLUMNS), "federation_attacks"),
    }


def privacy_settings(config: FederateConfig) -> list[dict[str, Any]]:
    """Settings of the arms with differential privacy: name, clip_norm, noise_multiplier, sample_rate, …, rounds."""
    arms = {name: config.strategies[name].privacy for name in config.use}
    return [
        {"name": name, "rounds": config.rounds, **privacy.model_dump()} for name, privacy in arms.items() if privacy
    ]


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with the arm in words, in the order of the figures."""
    if table.empty:
        return table
    place = {arm: at for at, arm in enumerate(arms_of(table))}
    arms = [arm_of(row) for row in table.to_dict("records")]
    ordered = table.assign(arm=[arm_name(arm) for arm in arms], place=[place[arm] for arm in arms])
    return ordered.sort_values("place", kind="stable")


def _wide(summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm and site: the score that it is judged by, and the others beside."""
    main = main_scores(summary)
    for name in OTHERS if len(summary) else ():
        scores = summary.loc[summary["metric"] == name, [*ARM, "site", "score"]].rename(columns={"score": name})
        # a run that failed has its one row under the main score
        main = main.merge(scores, on=[*ARM, "site"], how="left")
    return main


def _remarked(gains: pd.DataFrame) -> pd.DataFrame:
    if gains.empty:
        return gains
    alone = gains["n_participants"] == 1
    return main_scores(gains.assign(remark=np.where(alone, "one person: no interval", "")))


def _compared(cost: pd.DataFrame) -> pd.DataFrame:
    """Bytes beside those of FedAvg of the same network; arms that send nothing have no round."""
    if cost.empty:
        return cost
    # shares of what another network sends would say nothing
    whole = cost[cost["kind"] == "fedavg"].groupby("network")["n_shared_bytes"].max()
    sends = cost["n_shared_bytes"] > 0
    return cost.assign(
        of_fedavg=(cost["n_shared_bytes"] / cost["network"].map(whole)).where(sends),
        round_seconds=cost["round_seconds"].where(sends),
        bound=[bound_of(epsilon) for epsilon in cost["epsilon"]],
    )
