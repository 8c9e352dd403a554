"""The arms of a federation, in the words, the order and the colours of all its figures and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import pandas as pd

from neuroloom.evaluation.tables import MAIN
from neuroloom.federated.config import ALONE, FLEEG, Kind
from neuroloom.federated.tables import ARM, POOLED
from neuroloom.figures.drawing import LINES, Look, Rows, rows_of
from neuroloom.figures.style import AFTER, BAD

RULE = "collect_federation"
LOCAL, CENTRALISED = ALONE
ORDER = (LOCAL, *(kind for kind in get_args(Kind) if kind not in ALONE), CENTRALISED)
# by kind, not by name: an arm looks the same in every figure and study, and fewer arms change no colour
KIND_LOOKS: dict[str, Look] = {
    LOCAL: {"color": "#707070", "marker": "o"},
    "fedavg": {"color": AFTER, "marker": "s"},
    "fedprox": {"color": "#56B4E9", "marker": "<"},
    "fedadam": {"color": "#56B4E9", "marker": ">"},
    "fedbn": {"color": "#009E73", "marker": "^"},
    "personal": {"color": "#CC79A7", "marker": "v"},
    "lora": {"color": "#E69F00", "marker": "P"},
    "fleeg": {"color": BAD, "marker": "X"},
    "median": {"color": AFTER, "marker": "p"},
    "trimmed_mean": {"color": "#009E73", "marker": "h"},
    "krum": {"color": "#CC79A7", "marker": "*"},
    CENTRALISED: {"color": "#000000", "marker": "D"},
}
Arm = tuple[str, str, str]  # strategy, kind and network


def arms_of(table: pd.DataFrame) -> list[Arm]:
    """Arms of a table by network, in each from every site alone to all in one place."""
    found = table[ARM].drop_duplicates().itertuples(index=False, name=None)
    return sorted(((str(strategy), str(kind), str(network)) for strategy, kind, network in found), key=_rank)


def _rank(arm: Arm) -> tuple[Any, ...]:
    strategy, kind, network = arm
    return network == FLEEG, network, ORDER.index(kind), strategy != kind, strategy


def arm_of(row: Any) -> Arm:
    """The arm of a row."""
    return str(row["strategy"]), str(row["kind"]), str(row["network"])


def arm_name(arm: Arm) -> str:
    """An arm in words: its name, and its kind where the name does not say it."""
    strategy, kind, _ = arm
    return strategy if strategy == kind else f"{strategy} ({kind})"


def arm_rows(arms: Sequence[Arm]) -> Rows:
    """Places of the arms, networks apart."""
    return rows_of({arm: (arm[2], arm_name(arm)) for arm in arms})


def look_of_arm(arm: Arm) -> Look:
    """Colour and marker by kind."""
    return KIND_LOOKS[arm[1]]


def lines_of_arms(arms: Sequence[Arm]) -> dict[Arm, Look]:
    """Looks of lines; of several arms of one kind and network, the first is solid and filled."""
    seen: Counter[tuple[str, str]] = Counter()
    looks: dict[Arm, Look] = {}
    for arm in arms:
        at = seen[arm[1:]]
        fill: Look = {"mfc": "white", "mew": 1.5} if at else {}
        looks[arm] = {**look_of_arm(arm), **fill, "ls": LINES[at % len(LINES)]}
        seen[arm[1:]] += 1
    return looks


def sites_of(table: pd.DataFrame) -> list[str]:
    """Sites by name; neither `all` nor what stands for all of them in one place."""
    # centralised training is of one place that is none of the sites
    apart = table[(table["kind"] != CENTRALISED) & (table["site"] != POOLED)]
    return sorted(apart["site"].astype(str).unique())


def main_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the score that arms are judged by; arms without a score have a row of it."""
    return table[table["metric"] == MAIN] if len(table) else table
