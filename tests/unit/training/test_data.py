import threading
import time
from collections.abc import Iterator
from itertools import count, islice
from types import SimpleNamespace

import numpy as np
import pytest

from neuroloom.training.data import Batches, prefetch
from neuroloom.training.sampling import WindowSampler


class FakeWindows(SimpleNamespace):
    """Window `at` of recording `number` reads as 1000 * number + at everywhere."""

    def __len__(self) -> int:
        return 12

    def read(self, first: int, count: int = 1) -> np.ndarray:
        values = 1000 * self.number + np.arange(first, first + count)
        return np.broadcast_to(values[:, None, None], (count, self.n_channels, self.n_times)).astype(np.float32)


def make_corpus() -> list[FakeWindows]:
    return [
        FakeWindows(
            number=number,
            recording=f"r{number}",
            n_channels=n_channels,
            n_times=20,
            positions_C6=np.full((n_channels, 6), number),
            sensor_type_C=np.arange(n_channels) % 3,
        )
        for number, n_channels in enumerate((3, 5, 3))
    ]


def make_batches() -> Batches:
    corpus = make_corpus()
    sampler = WindowSampler(corpus, tokens_of=lambda windows: windows.n_channels, batch_tokens=30, seed=0)
    return Batches.of_signals(corpus, sampler)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_batch_holds_the_windows_of_its_draw(threads: int) -> None:
    for draw, batch in islice(make_batches().stream(threads=threads), 9):
        expected = 1000 * draw.recording_B + draw.window_B
        assert batch.signal_BCT.shape[0] * batch.signal_BCT.shape[1] == 30
        assert (batch.signal_BCT.numpy() == expected[:, None, None]).all()
        assert (batch.positions_BC6.numpy() == draw.recording_B[:, None, None]).all()
        assert (batch.sensor_type_BC.numpy() == np.arange(batch.signal_BCT.shape[1]) % 3).all()
        assert batch.recordings == tuple(f"r{at}" for at in draw.recording_B)
        assert batch.windows == tuple(draw.window_B)
        assert batch.to("cpu").rows == batch.rows == (0, len(draw.window_B), len(draw.window_B))


def test_a_validation_is_the_first_batches() -> None:
    batches = make_batches()
    streamed = [batch for _, batch in islice(batches.stream(), 4)]
    assert [batch.windows for batch in batches.first(4)] == [batch.windows for batch in streamed]


def test_prefetching_keeps_the_order_and_its_limit() -> None:
    """Whatever is slow to load; and of endless draws only so many are taken."""
    taken: list[int] = []

    def draws() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    def load(number: int) -> int:
        time.sleep(0.004 * (number % 3 == 0))
        return number * 10

    found = list(islice(prefetch(draws(), load, threads=3, ahead=2), 50))
    assert found == [(number, number * 10) for number in range(50)]
    assert len(taken) <= 50 + 7
    assert list(prefetch(range(7), load, threads=2)) == [(number, number * 10) for number in range(7)]


def test_an_error_comes_where_its_batch_would() -> None:
    def load(number: int) -> int:
        if number == 3:
            raise OSError("shard 3 is gone")
        return number

    stream = prefetch(count(), load, threads=2)
    assert [next(stream)[1] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="shard 3"):
        next(stream)


def test_threads_end_with_the_stream() -> None:
    stream = prefetch(count(), lambda number: number, threads=2)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
