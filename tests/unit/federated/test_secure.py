"""Sums without summands: what the server opens is the mean, and what it is sent of one site says nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from tests.federation import fresh

from neuroloom.federated.client import forget
from neuroloom.federated.config import StrategyConfig
from neuroloom.federated.network import state_of
from neuroloom.federated.server import TooFewSitesError, last_state, serve

MASKED = "masked_params"


def updates(setup: Any) -> list[np.ndarray]:
    """What each site finds in the first round, one value after the other."""
    found = []
    for file in setup.files:
        site = fresh(file.model_copy(update={"state": file.state + "-again"}))
        first = state_of(site.network, site.shared)
        after = site.round(1, first).tensors
        found.append(np.concatenate([(after[name] - first[name]).ravel() for name in first]))
    return found


def moved(setup: Any) -> np.ndarray:
    """What the server made of them."""
    site = fresh(setup.files[0].model_copy(update={"state": setup.files[0].state + "-again"}))
    first, last = state_of(site.network, site.shared), last_state(setup.server)
    return np.concatenate([(last[name] - first[name]).ravel() for name in first])


def watched(seen: list[np.ndarray]) -> Callable[[Message], Message]:
    """Keep every array of numbers that a site sends while its update is on the way."""

    def watch(message: Message) -> Message:
        if message.metadata.src_node_id != 1 and not message.has_error():
            for record in message.content.config_records.values():
                sent = [np.load(_stream(one)) for one in record.get(MASKED, [])]  # type: ignore[union-attr]
                if sent:
                    seen.append(np.concatenate([one.ravel() for one in sent]).astype(np.float64))
            assert not any(len(record) for record in message.content.array_records.values())
        return message

    return watch


def _stream(content: bytes) -> Any:
    import io

    return io.BytesIO(content)


def test_the_mean_is_opened_and_no_summand_is_seen(set_up: Callable[..., Any]) -> None:
    setup = set_up("personal", rounds=1, local_epochs=10, secure_aggregation=True)
    seen: list[np.ndarray] = []
    result = serve(setup.grid(change=watched(seen)), setup.server)
    found = updates(setup)
    np.testing.assert_allclose(moved(setup), np.mean(found, axis=0), atol=2e-6)
    assert np.abs(found[0]).max() > 1e-3
    assert [row["status"] for row in result["rounds"]] == ["used"] * 3
    assert {row["site"] for row in result["rounds"]} == {"s/north", "s/south", "s/west"}
    assert len(seen) == 3
    for masked, update in zip(seen, found, strict=True):
        values = masked[-len(update) :]
        assert abs(np.corrcoef(values, update)[0, 1]) < 0.15
        # uniform over all that there are: a mask hides where it lies, too
        assert np.abs(np.histogram(values, bins=8, range=(0, 2**32))[0] / len(values) - 1 / 8).max() < 0.05


def test_a_site_that_is_lost_after_masking_is_left_out_of_the_mean(set_up: Callable[..., Any]) -> None:
    setup = set_up("fedavg", rounds=1, secure_aggregation=True)

    def lose(message: Message) -> Message | None:
        sends = any(MASKED in record for record in message.content.config_records.values())
        return None if sends and message.metadata.src_node_id == 3 else message

    result = serve(setup.grid(change=lose), setup.server)
    found = updates(setup)
    np.testing.assert_allclose(moved(setup), np.mean([found[0], found[2]], axis=0), atol=2e-6)
    assert {row["site"]: row["status"] for row in result["rounds"]} == {
        "s/north": "used",
        "s/west": "used",
        "node 3": "absent",
    }


def test_too_few_sites_open_nothing(set_up: Callable[..., Any]) -> None:
    setup = set_up("fedavg", rounds=1, secure_aggregation=True)

    def lose(message: Message) -> Message | None:
        sends = any(MASKED in record for record in message.content.config_records.values())
        return None if sends and message.metadata.src_node_id in (2, 3) else message

    with pytest.raises(TooFewSitesError, match="round 1"):
        serve(setup.grid(change=lose), setup.server)
    assert not list(Path(setup.server.state).glob("round-*"))
    forget()


@pytest.mark.parametrize("kind", ["median", "krum", "fedadam", "local"])
def test_what_needs_summands_does_not_go_with_it(kind: str) -> None:
    with pytest.raises(ValueError, match="opens a mean and nothing else"):
        StrategyConfig(kind=kind, secure_aggregation=True)  # type: ignore[arg-type]
