"""A site's side of a round: what it keeps, what it sends, and what privacy costs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.federation import SETTINGS, TASK, Study, fresh

from neuroloom.federated.accounting import BudgetError, read_ledger, spent_epsilon
from neuroloom.federated.comparing import compare
from neuroloom.federated.config import PrivacyConfig, StrategyConfig
from neuroloom.federated.network import state_of
from neuroloom.federated.server import serve
from neuroloom.federated.training import falling
from neuroloom.federated.wire import digest
from neuroloom.schema import ConfigError

PRIVACY = PrivacyConfig(noise_multiplier=4.0, sample_rate=0.5, delta=1e-3, max_epsilon=10.0, noise="seeded")


def test_rates_rise_and_fall_to_nothing_at_the_last_step() -> None:
    rate = falling(100)
    values = [rate(step) for step in range(100)]
    assert values[0] == pytest.approx(0.1)
    assert np.argmax(values) in (9, 10)
    assert 0 < values[-1] < 1e-3


def test_the_schedule_runs_over_all_rounds_and_the_optimizer_keeps_its_state(set_up: Callable[..., Any]) -> None:
    """Three rounds of one pass are one round of three passes, as long as nobody else is there."""
    one, three = (fresh(set_up(name=f"{n}", rounds=n, local_epochs=3 // n).files[0]) for n in (1, 3))
    start = state_of(one.network, one.shared)
    whole = one.round(1, start).tensors
    parts = start
    for number in (1, 2, 3):
        parts = three.round(number, parts).tensors
    assert digest(whole) == digest(parts)


def test_a_site_killed_between_rounds_goes_on_to_the_bit(set_up: Callable[..., Any]) -> None:
    setup = set_up("fedbn", rounds=3)
    whole, first = fresh(setup.files[0]), fresh(setup.files[1])
    state = state_of(whole.network, whole.shared)
    expected = state
    for number in (1, 2, 3):
        expected = whole.round(number, expected).tensors
    elsewhere = setup.files[0].model_copy(update={"state": setup.files[1].state})
    for number in (1, 2, 3):
        first = fresh(elsewhere)  # a new process each time
        update = first.round(number, state)
        state = update.tensors
        assert update.started_from == number - 1
    assert digest(state) == digest(expected)
    for name, value in first.network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), whole.network.state_dict()[name].numpy())


def test_a_round_that_failed_halfway_is_taken_up_from_its_beginning(
    set_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own weights and optimizer of half a round are not what the next try starts from."""
    found = []
    for fails in (False, True):
        site = fresh(set_up("personal", name=f"fails-{fails}", rounds=3, local_epochs=2).files[0])
        tensors = state_of(site.network, site.shared)
        for number in (1, 2, 3):
            if fails and number == 2:
                learn, calls = site.training.learn, []

                def broken(learn: Any = learn, calls: Any = calls) -> float:
                    calls.append(learn())
                    raise OSError("the disk is full")

                with monkeypatch.context() as patch:
                    patch.setattr(site.training, "learn", broken)
                    with pytest.raises(OSError, match="full"):
                        site.round(number, tensors)
            tensors = site.round(number, tensors).tensors
        found.append(digest({name: np.asarray(one) for name, one in site.network.state_dict().items()}))
    assert found[0] == found[1]


def test_what_has_no_noise_in_it_stays_at_the_site(set_up: Callable[..., Any]) -> None:
    setup = set_up("personal", privacy=PRIVACY)
    result = serve(setup.grid(), setup.server)
    for row in result["rounds"]:
        assert row["status"] == "used"
        assert row["n_windows"] == 1
        assert np.isnan(row["loss"])
        assert np.isnan(row["validation"])
        assert 0 < row["epsilon"] < 10
    heads = [state_of(fresh(file).network, ("head.mean_D", "head.scale_D")) for file in setup.files]
    assert digest(heads[0]) == digest(heads[1]) == digest(heads[2])  # nothing in them is of a site


def test_privacy_is_charged_for_the_whole_run_before_its_first_step(set_up: Callable[..., Any]) -> None:
    setup = set_up("personal", privacy=PRIVACY, rounds=3, local_epochs=2)
    site = fresh(setup.files[0])
    update = site.round(1, state_of(site.network, site.shared))
    expected = spent_epsilon(noise_multiplier=4.0, sample_rate=0.5, n_steps=3 * 2 * 2, delta=1e-3)
    assert update.epsilon == pytest.approx(expected)
    (entry,) = read_ledger(Path(setup.files[0].ledger))
    assert (entry.site, entry.n_steps, entry.n_subjects, entry.seeded) == ("s/north", 12, 1, True)
    site.round(2, update.tensors)
    assert len(read_ledger(Path(setup.files[0].ledger))) == 1  # one run is charged once


def test_runs_add_up_until_the_budget_stops_one(set_up: Callable[..., Any]) -> None:
    privacy = PRIVACY.model_copy(update={"max_epsilon": 2.0})
    spent: list[float] = []

    def run(number: int) -> None:
        site = fresh(set_up("personal", name=f"n{number}", privacy=privacy, rounds=2 + number).files[0])
        spent.append(site.round(1, state_of(site.network, site.shared)).epsilon)

    for number in range(3):
        run(number)
    assert spent == sorted(spent)
    with pytest.raises(BudgetError, match="s/north has spent epsilon 1"):
        run(3)
    assert max(spent) <= 2.0


def test_an_arm_over_its_budget_is_a_row_with_the_reason(federation: Study, tmp_path: Path) -> None:
    privacy = PRIVACY.model_copy(update={"max_epsilon": 0.1})
    arms = {"dp": StrategyConfig(kind="personal", privacy=privacy)}
    tables = compare(
        name="dp",
        config=SETTINGS.model_copy(update={"strategies": arms, "task": "work", "attacks": False}),
        task=TASK,
        rows=federation.rows,
        manifests=federation.manifests,
        split_file=federation.split_file,
        model=federation.model,
        folder=tmp_path,
        ledgers=tmp_path / "privacy",
        fold=0,
        seed=7,
    )
    assert tables["scores"]["score"].isna().all()
    assert "epsilon" in tables["scores"]["note"].iloc[0]


def test_secret_noise_differs_and_seeded_noise_repeats_itself(set_up: Callable[..., Any]) -> None:
    found = {}
    for noise in ("seeded", "secret"):
        privacy = PRIVACY.model_copy(update={"noise": noise})
        for number in range(2):
            site = fresh(set_up("personal", name=f"{noise}-{number}", privacy=privacy).files[0])
            tensors = site.round(1, state_of(site.network, site.shared)).tensors
            found[noise, number] = digest(tensors)
    assert found["seeded", 0] == found["seeded", 1]
    assert found["secret", 0] != found["secret", 1]


def test_batch_norm_and_privacy_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="batch norm of fleeg mixes people"):
        StrategyConfig(kind="fleeg", network="fleeg", privacy=PRIVACY)


def test_privacy_without_a_ledger_does_not_start(set_up: Callable[..., Any]) -> None:
    file = set_up("personal", privacy=PRIVACY).files[0].model_copy(update={"ledger": None})
    site = fresh(file)
    with pytest.raises(ConfigError, match="names no ledger"):
        site.round(1, state_of(site.network, site.shared))
