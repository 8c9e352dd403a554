"""The smoke study from start to end: complete, verified, and left alone by a second run.

Two runs, and one killed at every rule, end in the same digests: `tests/faults` shows that on a smaller study.
"""

import json
import time
from pathlib import Path

import pandas as pd

from neuroloom.artifacts import open_artifact, verify
from neuroloom.config import Config
from neuroloom.signals.scores import BOUNDS
from neuroloom.verification import find_manifests

from .conftest import run_snakemake


def test_every_recording_becomes_an_artifact(smoke: Path) -> None:
    recordings = pd.read_parquet(smoke / "results/smoke/tables/recordings.parquet")
    assert set(recordings["modality"]) == {"eeg", "meg", "bold"}
    assert set(recordings["site"]) == {"north", "west", "south"}
    assert (recordings["status"] == "artifact").all()
    assert len(pd.read_parquet(smoke / "results/smoke/tables/quarantine.parquet")) == 0


def test_every_store_verifies(smoke: Path) -> None:
    found = find_manifests(smoke / "results")
    assert len(found) > 16
    assert all(len(verify(path)) == 64 for path in found)


def test_every_store_opens_in_xarray_with_labels(smoke: Path) -> None:
    for path in sorted(smoke.glob("results/smoke/preprocess/*.manifest.json")):
        artifact = open_artifact(path)
        dataset = artifact.to_xarray()
        windowed = str(artifact.spec.windowed)
        assert dataset[windowed].dims == artifact.spec.arrays[windowed].dims
        assert {"recording", "source_digest", "config_digest", "git_commit", "versions"} <= dataset.attrs.keys()


def test_provenance_leads_back_to_the_source_files(smoke: Path) -> None:
    (path,) = smoke.glob("results/smoke/preprocess/smoke_north_sub-01_*_eeg.manifest.json")
    cleaned = open_artifact(path)
    ingested = open_artifact(smoke / "results/smoke/ingest" / path.name)
    assert cleaned.attrs["upstream"] == {"ingest": ingested.digest}
    assert "sub-01_task-rest_eeg.edf" in ingested.attrs["source_files"]


def test_planted_bad_channels_are_found(smoke: Path) -> None:
    qc = pd.read_parquet(smoke / "results/smoke/tables/qc_meeg.parquet").set_index("recording")
    truth = pd.concat(pd.read_parquet(path) for path in smoke.glob("results/smoke/simulated/*/truth.parquet"))
    planted = truth[truth["kind"].isin(["dead", "flat", "noisy", "loose", "bridged"])]
    found = {(name, channel) for name, bads in qc["bads"].items() for channel in json.loads(bads)}
    wanted = set(zip(planted["recording"], planted["channel"], strict=True))
    assert wanted
    assert len(wanted & found) / len(wanted) >= 0.9
    assert len(wanted & found) / len(found) >= 0.9


def test_a_second_run_does_nothing(smoke: Path, smoke_config: Path) -> None:
    started = time.monotonic()
    run = run_snakemake(smoke, "--cores", "2", config=smoke_config)
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout
    assert time.monotonic() - started < 60


def test_an_edited_parameter_reruns_only_what_depends_on_it(smoke: Path, smoke_config: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("preprocess: {bold: {low_pass: 0.09}}\n")
    run = run_snakemake(smoke, "--dry-run", "--configfile", str(smoke_config), str(overlay), "--cores", "1")
    assert "preprocess_bold" in run.stdout
    assert "preprocess_meeg" not in run.stdout
    assert "ingest_" not in run.stdout


def test_report_tells_the_whole_config(smoke: Path) -> None:
    html = (smoke / "results/smoke/report.html").read_text()
    assert all(section in html for section in Config.model_fields)


def test_cleaning_meets_its_bounds(smoke: Path) -> None:
    """As far as 40 s allow: drift of BOLD stays, and averages of 17 volumes take EEG with them (`test_cleaning.py`).

    A single burst of muscle, of two a minute, beside what is left of the scanner, shows no component of its own.
    """
    table = pd.read_parquet(smoke / "results/smoke/tables/cleaning.parquet")
    assert set(table["what"]) == set(BOUNDS)
    short = {"bold", "scanner_r", "cardiac", "cardiac_worst", "erd", "alpha", "line_neighbours"}
    short |= {"muscle", "muscle_r", "muscle_alpha"}
    judged = table[~table["what"].isin(short)]
    assert (judged["met"] == "yes").all(), judged.to_string()
    value = table.groupby("what")["mean"]
    assert value.min()["bold"] > 0.85
    assert value.min()["scanner_r"] > 0.7
    assert value.max()["alpha"] < 0.2
