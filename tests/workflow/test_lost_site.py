"""A simulated study of which every EEG and MEG is quarantined: scores and report are made of what is left.

One site is lost whole, because it has nothing else.
"""

from pathlib import Path

import pandas as pd
import yaml
from tests.faults.conftest import ROOT, run, write_config

LOST = {"preprocess": {"meeg": {"max_bad_fraction": 0.01}}, "quarantine": {"max_fraction": 1}}


def test_quarantined_recordings_are_neither_scored_nor_in_the_way(tmp_path: Path) -> None:
    write_config(tmp_path)
    west = yaml.safe_load((ROOT / "config/config.yaml").read_text())["simulate"]["sites"]["west"]
    sites = {"north": {"modalities": ["eeg"]}, "west": {**west, "n_subjects": 1}}
    (tmp_path / "lost.yaml").write_text(yaml.safe_dump({**LOST, "simulate": {"sites": sites}}))
    target = "results/tiny/report.html"
    ended = run(tmp_path, "--cores", "2", "--configfile", "tiny.yaml", "lost.yaml", "--", target)
    assert ended.returncode == 0, ended.stdout[-3000:]
    recordings = pd.read_parquet(tmp_path / "results/tiny/tables/recordings.parquet").set_index("recording")
    lost = recordings.index[recordings["status"] == "quarantined"]
    assert set(recordings.loc[lost, "modality"]) == {"eeg", "meg"}
    assert set(recordings.loc[recordings["status"] == "artifact", "site"]) == {"west"}
    scored = pd.read_parquet(tmp_path / "results/tiny/tables/cleaning.parquet")
    assert set(scored["modality"]) == {"bold"}
    assert "channels are bad" in (tmp_path / target).read_text()
