"""Which windows of many recordings a batch holds: of one shape, as many as the budget of tokens allows.

The windows of a batch follow from the seed and its place in the order alone. Nothing is kept between batches, so a run
goes on anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from neuroloom.provenance import child_rng, config_digest
from neuroloom.records import Array
from neuroloom.schema import ConfigError

logger = logging.getLogger(__name__)
MAX_WASTE = 0.05  # share of the budget that windows of one shape may leave unused without a warning


class Windows(Protocol):
    """The windows of one recording (`neuroloom.tokenizers.segments.Segments`)."""

    recording: str
    positions_C6: Array
    sensor_type_C: Array
    n_times: int

    @property
    def n_channels(self) -> int:
        """Sensors."""

    def __len__(self) -> int:
        """Number of windows."""

    def read(self, first: int, count: int = 1) -> Array:
        """Windows `first` to `first + count`, float32 (count, C, T)."""


class Position(NamedTuple):
    """A place in the order of batches: epoch, and batch in it."""

    epoch: int = 0
    batch: int = 0


START = Position()


@dataclass(frozen=True)
class Draw:
    """What one batch holds, on this process.

    Attributes
    ----------
    recording_B, window_B : int array
        Index of the recording in the corpus, and of the window in it.
    rows : tuple of int
        First row of this process in the whole batch, the one after its last, and the rows of all processes. A task that
        draws random numbers row by row draws them for all and keeps its own: then the number of processes is no matter.
    n_tokens : int
        Of all processes.
    after : Position
        Where the next batch is.
    """

    recording_B: Array
    window_B: Array
    rows: tuple[int, int, int]
    n_tokens: int
    after: Position

    @classmethod
    def of_one(cls, window_B: Array) -> Self:
        """Some windows of a single recording, out of any order."""
        count = len(window_B)
        return cls(np.zeros(count, np.int64), window_B, (0, count, count), count, START)

    @property
    def share(self) -> float:
        """Part of the rows of the whole batch that this process has."""
        return (self.rows[1] - self.rows[0]) / self.rows[2]


@dataclass(frozen=True)
class Bucket:
    """Windows of one shape and weight.

    Attributes
    ----------
    key : tuple
        Channels, samples, tokens of one window, weight.
    size : int
        Windows of one batch.
    recording_N, window_N : int array
        Every window.
    phase : float
        Part of a batch that the first epoch starts with, so that small buckets do not all wait for the same epoch.
    """

    key: tuple[int, int, int, float]
    size: int
    recording_N: Array
    window_N: Array
    phase: float

    def before(self, epoch: int) -> int:
        """Batches of this bucket before an epoch; windows that fill no batch are carried into the next one."""
        return int(epoch * len(self.window_N) * self.key[3] / self.size + self.phase)


class WindowSampler:
    """Draws windows in batches of one shape and of constant tokens.

    Each bucket (windows of one shape and weight) is read through in one random order after the other. An epoch holds
    every window as often as its weight says, in batches that are all full; what is left over comes first in the next.

    Parameters
    ----------
    corpus : sequence of Windows
    tokens_of : callable
        Tokens of one window of a recording, which follow from its shape.
    batch_tokens : int
        Tokens of one batch, all processes together; a batch has as many windows as fit.
    weights : sequence of float, optional
        How often each window of a recording is drawn in an epoch; 0.5 is every other epoch (`dataset_weights`).
    seed : int
    rank, world_size : int
        This process, and how many there are; together their rows are the batch of a single process.

    Attributes
    ----------
    digest : str
        Names everything that the order of windows follows from, except the number of processes.

    Raises
    ------
    ConfigError
        No window at all, or a window, or one for each process, does not fit into `batch_tokens`.
    """

    def __init__(
        self,
        corpus: Sequence[Windows],
        *,
        tokens_of: Callable[[Any], int],
        batch_tokens: int,
        weights: Sequence[float] | None = None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        given = [1.0] * len(corpus) if weights is None else [float(weight) for weight in weights]
        self.buckets = _sort_into_buckets(corpus, tokens_of, given, batch_tokens, seed)
        self._budget, self._seed, self._rank, self._world_size = batch_tokens, seed, rank, world_size
        self._orders: dict[tuple[int, int], Array] = {}
        for bucket in self.buckets:
            _check_size(bucket, batch_tokens, world_size)
            _warn_of_waste(bucket, batch_tokens)
        self.recordings = [windows.recording for windows in corpus]
        sizes = [(windows.recording, len(windows)) for windows in corpus]
        self.digest = config_digest([seed, sizes, [(bucket.key, bucket.size) for bucket in self.buckets]])

    @property
    def waste(self) -> float:
        """Share of `batch_tokens` that an average batch leaves unused."""
        rates = np.array([len(bucket.window_N) * bucket.key[3] / bucket.size for bucket in self.buckets])
        used = np.array([bucket.size * bucket.key[2] for bucket in self.buckets])
        return float(1 - (rates @ used) / rates.sum() / self._budget)

    @property
    def tokens_per_epoch(self) -> float:
        """Tokens that an epoch holds on average."""
        return float(sum(len(bucket.window_N) * bucket.key[3] * bucket.key[2] for bucket in self.buckets))

    def shard(self, rank: int, world_size: int) -> Self:
        """The same sampler for one process of several."""
        for bucket in self.buckets:
            _check_size(bucket, self._budget, world_size)
        # sorting a large corpus into buckets again would take seconds
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _rank=rank, _world_size=world_size, _orders={})
        return other

    def draws(self, start: Position = START) -> Iterator[Draw]:
        """Draws without end, from a place in the order on."""
        epoch, first = start
        while True:
            plan = self._plan(epoch)
            for at in range(first, len(plan)):
                after = Position(epoch, at + 1) if at + 1 < len(plan) else Position(epoch + 1, 0)
                yield self._draw(*plan[at], after)
            epoch, first = epoch + 1, 0

    def describe(self, draw: Draw) -> str:
        """The recordings of a draw, in words."""
        names = sorted({self.recordings[at] for at in draw.recording_B})
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    def _plan(self, epoch: int) -> list[tuple[int, int]]:
        """Batches of an epoch in their order: bucket, and number of the batch in all batches of the bucket."""
        plan = [
            (at, number)
            for at, bucket in enumerate(self.buckets)
            for number in range(bucket.before(epoch), bucket.before(epoch + 1))
        ]
        return [plan[at] for at in child_rng(self._seed, f"epoch {epoch}").permutation(len(plan))]

    def _draw(self, at: int, number: int, after: Position) -> Draw:
        bucket = self.buckets[at]
        first = bucket.size * self._rank // self._world_size
        last = bucket.size * (self._rank + 1) // self._world_size
        chosen = self._members(at, number * bucket.size + np.arange(first, last))
        return Draw(
            recording_B=bucket.recording_N[chosen],
            window_B=bucket.window_N[chosen],
            rows=(first, last, bucket.size),
            n_tokens=bucket.size * bucket.key[2],
            after=after,
        )

    def _members(self, at: int, places: Array) -> Array:
        """Windows at some places of the endless row of random orders of a bucket."""
        # a batch may begin in one order of the bucket and end in the next, and a small bucket is gone through at once
        rounds, within = np.divmod(places, len(self.buckets[at].window_N))
        members = np.empty(len(places), np.int64)
        for number in np.unique(rounds):
            members[rounds == number] = self._order(at, int(number))[within[rounds == number]]
        return members

    def _order(self, at: int, number: int) -> Array:
        """One random order of a bucket; the one before it is forgotten, since places only grow."""
        if (at, number) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[0] != at or key[1] == number - 1}
            bucket = self.buckets[at]
            rng = child_rng(self._seed, f"bucket {bucket.key} order {number}")
            self._orders[at, number] = rng.permutation(len(bucket.window_N))
        return self._orders[at, number]


def dataset_weights(
    corpus: Sequence[Windows],
    *,
    datasets: Sequence[str],
    shares: Mapping[str, float],
    tokens_of: Callable[[Any], int],
) -> list[float]:
    """Weights that give each dataset its share of the tokens; an epoch stays as long as it is without weights.

    Parameters
    ----------
    corpus : sequence of Windows
    datasets : sequence of str
        Dataset of each recording.
    shares : mapping
        Share by dataset, in any unit.
    tokens_of : callable
        Tokens of one window of a recording.

    Raises
    ------
    ConfigError
        The datasets of `shares` are not those of the corpus.
    """
    if set(shares) != set(datasets) or min(shares.values(), default=0) < 0 or not sum(shares.values()):
        raise ConfigError(
            f"shares of {sorted(shares)} for the datasets {sorted(set(datasets))}: give one share, 0 or more, for each"
        )
    tokens = dict.fromkeys(shares, 0)
    for windows, dataset in zip(corpus, datasets, strict=True):
        tokens[dataset] += len(windows) * tokens_of(windows)
    scale = sum(tokens.values()) / sum(shares.values())
    return [scale * shares[dataset] / tokens[dataset] for dataset in datasets]


def _sort_into_buckets(
    corpus: Sequence[Windows],
    tokens_of: Callable[[Any], int],
    weights: Sequence[float],
    batch_tokens: int,
    seed: int,
) -> list[Bucket]:
    members: dict[tuple[int, int, int, float], list[int]] = {}
    for at, (windows, weight) in enumerate(zip(corpus, weights, strict=True)):
        if weight < 0:
            raise ConfigError(f"{windows.recording}: weight {weight:g}; give 0 or more")
        if weight and len(windows):
            key = (windows.n_channels, windows.n_times, tokens_of(windows), weight)
            members.setdefault(key, []).append(at)
    if not members:
        raise ConfigError(f"{len(corpus)} recordings hold no window with a weight above 0: nothing to train on")
    return [_bucket(corpus, key, members[key], batch_tokens, seed) for key in sorted(members)]


def _bucket(
    corpus: Sequence[Windows], key: tuple[int, int, int, float], members: list[int], batch_tokens: int, seed: int
) -> Bucket:
    counts = [len(corpus[at]) for at in members]
    return Bucket(
        key=key,
        size=batch_tokens // key[2],
        recording_N=np.repeat(np.array(members, np.int32), counts),
        window_N=np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
        phase=float(child_rng(seed, f"bucket {key} phase").random()),
    )


def _check_size(bucket: Bucket, batch_tokens: int, world_size: int) -> None:
    n_channels, n_times, n_tokens, _ = bucket.key
    if bucket.size < world_size:
        raise ConfigError(
            f"a window of {n_channels} channels x {n_times} samples has {n_tokens} tokens, so a batch of "
            f"{batch_tokens} tokens has {bucket.size} of them for {world_size} process(es); raise batch_tokens to "
            f"{n_tokens * world_size} or more"
        )


def _warn_of_waste(bucket: Bucket, batch_tokens: int) -> None:
    n_channels, n_times, n_tokens, _ = bucket.key
    waste = 1 - bucket.size * n_tokens / batch_tokens
    if waste > MAX_WASTE:
        logger.warning(
            "windows of %d channels x %d samples fill only %.0f %% of a batch: batch_tokens %d is no good multiple of "
            "their %d tokens",
            n_channels,
            n_times,
            100 * (1 - waste),
            batch_tokens,
            n_tokens,
        )
