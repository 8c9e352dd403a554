"""Flower with shorter waits: its grid looks for replies every three seconds, and again for what is not there after one.

Behind a SuperLink only; in one process nothing waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from neuroloom.schema import ConfigError

SECONDS = 0.1
AGAIN_SECONDS = 0.1  # before a second look for a piece of a message; Flower doubles it with each


def look_again_soon() -> None:
    """Shorten the wait for a piece of a message that has been announced and is still on its way."""
    from flwr.supercore.inflatable import inflatable_utils

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        defaults = function.__kwdefaults__ or {}
        if "initial_backoff" not in defaults:
            raise ConfigError(f"{function.__qualname__} has no initial_backoff: written for flwr 1.41; install that")
        defaults["initial_backoff"] = AGAIN_SECONDS


class PromptGrid(Grid):
    """A grid that asks another one for replies often.

    Parameters
    ----------
    grid : Grid
        What a ServerApp was given.
    seconds : float
        Between two looks.
    """

    def __init__(self, grid: Grid, seconds: float = SECONDS) -> None:
        self._grid, self._seconds = grid, seconds
        look_again_soon()

    def set_run(self, run: Run) -> None:
        """Hand on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Hand on."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Hand on."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Hand on."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand on."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand on."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages, and wait for their replies; those that have come are returned when the time is up."""
        waiting = set(self.push_messages(messages))
        limit = time.monotonic() + (float("inf") if timeout is None else timeout)
        replies: list[Message] = []
        while waiting and time.monotonic() < limit:
            found = list(self.pull_messages(waiting))
            replies += found
            waiting -= {message.metadata.reply_to_message_id for message in found}
            if waiting:
                time.sleep(self._seconds)
        return replies
