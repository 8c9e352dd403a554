"""A BIDS dataset of somebody: indexed, then run, with nothing but a config file."""

from pathlib import Path

import pandas as pd
import pytest

from .conftest import run_snakemake


@pytest.fixture(scope="module")
def study(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated site `west` (BrainVision in mV, FIF, NIfTI) as if it came from elsewhere."""
    folder = tmp_path_factory.mktemp("bids")
    bids = smoke / "results/smoke/simulated/west/bids"
    study = f"{{name: mine, bids_root: {bids}, root: {bids}, recordings: config/recordings.tsv, labels: [age, sex]}}"
    (folder / "mine.yaml").write_text(
        f"study: {study}\nsources: {{mine: {{scanner_t_r: 1.5}}}}\n"
        "tokenize: {use: []}\npretrain: {use: []}\nevaluate: {use: []}\nfederate: {use: []}\nsynthesize: {use: []}\n"
    )
    (folder / "config").mkdir()
    return folder


def test_from_a_folder_to_a_report_in_two_commands(study: Path) -> None:
    indexed = run_snakemake(study, "--cores", "1", "index_study", config=study / "mine.yaml")
    assert indexed.returncode == 0, indexed.stdout[-3000:]
    sheet = pd.read_csv(study / "config/recordings.tsv", sep="\t", dtype=str)
    assert sorted(sheet["modality"]) == ["bold", "eeg", "meg"]
    assert sheet["age"].notna().all()

    run = run_snakemake(study, "--cores", "2", config=study / "mine.yaml")
    assert run.returncode == 0, run.stdout[-3000:]
    recordings = pd.read_parquet(study / "results/mine/tables/recordings.parquet")
    assert (recordings["status"] == "artifact").all()
    notes = pd.read_parquet(study / "results/mine/tables/qc_meeg.parquet").set_index("recording")["notes"]
    assert ["volume triggers" in note for name, note in notes.items() if name.endswith("eeg")] == [True]
    assert ["volume triggers" in note for name, note in notes.items() if name.endswith("meg")] == [False]
    assert set(recordings["age"]) == set(sheet["age"])


def test_indexing_without_a_dataset_says_what_to_set(study: Path) -> None:
    (study / "none.yaml").write_text("study: {name: none}\n")
    run = run_snakemake(study, "--cores", "1", "index_study", config=study / "none.yaml")
    assert run.returncode != 0
    assert "study.bids_root is not set" in run.stdout
