"""A simulated study of which every EEG is quarantined: the scores and the report are made of what is left."""

from pathlib import Path

import pandas as pd

from .conftest import run_snakemake


def test_quarantined_recordings_are_neither_scored_nor_in_the_way(tmp_path: Path, smoke_config: Path) -> None:
    overlay = tmp_path / "lost.yaml"
    overlay.write_text(
        "preprocess: {meeg: {max_bad_fraction: 0.01}}\nquarantine: {max_fraction: 1}\n"
        "simulate: {sites: {north: {modalities: [eeg]}}}\n"
    )
    target = "results/smoke/report.html"
    run = run_snakemake(tmp_path, "--cores", "2", "--configfile", str(smoke_config), str(overlay), "--", target)
    assert run.returncode == 0, run.stdout[-3000:]
    recordings = pd.read_parquet(tmp_path / "results/smoke/tables/recordings.parquet").set_index("recording")
    lost = recordings.index[recordings["status"] == "quarantined"]
    assert set(recordings.loc[lost, "modality"]) == {"eeg", "meg"}
    scored = pd.read_parquet(tmp_path / "results/smoke/tables/cleaning.parquet")
    assert set(scored["modality"]) == {"bold"}
    assert "channels are bad" in (tmp_path / target).read_text()
