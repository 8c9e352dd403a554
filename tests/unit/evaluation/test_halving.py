"""Halving leaves the best, spends what it says, and lets nobody in twice."""

from dataclasses import dataclass, field

import pytest

from neuroloom.evaluation.halving import cost, halve, schedule
from neuroloom.schema import ConfigError


@dataclass
class Runner:
    """Gets better with training, up to its own limit."""

    limit: float
    speed: float = 1.0
    epochs: int = 0
    dropped: bool = False
    given: list[int] = field(default_factory=list)

    @property
    def merit(self) -> float:
        return min(self.speed * self.epochs, self.limit)

    def train(self, epochs: int) -> None:
        assert not self.dropped
        self.epochs += epochs
        self.given.append(epochs)

    def drop(self) -> None:
        self.dropped = True


@pytest.mark.parametrize(("n", "epochs"), [(1, 1), (1, 20), (2, 7), (3, 20), (4, 20), (5, 30), (8, 3), (16, 100)])
def test_the_planted_best_wins_and_the_budget_is_the_stated_one(n: int, epochs: int) -> None:
    for best in range(n):
        runners = [Runner(limit=5.0 if at == best else 1.0, speed=2.0 if at == best else 1.0) for at in range(n)]
        race = halve(runners, epochs=epochs)
        assert race.winner == best
        assert race.n_epochs == sum(runner.epochs for runner in runners) == cost(n, epochs)
        assert runners[best].epochs == epochs
        assert [runner.dropped for runner in runners] == [at != best for at in range(n)]


def test_half_the_contenders_get_twice_the_epochs() -> None:
    assert schedule(4, 30) == [(4, 10), (2, 20)]
    assert schedule(8, 28) == [(8, 4), (4, 8), (2, 16)]
    assert schedule(5, 21)[0][0] == 5
    assert [size for size, _ in schedule(5, 21)] == [5, 3, 2]
    assert (cost(4, 30), cost(1, 30), cost(2, 30)) == (80, 30, 60)


def test_ties_go_to_the_first_and_slow_starters_are_lost() -> None:
    assert halve([Runner(1.0) for _ in range(4)], epochs=20).winner == 0
    late = [Runner(1.0, speed=1.0), Runner(9.0, speed=0.01), Runner(1.0), Runner(1.0)]
    assert halve(late, epochs=20).winner == 0  # what halving costs: it would have won in the end


def test_budgets_that_buy_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 epochs for 8 candidates, which meet in 3 rounds"):
        halve([Runner(1.0) for _ in range(8)], epochs=2)
    with pytest.raises(ConfigError, match="no candidate"):
        halve([], epochs=2)
    with pytest.raises(ValueError, match="none of 2 candidates gave finite outputs"):
        halve([Runner(float("-inf")), Runner(float("-inf"))], epochs=4)
