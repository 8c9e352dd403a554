"""Networks in training: a pause changes nothing, classes weigh the same, and the test part waits outside."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neuroloom.evaluation.examples import Group
from neuroloom.evaluation.networks import Budget, Goal, Learner, Training, drawn_from, tune

SETTING = (1e-2, 0.0)


def learner(rng: np.random.Generator, *, state: bool = False, **changes: Any) -> Learner:
    """Windows of two shapes; dropout needs random numbers in each step."""
    labels = np.arange(60) % 2
    x_WF = rng.standard_normal((60, 6)).astype(np.float32)
    x_WF[:, 0] += 2.0 * labels
    groups = [Group(np.arange(0, 60, 2), (torch.from_numpy(x_WF[::2]),))]
    groups += [Group(np.arange(1, 60, 2), (torch.from_numpy(x_WF[1::2]),))]
    parts = {"train": np.arange(30), "validation": np.arange(30, 45), "test": np.arange(45, 60)}
    with drawn_from(5):
        network = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 2))
    given = {"parts": parts, "setting": SETTING, "seed": 3, "batch_size": 8, **changes}
    goal = Goal(labels, n_classes=2, trained_N=parts["train"])
    return Learner(Training(network, groups, goal, **given), state=state)


def test_a_pause_changes_nothing() -> None:
    whole, paused = learner(np.random.default_rng(1)), learner(np.random.default_rng(1))
    whole.train(6)
    for _ in range(3):
        paused.train(2)
        torch.rand(7)
    assert (whole.training.predict("test") == paused.training.predict("test")).all()
    assert (whole.merit, whole.best_epoch) == (paused.merit, paused.best_epoch)


def test_the_best_epoch_is_kept_and_ties_go_to_the_earlier(rng: np.random.Generator) -> None:
    one = learner(rng, state=True)
    merits, kept = [], []
    for _ in range(12):
        one.train(1)
        merits.append(one.training.merit("validation"))
        kept.append(one.training.predict("test"))
    assert one.best_epoch == int(np.argmax(merits)) + 1
    assert (one.test_NL == kept[one.best_epoch - 1]).all()
    assert one.merit == max(merits)
    assert set(one.state) == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_classes_weigh_the_same_in_the_loss() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    goal = Goal(labels, n_classes=2, trained_N=np.arange(100))
    logits = torch.zeros(100, 2, requires_grad=True)
    goal.loss(logits, np.arange(100)).backward()
    pulled = logits.grad.numpy()[:, 1]  # type: ignore[union-attr]
    assert pulled[:90].sum() == pytest.approx(-pulled[90:].sum(), rel=1e-5)


def test_values_come_back_in_their_own_unit() -> None:
    values = np.array([20.0, 30.0, 40.0, 50.0])
    goal = Goal(values, n_classes=0, trained_N=np.arange(2))
    assert goal.read(torch.tensor([[-1.0], [1.0]]))[:, 0] == pytest.approx([20.0, 30.0])
    assert goal.merit(np.arange(2), np.array([[21.0], [29.0]])) == pytest.approx(-1.0)
    assert goal.merit(np.arange(1), np.array([[np.nan]])) == float("-inf")


def test_a_part_learns_slower_where_it_shall(rng: np.random.Generator) -> None:
    one = learner(rng, slow={"0.": 0.0})
    before = one.training.network[0].weight.clone()
    one.train(2)
    assert torch.equal(one.training.network[0].weight, before)
    assert one.n_trained == 6 * 16 + 16 + 32 + 2


def test_settings_that_diverge_lose(rng: np.random.Generator) -> None:
    settings = [(float("inf"), 0.0), SETTING]
    made = [learner(np.random.default_rng(1), setting=setting) for setting in settings]
    winner, n_epochs, rule = tune(made, settings, epochs=6)
    assert winner is made[1]
    assert n_epochs == 12
    assert "learning rate 0.01, weight decay 0 of 2 settings" in rule


def test_each_reader_has_as_many_candidates() -> None:
    budget = Budget(candidates=4)
    assert len(budget.settings) == len(budget.strengths) == len(budget.components) == len(budget.shrinkages) == 4
    assert budget.strengths == tuple(sorted(budget.strengths, reverse=True))
    assert len(Budget(candidates=8).settings) == 8
