"""One cluster for all tests, and Snakemake run on it through the profile, as a user does."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .cluster import ROOT, Cluster, end, missing
from .cluster import cluster as running_cluster

PROFILES = ROOT / "profiles"
SMOKE = ROOT / "config" / "smoke.yaml"
# what this machine has, and questions that are asked more often
HERE = ["--cores", str(os.cpu_count()), "--resources", "mem_mb=16000", "--latency-wait", "10"]
HERE += ["--slurm-init-seconds-before-status-checks", "2"]


@dataclass
class Study:
    """A run of the workflow on the cluster, in a folder of its own."""

    cluster: Cluster
    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def log(self) -> str:
        return (self.folder / "run.log").read_text()

    def start(self, *arguments: str, profile: str = "slurm", **environment: str) -> None:
        """Start Snakemake; what it says is added to `log`."""
        self.folder.mkdir(exist_ok=True)
        words = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", self.folder]
        words += ["--workflow-profile", PROFILES / profile, "--configfile", SMOKE]
        words += [*(HERE if profile == "slurm" else HERE[:2]), *arguments]
        log = (self.folder / "run.log").open("a")
        cache = {"XDG_CACHE_HOME": str(self.folder / ".cache")}
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=self.folder,
            env={**self.cluster.environment, **cache, **environment},
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)

    def finish(self, seconds: float = 1500) -> int:
        """Exit code of the run that was started last; one that waits for ever is a failure of the test."""
        try:
            return self.processes[-1].wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"Snakemake still waits after {seconds:.0f} s:\n{self.log[-3000:]}")

    def wait_for(self, found: Callable[[], object], seconds: float = 900) -> None:
        """Wait until something is true while the run goes on."""
        limit = time.monotonic() + seconds
        while not found():
            assert self.processes[-1].poll() is None, f"it ended before:\n{self.log[-3000:]}"
            assert time.monotonic() < limit, f"not in {seconds:.0f} s:\n{self.log[-3000:]}"
            time.sleep(0.2)

    def jobs(self, rule: str, state: str = "all") -> list[str]:
        """SLURM jobs of a rule (or group) of this run in some state."""
        listed = self.cluster.call("squeue", "-h", f"--states={state}", "-o", "%A|%k|%Z", check=False).splitlines()
        rows = [line.split("|") for line in listed]
        return [job for job, comment, place in rows if comment.startswith(rule) and place == str(self.folder)]

    def digests(self) -> dict[str, str]:
        """Content digest of every store by path."""
        manifests = sorted(self.folder.glob("results/smoke/**/*.manifest.json"))
        return {str(path.relative_to(self.folder)): json.loads(path.read_text())["digest"] for path in manifests}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    with running_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def study(cluster: Cluster, tmp_path: Path) -> Iterator[Study]:
    """A study that was not run yet; its Snakemake ends with the test."""
    found = Study(cluster, tmp_path / "study")
    yield found
    for process in found.processes:
        end(process)
    cluster.call("scancel", "--user=root", check=False)


@pytest.fixture(scope="session")
def target() -> list[str]:
    """Two recordings of one site, simulated and read: what the faults are tried on."""
    recordings = [f"smoke_south_sub-01_task-rest_{modality}" for modality in ("eeg", "meg")]
    return [f"results/smoke/ingest/{recording}.manifest.json" for recording in recordings]


@pytest.fixture(scope="session")
def expected(cluster: Cluster, target: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the target, made on this machine without SLURM."""
    local = Study(cluster, tmp_path_factory.mktemp("local"))
    local.start(*target, profile="default")
    assert local.finish() == 0, local.log[-3000:]
    return local.digests()
