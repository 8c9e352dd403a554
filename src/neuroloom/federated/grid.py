"""All sites in one process: Flower's Grid without a server, for a workstation and for tests.

The same apps run behind a SuperLink. What stands in for it here leans on two internals of Flower (the identity of a
task, and the number that a SuperLink gives to a message), which a test holds to the pinned version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from time import perf_counter

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run as FlowerRun
from flwr.supercore.task_identity import TaskIdentity

logger = logging.getLogger(__name__)
SERVER = 1  # node number of the server, as Flower has it
FAILED = 2  # Flower's code for a ClientApp that raised


class InProcessGrid(Grid):
    """Sites by node number, called one after the other.

    Parameters
    ----------
    app : ClientApp
    node_configs : mapping
        Node number -> its config, as `--node-config` gives it.
    change : callable, optional
        What becomes of a message or a reply on its way, for tests of faults; None loses it.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Mapping[int, Mapping[str, str]],
        *,
        change: Callable[[Message], Message | None] | None = None,
    ) -> None:
        # two runs in one process are one after the other
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER
        self._app, self._change, self._number = app, change, count(1)
        self._contexts = {
            node: Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
            for node, config in node_configs.items()
        }
        self._replies: dict[str, Message] = {}

    @property
    def run(self) -> FlowerRun:
        """Of Flower."""
        return FlowerRun.create_empty(1)

    def set_run(self, run: FlowerRun) -> None:
        """There is one run."""

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a site."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Node numbers of all sites."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Have each site answer; what a site raises is an error reply, as behind a SuperLink."""
        numbers = []
        for message in messages:
            number = str(next(self._number))
            message.metadata.__dict__["_message_id"] = number
            numbers.append(number)
            if (reply := self._answer(message)) is not None:
                self._replies[number] = reply
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that have come."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Replies to the messages; a site that takes longer than the time-out has not answered."""
        kept = []
        for message in messages:
            before = perf_counter()
            found = list(self.pull_messages(self.push_messages([message])))
            if timeout is None or perf_counter() - before <= timeout:
                kept += found
        return kept

    def _answer(self, message: Message) -> Message | None:
        # as over a network: messages of one exchange share their content here, and a site may change its own
        message.content = recorddict_from_proto(recorddict_to_proto(message.content))
        sent = self._change(message) if self._change else message
        if sent is None:
            return None
        try:
            reply = self._app(sent, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # a site may fail in any way, and the others go on
            logger.warning("node %d: %s: %s", message.metadata.dst_node_id, type(error).__name__, error)
            reply = Message(Error(code=FAILED, reason=f"{type(error).__name__}: {error}"), reply_to=message)
        return self._change(reply) if self._change else reply
