"""Dry runs: the graph of each config is the recorded one, and a wrong config or sheet stops before any job."""

import re
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, run_snakemake

GRAPHS = Path(__file__).parent / "rulegraphs"


def rule_edges(dot: str) -> list[str]:
    names = dict(re.findall(r'^\s*(\d+)\s*\[\s*label\s*=\s*"(\w+)', dot, re.MULTILINE))
    edges = re.findall(r"^\s*(\d+)\s*->\s*(\d+)", dot, re.MULTILINE)
    return sorted(f"{names[a]} -> {names[b]}" for a, b in edges)


@pytest.mark.parametrize("name", ["config", "smoke", "real", "paper"])
def test_rule_graph_is_the_recorded_one(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    """To record a wanted change: copy what this test prints into tests/workflow/rulegraphs/<name>.txt."""
    overlay = ROOT / "config" / f"{name}.yaml"
    config = tmp_path / "overlay.yaml"
    values = yaml.safe_load(overlay.read_text())
    if name == "real":
        real_data = request.getfixturevalue("real_data")
        values["study"] |= {"recordings": str(ROOT / values["study"]["recordings"]), "root": str(real_data)}
    config.write_text(yaml.safe_dump(values))
    run = run_snakemake(tmp_path, "--rulegraph", "--forceall", config=config)
    edges = rule_edges(run.stdout)
    assert edges, run.stdout[-3000:]
    assert edges == (GRAPHS / f"{name}.txt").read_text().splitlines(), "\n".join(edges)


def stopped(tmp_path: Path, values: dict, *arguments: str) -> str:
    config = tmp_path / "overlay.yaml"
    config.write_text(yaml.safe_dump(values))
    run = run_snakemake(tmp_path, "--dry-run", *arguments, config=config)
    assert run.returncode != 0
    assert "Traceback (most recent call last)" not in run.stdout
    return run.stdout


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    assert "preprocess.meeg.sfrq: unknown key" in stopped(tmp_path, {"preprocess": {"meeg": {"sfrq": 100}}})


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    message = stopped(tmp_path, {"study": {"recordings": "config/none.tsv"}})
    assert "config/none.tsv: no such sheet" in message


def test_a_row_of_a_missing_file_is_named(tmp_path: Path) -> None:
    sheet = tmp_path / "recordings.tsv"
    header = "study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath\n"
    sheet.write_text(header + "s\ta\t01\tn/a\trest\tn/a\teeg\tnowhere.edf\n")
    assert "line 2: no file 'nowhere.edf'" in stopped(tmp_path, {"study": {"recordings": str(sheet)}})


def test_an_unknown_recording_is_named(tmp_path: Path) -> None:
    message = stopped(tmp_path, {}, "results/demo/preprocess/demo_north_sub-99_task-rest_eeg.manifest.json")
    assert "no recording 'demo_north_sub-99_task-rest_eeg' in the sheet" in message


def test_a_study_to_be_indexed_asks_for_it(tmp_path: Path) -> None:
    message = stopped(tmp_path, {"study": {"recordings": "config/none.tsv", "bids_root": "somewhere"}})
    assert "snakemake index_study" in message


def test_an_unknown_atlas_of_a_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "x_bold.nii.gz").touch()
    header = "study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath\n"
    sheet = tmp_path / "recordings.tsv"
    sheet.write_text(header + "s\ta\t01\tn/a\trest\tn/a\tbold\tx_bold.nii.gz\n")
    values = {"study": {"recordings": str(sheet), "root": str(tmp_path)}, "sources": {"s": {"atlas": "gird25"}}}
    assert "atlas 'gird25' is unknown" in stopped(tmp_path, values)
