"""Sums without summands: Flower's SecAgg+ in the rounds of a run, so that the server never has one site's update.

SecAgg+ (Bell et al. 2020, CCS, doi 10.1145/3372297.3417885) is of Flower's older API; its workflow is called once a
round, and a site's side of it is a mod around the same training. Sites weigh the same, so that not even their sizes are
told, and what is summed are updates, of which each value is kept within `CLIP`.

What it does not do. The masks of Flower 1.41 are drawn from a generator with 32 bits of state, and the server hands
public keys from site to site without a signature: it hides updates from logs and from a curious server, not from a
determined one. What a site sent cannot be checked either, only the mean; the robust strategies need to see summands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.common import Code, FitIns, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp import Grid

from neuroloom.federated.wire import FACTS
from neuroloom.records import Array

CLIP = 1.0  # of one value of an update; 2 ** 22 steps lie within
SHARES, THRESHOLD = 1.0, 0.6  # every site keeps a part of everyone's secret, and six of ten of them open it
STAGE = "stage"  # what marks a message of the protocol
Facts = Mapping[str, Any]


class HaltedError(RuntimeError):
    """Too few sites were left to open the sum."""


class _Mean(FedAvg):
    """Who is asked, and who was in the mean."""

    def __init__(self, proxies: Sequence[GridClientProxy], facts: Facts) -> None:
        super().__init__()
        self._proxies, self._facts = proxies, dict(facts)
        self.results: list[tuple[int, dict[str, Any]]] = []

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> Any:
        return [(proxy, FitIns(parameters, dict(self._facts))) for proxy in self._proxies]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.results = [(proxy.node_id, dict(found.metrics)) for proxy, found in results]
        return results[0][1].parameters, {}


def secure_mean(
    grid: Grid, state_N: Array, *, facts: Facts, nodes: Sequence[int], number: int, timeout: float
) -> tuple[Array, list[tuple[int, dict[str, Any]]]]:
    """Send a state to the sites and open the mean of their updates.

    Parameters
    ----------
    grid : Grid
    state_N : float32 array
        The shared state, all tensors one after the other.
    facts : mapping
        What the sites are told of the round.
    nodes : sequence of int
    number : int
        Of the round.
    timeout : float
        Seconds, for each of the four exchanges.

    Returns
    -------
    mean_N : array
        Mean update of the sites that are in it.
    results : list
        Node and metrics of each of them; what they say of themselves is not masked.

    Raises
    ------
    HaltedError
        If too few sites were left.
    """
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    proxies = [GridClientProxy(node_id=node, grid=grid, run_id=grid.run.run_id) for node in nodes]
    mean = _Mean(proxies, facts)
    legacy = LegacyContext(context=context, strategy=mean, client_manager=SimpleClientManager())
    legacy.state = RecordDict()
    legacy.state[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: number})
    parameters = ndarrays_to_parameters([np.ascontiguousarray(state_N, np.float32)])
    legacy.state[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(parameters, keep_input=True)
    SecAggPlusWorkflow(SHARES, THRESHOLD, max_weight=1.0, clipping_range=CLIP, timeout=timeout)(grid, legacy)
    if not mean.results:
        raise HaltedError("too few sites were left to open the sum")
    found = recorddict_compat.arrayrecord_to_parameters(legacy.state.array_records[MAIN_PARAMS_RECORD], keep_input=True)
    return parameters_to_ndarrays(found)[0], mean.results


def masked_if_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A site's side: messages of the protocol go through Flower's mod, all others pass."""
    if any(STAGE in one for one in message.content.config_records.values()):
        return secaggplus_mod(message, context, call_next)
    return call_next(message, context)


def asked_securely(message: Message) -> tuple[Array, Facts] | None:
    """State and facts of a message that comes out of the protocol, or nothing where it is an open one."""
    if FACTS in message.content.config_records:
        return None
    asked = recorddict_compat.recorddict_to_fitins(message.content, keep_input=True)
    return parameters_to_ndarrays(asked.parameters)[0], asked.config


def secure_reply(message: Message, update_N: Array, metrics: Mapping[str, Any]) -> Message:
    """The answer that the mod masks: an update, and what is told openly."""
    found = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([update_N]), 1, dict(metrics))
    return Message(recorddict_compat.fitres_to_recorddict(found, keep_input=True), reply_to=message)
