"""The one place that says where passes over a corpus run: in threads, on a Dask scheduler, or in jobs of SLURM.

A pass is a map: one task for each recording, or piece of one, and results in the order of the items, whichever is ready
first. A task gets paths and numbers and reads stores by itself, with one thread, so that every sum has one order. Hence
results are equal to the bit wherever they are computed, by processors of one kind.
"""

from __future__ import annotations

import logging
import os
import platform
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from neuroloom.config import fill_environment
from neuroloom.passes.config import Placement
from neuroloom.provenance import source_digest, versions
from neuroloom.training.processes import count_processes, set_threads

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 500  # tasks handed to a cluster before their turn, whose results wait in its memory


class ClusterError(RuntimeError):
    """A Dask cluster that cannot be used; the message says which, what was found and what to do."""


class CorpusMap(Protocol):
    """A function like the builtin `map`, which is one."""

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        """Results in the order of the items."""


@contextmanager
def corpus_map(where: Placement) -> Iterator[CorpusMap]:
    """A map for the passes of one job.

    Functions that go to a cluster are those of modules, or `partial` of them: workers import them. Of several processes
    that train together each keeps to its threads, or each would ask for workers that do the same.

    Parameters
    ----------
    where : Placement

    Raises
    ------
    ClusterError
        On entry if the scheduler cannot be reached or SLURM would not take the workers' jobs; in a pass if a worker has
        other code or versions than this process, or a task has cost several workers their lives.
    """
    if where.scheduler == "threads" or max(count_processes(os.environ)) > 1:
        yield partial(_in_threads, where.threads)
    elif where.scheduler == "address":
        with _connected(fill_environment(str(where.address))) as client:
            yield partial(_on_cluster, client)
    else:
        from neuroloom.passes.slurm import slurm_client

        with slurm_client(where) as client:
            yield partial(_on_cluster, client)


def in_order(
    submit: Callable[[Callable[[Item], Result], Item], Any],
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: int,
) -> Iterator[Result]:
    """Results in the order of the items, with so many tasks under way that no more than `ahead` wait to be taken."""
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _in_threads(threads: int, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    from concurrent.futures import ThreadPoolExecutor

    if threads == 1:
        yield from map(function, items)
        return
    set_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            last = yield from _all_but_last(in_order(pool.submit, function, items, ahead=threads))
    finally:
        set_threads(threads)
    yield from last  # only now: who counts results does not ask for the end of them


def _all_but_last(results: Iterator[Result]) -> Generator[Result, None, list[Result]]:
    """Results but for the last one, which is returned."""
    last: list[Result] = []
    for result in results:
        yield from last
        last = [result]
    return last


def _on_cluster(client: Client, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    from distributed import KilledWorker

    module = str(getattr(function, "func", function).__module__)
    task = partial(_task, function, module, installed(module))
    # without pure=False, equal names of tasks would share a result that is of another study
    submit = partial(client.submit, pure=False)
    try:
        yield from in_order(submit, task, items, ahead=AHEAD)
    except KilledWorker as error:
        raise ClusterError(
            f"several Dask workers died at one recording, most often for want of memory ({error}). Give each more of it"
        ) from error


def _task(function: Callable[[Item], Result], module: str, wanted: tuple[tuple[str, str], ...], item: Item) -> Result:
    _check_worker(module, wanted)
    return function(item)


@cache
def _check_worker(module: str, wanted: tuple[tuple[str, str], ...]) -> None:
    """Once in each worker: is it made of the same code? And let it compute with one thread."""
    found = dict(installed(module))
    other = [f"{name} {found.get(name)}, not {version}" for name, version in wanted if found.get(name) != version]
    if other:
        raise ClusterError(
            f"the Dask worker on {platform.node()} has {'; '.join(other)}. Start workers from the environment and the"
            " checkout that run the study"
        )
    set_threads(1)


def installed(module: str) -> tuple[tuple[str, str], ...]:
    """Versions of Python and libraries, and the digest of a module with what it imports: what results depend on."""
    facts = {**versions(), "python": platform.python_version(), "code": source_digest(module)[:12]}
    return tuple(sorted(facts.items()))


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    import asyncio

    from distributed import Client

    try:
        asyncio.run(_reach(address))
    except (OSError, TypeError, ValueError) as error:
        raise ClusterError(
            f"dask.address {address}: no Dask scheduler can be used there ({error}). Start one (dask scheduler),"
            " correct the address, or set dask.scheduler: threads"
        ) from error
    with Client(address, set_as_default=False) as client:
        n_workers = len(client.scheduler_info()["workers"])
        logger.info("passes over the corpus run at %s, which has %d workers", address, n_workers)
        yield client


async def _reach(address: str) -> None:
    """Shake hands with a scheduler; a client that failed to would hang when it is deleted."""
    from distributed.comm.core import connect
    from distributed.security import Security

    comm = await connect(address, **Security().get_connection_args("client"))
    await comm.close()
