import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from neuroloom.federated.processes import (
    FederationError,
    await_start,
    exit_code,
    process_environment,
    start,
    stop,
    terminated_like_interrupted,
)

SLEEP = "import time; time.sleep(60)"
PARENT = f"""
import subprocess, sys
near = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
far = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print("children", near.pid, far.pid, flush=True)
near.wait()
"""


def children(text: str) -> list[int]:
    return [int(word) for word in text.split("children")[-1].split()]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    """In its own session too, as the executor of a SuperLink is."""
    service = start("parent", [sys.executable, "-c", PARENT], tmp_path)
    await_start(service, lambda: "children" in service.text())
    started = children(service.text())
    assert all(map(alive, started))
    stop(service)
    assert not any(map(alive, [service.process.pid, *started]))


def test_children_of_a_process_that_was_killed_are_found_by_its_group(tmp_path: Path) -> None:
    service = start("parent", [sys.executable, "-c", PARENT], tmp_path)
    await_start(service, lambda: "children" in service.text())
    near, far = children(service.text())
    service.process.send_signal(signal.SIGKILL)
    while exit_code(service) is None:
        time.sleep(0.01)
    assert exit_code(service) == -signal.SIGKILL
    stop(service)
    assert not alive(near)
    os.kill(far, signal.SIGKILL)  # a session of its own, and no parent: Flower's ends by itself


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    service = start("deaf", [sys.executable, "-c", deaf], tmp_path)
    await_start(service, lambda: "up" in service.text())
    before = time.monotonic()
    stop(service, grace=0.3)
    assert 0.3 <= time.monotonic() - before < 3
    assert service.process.returncode == -signal.SIGKILL
    stop(service)  # has nothing to do


def test_a_process_that_ends_at_its_start_says_why(tmp_path: Path) -> None:
    service = start("broken", [sys.executable, "-c", "raise SystemExit('no such certificate')"], tmp_path)
    with pytest.raises(FederationError, match=r"broken ended at its start with exit code 1\n.*\nno such certificate"):
        await_start(service, lambda: False)


def test_a_process_that_never_is_ready_is_stopped(tmp_path: Path) -> None:
    service = start("slow", [sys.executable, "-c", SLEEP], tmp_path)
    with pytest.raises(FederationError, match=r"slow was not ready after 0\.2 s"):
        await_start(service, lambda: False, seconds=0.2)
    assert not alive(service.process.pid)


def test_a_log_is_read_from_where_this_process_began(tmp_path: Path) -> None:
    for word in ("first", "second"):
        service = start("twice", [sys.executable, "-c", f"print({word!r})"], tmp_path)
        while exit_code(service) is None:
            time.sleep(0.01)
        stop(service)
        assert service.text() == f"{word}\n"
    assert service.log.read_text() == "first\nsecond\n"


def test_a_process_is_given_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "1234")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    given = process_environment(tmp_path, {"MORE": "yes"})
    assert "SECRET_TOKEN" not in given
    assert "HTTPS_PROXY" not in given
    assert given["MORE"] == "yes"
    assert given["FLWR_HOME"] == str(tmp_path / "home")
    assert given["FLWR_TELEMETRY_ENABLED"] == "0"
    assert given["FLWR_DISABLE_UPDATE_CHECK"] == given["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert given["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_terminated_program_cleans_up() -> None:
    program = """
import time
from neuroloom.federated.processes import terminated_like_interrupted
with terminated_like_interrupted():
    try:
        print("up", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up")
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.communicate(timeout=120)[0] == "cleaned up\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_the_handler_of_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with terminated_like_interrupted():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
