"""Successive halving: many settings get a little training, the better half of them gets more, until one is left.

Source: Jamieson and Talwalkar 2016, AISTATS 51:240, with a halving at each round. All readers, models and baselines
alike, are tuned by it, so that what was spent on them is one number that follows from the budget alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from neuroloom.schema import ConfigError


class Contender(Protocol):
    """Something in training that can be paused, and judged on the validation part."""

    @property
    def merit(self) -> float:
        """Best score on validation so far; higher is better."""
        ...

    def train(self, epochs: int) -> None:
        """Go on for so many passes over the training part."""
        ...

    def drop(self) -> None:
        """Free what further training would need; it will not come."""
        ...


@dataclass(frozen=True)
class Race:
    """How it went.

    Attributes
    ----------
    winner : int
        Number of the contender that was left.
    n_epochs : int
        Passes over the training part, of all contenders together.
    merits : tuple of float
        Best score of each contender at the end of its training.
    """

    winner: int
    n_epochs: int
    merits: tuple[float, ...]


def schedule(n_contenders: int, epochs: int) -> list[tuple[int, int]]:
    """Contenders of each round, and the epochs that each of them is given in it.

    Rounds cost about the same: half the contenders get twice the epochs. The last one in training has had `epochs`.

    Raises
    ------
    ConfigError
        If there are fewer epochs than rounds.
    """
    sizes = [n_contenders]
    while sizes[-1] > 2:
        sizes.append((sizes[-1] + 1) // 2)
    if epochs < len(sizes):
        raise ConfigError(
            f"budget: {epochs} epochs for {n_contenders} candidates, which meet in {len(sizes)} rounds; give one epoch "
            "for each round, or fewer candidates"
        )
    shares = [1 / size for size in sizes]
    ends = [max(round(epochs * sum(shares[: at + 1]) / sum(shares)), at + 1) for at in range(len(sizes))]
    return [(size, end - start) for size, start, end in zip(sizes, [0, *ends], ends, strict=False)]


def cost(n_contenders: int, epochs: int) -> int:
    """Epochs of all contenders together."""
    return sum(size * given for size, given in schedule(n_contenders, epochs))


def halve(contenders: Sequence[Contender], *, epochs: int) -> Race:
    """Train the contenders until one is left; ties go to the one that comes first.

    Parameters
    ----------
    contenders : sequence of Contender
        Trained in place.
    epochs : int
        That the winner has had in the end.

    Raises
    ------
    ConfigError
        If there are fewer epochs than rounds, or no contender.
    ValueError
        If no contender ever had a score that is a number.
    """
    if not contenders:
        raise ConfigError("no candidate to train; give the budget at least one")
    alive, spent = list(range(len(contenders))), 0
    for size, given in schedule(len(contenders), epochs):
        for at in alive:
            contenders[at].train(given)
        spent += size * given
        # the sort is stable, so that of equal ones the first goes on
        best_first = sorted(alive, key=lambda at: -contenders[at].merit)
        alive = sorted(best_first[: (size + 1) // 2])
        for at in best_first[(size + 1) // 2 :]:
            contenders[at].drop()
    merits = tuple(contender.merit for contender in contenders)
    if merits[alive[0]] == float("-inf"):
        raise ValueError(f"none of {len(contenders)} candidates gave finite outputs; lower the learning rates")
    return Race(alive[0], spent, merits)
