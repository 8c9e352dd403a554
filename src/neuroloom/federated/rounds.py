"""What became of each site in each round, as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message

from neuroloom.federated.wire import FACTS, METRICS, WEIGHT


@dataclass(frozen=True)
class SiteRound:
    """One site in one round; a row of the table.

    Attributes
    ----------
    round : int
    site : str
        Or the node's number, for one that never said who it is.
    status : str
        `used`, `refused`, `failed` or `absent`.
    reason : str
        Of a site that was not used.
    n_windows, loss, validation, epsilon, started_from
        See `training.Update`; NaN where unknown.
    update_norm : float
    bytes_down, bytes_up : int
        Tensors that went to the site and came back.
    train_seconds, site_seconds, round_seconds : float
        Training and judging (`training.Update`), all of the site's work, and the whole round.
    """

    round: int
    site: str
    status: str
    reason: str = ""
    n_windows: float = float("nan")
    loss: float = float("nan")
    validation: float = float("nan")
    epsilon: float = float("nan")
    started_from: float = float("nan")
    update_norm: float = float("nan")
    bytes_down: int = 0
    bytes_up: int = 0
    train_seconds: float = float("nan")
    site_seconds: float = float("nan")
    round_seconds: float = float("nan")


def said(message: Message) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Facts and metrics of a reply."""
    facts: Any = message.content.config_records.get(FACTS, {})
    metrics: Any = message.content.metric_records.get(METRICS, {})
    return facts, metrics


def reported(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a site says of its round, as columns of the table."""
    names = {
        WEIGHT: "n_windows",
        "loss": "loss",
        "validation": "validation",
        "epsilon": "epsilon",
        "started-from": "started_from",
        "train-seconds": "train_seconds",
        "seconds": "site_seconds",
    }
    return {ours: float(metrics[theirs]) for theirs, ours in names.items() if isinstance(metrics.get(theirs), float)}
