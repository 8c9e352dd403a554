"""Processes of a federation: started in folders and groups of their own, and ended with everything they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

LOOPBACK = "127.0.0.1"
START_SECONDS = 180.0  # libraries of a busy machine or a shared disk may take a minute
STOP_SECONDS = 6.0  # Flower gives its own clean-up five
ORPHAN_SECONDS = 1.5  # what Flower starts looks five times a second whether its parent is there
LOOK_SECONDS = 0.1  # between two looks whether something has started
END_LOOK_SECONDS = 0.02  # or ended
TAIL_LINES = 15
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "UV_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
}


class FederationError(RuntimeError):
    """A process of a federation did not start, or a run did not end; the message holds the end of its log."""


@dataclass(frozen=True)
class Service:
    """A process that was started, the leader of its group.

    Attributes
    ----------
    name : str
    folder : Path
        Its working folder, with `home` (FLWR_HOME) and the log.
    log : Path
        What it prints; it goes on where an earlier process of that name has ended.
    log_start : int
        Bytes of the log that are from before.
    process : subprocess.Popen
    """

    name: str
    folder: Path
    log: Path
    log_start: int
    process: subprocess.Popen[bytes]

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_bytes()[self.log_start :].decode(errors="replace")


@dataclass(frozen=True)
class Server(Service):
    """A SuperLink or its gateway: its address (`host:port`), and the certificate that it is trusted by."""

    address: str
    authority: Path


def start(name: str, words: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None) -> Service:
    """Start a command of this Python's environment in a folder and a process group of its own."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    log = folder / f"{Path(name).name}.log"
    with log.open("ab") as stream:
        log_start = stream.tell()
        process = subprocess.Popen(
            list(words),
            cwd=folder,
            env=process_environment(folder, environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Service(name, folder, log, log_start, process)


def process_environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables of a process: where programs are, where Flower keeps its files, and that nothing is fetched or told."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    path = os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", os.defpath)))
    home = str(folder.resolve() / "home")
    return {**kept, **OFFLINE, "PATH": path, "HOME": home, "FLWR_HOME": home, "PYTHONUNBUFFERED": "1", **(more or {})}


def await_start(service: Service, ready: Callable[[], bool], *, seconds: float = START_SECONDS) -> None:
    """Wait until a service is ready.

    Raises
    ------
    FederationError
        If it ends or is not ready in time; it is stopped then.
    """
    limit = time.monotonic() + seconds
    try:
        while not ready():
            if (code := exit_code(service)) is not None:
                raise FederationError(f"{service.name} ended at its start with exit code {code}\n{tail(service)}")
            if time.monotonic() > limit:
                raise FederationError(f"{service.name} was not ready after {seconds:g} s\n{tail(service)}")
            time.sleep(LOOK_SECONDS)
    except BaseException:
        stop(service)
        raise


def stop(*services: Service, grace: float = STOP_SECONDS) -> None:
    """End processes and everything that they started: asked first, killed after `grace` seconds (0: at once)."""
    import psutil

    running = [service for service in services if service.process.returncode is None]
    family = [member for service in running for member in _descendants(service)]
    for service in running if grace else ():
        os.kill(service.process.pid, signal.SIGTERM)
    _wait(grace, lambda: all(exit_code(service) is not None for service in running))
    _wait(min(grace, ORPHAN_SECONDS), lambda: not any(map(_alive, family)))
    family += [member for service in running for member in _descendants(service) if member not in family]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    for service in running:
        service.process.kill()
        service.process.wait()
    _wait(STOP_SECONDS, lambda: not any(map(_alive, family)))


def exit_code(service: Service) -> int | None:
    """Exit code of a process (negative: the signal), None while it runs.

    It is left unreaped until `stop`, so that its process id cannot become that of another process before.
    """
    if service.process.returncode is not None:
        return service.process.returncode
    ended = os.waitid(os.P_PID, service.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def tail(service: Service, lines: int = TAIL_LINES) -> str:
    """Name and last lines of a log."""
    return "\n".join([f"last lines of {service.log}:", *service.text().splitlines()[-lines:]])


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _descendants(service: Service) -> list[psutil.Process]:
    """What a process has started, and the members of its group that have lost their parent."""
    import psutil

    found = []
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(service.process.pid).children(recursive=True)
    for other in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getpgid(other.pid) == service.process.pid != other.pid and other not in found:
                found.append(other)
    return found


def _wait(seconds: float, done: Callable[[], bool]) -> None:
    """Wait until something is so, or the time is up."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and not done():
        time.sleep(END_LOOK_SECONDS)


def _alive(process: psutil.Process) -> bool:
    import psutil

    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM (a cancelled job) end this process through its clean-up, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
