"""Running the workflow as a user does, in a folder of its own."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def snakemake_command(folder: Path, *arguments: str, config: Path | None = None) -> list[str]:
    configfile = ["--configfile", str(config)] if config else []
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--workflow-profile", str(ROOT / "profiles" / "default"), *configfile, *arguments),
    ]


def run_snakemake(folder: Path, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Snakemake to its end; standard error is in `stdout`."""
    return subprocess.run(
        snakemake_command(folder, *arguments, config=config),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / ".cache")},
    )


@pytest.fixture(scope="session")
def smoke_config() -> Path:
    return ROOT / "config" / "smoke.yaml"


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory, smoke_config: Path) -> Path:
    """The smoke study, run once for all tests that look at what it leaves; workers wait for the first one."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "smoke"
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            run = run_snakemake(folder, "--cores", "2", config=smoke_config)
            (folder / "run.log").write_text(run.stdout)
    assert (folder / "results/smoke/report.html").exists(), (folder / "run.log").read_text()[-5000:]
    return folder
