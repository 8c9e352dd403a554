"""Federation against what it has to equal: training in one place, a mean that changes nothing, arithmetic by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.federation import federation, fresh, no_memory, set_up

from neuroloom.federated.client import forget, training_of
from neuroloom.federated.network import build_network, shared_names, state_of
from neuroloom.federated.server import serve
from neuroloom.federated.site import SiteFile
from neuroloom.federated.wire import Tensors, digest

__all__ = ["federation", "no_memory", "set_up"]

FULL = ("fedavg", "fedprox", "fedadam", "median", "trimmed_mean", "krum")


def last_state(setup: Any) -> Tensors:
    file = next(Path(setup.server.state).glob("round-*.safetensors"))
    stored = load_file(file)
    return {name.removeprefix("shared/"): values for name, values in stored.items() if name.startswith("shared/")}


def of_server(setup: Any) -> Any:
    """The network as the server builds it."""
    run, model = setup.run, setup.server.model
    known = {"n_outputs": 2, "seed": run.seed, "window": run.task.window}
    return build_network(run.strategy, **known, model=Path(model) if model else None)


def alone(file: SiteFile, rounds: int, names: tuple[str, ...]) -> tuple[Tensors, list[float]]:
    """The same site, trained without any federation."""
    training = fresh(file)
    losses = [training.round(number, {}).loss for number in range(1, rounds + 1)]
    return state_of(training.network, names), losses


@pytest.mark.parametrize("kind", ["fedavg", "lora", "personal", "fedbn", "fleeg"])
def test_one_site_federated_is_that_site_alone_step_for_step(set_up: Callable[..., Any], kind: str) -> None:
    setup = set_up(kind, min_sites=1, rounds=3)
    one = setup.__class__(setup.run, setup.files[:1], setup.server, setup.paths[:1])
    result = serve(one.grid(), setup.server)
    forget()
    training = fresh(setup.files[0].model_copy(update={"state": setup.files[1].state}))
    shared = state_of(of_server(setup), training.shared)
    losses = []
    for number in range(1, 4):
        update = training.round(number, shared)
        shared = update.tensors
        losses.append(update.loss)
    for name, values in last_state(setup).items():
        np.testing.assert_array_equal(values, shared[name])
    assert [row["loss"] for row in result["rounds"]] == losses


def test_full_sharing_of_one_site_is_central_fine_tuning(set_up: Callable[..., Any]) -> None:
    """No message at all on one side: the same passes of the same optimizer."""
    setup = set_up("fedavg", min_sites=1, rounds=3)
    one = setup.__class__(setup.run, setup.files[:1], setup.server, setup.paths[:1])
    serve(one.grid(), setup.server)
    local = set_up("local", name="alone", rounds=3)
    names = tuple(last_state(setup))
    central, _ = alone(local.files[0], 3, names)
    for name in names:
        np.testing.assert_array_equal(last_state(setup)[name], central[name])


def test_equal_sites_make_averaging_a_no_op(set_up: Callable[..., Any]) -> None:
    """Three nodes with the data of one site: their mean is what each of them found."""
    setup = set_up("fedavg", rounds=1)
    twin = setup.files[0]
    training = fresh(twin)
    first = state_of(training.network, training.shared)
    update = training.round(1, first)
    mean = {name: np.mean([update.tensors[name]] * 3, axis=0, dtype=np.float64) for name in first}
    from neuroloom.federated.strategies import aggregation

    combined = combine(aggregation(setup.run.strategy), [update.tensors] * 3, [12.0, 12.0, 12.0])
    for name in first:
        np.testing.assert_allclose(combined[name], update.tensors[name], rtol=0, atol=1e-12)
        np.testing.assert_allclose(combined[name], mean[name], rtol=0, atol=1e-12)


def combine(inner: Any, states: list[Tensors], weights: list[float], base: Tensors | None = None) -> Tensors:
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    if base is not None:
        inner.current_arrays = {name: one.astype(np.float64) for name, one in base.items()}
    replies = []
    for state, weight in zip(states, weights, strict=True):
        arrays = ArrayRecord({name: Array(one.astype(np.float64)) for name, one in state.items()})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"n-windows": weight})})
        replies.append(Message(content, dst_node_id=1, message_type="train"))
    found, _ = inner.aggregate_train(1, replies)
    return {name: found[name].numpy() for name in states[0]}


@pytest.fixture
def states(rng: np.random.Generator) -> list[Tensors]:
    return [{"a": rng.normal(size=(3, 2)).astype(np.float32)} for _ in range(5)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("fedavg", lambda a, w: np.average(a, axis=0, weights=w)),
        ("median", lambda a, w: np.median(a, axis=0)),
        ("trimmed_mean", lambda a, w: np.sort(a, axis=0)[1:4].mean(axis=0)),
    ],
)
def test_updates_are_combined_as_the_names_say(kind: str, expected: Callable[..., Any], states: list[Tensors]) -> None:
    from neuroloom.federated.config import StrategyConfig
    from neuroloom.federated.strategies import aggregation

    weights = [1.0, 2.0, 3.0, 4.0, 5.0]
    found = combine(aggregation(StrategyConfig(kind=kind, trim=0.2)), states, weights)["a"]  # type: ignore[arg-type]
    stacked = np.stack([state["a"].astype(np.float64) for state in states])
    np.testing.assert_allclose(found, expected(stacked, weights), rtol=1e-12, atol=1e-15)


def test_krum_takes_an_honest_update_and_median_stays_near_where_one_site_lies(rng: np.random.Generator) -> None:
    from neuroloom.federated.config import StrategyConfig
    from neuroloom.federated.strategies import aggregation

    honest = [{"a": (1 + 0.01 * rng.normal(size=20)).astype(np.float32)} for _ in range(4)]
    states = [*honest, {"a": np.full(20, 1e4, np.float32)}]
    chosen = combine(aggregation(StrategyConfig(kind="krum", n_bad=1)), states, [1.0] * 5)["a"]
    assert any(np.array_equal(chosen, state["a"].astype(np.float64)) for state in honest)
    for kind in ("median", "trimmed_mean"):
        middle = combine(aggregation(StrategyConfig(kind=kind)), states, [1.0] * 5)["a"]  # type: ignore[arg-type]
        assert np.abs(middle - 1).max() < 0.05
    mean = combine(aggregation(StrategyConfig(kind="fedavg")), states, [1.0] * 5)["a"]
    assert np.abs(mean - 1).min() > 1000


def test_fedadam_takes_the_step_of_its_equations(states: list[Tensors]) -> None:
    from neuroloom.federated.config import StrategyConfig
    from neuroloom.federated.strategies import aggregation

    base = {"a": np.zeros((3, 2), np.float32)}
    found = combine(aggregation(StrategyConfig(kind="fedadam", server_lr=0.1)), states, [1.0] * 5, base)["a"]
    delta = np.mean([state["a"].astype(np.float64) for state in states], axis=0)
    first, second = 0.1 * delta, 0.01 * delta**2
    rate = 0.1 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2)
    np.testing.assert_allclose(found, rate * first / (np.sqrt(second) + 1e-3), rtol=1e-9)


def test_fedprox_pulls_towards_the_shared_weights(set_up: Callable[..., Any]) -> None:
    """Without a pull it is FedAvg; the harder it pulls, the less a site moves."""
    moved = {}
    for mu in (0.0, 1.0, 100.0):
        training = fresh(set_up("fedprox", name=f"mu-{mu:g}", mu=mu, local_epochs=4).files[0])
        first = state_of(training.network, training.shared)
        found = training.round(1, first).tensors
        moved[mu] = np.sqrt(sum(((found[name] - first[name]) ** 2).sum() for name in first))
    plain = fresh(set_up("fedavg", name="plain", local_epochs=4).files[0])
    first = state_of(plain.network, plain.shared)
    found = plain.round(1, first).tensors
    assert moved[0.0] == np.sqrt(sum(((found[name] - first[name]) ** 2).sum() for name in first))
    assert moved[100.0] < moved[1.0] < moved[0.0]


def test_what_is_shared_is_what_the_names_say(set_up: Callable[..., Any]) -> None:
    names = {}
    for kind in (*FULL, "fedbn", "personal", "lora", "fleeg"):
        training = training_of(set_up(kind, name=kind).files[0])
        names[kind] = set(shared_names(training.run.strategy, training.network))
    for kind in FULL:
        assert names[kind] == names["fedavg"]
    assert names["personal"] == {name for name in names["fedavg"] if name.startswith("encoder.")}
    kept = names["fedavg"] - names["fedbn"]
    assert kept
    modules = dict(training_of(set_up("fedbn", name="fedbn").files[0]).network.named_modules())
    for name in names["fedavg"]:
        assert (name in kept) == ("Norm" in type(modules[name.rpartition(".")[0]]).__name__)
    assert all("parametrizations" in name or name.startswith("head.") for name in names["lora"])
    assert names["fleeg"] == {"shared_conv.weight", "classifier.weight", "classifier.bias"}


def test_what_is_not_shared_differs_between_sites_and_what_is_shared_does_not(set_up: Callable[..., Any]) -> None:
    setup = set_up("personal")
    serve(setup.grid(), setup.server)
    trainings = [training_of(file) for file in setup.files]
    heads = {digest(state_of(one.network, ("head.linear.weight",))) for one in trainings}
    shared = {digest(state_of(one.network, one.shared)) for one in trainings}
    assert len(heads) == 3
    assert len(shared) == 1


def test_all_arms_start_from_the_same_weights(set_up: Callable[..., Any]) -> None:
    """Server and sites build the same network, without a recording and with one."""
    setup = set_up("fedavg")
    server = of_server(setup)
    site = fresh(setup.files[1])
    assert digest(state_of(server, site.shared)) == digest(state_of(site.network, site.shared))
    head = ("head.linear.weight", "head.linear.bias")
    others = [fresh(set_up(kind, name=kind).files[1]) for kind in ("lora", "personal", "local")]
    assert {digest(state_of(one.network, head)) for one in others} == {digest(state_of(site.network, head))}
