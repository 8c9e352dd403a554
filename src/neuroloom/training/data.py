"""Batches of signals, read ahead of their use by threads, in the order of a sampler."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np

from neuroloom.training.sampling import START, Draw, Position, Windows, WindowSampler

if TYPE_CHECKING:
    from torch import Tensor

B = TypeVar("B")
D = TypeVar("D")


@dataclass(frozen=True)
class Batch:
    """Signals of some windows with their sensors, as torch tensors; `rows` as in `Draw`."""

    signal_BCT: Tensor
    positions_BC6: Tensor
    sensor_type_BC: Tensor
    recordings: tuple[str, ...]
    windows: tuple[int, ...]
    rows: tuple[int, int, int]

    def to(self, device: Any) -> Self:
        """The batch on a device; from pinned memory nothing waits for the copy."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("signal_BCT", "positions_BC6", "sensor_type_BC")
        }
        return replace(self, **moved)

    def pin(self) -> Self:
        """The batch in memory that a GPU copies from by itself."""
        pinned = {name: getattr(self, name).pin_memory() for name in ("signal_BCT", "positions_BC6", "sensor_type_BC")}
        return replace(self, **pinned)


class Batches(Generic[B]):
    """A corpus in the order of a sampler, read ahead by threads.

    Parameters
    ----------
    sampler : WindowSampler
    load : callable
        Makes the batch of a draw; called in threads. Must have `.to(device)`, and `.pin()` where training is on a GPU.
    """

    def __init__(self, sampler: WindowSampler, load: Callable[[Draw], B]) -> None:
        self.sampler, self.load = sampler, load

    @classmethod
    def of_signals(cls, corpus: Sequence[Windows], sampler: WindowSampler) -> Batches[Batch]:
        """Batches of signals with their sensors."""
        return Batches(sampler, partial(read_signals, corpus))

    @property
    def digest(self) -> str:
        """Digest of the sampler."""
        return self.sampler.digest

    def shard(self, rank: int, world_size: int) -> Batches[B]:
        """The rows of one process of several."""
        return Batches(self.sampler.shard(rank, world_size), self.load)

    def stream(self, start: Position = START, *, threads: int = 1, pin: bool = False) -> Generator[tuple[Draw, B]]:
        """Draws with their batches without end, from a place in the order on; `pin` for a GPU."""
        load = self._load_pinned if pin else self.load
        return prefetch(self.sampler.draws(start), load, threads=threads)

    def _load_pinned(self, draw: Draw) -> B:
        batch: Any = self.load(draw)
        return batch.pin()

    def first(self, count: int) -> list[B]:
        """The first batches, in memory: what a validation is made on."""
        return [self.load(draw) for draw in islice(self.sampler.draws(), count)]


def read_signals(corpus: Sequence[Windows], draw: Draw) -> Batch:
    """Read the windows of a draw."""
    import torch

    members = [corpus[at] for at in draw.recording_B]
    signal_BCT = np.empty((len(members), members[0].n_channels, members[0].n_times), np.float32)
    for out_CT, windows, at in zip(signal_BCT, members, draw.window_B, strict=True):
        out_CT[:] = windows.read(int(at), 1)[0]
    return Batch(
        signal_BCT=torch.from_numpy(signal_BCT),
        positions_BC6=torch.from_numpy(np.stack([windows.positions_C6 for windows in members]).astype(np.float32)),
        sensor_type_BC=torch.from_numpy(np.stack([windows.sensor_type_C for windows in members]).astype(np.int64)),
        recordings=tuple(windows.recording for windows in members),
        windows=tuple(int(at) for at in draw.window_B),
        rows=draw.rows,
    )


def prefetch(draws: Iterable[D], load: Callable[[D], B], *, threads: int, ahead: int = 4) -> Generator[tuple[D, B]]:
    """Each draw with what is loaded for it, in the given order, loaded ahead of its use.

    Parameters
    ----------
    draws : iterable
        May be endless; read in the calling thread.
    load : callable
        Called in the threads; an error is raised where its batch would have come.
    threads : int
        0 loads at the time of use, in the calling thread.
    ahead : int
        Batches that each thread may be ahead by; they are held in memory.
    """
    if threads == 0:
        yield from ((draw, load(draw)) for draw in draws)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    waiting: deque[tuple[D, Future[B]]] = deque()
    try:
        for draw in draws:
            waiting.append((draw, pool.submit(load, draw)))
            if len(waiting) > ahead * threads:
                ready, future = waiting.popleft()
                yield ready, future.result()
        for ready, future in waiting:
            yield ready, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
