"""How often Snakemake's scheduler looks for jobs to start: once a second, and when a job has ended.

Snakemake 9.27 sets a timer at each look that leaves jobs waiting. The look that a finished job causes sets one more,
which goes on for ever: after 200 jobs it looks up to 200 times a second, which is a tenth of a core that jobs lack.
"""

from __future__ import annotations

import threading
from typing import Any


def look_once() -> None:
    """Let the scheduler of this Snakemake set no second timer while one runs."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    JobScheduler._schedule_reevalutation = _look_later


def _look_later(scheduler: Any, delay: float) -> None:
    def look() -> None:
        scheduler.looks_later = False
        scheduler._open_jobs.release()

    if not getattr(scheduler, "looks_later", False):
        scheduler.looks_later = True
        timer = threading.Timer(delay, look)
        timer.daemon = True  # a Snakemake that is done does not wait for it
        timer.start()
