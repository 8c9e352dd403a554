"""Stops jobs of a workflow in the middle: Python imports this module at its start where its folder is on PYTHONPATH.

Of each rule, the first job is killed when it opens its second file for writing (or at its end, with fewer). The next
one waits at its fourth until it is killed with its Snakemake, or until a later run has begun the same job beside it.
A job that does not wait has a file with its number.
"""

import atexit
import os
import re
import signal
import sys
import time
from pathlib import Path

KILLED_AT, WAITS_AT = 2, 4
PATIENCE = 900.0  # s, after which a job that was forgotten goes on
WRITING = os.O_WRONLY | os.O_RDWR
SCRIPT = re.compile(r"\.snakemake/scripts/tmp\w+\.(\w+)\.py$")


class Stop:
    """Counts the files that a job opens for writing, and stops it."""

    def __init__(self, rule: str, state: Path) -> None:
        self.rule, self.state, self.count, self.process = rule, state, 0, os.getpid()
        self.busy = state / f"{self.process}.busy"
        self.busy.touch()
        if (state / f"{rule}.waits").exists():
            (state / f"{rule}.goes").touch()

    def __call__(self, event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[2], int) and args[2] & WRITING and "results/" in os.fsdecode(args[0]):
            self.count += 1
            self.stop(self.count)

    def stop(self, count: int = 99) -> None:
        if os.getpid() != self.process:
            return  # a child that the job has forked
        if count >= KILLED_AT and self.claims("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if count >= WAITS_AT and self.claims("waits"):
            self.busy.unlink(missing_ok=True)
            end = time.monotonic() + PATIENCE
            while not (self.state / f"{self.rule}.goes").exists() and time.monotonic() < end:
                time.sleep(0.05)
            self.busy.touch()

    def end(self) -> None:
        """A job that opened few files stops here; then it is busy no more."""
        self.stop()
        if os.getpid() == self.process:
            self.busy.unlink(missing_ok=True)

    def claims(self, what: str) -> bool:
        """Whether this job is the first of its rule to come here."""
        try:
            os.close(os.open(self.state / f"{self.rule}.{what}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def arm(script: str) -> None:
    """Stop this process if it runs the script of a job; it may read it more than once."""
    state = Path(os.environ["NEUROLOOM_FAULTS"])
    if (job := SCRIPT.search(script)) and not (state / f"{os.getpid()}.busy").exists():
        stop = Stop(job[1], state)
        atexit.register(stop.end)
        sys.addaudithook(stop)


def arm_fork(event: str, args: tuple) -> None:
    """A forked job (`neuroloom.forking`) is known by the script that it reads; Snakemake writes it."""
    if event == "open" and isinstance(args[0], str) and not args[2] & WRITING:
        arm(args[0])


if "NEUROLOOM_FAULTS" in os.environ:
    if "neuroloom.forking" in sys.orig_argv:
        sys.addaudithook(arm_fork)
    else:
        arm(sys.orig_argv[-1])
