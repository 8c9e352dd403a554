import threading
import time

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from neuroloom.scheduling import look_once


class Scheduler:
    """What a timer of Snakemake's scheduler needs."""

    def __init__(self) -> None:
        self._open_jobs = threading.Semaphore(0)


def looks_in(scheduler: Scheduler, seconds: float) -> int:
    """Looks of a scheduler that leaves jobs waiting at each of them."""
    end, count = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        if scheduler._open_jobs.acquire(timeout=left):
            count += 1
            JobScheduler._schedule_reevalutation(scheduler, 0.1)
    return count


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    """A scheduler to which twenty jobs have reported their end."""
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", JobScheduler._schedule_reevalutation)
    scheduler = Scheduler()
    scheduler._open_jobs.release(20)
    return scheduler


def test_snakemake_looks_once_more_for_each_job_that_has_ended(finished: Scheduler) -> None:
    assert looks_in(finished, 1.0) > 100, "Snakemake has mended this: neuroloom.scheduling can go"


def test_it_looks_at_each_end_of_a_job_and_then_at_its_pace(finished: Scheduler) -> None:
    look_once()
    assert 20 + 4 <= looks_in(finished, 1.0) <= 20 + 11
