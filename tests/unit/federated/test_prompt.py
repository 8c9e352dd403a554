import time
from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from neuroloom.federated.prompt import PromptGrid


class SlowGrid(Grid):
    """Its sites answer after so many looks; some never do."""

    def __init__(self, looks: list[float]) -> None:
        self.looks, self.sent, self.asked = looks, list[Message](), 0

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(7)

    def create_message(self, *_: object, **__: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return range(len(self.looks))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.sent = list(messages)
        for number, message in enumerate(self.sent):
            message.metadata.__dict__["_message_id"] = str(number)
        return [str(number) for number in range(len(self.sent))]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.asked += 1
        ready = [self.sent[int(number)] for number in message_ids if self.looks[int(number)] <= self.asked]
        return [Message(RecordDict(), reply_to=message) for message in ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError


def ask(looks: list[float], timeout: float | None) -> tuple[SlowGrid, list[str]]:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    slow = SlowGrid(looks)
    messages = [Message(RecordDict(), dst_node_id=number + 1, message_type="train") for number in range(len(looks))]
    replies = PromptGrid(slow, 0.01).send_and_receive(messages, timeout=timeout)
    return slow, sorted(message.metadata.reply_to_message_id for message in replies)


def test_every_reply_is_returned_as_soon_as_all_are_there() -> None:
    slow, replies = ask([1, 3, 2], None)
    assert replies == ["0", "1", "2"]
    assert slow.asked == 3


def test_replies_that_have_come_are_returned_when_the_time_is_up() -> None:
    before = time.monotonic()
    _, replies = ask([1, float("inf")], 0.1)
    assert replies == ["0"]
    assert 0.1 <= time.monotonic() - before < 1.0


def test_the_rest_is_that_of_the_grid() -> None:
    grid = PromptGrid(SlowGrid([1, 1]))
    assert list(grid.get_node_ids()) == [0, 1]
    assert grid.run.run_id == 7
