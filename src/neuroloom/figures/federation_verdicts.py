"""What the report says of a federation in words: what it gains, whom it protects, what its models give away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.evaluation.tables import LEVEL
from neuroloom.federated.config import ALONE
from neuroloom.federated.tables import POOLED
from neuroloom.figures.arms import CENTRALISED, arm_name, arm_of, arms_of, main_scores
from neuroloom.figures.federation_audits import ASKED, MEMBERSHIP, attack_table
from neuroloom.figures.verdicts import Difference, Verdict, answer_of, but, listed

FEW_SITES = 6  # that are told one by one
HARDLY = 10.0  # epsilon from which a bound says little


def gain_verdicts(summary: pd.DataFrame, gains: pd.DataFrame) -> list[Verdict]:
    """Whether the best federated arm of each network is better than every site alone, and how far from centralised.

    The best by the gain that is told, with hindsight.

    Parameters
    ----------
    summary, gains : DataFrame
        `federation_summary` and `federation_gains`.
    """
    means = main_scores(summary)
    verdicts = []
    for network in dict.fromkeys(arm[2] for arm in arms_of(means)) if len(means) else ():
        own = main_scores(gains)
        verdicts.append(_gain_verdict(network, means[means["network"] == network], own[own["network"] == network]))
    return verdicts


def _gain_verdict(network: str, means: pd.DataFrame, gains: pd.DataFrame) -> Verdict:
    pooled = gains[(gains["site"] == POOLED) & gains["difference"].notna()]
    federated = pooled[~pooled["kind"].isin(ALONE)]
    best = best_gain(gains)
    if best is None:
        return Verdict("unknown", f"{network}: {_lacking(means)}.")
    gain, name = Difference.of(best), arm_name(arm_of(best))
    answer = answer_of([gain.mean > 0], [gain])
    words = {"yes": "beats", "open": "is ahead of", "no": "does not beat"}[answer]
    several = f"the best of {len(federated)} federated arms, {name},"
    which = several if len(federated) > 1 else f"the federated arm {name}"
    people = "person" if gain.n == 1 else "people"
    text = (
        f"{network}: {which} {words} every site alone{but(answer)}. Gain in balanced accuracy on the same {gain.n:.0f} "
        f"{people} of the test: {gain}. {_ceiling(pooled, gain, name)} {_scores(means, best)}"
    )
    return Verdict(answer, text + _at_sites(gains, best))


def best_gain(gains: pd.DataFrame) -> Mapping[Any, Any] | None:
    """Row of the federated arm that gains most over all sites alone, with hindsight; None where no gain is known."""
    known = gains[(gains["site"] == POOLED) & gains["difference"].notna() & ~gains["kind"].isin(ALONE)]
    return max(known.to_dict("records"), key=lambda row: float(row["difference"])) if len(known) else None


def _lacking(means: pd.DataFrame) -> str:
    """Why no gain can be told."""
    known = means[(means["site"] == POOLED) & means["score"].notna()]
    if not (~known["kind"].isin(ALONE)).any():
        reasons = [reason for reason in means["reason"].unique() if reason]
        return f"no federated arm has a score{f' ({reasons[0]})' if reasons else ''}"
    return "there is no arm `local` with a score to compare with"


def _ceiling(pooled: pd.DataFrame, gain: Difference, name: str) -> str:
    """How far the arm is from all recordings in one place, on the same people."""
    found = pooled[pooled["kind"] == CENTRALISED].to_dict("records")
    if not found:
        return "No arm is centralised, so what is left to gain is not known."
    most = Difference.of(found[0])
    gap = most.mean - gain.mean
    words = f"{name} is {gap:.2f} below" if gap > 0 else f"{name} is not below"
    return f"Centralised training gains {most}: {words} that."


def _scores(means: pd.DataFrame, best: Mapping[Any, Any]) -> str:
    """Scores of all windows together, the highest first."""
    known = means[(means["site"] == POOLED) & means["score"].notna()].sort_values("score", ascending=False)
    told = known[(known["strategy"] == best["strategy"]) | known["kind"].isin(ALONE)].to_dict("records")
    scores = listed([f"{row['score']:.2f} ({row['strategy']})" for row in told])
    return f"Scores of all windows together: {scores}; chance {told[0]['chance']:.2f}." if told else ""


def _at_sites(gains: pd.DataFrame, best: Mapping[Any, Any]) -> str:
    """The gain at each site, or at how many of them there is one."""
    rows = gains[(gains["strategy"] == best["strategy"]) & (gains["site"] != POOLED)].dropna(subset=["difference"])
    told = [(row["site"], Difference.of(row)) for row in rows.to_dict("records")]
    if len(told) > FEW_SITES:
        words = f" It is better than alone at {sum(one.mean > 0 for _, one in told)} of {len(told)} sites"
    else:
        words = " By site: " + ", ".join(f"{site} {one}" for site, one in told)
    alone = [site for site, one in told if one.n == 1]
    if not alone:
        return f"{words}."
    where = f"at {listed(alone)}" if len(alone) <= FEW_SITES else f"at {len(alone)} sites"
    return f"{words}; no interval {where}, where one person was tested."


def with_bounds(cost: pd.DataFrame, privacy: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Settings with the epsilon that the ledgers came to."""
    spent = dict(zip(cost["strategy"], cost["epsilon"], strict=True)) if len(cost) else {}
    unit = "a subject of one site"
    found = [{**one, "epsilon": float(spent.get(one["name"], np.nan)), "unit": unit} for one in privacy]
    return pd.DataFrame([{**one, "bound": bound_of(one["epsilon"])} for one in found])


def bound_of(epsilon: float) -> str:
    """An epsilon in words."""
    return f"{epsilon:.3g}" if np.isfinite(epsilon) else "no bound"


def privacy_verdicts(cost: pd.DataFrame, privacy: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Whether what sites send bounds what can be learnt about one of their subjects.

    Parameters
    ----------
    cost : DataFrame
        `federation_cost`.
    privacy : sequence of mapping
        Settings of the arms that have privacy.
    """
    return [_privacy_verdict(row) for row in with_bounds(cost, privacy).to_dict("records")]


def _privacy_verdict(row: Mapping[Any, Any]) -> Verdict:
    name, epsilon = row["name"], row["epsilon"]
    settings = (
        f"clipping norm {row['clip_norm']:g}, noise multiplier {row['noise_multiplier']:g}, sampling rate "
        f"{row['sample_rate']:g}, {row['rounds']} rounds; the unit is a subject of one site"
    )
    if not np.isfinite(epsilon):
        return Verdict("unknown", f"{name}: privacy was asked for, and no epsilon was noted ({settings}).")
    bound = f"epsilon {epsilon:.3g} at delta {row['delta']:g}"
    # who knows the seed can take the noise away again
    if row["noise"] == "seeded":
        known = f"{name} protects nobody: its noise follows from a known seed"
        return Verdict("no", f"{known}. Secret noise would come to {bound} ({settings}).")
    weak = epsilon >= HARDLY
    hardly = f"; {HARDLY:g} or more is hardly a bound" if weak else ""
    text = f"{name}: what its sites send comes to {bound}, as their ledgers add it up over runs ({settings}){hardly}."
    return Verdict("in part" if weak else "yes", text)


def attack_verdicts(attacks: pd.DataFrame) -> list[Verdict]:
    """Whether models keep who was in training, by the two membership attacks on people.

    Parameters
    ----------
    attacks : DataFrame
        `federation_attacks`.
    """
    table = attack_table(attacks)
    if table.empty:
        return []
    asked = table["attack"].isin(MEMBERSHIP) & (table["level"] == "subject") & (table["metric"] == "auroc")
    rows = table[asked & table["score"].notna()]
    return [_attack_verdict(network, rows) for network in dict.fromkeys(arm[2] for arm in arms_of(table))]


def _attack_verdict(network: str, rows: pd.DataFrame) -> Verdict:
    own = rows[rows["network"] == network]
    if own.empty:
        return Verdict("unknown", f"{network}: too few people to ask models who was in training.")
    people = f"{own['n_members'].max():.0f} people of the training and {own['n_others'].max():.0f} others"
    # p is the largest of all runs, so that one lucky seed is no finding
    found = own[own["p"] <= LEVEL]
    arms = {arm: found[found["strategy"] == arm[0]].to_dict("records") for arm in arms_of(found)}
    others = [arm_name(arm) for arm in arms_of(own) if arm not in arms]
    only = "that shows only that these two attacks failed"
    if not arms:
        text = f"{network}: no arm ({listed(others)}) told who was in training, of {people}; {only}."
        return Verdict("open", text)
    told = listed([f"{arm_name(arm)} ({_success(found)})" for arm, found in arms.items()])
    rest = f" Not found for {listed(others)}; {only}." if others else ""
    return Verdict(
        "no",
        f"{network}: who was in training is not kept by {told}: p ≤ {LEVEL:g} in every run, of {people}, not corrected "
        f"for the number of attacks.{rest}",
    )


def _success(rows: Sequence[Mapping[Any, Any]]) -> str:
    """AUROC of the attacks that found something, with that before training."""
    return "; ".join(
        f"AUROC {row['score']:.2f} {ASKED[row['attack']]}"
        + (f", {row['before']:.2f} before training" if pd.notna(row["before"]) else "")
        for row in rows
    )
