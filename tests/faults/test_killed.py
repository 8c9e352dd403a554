"""kill -9 of jobs, of Snakemake with its jobs, and of Snakemake alone: the study ends as if nothing had happened."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from neuroloom.doctor import examine, find_processes, remove

from .conftest import FOLDER, RESULTS, ROOT, command, contents, environment, write_config

UNUSED = {"index_study", "predict_connectomes"}  # have nothing to do in a simulated study
SCRIPTS = sorted({path.stem for path in (ROOT / "src").glob("*.py")} - UNUSED)  # one for each rule, or for rules alike
CORES = 8
PATIENCE = 0.8  # s with no job at work, after which everything that will stop has stopped
LIMIT = 900.0  # s, which a hung run does not pass
MOST = 60  # kills, after which something is wrong


def start(folder: Path, state: Path, *, forked: bool) -> subprocess.Popen[bytes]:
    """Snakemake in a session of its own, whose jobs stop in the middle (`hook/sitecustomize.py`)."""
    path = os.pathsep.join([str(FOLDER / "hook"), os.environ.get("PYTHONPATH", "")])
    fork = "yes" if forked else "no"
    env = environment(folder, PYTHONPATH=path, NEUROLOOM_FAULTS=str(state), NEUROLOOM_FORK=fork)
    with (folder / "run.log").open("a") as log:
        arguments = ("--cores", str(CORES), "--retries", "1")
        return subprocess.Popen(
            command(folder, *arguments), cwd=folder, stdout=log, stderr=log, env=env, start_new_session=True
        )


def wait_until_stopped(process: subprocess.Popen[bytes], state: Path, before: set[Path]) -> set[Path]:
    """Until as many jobs wait as may run, or one does and no other comes; or until Snakemake has ended."""
    waiting, since, end = before, time.monotonic(), time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < end:
        waiting = set(state.glob("*.waits"))
        new = len(waiting - before)
        if not new or any(is_alive(int(path.stem)) for path in state.glob("*.busy")):
            since = time.monotonic()
        if new >= CORES or time.monotonic() - since > PATIENCE:
            break
        time.sleep(0.05)
    return waiting


def is_alive(process: int) -> bool:
    with suppress(OSError):  # it is gone
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


def kill(process: subprocess.Popen[bytes], *, alone: bool) -> None:
    (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
    process.wait()


def mend(folder: Path) -> int:
    """The doctor clears away what a killed run left, but not while its jobs live: then the locks go as by --unlock.

    Returns the exit code that `neuroloom doctor --mend` would have.
    """
    if find_processes(folder):
        for lock in (folder / ".snakemake/locks").iterdir():
            lock.unlink()
        return 2
    findings = examine(folder, folder / RESULTS)
    remove([path for finding in findings for path in finding.remove])
    return int(any(finding.is_wrong and not finding.remove for finding in findings))


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study after a chain of kills: of each rule one job alone, and one with its Snakemake or left behind by it.

    Some of its runs fork their jobs, others start a Python for each.
    """
    folder = tmp_path_factory.mktemp("survived")
    write_config(folder)
    state = folder / "state"
    state.mkdir()
    waiting, mended = set[Path](), list[int]()
    while (process := start(folder, state, forked=len(mended) % 5 > 0)) and len(mended) < MOST:
        waiting = wait_until_stopped(process, state, waiting)
        if process.poll() is not None:
            break
        kill(process, alone=len(mended) % 2 == 1)
        mended.append(mend(folder))
    assert process.poll() == 0, (folder / "run.log").read_text()[-5000:]
    assert set(mended) == {0, 2}
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_rule_survives_kill_9(survived: Path, script: str) -> None:
    assert (survived / "state" / f"{script}.killed").exists(), "a job was killed, while Snakemake lived"
    assert (survived / "state" / f"{script}.waits").exists(), "Snakemake was killed, with the job or without"


def test_after_all_kills_the_study_has_the_same_digests(survived: Path, reference: Path) -> None:
    assert contents(survived) == contents(reference)
