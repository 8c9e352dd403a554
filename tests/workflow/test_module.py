"""NeuroLoom as a module of another workflow, as docs/how-to/module.md says, with a config of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

CONFIG = """
study: {name: mine}
simulate:
  duration: 40
  tasks: [rest]
  sites: {north: {n_subjects: 3, modalities: [eeg]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/mine.yaml").write_text(CONFIG)
    return tmp_path


def snakemake(folder: Path, *words: str, names: str = "") -> str:
    """Run the Snakefile of the page; `names` follows its `use rule *`."""
    page = (ROOT / "docs/how-to/module.md").read_text()
    found = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found
    text = found[1].replace("/path/to/neuroloom", str(ROOT))
    (folder / "Snakefile").write_text(text.replace("use rule * from neuroloom", f"use rule * from neuroloom{names}"))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *words]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    return run.stdout + run.stderr


@pytest.mark.parametrize("names", ["", " as neuroloom_*"])
def test_a_dry_run_reaches_the_report(folder: Path, names: str) -> None:
    told = snakemake(folder, "--dry-run", names=names)
    prefix = "neuroloom_" if names else ""
    for rule in ("simulate_site", "ingest_meeg", "pretrain_model", "render_report", "describe_study"):
        assert f"{prefix}{rule} " in told, rule
    assert "results/mine/report.html" in told


def test_rules_of_the_other_workflow_stand_behind_ours(folder: Path) -> None:
    told = snakemake(folder, "--dry-run", "results/mine/ours.csv")
    assert "compare_with_ours " in told
    assert "collect_evaluation " in told
    assert "federate " not in told


def test_a_rule_runs_with_the_config_of_the_other_workflow(folder: Path) -> None:
    snakemake(folder, "results/mine/simulated/north.manifest.json")
    people = sorted(path.name for path in (folder / "results/mine/simulated/north/bids").glob("sub-*"))
    assert people == ["sub-01", "sub-02", "sub-03"]
    assert (folder / "logs/mine/simulate_site/north.log").exists()
