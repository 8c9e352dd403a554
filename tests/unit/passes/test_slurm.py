"""Dask workers as jobs of SLURM: the job that is asked for, and a pass through an `sbatch` that starts it here."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import dask_jobqueue  # noqa: F401  its part of the config has to be there before it is changed
import pytest

from neuroloom.passes.config import Placement
from neuroloom.passes.mapping import ClusterError, corpus_map
from neuroloom.passes.slurm import slurm_options
from neuroloom.provenance import file_digest

SBATCH = """#!{python}
import pathlib, subprocess, sys
folder = pathlib.Path({folder!r})
if sys.argv[1] == "--test-only":
    if "nowhere" in pathlib.Path(sys.argv[2]).read_text():
        sys.exit("sbatch: error: invalid partition specified: nowhere")
else:
    with (folder / "jobs").open("a") as jobs, (folder / "worker.log").open("a") as log:
        job = subprocess.Popen(["bash", sys.argv[1]], stdout=log, stderr=log, start_new_session=True, cwd=folder)
        jobs.write(f"{{job.pid}}\\n")
        print("Submitted batch job", job.pid)
"""
SCANCEL = """#!{python}
import os, signal, sys
os.killpg(int(sys.argv[1]), signal.SIGTERM)
"""


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Placement]:
    """SLURM as far as it is needed here, on the loopback interface."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(python=sys.executable, folder=str(tmp_path)))
        program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with dask.config.set({"jobqueue.slurm.interface": "lo"}):
        yield Placement(scheduler="slurm", workers=1, threads=2, mem_mb=4000, runtime=30, logs=str(tmp_path / "logs"))


def test_a_worker_is_a_job_like_the_one_that_asks(where: Placement) -> None:
    from dask_jobqueue.slurm import SLURMCluster

    environment = {"SLURM_JOB_PARTITION": "long", "SLURM_JOB_ACCOUNT": "brains"}
    Path(where.logs).mkdir()
    with SLURMCluster(**slurm_options(where, environment)) as cluster:
        lines = cluster.job_script().splitlines()
        pages = [sock.getsockname()[0] for sock in cluster.scheduler.http_server._sockets.values()]
        assert set(pages) == {"127.0.0.1"}
    wanted = ["-J neuroloom-dask", "-p long", "-A brains", "-n 1", "--cpus-per-task=2", "--mem=4000M", "-t 30"]
    assert {f"#SBATCH {option}" for option in wanted} <= set(lines)
    assert f"#SBATCH -o {where.logs}/neuroloom-dask-%J.out" in lines
    (command,) = [line for line in lines if "dask_worker" in line]
    assert command.startswith(sys.executable)
    assert "tls://127.0.0.1:" in command
    assert all(
        word in command for word in ("--nworkers 2", "--nthreads 1", "--interface lo", "--tls-key", "--no-dashboard")
    )
    assert slurm_options(where.model_copy(update={"partition": "short"}), environment)["queue"] == "short"
    assert slurm_options(where, {})["queue"] is slurm_options(where, {})["account"] is None


def test_what_slurm_would_not_take_is_told_before_there_is_work(where: Placement) -> None:
    other = where.model_copy(update={"partition": "nowhere"})
    with (
        pytest.raises(ClusterError, match=r"invalid partition specified: nowhere\. Set dask\.partition"),
        corpus_map(other),
    ):
        pass
    assert not [path for path in Path(where.logs).rglob("*") if path.is_file()]


def test_without_slurm_it_says_so(where: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ClusterError, match="no sbatch here"), corpus_map(where):
        pass


def test_a_pass_goes_through_a_job_that_is_gone_afterwards(where: Placement, tmp_path: Path) -> None:
    with corpus_map(where) as over:
        assert not (tmp_path / "jobs").exists()  # nothing is asked for before there is work
        assert list(over(file_digest, [Path(__file__)] * 3)) == [file_digest(Path(__file__))] * 3
        assert next(over(os.readlink, ["/proc/self"])) != str(os.getpid())
        keys = list(Path(where.logs).glob(".dask-jobqueue.worker.key*"))
        assert [path.stat().st_mode & 0o077 for path in keys] == [0]
    jobs = (tmp_path / "jobs").read_text().split()
    assert len(jobs) == 1
    assert not any(
        Path(f"/proc/{job}/task").exists() and "dask" in Path(f"/proc/{job}/cmdline").read_text() for job in jobs
    )
