"""A simulated study of which every EEG and MEG is quarantined: scores and report are made of what is left."""

from pathlib import Path

import pandas as pd
import yaml
from tests.faults.conftest import run, write_config

LOST = {
    "preprocess": {"meeg": {"max_bad_fraction": 0.01}},
    "quarantine": {"max_fraction": 1},
    "simulate": {"sites": {"north": {"modalities": ["eeg", "meg", "bold"]}}},
}


def test_quarantined_recordings_are_neither_scored_nor_in_the_way(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "lost.yaml").write_text(yaml.safe_dump(LOST))
    target = "results/tiny/report.html"
    ended = run(tmp_path, "--cores", "2", "--configfile", "tiny.yaml", "lost.yaml", "--", target)
    assert ended.returncode == 0, ended.stdout[-3000:]
    recordings = pd.read_parquet(tmp_path / "results/tiny/tables/recordings.parquet").set_index("recording")
    lost = recordings.index[recordings["status"] == "quarantined"]
    assert set(recordings.loc[lost, "modality"]) == {"eeg", "meg"}
    scored = pd.read_parquet(tmp_path / "results/tiny/tables/cleaning.parquet")
    assert set(scored["modality"]) == {"bold"}
    assert "channels are bad" in (tmp_path / target).read_text()
