"""A SuperNode that runs one app and nothing else: the one that is installed here.

`flower-supernode` runs whatever code a server sends with a run, in a Python that starts and imports anew for each
message. Here the app is imported once, a worker that is forked from it takes the messages one after the other, and the
code that comes with a run is never unpacked: of a bundle, its config alone is read. What an app keeps in memory stays
from message to message; a worker that dies is followed by a new one. The rest is Flower's.

It leans on names inside of flwr 1.41 (`_put_in_place`), which `tests/workflow/test_deployment.py` runs.

    python -m neuroloom.federated.node neuroloom.federated.client:app --superlink HOST:PORT ...
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from neuroloom.federated.processes import LOOK_SECONDS, LOOPBACK, free_port
from neuroloom.schema import ConfigError

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult

POLL_SECONDS = 0.3  # between two looks for a message; a SuperLink answers some 50 calls a second, of all sites
FLOWER_SECONDS = 3.0  # Flower's
HEARTBEAT_SECONDS = 10  # a node that was killed is missed, and can come back, after two of them; Flower's are 30
PR_SET_PDEATHSIG = 1  # Linux: a signal when the parent ends
logger = logging.getLogger(__name__)


class OneWorker:
    """Executor of a SuperExec: tasks go to a fork of this process, which has the app in memory."""

    def __init__(self, supernode: int) -> None:
        self._supernode, self._worker, self._inbox = supernode, 0, -1

    def get_eligible_capacity(
        self, supported_task_types: set[TaskType], *, insecure: bool = False, root_certificates_path: str | None = None
    ) -> tuple[set[TaskType], set[str]]:
        """Only ClientApps are run."""
        from flwr.supercore.constant import TaskType

        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def wait_for_capacity(self, *_: Any, **__: Any) -> None:
        """There always is some."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Hand a task to the worker."""
        from flwr.supercore.superexec.executor import LaunchResult

        self.reconcile()
        if not self._worker:
            self._hire()
        task = {"address": spec.runtime_api_address, "token": spec.token}
        os.write(self._inbox, json.dumps(task).encode() + b"\n")
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Take note of a worker that has ended, and end with the SuperNode."""
        if self._worker and os.waitpid(self._worker, os.WNOHANG)[0]:
            os.close(self._inbox)
            self._worker = 0
        if os.getppid() != self._supernode:
            signal.raise_signal(signal.SIGTERM)

    def close(self) -> None:
        """The worker ends with this process."""

    def _hire(self) -> None:
        outbox, self._inbox = os.pipe()
        self._worker = os.fork()
        if self._worker == 0:
            os.close(self._inbox)
            _end_with_parent()
            _work(outbox)
        os.close(outbox)


def main() -> None:
    """Run the SuperNode in this process, and its tasks in forks of it."""
    parser = argparse.ArgumentParser(description="Flower SuperNode of one installed app; other options are Flower's")
    parser.add_argument("app", help="module:attribute of the ClientApp")
    parser.add_argument("--poll", type=float, default=POLL_SECONDS, help="seconds between two looks for a message")
    known, others = parser.parse_known_args()
    _put_in_place(load_app(known.app), known.poll)
    port, secret = free_port(), _new_secret()
    supernode = os.getpid()
    executor = os.fork()
    if executor == 0:
        _end_with_parent()
        _execute(port, secret, supernode)
    signal.signal(signal.SIGCHLD, lambda *_: _end_without(executor))
    from flwr.supernode.cli import flower_supernode

    runtime = ["--isolation", "process", "--host", LOOPBACK, "--port", str(port)]
    sys.argv = ["flower-supernode", *others, *runtime, "--superexec-auth-secret-file", str(secret)]
    flower_supernode()
    logger.error("the SuperNode has lost its server")
    os._exit(1)  # a thread of its own would keep it, deaf, for ever


def load_app(name: str) -> ClientApp:
    """The ClientApp that a name (`module:attribute`) stands for.

    Raises
    ------
    ConfigError
        If there is none.
    """
    from flwr.clientapp import ClientApp

    module, _, attribute = name.partition(":")
    app = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(app, ClientApp):
        raise ConfigError(f"{name}: found {type(app).__name__}, no ClientApp. Name one as module:attribute")
    return app


def _put_in_place(app: ClientApp, poll: float) -> None:
    """Run the installed app instead of what is sent, in a process that goes on, and shorten Flower's waits."""
    from flwr.supercore import heartbeat
    from flwr.supercore.superexec import run_superexec
    from flwr.supernode import fleet_http_connection, start_client_internal
    from flwr.supernode.cli import flower_supernode, flwr_clientapp  # noqa: F401  imported before the fork
    from flwr.supernode.runtime import run_clientapp

    from neuroloom.federated.prompt import look_again_soon

    supernode, worker = os.getpid(), OneWorker
    _replace(run_clientapp, "install_from_fab", lambda *_, **__: Path())
    _replace(run_clientapp, "get_load_client_app_fn", lambda *_, **__: lambda *_: app)
    _replace(run_clientapp, "flwr_exit", lambda *_, **__: _finish_task())
    _replace(run_superexec, "get_executor", lambda *_, **__: worker(supernode))
    shorter = SimpleNamespace(sleep=lambda wait: time.sleep(wait * poll / FLOWER_SECONDS))
    _replace(start_client_internal, "time", shorter)
    look_again_soon()
    for module in (fleet_http_connection, heartbeat):
        _replace(module, "HEARTBEAT_DEFAULT_INTERVAL", HEARTBEAT_SECONDS)


def _replace(module: ModuleType, name: str, value: object) -> None:
    """Put something in the place of a name, which has to be there."""
    if not hasattr(module, name):
        raise ConfigError(f"{module.__name__} has no {name}: this was written for flwr 1.41; install that")
    setattr(module, name, value)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_without(executor: int) -> None:
    """End the SuperNode if its executor has: it would take messages that nobody works on."""
    if os.waitid(os.P_PID, executor, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        signal.raise_signal(signal.SIGTERM)


def _new_secret() -> Path:
    """A file with what the executor proves itself with to the SuperNode; other users of the machine cannot read it."""
    path = Path(os.environ.get("FLWR_HOME", ".")) / "executor.secret"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(secrets.token_bytes(32))
    return path


def _execute(port: int, secret: Path, supernode: int) -> None:
    """Fetch tasks from the SuperNode, until it ends."""
    from flwr.supercore.superexec.run_superexec import run_superexec

    while not _listens(port):
        if os.getppid() != supernode:
            os._exit(1)
        time.sleep(LOOK_SECONDS)
    try:
        run_superexec(f"{LOOPBACK}:{port}", insecure=True, superexec_auth_secret=secret.read_bytes())
    except Exception:
        logger.exception("the executor of the SuperNode has failed")
    finally:
        os._exit(1)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1.0):
        return True
    return False


def _work(outbox: int) -> None:
    """Do what `flwr-clientapp` does for one task after the other, until there is nobody to give any."""
    from flwr.supercore.exit import exit_handler
    from flwr.supernode.cli import flwr_clientapp

    exit_handler.registered_exit_handlers.clear()  # those are the executor's
    try:
        with os.fdopen(outbox) as tasks:
            for line in tasks:
                task = json.loads(line)
                sys.argv = ["flwr-clientapp", "--insecure", "--runtime-api-address", task["address"]]
                sys.argv += ["--token", task["token"]]
                flwr_clientapp()
    except Exception:
        logger.exception("a task has failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _finish_task() -> None:
    """What Flower does at the end of the process of a task, but for ending the process."""
    from flwr.supercore.exit import exit_handler

    exit_handler.trigger_exit_handlers(run_before_force_exit=True)
    exit_handler.trigger_exit_handlers(run_before_force_exit=False)


if __name__ == "__main__":
    main()
