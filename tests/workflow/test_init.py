"""What `neuroloom init` writes is a study that the workflow plans to its end."""

from pathlib import Path

import pytest
from tests.datasets import add_bold, make_bids
from typer.testing import CliRunner

from neuroloom.cli import app

from .conftest import run_snakemake


@pytest.mark.parametrize(
    ("with_bold", "planned"),
    [(False, ("pretrain_model", "evaluate_model", "evaluate_baselines")), (True, ("synthesize_bold", "export_bold"))],
    ids=["eeg", "eeg-bold"],
)
def test_a_dataset_becomes_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_bold: bool, planned: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_bids(tmp_path / "bids", people=3)
    if with_bold:
        add_bold(tmp_path / "bids", 3)
    made = CliRunner().invoke(app, ["init", "bids", "--name", "tiny"])
    assert made.exit_code == 0, made.output
    run = run_snakemake(tmp_path, "--dry-run", config=tmp_path / "config/tiny.yaml")
    assert run.returncode == 0, run.stdout[-3000:]
    for rule in planned:
        assert rule in run.stdout
    assert "federate" not in run.stdout
