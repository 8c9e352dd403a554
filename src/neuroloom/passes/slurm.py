"""Dask workers as jobs of SLURM, for the time of a pass, each as large as the job that asks for them."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroloom.passes.config import Placement
from neuroloom.passes.mapping import ClusterError

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)
IDLE = 60  # s without work after which workers are given back


@contextmanager
def slurm_client(where: Placement) -> Iterator[Client]:
    """A scheduler in this process, whose workers are submitted when there is work and leave when there is none.

    Everything between them is encrypted, with certificates that live as long as this.

    Raises
    ------
    ClusterError
        If SLURM or dask-jobqueue is not there, or SLURM would not take the job of a worker.
    """
    if not shutil.which("sbatch"):
        raise ClusterError("dask.scheduler is slurm, but there is no sbatch here: run on the cluster, or set threads")
    if not importlib.util.find_spec("dask_jobqueue"):
        raise ClusterError("dask.scheduler is slurm, which needs dask-jobqueue: pip install neuroloom[slurm]")
    from dask_jobqueue.slurm import SLURMCluster
    from distributed import Client

    Path(where.logs).mkdir(parents=True, exist_ok=True)
    with SLURMCluster(**slurm_options(where, os.environ)) as cluster:
        check_script(cluster.job_script(), Path(where.logs))
        cluster.adapt(minimum_jobs=0, maximum_jobs=where.workers, wait_count=IDLE)
        with Client(cluster, set_as_default=False) as client:
            logger.info("passes over the corpus run in up to %d jobs of SLURM", where.workers)
            yield client


def slurm_options(where: Placement, environment: Mapping[str, str]) -> dict[str, Any]:
    """What `SLURMCluster` is given; the rest of the site, such as the network interface, is Dask's own config.

    Parameters
    ----------
    where : Placement
    environment : mapping
        Of a job of SLURM: its partition and account are those of the workers.
    """
    return {
        "cores": where.threads,
        "processes": where.threads,
        "memory": f"{where.mem_mb} MB",
        "job_mem": f"{where.mem_mb}M",
        "walltime": str(where.runtime),
        "queue": where.partition or environment.get("SLURM_JOB_PARTITION"),
        "account": environment.get("SLURM_JOB_ACCOUNT"),
        "job_name": "neuroloom-dask",
        "log_directory": where.logs,
        "security": True,
        "shared_temp_directory": str(Path(where.logs).absolute()),
        # web pages of Dask ask for no password
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "worker_extra_args": ["--no-dashboard"],
    }


def check_script(script: str, folder: Path) -> None:
    """Ask SLURM whether it would take a job, before there is work that would wait for it for ever."""
    path = folder / f"neuroloom-dask-{os.getpid()}.sh"
    path.write_text(script)
    run = subprocess.run(["sbatch", "--test-only", str(path)], capture_output=True, text=True, check=False)
    path.unlink()
    if run.returncode:
        raise ClusterError(
            f"SLURM would not take a Dask worker: {run.stderr.strip()}. Set dask.partition, or threads, mem_mb and"
            " runtime of the rule in the profile"
        )
