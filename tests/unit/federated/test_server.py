"""Sites that fail in every way a site can, and a server that is killed: who is named, what goes on, what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array as WireArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from safetensors.numpy import load_file

from neuroloom.federated.client import forget
from neuroloom.federated.server import STATE, TooFewSitesError, serve
from neuroloom.federated.wire import ARRAYS, FACTS, METRICS, RAW, WEIGHT
from neuroloom.schema import ConfigError

BAD = 3  # node of s/south


def reply_of(node: int, *rounds: int, change: Callable[[Message], Message | None]) -> Callable[[Message], Any]:
    """Change the replies of one node to training in some rounds."""

    def on_its_way(message: Message) -> Message | None:
        if message.metadata.src_node_id != node or message.has_error() or message.metadata.message_type != "train":
            return message
        return change(message) if int(message.content[FACTS]["round"]) in rounds else message

    return on_its_way


def with_tensors(message: Message, change: Callable[[np.ndarray], np.ndarray]) -> Message:
    """Send other numbers in the first tensor."""
    record = message.content[ARRAYS]
    name, sent = next(iter(record.items()))
    values = change(np.frombuffer(sent.data, "<f4").reshape(sent.shape).copy())
    record[name] = WireArray("float32", values.shape, RAW, values.astype("<f4").tobytes())
    return message


def with_fact(message: Message, **facts: Any) -> Message:
    message.content[FACTS] = ConfigRecord({**message.content[FACTS], **facts})
    return message


def with_metric(message: Message, **metrics: Any) -> Message:
    message.content[METRICS] = MetricRecord({**message.content[METRICS], **metrics})
    return message


def without_tensors(message: Message) -> Message:
    message.content[ARRAYS] = ArrayRecord({})
    return message


FAULTS: dict[str, tuple[Callable[[Message], Message | None], str, str]] = {
    "not a number": (lambda m: with_tensors(m, lambda v: np.full_like(v, np.nan)), "refused", "not finite"),
    "huge": (lambda m: with_tensors(m, lambda v: v + 1e6), "refused", "norm .* more than .*max_update"),
    "shape": (lambda m: with_tensors(m, lambda v: v[:1]), "refused", "declared"),
    "stale": (lambda m: with_fact(m, base="0123456789abcdef"), "refused", "stale"),
    "round": (lambda m: with_fact(m, round=7), "refused", "stale: it started from round 7"),
    "tensors": (lambda m: with_fact(m, schema="0123"), "refused", "schema 0123"),
    "stranger": (lambda m: with_fact(m, site="s/east"), "refused", "'s/east', which is no site"),
    "double": (lambda m: with_fact(m, site="s/north"), "refused", "another node is s/north"),
    "greedy": (lambda m: with_metric(m, **{WEIGHT: 1e12}), "refused", "windows"),
    "empty": (without_tensors, "refused", "arrays .none., declared state"),
    "silent": (lambda m: None, "absent", "no answer within 300 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_site_is_named_and_the_others_go_on(set_up: Callable[..., Any], fault: str) -> None:
    change, status, reason = FAULTS[fault]
    setup = set_up("fedavg")
    result = serve(setup.grid(change=reply_of(BAD, 1, change=change)), setup.server)
    rows = {(row["round"], row["site"]): row for row in result["rounds"]}
    bad = next(row for (number, _), row in rows.items() if number == 1 and row["status"] != "used")
    assert bad["status"] == status
    assert bad["site"] in ("s/south", "node 3")
    import re

    assert re.search(reason, bad["reason"])
    assert {site for (number, site), row in rows.items() if row["status"] == "used" and number == 1} == {
        "s/north",
        "s/west",
    }
    assert rows[2, "s/south"]["status"] == "used"  # it is asked again
    assert set(result["scores"]) == {"s/north", "s/south", "s/west"}


def test_what_is_refused_changes_nothing(set_up: Callable[..., Any]) -> None:
    """With a liar among three the others' mean comes out, to the bit."""
    liar = set_up("fedavg", name="liar", rounds=1)
    serve(liar.grid(change=reply_of(BAD, 1, change=FAULTS["not a number"][0])), liar.server)
    forget()
    two = set_up("fedavg", name="two", rounds=1)
    honest = two.__class__(two.run, [two.files[0], two.files[2]], two.server, [two.paths[0], two.paths[2]])
    serve(honest.grid(), two.server)
    for name, values in state(liar).items():
        np.testing.assert_array_equal(values, state(two)[name])


def state(setup: Any) -> dict[str, np.ndarray]:
    folder = Path(setup.server.state)
    return load_file(folder / json.loads((folder / STATE).read_text())["tensors"])


def test_too_few_sites_stop_the_run_which_goes_on_to_the_same_end(set_up: Callable[..., Any]) -> None:
    whole = set_up("fedadam", name="whole", rounds=3)
    serve(whole.grid(), whole.server)
    forget()
    stopped = set_up("fedadam", name="stopped", rounds=3, min_sites=3)
    with pytest.raises(TooFewSitesError, match=r"round 2: 2 good replies.*s/south absent.*goes on after round 1"):
        serve(stopped.grid(change=reply_of(BAD, 2, change=lambda message: None)), stopped.server)
    forget()  # as in a new process
    result = serve(stopped.grid(), stopped.server)
    assert [row["round"] for row in result["rounds"]] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert state(stopped).keys() == state(whole).keys()
    assert any(name.startswith("m_t/") for name in state(whole))
    for name, values in state(whole).items():
        np.testing.assert_array_equal(state(stopped)[name], values)


def test_a_server_killed_after_any_round_ends_with_the_same_weights(set_up: Callable[..., Any]) -> None:
    whole = set_up("personal", name="whole", rounds=3)
    first = serve(whole.grid(), whole.server)

    class KilledError(RuntimeError):
        pass

    def kill(message: Message) -> Message:
        if (
            message.metadata.src_node_id != 1
            and message.content[FACTS]["round"] == 2
            and message.metadata.src_node_id == 4
        ):
            raise KilledError
        return message

    killed = set_up("personal", name="killed", rounds=3)
    forget()
    with pytest.raises(KilledError):
        serve(killed.grid(change=kill), killed.server)
    forget()  # two of the sites have trained round 2 already, and do it again
    second = serve(killed.grid(), killed.server)
    for name, values in state(whole).items():
        np.testing.assert_array_equal(state(killed)[name], values)
    assert first["scores"] == second["scores"]


def test_a_site_that_joins_late_trains_from_then_on(set_up: Callable[..., Any]) -> None:
    setup = set_up("personal", rounds=3)
    grid = setup.grid()
    late = grid._contexts.pop(BAD)
    seen: list[int] = []
    ids = grid.get_node_ids

    def get_node_ids() -> Any:
        seen.append(1)
        if len(seen) == 2:
            grid._contexts[BAD] = late
        return ids()

    grid.get_node_ids = get_node_ids  # type: ignore[method-assign]
    result = serve(grid, setup.server)
    by_site = {site: [row["round"] for row in result["rounds"] if row["site"] == site] for site in result["scores"]}
    assert by_site == {"s/north": [1, 2, 3], "s/south": [2, 3], "s/west": [1, 2, 3]}
    assert [row["started_from"] for row in result["rounds"] if row["site"] == "s/south"] == [0.0, 2.0]


def test_a_site_that_raises_is_an_error_reply(set_up: Callable[..., Any]) -> None:
    setup = set_up("fedavg")
    setup.paths[1].write_text("{}")
    result = serve(setup.grid(), setup.server)
    failed = [row for row in result["rounds"] if row["status"] == "failed"]
    assert [row["site"] for row in failed] == ["node 3", "node 3"]
    assert "s-south.json" in failed[0]["reason"]
    assert "s/south" not in result["scores"]


def test_the_state_of_another_run_is_not_gone_on_from(set_up: Callable[..., Any]) -> None:
    one = set_up("fedavg", rounds=1)
    serve(one.grid(), one.server)
    other = set_up("fedavg", rounds=2)
    with pytest.raises(ConfigError, match=r"server\.json: the state of another run"):
        serve(other.grid(), other.server)


def test_too_few_sites_at_the_start_are_waited_for_and_then_named(set_up: Callable[..., Any]) -> None:
    setup = set_up("fedavg", min_sites=4, timeout=0.2)
    with pytest.raises(TooFewSitesError, match=r"3 sites are connected after 0\.2 s, federate\.min_sites is 4"):
        serve(setup.grid(), setup.server)
