import pytest

from neuroloom.training.processes import count_processes, is_first


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "16", "SLURM_NNODES": "2"}, (8, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (1, 1)),
        ({"SLURM_JOB_ID": "7"}, (1, 1)),
    ],
)
def test_processes_are_those_that_were_started(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert count_processes(environment) == expected


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_one_process_of_all_writes(name: str) -> None:
    assert is_first({})
    assert is_first({name: "0"})
    assert not is_first({name: "1"})
