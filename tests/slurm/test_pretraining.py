"""Two tasks of SLURM train one model as two processes of torchrun do, and as one alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .cluster import ROOT, Cluster

PROGRAM = ROOT / "tests" / "numerics" / "test_pretraining_runs.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
SRUN = ["srun", "--nodes=1", "--ntasks-per-node=2", "--mem=4000"]  # Fabric wants tasks by node
# the program asks for its rank by torchrun's name
RANKED = ["sh", "-c", 'RANK=$SLURM_PROCID exec "$@"', "sh"]
LAUNCHERS: dict[str, list[str]] = {"alone": [], "torchrun": TORCHRUN, "srun": [*SRUN, *RANKED]}


def trained(cluster: Cluster, folder: Path, kind: str, launcher: str) -> tuple[pd.Series, bytes]:
    """Loss of each step and the weights of a model that some launcher has trained."""
    here = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [*LAUNCHERS[launcher], sys.executable, PROGRAM, folder, kind]
    run = subprocess.run(
        [str(word) for word in words],
        env={**cluster.environment, **here},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return pd.read_parquet(folder / "metrics.parquet")["loss"], (folder / "weights.npy").read_bytes()


@pytest.mark.parametrize("kind", ["reve", "brainomni"])
def test_two_tasks_of_slurm_are_two_processes(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    """To the bit as torchrun; a single process adds in another order."""
    found = {launcher: trained(cluster, tmp_path / launcher, kind, launcher) for launcher in LAUNCHERS}
    assert found["srun"][1] == found["torchrun"][1]
    assert list(found["srun"][0]) == list(found["torchrun"][0])
    np.testing.assert_allclose(found["srun"][0], found["alone"][0], rtol=0, atol=1e-5)
    assert found["alone"][0].std() > 1e-4
    assert found["srun"][1] != found["alone"][1]  # it was not one process each
