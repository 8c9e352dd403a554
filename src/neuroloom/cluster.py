"""What jobs on a cluster need beyond Snakemake's own: resources that grow, and an executor that keeps its jobs.

Snakemake's SLURM executor (2.8.0) drops the jobs that it watches when all of its questions fail, as they do while the
controller is restarted, and then waits for ever; it also waits for ever for a job that SLURM does not know any more.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

LOST_AFTER = 120.0  # s that squeue answers without a job, which it lists from the moment of its submission
SUBMIT_WITHIN = 1800.0  # s that a submission waits for the controller
ASK_TIMEOUT = 60.0  # s


def growing(start: int) -> Callable[[Any, int], int]:
    """Resource of a rule that grows by its first value at each retry: a job that ran out of it is not lost.

    Parameters
    ----------
    start : int
        What the first attempt gets (MB, minutes).
    """

    def grown(wildcards: Any, attempt: int) -> int:
        return start * attempt

    return grown


def run_tasks(
    module: str,
    settings: Mapping[str, Any],
    run: Callable[[Mapping[str, Any]], None],
    *,
    file: Path,
    resources: Any,
    threads: int,
) -> None:
    """Run a function here; or, where the rule has tasks on nodes, its module once in each of them, through `srun`.

    Parameters
    ----------
    module : str
        Its `__main__` reads settings from the file that it is given, and runs the function.
    settings : mapping
        What can be written as JSON.
    run : callable
        The function.
    file : Path
        Where the settings are written for the tasks.
    resources : object
        Those of the job (`snakemake.resources`): `nodes`, and `tasks` or `tasks_per_node`.
    threads : int
        Of each task.
    """
    nodes = int(resources.get("nodes", 1))
    per_node = int(resources.get("tasks_per_node", 0)) or int(resources.get("tasks", 1)) // nodes
    if nodes * per_node == 1:
        run(settings)
        return
    file.write_text(json.dumps(settings))
    # by its name for a node: Fabric refuses --ntasks
    words = ["srun", f"--nodes={nodes}", f"--ntasks-per-node={per_node}", "--kill-on-bad-exit=1"]
    words += [f"--cpus-per-task={threads}", sys.executable, "-m", module, str(file)]
    subprocess.run(words, check=True)


def keep_slurm_jobs() -> None:
    """Make the SLURM executor of this Snakemake a `patient` one; without the plugin there is nothing to do."""
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    plugin = ExecutorPluginRegistry().plugins.get("slurm")
    if plugin:
        plugin.executor = patient(plugin.executor)


def patient(executor: type[Any]) -> type[Any]:
    """An executor that watches each job until it has reported its end, and reports those that SLURM has lost.

    Parameters
    ----------
    executor : type
        Executor of snakemake-executor-plugin-slurm.
    """

    class Patient(executor):  # type: ignore[misc]
        def __init__(self, workflow: Any, logger: Any) -> None:
            # first: the thread that watches is started by the other __init__
            self.settled: set[str] = set()
            self.absence = Absence()
            super().__init__(workflow, logger)

        def run_job(self, job: Any) -> None:
            if not answers():
                self.logger.warning("SLURM does not answer: jobs are submitted when it does")
                wait_for_controller(SUBMIT_WITHIN)
            super().run_job(job)

        def report_job_success(self, job_info: Any) -> None:
            self.settled.add(job_info.external_jobid)
            super().report_job_success(job_info)

        def report_job_error(self, job_info: Any, msg: str | None = None, **more: Any) -> None:
            self.settled.add(job_info.external_jobid)
            super().report_job_error(job_info, msg=msg, **more)

        async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
            self.settled.clear()  # a controller that has lost its state gives numbers again
            # what it keeps is not asked: it may have forgotten some
            async for _ in super().check_active_jobs(active_jobs):
                pass
            left = [job for job in active_jobs if job.external_jobid not in self.settled]
            known = await jobs_of(self.run_uuid) if left else set()
            if known is None:
                self.logger.warning(f"SLURM does not answer: {len(left)} jobs are waited for until it does")
            lost = self.absence.lost([job.external_jobid for job in left], known, time.monotonic())
            for job in left:
                if job.external_jobid in lost:
                    self.report_job_error(job, msg=explain(job.external_jobid))
                else:
                    yield job

    return Patient


class Absence:
    """How long SLURM has answered without a job."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}

    def lost(self, watched: Collection[str], known: Collection[str] | None, now: float) -> set[str]:
        """Jobs that SLURM has not known for `LOST_AFTER` seconds; while it does not answer nothing is known.

        Parameters
        ----------
        watched : collection of str
            Jobs that have not ended yet.
        known : collection of str or None
            Jobs that it lists, ended or not (`jobs_of`).
        now : float
            s, of a clock that only goes forward.
        """
        absent = set() if known is None else {job for job in watched if job.split("_")[0] not in known}
        self.since = {job: self.since.get(job, now) for job in absent}
        return {job for job, since in self.since.items() if now - since >= LOST_AFTER}


async def jobs_of(run: str) -> set[str] | None:
    """Jobs of a run that SLURM knows, ended or not; None where it does not answer."""
    words = ["squeue", "--noheader", "--states=all", "--format=%A", f"--name={run}"]
    output = await asyncio.to_thread(ask, *words)
    return None if output is None else set(output.split())


def ask(*words: str) -> str | None:
    """What a command of SLURM says; None where it does not answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_TIMEOUT)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def wait_for_controller(seconds: float) -> None:
    """Wait until the controller answers, for so many seconds at most."""
    limit = time.monotonic() + seconds
    while not answers() and time.monotonic() < limit:
        time.sleep(5)


def answers() -> bool:
    """Whether the controller answers."""
    return ask("scontrol", "ping") is not None


def explain(job: str) -> str:
    """What is said of a job that is lost, and what to do."""
    return (
        f"SLURM job {job}: squeue has answered without it for {LOST_AFTER:.0f} s, so the controller has lost it. "
        "It is submitted again where retries are left (profiles/slurm); else run the same command again, which goes on "
        "from what is finished. "
    )
