"""Which sites took part in which rounds of a federation, and why others did not, for the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from neuroloom.federated.config import ALONE
from neuroloom.federated.tables import ARM, POOLED, USED
from neuroloom.figures.arms import arm_name, arm_of, arms_of, main_scores
from neuroloom.figures.verdicts import Verdict, listed

FEW = 5  # losses that are told one by one
COLUMNS = ["network", "arm", "site", "rounds of all runs", "used in", "used in every run", "not used"]


def participation_table(rounds: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each federated arm and site.

    Parameters
    ----------
    rounds, summary : DataFrame
        `federation_rounds` and `federation_summary`.

    Returns
    -------
    table : DataFrame
        Rounds of all runs, those in which the site was used, which of them in every run, and why it was not in others.
    """
    lines = [[*arm_words, *_site_line(own, lengths, site)] for arm_words, own, lengths, site in _parts(rounds)]
    return pd.DataFrame([*lines, *_left_out(rounds, summary)], columns=COLUMNS)


def _federated(rounds: pd.DataFrame) -> pd.DataFrame:
    """Rounds of sites that answer to a server; where a site is judged at the end is no round."""
    return rounds[~rounds["kind"].isin(ALONE) & (rounds["status"] != "judged")] if len(rounds) else rounds


def _parts(rounds: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame, Mapping[Any, int], str]]:
    """Words of the arm, its rows, the rounds of each of its runs, and the site."""
    table = _federated(rounds)
    for arm in arms_of(table) if len(table) else ():
        own = table[(table[ARM] == list(arm)).all(axis=1)]
        lengths = own.groupby(["fold", "seed"])["round"].max().to_dict()
        for site in sorted(own["site"].unique()):
            yield [arm[2], arm_name(arm)], own, lengths, str(site)


def _site_line(own: pd.DataFrame, lengths: Mapping[Any, int], site: str) -> list[Any]:
    rows = own[own["site"] == site]
    used = {run: set(part["round"]) for run, part in rows[rows["status"] == USED].groupby(["fold", "seed"])}
    # a run in which the site was never used counts as well
    always = set.intersection(*(used.get(run, set()) for run in lengths))
    n_used = sum(map(len, used.values()))
    return [site, sum(lengths.values()), n_used, spans(always) or "none", "; ".join(_losses(rows, lengths))]


def _losses(rows: pd.DataFrame, lengths: Mapping[Any, int]) -> Iterator[str]:
    """Rounds in which nothing of a site was used, run by run, with the reason."""
    for (fold, seed), length in lengths.items():
        part = rows[(rows["fold"] == fold) & (rows["seed"] == seed)]
        run = f"fold {fold}, seed {seed}"
        for (status, reason), lost in part[part["status"] != USED].groupby(["status", "reason"], sort=False):
            yield f"round {spans(lost['round'])} ({run}): {status}{f', {reason}' if reason else ''}"
        # a site that joins late has no row until then
        if absent := set(range(1, length + 1)) - set(part["round"]):
            yield f"round {spans(absent)} ({run}): not there"


def _left_out(rounds: pd.DataFrame, summary: pd.DataFrame) -> Iterator[list[Any]]:
    """Sites that could not begin, and arms that stopped."""
    if summary.empty:
        return
    failed = main_scores(summary)
    failed = failed[(failed["n_failed"] > 0) & ~failed["kind"].isin(ALONE)]
    for row in failed.to_dict("records"):
        site = "all sites" if row["site"] == POOLED else row["site"]
        runs = f"{row['n_failed']} of {row['n_failed'] + row['n_runs']} runs"
        reason = row["reason"].removeprefix(f"{site}: ")
        yield [row["network"], arm_name(arm_of(row)), site, 0, 0, "none", f"{runs}: {reason}"]


def spans(rounds: Iterable[int]) -> str:
    """Numbers in words: 1 to 3, 5."""
    runs: list[list[int]] = []
    for number in sorted({int(one) for one in rounds}):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def participation_verdicts(rounds: pd.DataFrame, summary: pd.DataFrame) -> list[Verdict]:
    """Whether every site was part of every round of every federated arm.

    Parameters
    ----------
    rounds, summary : DataFrame
        `federation_rounds` and `federation_summary`.
    """
    table = participation_table(rounds, summary)
    if table.empty:
        return []
    arms, sites = table[["network", "arm"]].drop_duplicates(), table["site"].nunique()
    lost: dict[tuple[str, str], list[str]] = {}
    for row in table[table["not used"] != ""].to_dict("records"):
        lost.setdefault((row["site"], row["not used"]), []).append(row["arm"])
    if not lost:
        return [Verdict("yes", f"All {sites} sites took part in every round of all {len(arms)} federated arms.")]
    told = [f"{site} in {listed(names)}: {reason}" for (site, reason), names in list(lost.items())[:FEW]]
    more = f" And {len(lost) - FEW} more; the table has all." if len(lost) > FEW else ""
    return [Verdict("in part", f"Not every site took part in every round. {'; '.join(told)}.{more}")]
