import threading
from collections.abc import Callable

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from neuroloom.scheduling import look_once

ENDED, SECONDS = 20, 10


class Scheduler:
    """What a timer of Snakemake's scheduler needs."""

    def __init__(self) -> None:
        self._open_jobs = threading.Semaphore(0)


class Timers:
    """Timers of one second each, on a clock that only the test moves on."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, delay: float, end: Callable[[], None]) -> "Timers":
        assert delay == 1
        self.started = end
        return self

    def start(self) -> None:
        self.waiting.append(self.started)

    def second(self) -> None:
        """All that wait end."""
        ended, self.waiting = self.waiting, []
        for end in ended:
            end()


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", JobScheduler._schedule_reevalutation)
    timers = Timers()
    monkeypatch.setattr(threading, "Timer", timers)
    return timers


def looks(timers: Timers) -> int:
    """Looks of a scheduler that leaves jobs waiting at each of them, after the end of twenty jobs."""
    scheduler, count = Scheduler(), 0
    scheduler._open_jobs.release(ENDED)
    for _ in range(1 + SECONDS):
        while scheduler._open_jobs.acquire(blocking=False):
            count += 1
            JobScheduler._schedule_reevalutation(scheduler, 1)
        timers.second()
    return count


def test_snakemake_looks_once_more_for_each_job_that_has_ended(timers: Timers) -> None:
    assert looks(timers) == ENDED * (1 + SECONDS), "Snakemake has changed this: see whether neuroloom.scheduling can go"


def test_it_looks_at_each_end_of_a_job_and_then_at_its_pace(timers: Timers) -> None:
    look_once()
    assert looks(timers) == ENDED + SECONDS
