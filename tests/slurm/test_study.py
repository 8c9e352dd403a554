"""The smoke study on a cluster, from start to report, and the line that asks for a GPU."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from neuroloom.artifacts import verify
from neuroloom.verification import find_manifests

from .cluster import Cluster, end
from .conftest import Study

# asks the controller whether there is a node for the job, and submits nothing
DRY = '#!/bin/sh\n/usr/bin/sbatch --test-only "$@" 2> answer.txt\nexit 1\n'
WEIGHTS = "results/smoke/pretrain/reve/fold-0/model.safetensors"


@pytest.fixture(scope="module")
def smoke(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    study = Study(cluster, tmp_path_factory.mktemp("smoke"))
    study.start()
    yield study
    for process in study.processes:
        end(process)


def test_the_smoke_study_goes_from_start_to_report(smoke: Study) -> None:
    assert smoke.finish(3000) == 0, smoke.log[-3000:]
    assert (smoke.folder / "results/smoke/report.html").exists()
    found = find_manifests(smoke.folder / "results")
    assert len(found) > 16
    assert all(len(verify(path)) == 64 for path in found)


def test_recordings_and_tables_are_one_submission_each(smoke: Study) -> None:
    submitted = [line for line in smoke.log.splitlines() if "has been submitted with SLURM jobid" in line]
    names = [line.split("/slurm_logs/")[1].split("/")[0] for line in submitted]
    assert len([name for name in names if name.startswith("group_recording_")]) == 3
    assert len([name for name in names if name.startswith("group_report_")]) == 1
    assert not any(name.startswith(("rule_draw", "rule_write", "rule_preprocess", "rule_ingest")) for name in names)


def test_the_rule_of_pretraining_starts_tasks_that_train_one_model(smoke: Study) -> None:
    """Two tasks through the profile's words, beside the one process of the study."""
    folder = (smoke.folder / WEIGHTS).parent
    alone, weights = pd.read_parquet(folder / "metrics.parquet")["loss"], load_file(folder / "model.safetensors")
    tasks = ["mpi=srun", "tasks_per_node=2", "gpu=0"]
    words = ["--force", "--allowed-rules", "pretrain_model", "--set-resources"]
    here = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    smoke.start(*words, *[f"pretrain_model:{task}" for task in tasks], "--", WEIGHTS, **here)
    assert smoke.finish() == 0, smoke.log[-3000:]
    both = load_file(folder / "model.safetensors")
    np.testing.assert_allclose(pd.read_parquet(folder / "metrics.parquet")["loss"], alone, rtol=0, atol=1e-5)
    assert max(np.abs(both[name] - weights[name]).max() for name in weights) < 1e-5
    assert any((both[name] != weights[name]).any() for name in weights)  # it was not one process each


def test_a_gpu_is_asked_for(smoke: Study) -> None:
    """Dry: the sbatch of this run only asks whether the job could be had. Last, as its outputs are then removed."""
    programs = smoke.folder / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(DRY)
    (programs / "sbatch").chmod(0o755)
    path = f"{programs}:{smoke.cluster.environment['PATH']}"
    smoke.start(WEIGHTS, "--force", "--allowed-rules", "pretrain_model", "--retries", "0", PATH=path)
    assert smoke.finish() != 0
    line = smoke.log.split("sbatch call:")[1].split("--wrap")[0]
    words = [word for word in line.split() if not word.startswith(("neuroloom_", "/"))]
    assert " ".join(words) == (
        "sbatch --parsable --job-name --output --export=ALL --comment rule_pretrain_model_wildcards_reve_0 -p main "
        "-t 1440 --mem 8000 --no-requeue --cpus-per-task=1 -D --gpus=1"
    )
    assert "to start at" in (smoke.folder / "answer.txt").read_text()
