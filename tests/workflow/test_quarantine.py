"""A study in which some recordings cannot be used: nothing is lost, everything is said, the rest goes on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .conftest import run_snakemake

NAMES = ("Fp1", "Fp2", "C3", "Cz", "C4", "O1", "O2", "Pz")
REASONS = {
    "02": ("ingest_meeg", "MNE cannot read it"),
    "03": ("ingest_meeg", "all eeg channels are flat"),
    "04": ("ingest_meeg", "eeg amplitude is"),
    "05": ("preprocess_meeg", "4 of 8 channels are bad"),
    "06": ("ingest_bold", "repetition times disagree"),
}


def write_edf(path: Path, *, scale: float = 20.0, n_dead: int = 0) -> None:
    import edfio

    rng = np.random.default_rng(0)
    data = scale * rng.standard_normal((len(NAMES), 100 * 30))
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
    files = {f"{n:02d}": ("eeg", f"{n:02d}.edf") for n in range(1, 6)} | {"06": ("bold", "06_bold.nii.gz")}
    lines = [f"faults\ta\t{name}\tn/a\trest\tn/a\t{modality}\t{path}" for name, (modality, path) in files.items()]
    header = "study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath"
    (folder / "recordings.tsv").write_text("\n".join([header, *lines]) + "\n")
    for name, limit in (("many", 0.9), ("few", 0.5)):
        (folder / f"{name}.yaml").write_text(
            f"study: {{name: faults, recordings: recordings.tsv}}\nquarantine: {{max_fraction: {limit}}}\n"
            "sources: {faults: {montage: colin27_1020, line_freq: 50}}\n"
            "preprocess: {meeg: {h_freq: 40}}\n"
        )
    return folder


@pytest.fixture(scope="module")
def tables(study: Path) -> dict[str, pd.DataFrame]:
    run = run_snakemake(study, "--cores", "2", config=study / "many.yaml")
    assert run.returncode == 0, run.stdout[-5000:]
    return {path.stem: pd.read_parquet(path) for path in (study / "results/faults/tables").glob("*.parquet")}


def test_the_good_recording_is_an_artifact_and_the_others_have_a_row(tables: dict[str, pd.DataFrame]) -> None:
    recordings = tables["recordings"].set_index("subject")["status"]
    assert dict(recordings) == {"01": "artifact", **dict.fromkeys(REASONS, "quarantined")}
    assert len(tables["quarantine"]) == len(REASONS)


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
    assert "5 of 6 recordings were quarantined, more than quarantine.max_fraction = 0.5 allows" in run.stdout
    assert (study / "results/faults/report.html").exists()
