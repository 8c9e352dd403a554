"""Privacy that is spent is bounded from above, adds up, and is never forgotten."""

import json
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm

from neuroloom.config import ConfigError
from neuroloom.federated.accounting import (
    ORDERS,
    BudgetError,
    Release,
    _divergence,
    charge,
    ledger_table,
    read_ledger,
    spent_epsilon,
    total_epsilon,
)
from neuroloom.manifest import ArtifactError

FORKED = multiprocessing.get_context("fork")
BUDGET = {"max_epsilon": 20.0, "delta": 1e-4}


def release(run: str = "a", **changed: object) -> Release:
    given = {
        "run": run,
        "site": "demo/north",
        "noise_multiplier": 4.0,
        "sample_rate": 0.25,
        "n_steps": 40,
        "clip_norm": 1.0,
        "n_subjects": 12,
        "seeded": False,
        "when": "2026-01-01",
    }
    return Release.model_validate(given | changed)


def leak(epsilon: float, *, noise: float, rate: float) -> float:
    """The smallest delta of one step at this epsilon, exact: the larger of the two directions, by quadrature."""
    # densities of the sum with and without one person, whose part has norm 1
    z_N = np.linspace(-12 * noise, 1 + 12 * noise, 100_001)
    without_N = norm.pdf(z_N, 0, noise)
    with_N = (1 - rate) * without_N + rate * norm.pdf(z_N, 1, noise)
    pairs = ((with_N, without_N), (without_N, with_N))
    return max(float(np.trapezoid(np.maximum(p_N - np.exp(epsilon) * q_N, 0), z_N)) for p_N, q_N in pairs)


@pytest.mark.parametrize("noise", [0.7, 2.0, 10.0])
@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
def test_one_step_is_bounded_from_above(noise: float, rate: float) -> None:
    """For a rate of 1 this is the analytic Gaussian mechanism (Balle and Wang 2018, arXiv 1805.06530, theorem 8).

    One step at a low rate is where Rényi divergences are far from tight (twice as much and more): not bounded here.
    """
    if rate == 1:
        at = 0.8
        closed = norm.cdf(0.5 / noise - at * noise) - np.exp(at) * norm.cdf(-0.5 / noise - at * noise)
        assert leak(at, noise=noise, rate=rate) == pytest.approx(closed, rel=1e-3, abs=1e-12)
    delta = 1e-4
    exact = (
        brentq(lambda epsilon: leak(epsilon, noise=noise, rate=rate) - delta, 0, 40)
        if leak(0, noise=noise, rate=rate) > delta
        else 0.0
    )
    bound = spent_epsilon(noise_multiplier=noise, sample_rate=rate, n_steps=1, delta=delta)
    assert exact <= bound
    if rate == 1:
        assert bound <= 1.35 * exact + 0.1


@pytest.mark.parametrize(("noise", "rate", "n_steps"), [(4.0, 0.25, 100), (1.0, 0.05, 200), (6.0, 0.5, 40)])
def test_many_steps_are_bounded_closely(noise: float, rate: float, n_steps: int) -> None:
    """Against the numerical composition of privacy losses (Gopi et al. 2021, arXiv 2106.02848), exact to 0.02 here."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise, rate, n_steps)]
    exact = accountant.get_epsilon(delta=1e-4, eps_error=0.02)
    bound = spent_epsilon(noise_multiplier=noise, sample_rate=rate, n_steps=n_steps, delta=1e-4)
    assert exact - 0.02 <= bound <= 1.2 * exact


@pytest.mark.parametrize(("noise", "rate"), [(0.5, 0.1), (1.0, 0.3), (4.0, 0.5), (2.0, 0.9)])
def test_divergences_are_those_of_quadrature(noise: float, rate: float) -> None:
    for at in (0, 4, 30, 98, 99, 140, len(ORDERS) - 1):
        z_N = np.linspace(-40 * noise, ORDERS[at] + 40 * noise, 400_001)
        log_ratio_N = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * z_N - 1) / (2 * noise**2))
        log_mean = logsumexp(ORDERS[at] * log_ratio_N + norm.logpdf(z_N, scale=noise)) + np.log(z_N[1] - z_N[0])
        assert _divergence(noise, rate)[at] == pytest.approx(log_mean / (ORDERS[at] - 1), rel=1e-4, abs=1e-8)


def test_the_sum_is_that_of_opacus() -> None:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    for noise, rate, n_steps in ((1.5, 0.1, 60), (3.0, 0.3, 20)):
        for _ in range(n_steps):
            accountant.step(noise_multiplier=noise, sample_rate=rate)
    found = total_epsilon(
        [
            release(noise_multiplier=1.5, sample_rate=0.1, n_steps=60),
            release("b", noise_multiplier=3.0, sample_rate=0.3, n_steps=20),
        ],
        delta=1e-5,
    )
    assert found == pytest.approx(accountant.get_epsilon(delta=1e-5), rel=1e-9)


def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta() -> None:
    usual = {"noise_multiplier": 2.0, "sample_rate": 0.3, "n_steps": 50, "delta": 1e-4}
    for name, values in {
        "n_steps": (0, 1, 10, 100, 1000),
        "sample_rate": (0.01, 0.1, 0.6, 1.0),
        "noise_multiplier": (50.0, 5.0, 1.0, 0.3, 0.0),
        "delta": (1e-2, 1e-4, 1e-8),
    }.items():
        found = [spent_epsilon(**(usual | {name: value})) for value in values]
        assert (np.diff(found) > 0).all()
    assert spent_epsilon(**(usual | {"n_steps": 0})) == 0
    assert spent_epsilon(**(usual | {"noise_multiplier": 0.0})) == float("inf")
    assert total_epsilon([release(), release("b", noise_multiplier=0.0)], delta=1e-4) == float("inf")
    assert spent_epsilon(noise_multiplier=1e4, sample_rate=0.5, n_steps=1, delta=0.1) == 0  # never below


@pytest.mark.parametrize(
    "wrong", [{"noise_multiplier": -1.0}, {"sample_rate": 0.0}, {"sample_rate": 1.1}, {"n_steps": -1}, {"delta": 1.0}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give noise and steps of 0 or more"):
        spent_epsilon(**({"noise_multiplier": 1.0, "sample_rate": 0.5, "n_steps": 1, "delta": 1e-3} | wrong))


def test_runs_add_up_and_the_report_says_what_they_cost(tmp_path: Path) -> None:
    ledger = tmp_path / "state" / "ledger.jsonl"
    assert read_ledger(ledger) == ()
    totals = [charge(ledger, release(name), **BUDGET) for name in "abc"]
    alone = spent_epsilon(noise_multiplier=4.0, sample_rate=0.25, n_steps=40, delta=1e-4)
    assert totals[0] == pytest.approx(alone)
    assert totals[2] == pytest.approx(
        spent_epsilon(noise_multiplier=4.0, sample_rate=0.25, n_steps=120, delta=1e-4), rel=1e-9
    )
    assert alone < totals[1] < totals[2] < 3 * alone
    assert [past.run for past in read_ledger(ledger)] == ["a", "b", "c"]
    charge(ledger, release("d", seeded=True), **BUDGET)
    table = ledger_table(ledger, delta=1e-4)
    assert table["epsilon_total"][:3].tolist() == pytest.approx(totals)
    assert table["epsilon"][2] == pytest.approx(alone)
    assert table["note"].str.contains("protects nobody").tolist() == [False, False, False, True]
    assert ledger_table(tmp_path / "none", delta=1e-4).empty


def test_a_run_above_the_budget_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    spent = charge(ledger, release(), max_epsilon=3.0, delta=1e-4)
    before = ledger.read_bytes()
    with pytest.raises(BudgetError, match=rf"demo/north has spent epsilon {spent:.3g} .* add .* budget is 3;"):
        charge(ledger, release("b", n_steps=400), max_epsilon=3.0, delta=1e-4)
    assert ledger.read_bytes() == before
    with pytest.raises(ConfigError, match="would add inf"):
        charge(tmp_path / "new.jsonl", release(noise_multiplier=0.0), max_epsilon=1e9, delta=1e-4)
    assert not (tmp_path / "new.jsonl").exists()
    with pytest.raises(BudgetError, match="add 0, and the budget is 1"):  # lowered since: nor may it go on
        charge(ledger, release(), max_epsilon=1.0, delta=1e-4)


def test_a_run_that_goes_on_is_charged_once_unless_it_changed(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    spent = charge(ledger, release(), **BUDGET)
    before = ledger.read_bytes()
    assert charge(ledger, release(when="2026-02-02"), **BUDGET) == spent
    assert ledger.read_bytes() == before
    with pytest.raises(ConfigError, match="run a was started with n_steps 40, not 80"):
        charge(ledger, release(n_steps=80), **BUDGET)
    with pytest.raises(ConfigError, match="seeded False, not True"):
        charge(ledger, release(seeded=True), **BUDGET)
    with pytest.raises(ConfigError, match="the ledger is of demo/north, not of demo/south"):
        charge(ledger, release("b", site="demo/south"), **BUDGET)
    with pytest.raises(ConfigError, match=r"delta 0\.1 with 12 subjects"):
        charge(ledger, release("b"), max_epsilon=20.0, delta=0.1)
    assert ledger.read_bytes() == before


def test_steps_that_are_answered_twice_with_new_noise_cost_twice(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    charge(ledger, release(), **BUDGET)
    total = charge(ledger, release(), redrawn=10, **BUDGET)
    assert total == pytest.approx(
        spent_epsilon(noise_multiplier=4.0, sample_rate=0.25, n_steps=50, delta=1e-4), rel=1e-9
    )
    assert [(past.run, past.n_steps, past.redrawn) for past in read_ledger(ledger)] == [
        ("a", 40, False),
        ("a", 10, True),
    ]
    assert charge(ledger, release(), redrawn=0, **BUDGET) == total
    with pytest.raises(BudgetError, match="would add"):
        charge(ledger, release(), redrawn=10_000, **BUDGET)
    seeded = tmp_path / "seeded.jsonl"
    once = charge(seeded, release(seeded=True), **BUDGET)
    assert charge(seeded, release(seeded=True), redrawn=10, **BUDGET) == once


@pytest.mark.parametrize(
    "damage",
    [
        b'{"run": "b", "site": "demo/no',  # a line that was cut off
        b"",
        json.dumps(release("b").model_dump() | {"n_steps": -3}).encode(),
        json.dumps(release("b").model_dump() | {"extra": 1}).encode(),
        json.dumps({"run": "b"}).encode(),
        b'{"run": "b", "noise_multiplier": NaN}',
    ],
)
def test_a_damaged_line_stops_everything_by_its_number(tmp_path: Path, damage: bytes) -> None:
    ledger = tmp_path / "ledger.jsonl"
    charge(ledger, release(), **BUDGET)
    ledger.write_bytes(ledger.read_bytes() + damage + b"\n" + ledger.read_bytes())
    spoilt = ledger.read_bytes()
    with pytest.raises(ArtifactError, match=r"ledger\.jsonl, line 2: no release"):
        read_ledger(ledger)
    with pytest.raises(ArtifactError, match=r"Bring ledger\.jsonl back"):
        charge(ledger, release("c"), **BUDGET)
    assert ledger.read_bytes() == spoilt
    ledger.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="not text"):
        read_ledger(ledger)


def _charge_many(ledger: Path, names: list[str], barrier: Barrier) -> None:
    barrier.wait()
    for name in names:
        charge(ledger, release(name, n_steps=1), max_epsilon=1000.0, delta=1e-4)


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    ledger, barrier = tmp_path / "ledger.jsonl", FORKED.Barrier(2)
    spent_epsilon(noise_multiplier=4.0, sample_rate=0.25, n_steps=1, delta=1e-4)  # known to both from here
    names = [[f"{process}{at}" for at in range(25)] for process in "ab"]
    workers = [FORKED.Process(target=_charge_many, args=(ledger, some, barrier)) for some in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(past.run for past in read_ledger(ledger)) == sorted(names[0] + names[1])


def _charge_and_tell(ledger: Path, told: Connection) -> None:
    for at in range(10_000):
        charge(ledger, release(f"run{at}", n_steps=1), max_epsilon=1e6, delta=1e-4)
        told.send(at)


def test_a_process_that_is_killed_leaves_all_that_it_was_allowed(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    spent_epsilon(noise_multiplier=4.0, sample_rate=0.25, n_steps=1, delta=1e-4)
    here, there = FORKED.Pipe(duplex=False)
    worker = FORKED.Process(target=_charge_and_tell, args=(ledger, there))
    worker.start()
    there.close()
    allowed = [here.recv() for _ in range(20)]
    os.kill(int(worker.pid or 0), signal.SIGKILL)
    worker.join(60)
    try:
        while here.poll(1):
            allowed.append(here.recv())
    except EOFError:
        pass
    noted = [past.run for past in read_ledger(ledger)]
    assert noted[: len(allowed)] == [f"run{at}" for at in allowed]
    assert len(noted) <= len(allowed) + 1
    charge(ledger, release("next"), max_epsilon=1e6, delta=1e-4)  # the lock of the dead holds nobody
    assert read_ledger(ledger)[-1].run == "next"
