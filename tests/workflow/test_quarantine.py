"""A study in which some recordings cannot be used: nothing is lost, everything is said, the rest goes on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroloom.artifacts import open_artifact

from .conftest import run_snakemake

NAMES = ("Fp1", "Fp2", "C3", "Cz", "C4", "O1", "O2", "Pz")
REASONS = {
    "02": ("ingest_meeg", "MNE cannot read it"),
    "03": ("ingest_meeg", "all eeg channels are flat"),
    "04": ("ingest_meeg", "eeg amplitude is"),
    "05": ("preprocess_meeg", "4 of 8 channels are bad"),
    "06": ("ingest_bold", "repetition times disagree"),
    "07": ("ingest_meeg", "no positions for Fp1, Fp2"),
    "08": ("preprocess_meeg", "no trigger repeats every 2 s"),
}
STUDIES = {"07": "bare", "08": "scanner"}


def make_data(rng: np.random.Generator) -> np.ndarray:
    """Half of it is common to all channels, as on a head."""
    return rng.standard_normal((len(NAMES), 100 * 30)) + rng.standard_normal(100 * 30)


def write_gaps(path: Path) -> None:
    """A tenth of the samples is missing: 8 % of each channel here and there, and a quarter of one in a row."""
    import mne

    rng = np.random.default_rng(1)
    data = 20e-6 * make_data(rng)
    data[rng.random(data.shape) < 0.08] = np.nan
    data[2, 500:1250] = np.nan
    raw = mne.io.RawArray(data, mne.create_info(list(NAMES), 100.0, "eeg"), verbose="error")
    raw.save(path, verbose="error")


def write_edf(path: Path, *, scale: float = 20.0, n_dead: int = 0) -> None:
    import edfio

    rng = np.random.default_rng(0)
    data = scale * make_data(rng)
    data[:n_dead] = 0
    top = max(float(np.abs(data).max()), 1.0)
    signals = [
        edfio.EdfSignal(row, 100, label=name, physical_dimension="uV", physical_range=(-top, top))
        for name, row in zip(NAMES, data, strict=True)
    ]
    edfio.Edf(signals).write(path)


def write_nifti(path: Path) -> None:
    """A series whose sidecar says another repetition time than its header."""
    import nibabel

    data = np.random.default_rng(0).normal(1000, 10, (6, 6, 6, 20)).astype(np.float32)
    image = nibabel.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((4.0, 4.0, 4.0, 2.0))
    image.to_filename(path)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text('{"RepetitionTime": 3.0}')


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quarantine")
    write_edf(folder / "01.edf")
    (folder / "02.edf").write_bytes((folder / "01.edf").read_bytes()[:1000])
    write_edf(folder / "03.edf", scale=0.0)
    write_edf(folder / "04.edf", scale=20e3)
    write_edf(folder / "05.edf", n_dead=4)
    write_nifti(folder / "06_bold.nii.gz")
    write_edf(folder / "07.edf")
    write_edf(folder / "08.edf")
    write_gaps(folder / "09_raw.fif")
    files = {f"{n:02d}": ("eeg", f"{n:02d}.edf") for n in (1, 2, 3, 4, 5, 7, 8)}
    files |= {"06": ("bold", "06_bold.nii.gz"), "09": ("eeg", "09_raw.fif")}
    lines = [
        f"{STUDIES.get(name, 'faults')}\ta\t{name}\tn/a\trest\tn/a\t{modality}\t{path}"
        for name, (modality, path) in files.items()
    ]
    header = "study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath"
    (folder / "recordings.tsv").write_text("\n".join([header, *lines]) + "\n")
    for name, limit in (("many", 0.9), ("few", 0.5)):
        (folder / f"{name}.yaml").write_text(
            f"study: {{name: faults, recordings: recordings.tsv}}\nquarantine: {{max_fraction: {limit}}}\n"
            "tokenize: {use: []}\npretrain: {use: []}\nevaluate: {use: []}\n"
            "federate: {use: []}\nsynthesize: {use: []}\n"
            "sources:\n"
            "  faults: {montage: colin27_1020, line_freq: 50}\n"
            "  scanner: {montage: colin27_1020, line_freq: 50, scanner_t_r: 2.0}\n"
            "preprocess: {meeg: {h_freq: 40}}\n"
        )
    return folder


@pytest.fixture(scope="module")
def tables(study: Path) -> dict[str, pd.DataFrame]:
    run = run_snakemake(study, "--cores", "2", config=study / "many.yaml")
    assert run.returncode == 0, run.stdout[-5000:]
    return {path.stem: pd.read_parquet(path) for path in (study / "results/faults/tables").glob("*.parquet")}


def test_good_recordings_are_artifacts_and_the_others_have_a_row(tables: dict[str, pd.DataFrame]) -> None:
    recordings = tables["recordings"].set_index("subject")["status"]
    assert dict(recordings) == {"01": "artifact", "09": "artifact", **dict.fromkeys(REASONS, "quarantined")}
    assert len(tables["quarantine"]) == len(REASONS)


def test_a_recording_with_gaps_is_cleaned(study: Path, tables: dict[str, pd.DataFrame]) -> None:
    (row,) = tables["qc_meeg"][tables["qc_meeg"]["recording"].str.contains("sub-09_")].to_dict("records")
    assert row["nan_fraction"] == pytest.approx(0.11, abs=0.02)
    (reason,) = json.loads(row["bads"]).items()
    assert reason[0] == "C3"
    assert reason[1].startswith("missing (3")
    artifact = open_artifact(study / f"results/faults/preprocess/{row['recording']}.manifest.json")
    assert np.isfinite(artifact.read("signal")).all()


@pytest.mark.parametrize("subject", REASONS)
def test_stage_reason_and_remedy_are_said(tables: dict[str, pd.DataFrame], subject: str) -> None:
    quarantine = tables["quarantine"]
    (row,) = quarantine[quarantine["recording"].str.contains(f"sub-{subject}_")].to_dict("records")
    stage, reason = REASONS[subject]
    assert row["stage"] == stage
    assert reason in row["reason"]
    assert len(row["remedy"]) > 15


def test_the_report_tells_them(study: Path, tables: dict[str, pd.DataFrame]) -> None:
    html = (study / "results/faults/report.html").read_text()
    assert all(reason in html for _, reason in REASONS.values())


def test_more_than_the_limit_stops_the_run_with_the_report_written(
    study: Path, tables: dict[str, pd.DataFrame]
) -> None:
    run = run_snakemake(study, "--cores", "1", config=study / "few.yaml")
    assert run.returncode != 0
    assert "7 of 9 recordings were quarantined, more than quarantine.max_fraction = 0.5 allows" in run.stdout
    assert (study / "results/faults/report.html").exists()
