"""A trial in a child process: a reader that dies, hangs or asks for too much memory takes nothing else with it.

Readers of foreign formats are libraries, some of them in C. A header of a few bytes can make them ask for petabytes, or
kill the process (SciPy 1.17 on a damaged MATLAB file). A child that is forked for the attempt, with little memory and
little time, costs 20 ms and the opening of the file a second time.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import resource
import signal
from collections.abc import Callable
from typing import Any

BYTES, BYTES_PER_BYTE = 2**30, 32  # what a reader may ask for: this, and so much for each byte of the file
SECONDS, SECONDS_PER_BYTE = 60.0, 1e-6
_OUT_OF_MEMORY = 77
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)  # no reader does that to itself


def find_harm(read: Callable[[], Any], *, size: int) -> str:
    """Call a function in a child.

    Parameters
    ----------
    read : callable
        What it returns is thrown away, and so is what it raises: it will do the same again when it is called here.
    size : int
        Bytes of the files that it reads.

    Returns
    -------
    str
        What it did that must not happen here, in words; empty where there is nothing to fear.

    Raises
    ------
    RuntimeError
        The child was killed, of which the file knows nothing.
    """
    seconds, memory = round(SECONDS + size * SECONDS_PER_BYTE), BYTES + size * BYTES_PER_BYTE
    child = multiprocessing.get_context("fork").Process(target=_attempt, args=(read, seconds, memory), daemon=True)
    child.start()
    child.join()
    if child.exitcode in _FROM_OUTSIDE:
        raise RuntimeError(
            f"the trial of a file was killed (signal {-child.exitcode}), by somebody or for want of memory; run again"
        )
    harm = {
        _OUT_OF_MEMORY: f"it asks for more than {memory / 2**30:.1f} GiB of memory, a file of {size} bytes",
        -signal.SIGXCPU: f"its reader does not come to an end in {seconds} s",
        0: "",
    }
    return harm.get(child.exitcode or 0, f"its reader breaks down over it (exit code {child.exitcode})")


def _attempt(read: Callable[[], Any], seconds: int, memory: int) -> None:
    import psutil

    faulthandler.disable()
    logging.disable()  # what is to be said is said when it is read for good
    _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + memory)
    _limit(resource.RLIMIT_CPU, seconds)  # not by the clock: a busy machine is no attack
    _limit(resource.RLIMIT_CORE, 0)
    try:
        read()
    except MemoryError:
        raise SystemExit(_OUT_OF_MEMORY) from None
    except Exception:  # the reader will raise it again where it can be said
        return


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
