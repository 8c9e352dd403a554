"""The folder of a run: a full disk, one that can only be read, and a second Snakemake."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import FOLDER, RESULTS, command, contents, doctor, environment, run

SITE = str(RESULTS / "simulated/north.manifest.json")
FIRST = str(RESULTS / "preprocess/tiny_north_sub-01_task-rest_eeg.manifest.json")


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small(fresh: Path) -> Iterator[Path]:
    """A folder whose results lie on a file system of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    results = fresh / "results"
    results.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(results))
    yield fresh
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def test_a_disk_that_is_full_or_read_only_is_said_and_the_run_goes_on_later(small: Path, reference: Path) -> None:
    mount("-o", "remount,ro", str(small / "results"))
    refused = run(small, "--cores", "2", FIRST)
    assert refused.returncode != 0
    assert "Read-only file system: " in refused.stdout
    assert f"{RESULTS.parent}: cannot be written to. Correct owner, mode or mount" in doctor(small).stdout

    mount("-o", "remount,rw,size=1m", str(small / "results"))
    full = run(small, "--cores", "2", FIRST)
    assert full.returncode != 0
    assert "The disk is full: make room, then run the same command again" in full.stdout
    assert "too little for a run" in doctor(small).stdout
    assert contents(small) == {}

    mount("-o", "remount,size=200m", str(small / "results"))
    again = run(small, "--cores", "2", FIRST)
    assert again.returncode == 0, again.stdout[-5000:]
    made, expected = contents(small), contents(reference)
    assert Path(FIRST).relative_to(RESULTS).as_posix() in made
    assert made == {name: expected[name] for name in made}


def test_a_second_snakemake_and_a_doctor_keep_away_from_the_first(fresh: Path, reference: Path) -> None:
    state = fresh / "state"
    state.mkdir()
    (state / "simulate_site.killed").touch()
    path = os.pathsep.join([str(FOLDER / "hook"), os.environ.get("PYTHONPATH", "")])
    env = environment(fresh, PYTHONPATH=path, NEUROLOOM_FAULTS=str(state))
    given = {"cwd": fresh, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    first = subprocess.Popen(command(fresh, "--cores", "1", SITE), env=env, **given)
    while not (state / "simulate_site.waits").exists() and first.poll() is None:
        time.sleep(0.1)

    second = run(fresh, "--cores", "1", SITE)
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stdout
    assert "--unlock" in second.stdout
    asked = doctor(fresh, "--mend")
    assert asked.returncode == 2
    assert str(first.pid) in asked.stdout

    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert doctor(fresh).returncode == 1
    assert run(fresh, "--unlock").returncode == 0
    again = run(fresh, "--cores", "1", SITE)
    assert again.returncode == 0, again.stdout[-5000:]
    made, expected = contents(fresh), contents(reference)
    assert made == {name: expected[name] for name in made} != {}
