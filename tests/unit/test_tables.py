from pathlib import Path

import pandas as pd
import pytest

from neuroloom.artifacts import write_artifact
from neuroloom.config import ConfigError, RecordingRow
from neuroloom.quarantine import QuarantineRow, write_quarantine
from neuroloom.records import Recording
from neuroloom.tables import check_quarantine, concat_rows, recordings_table, study_summary


def make_row(subject: str) -> RecordingRow:
    return RecordingRow(study="s", site="a", subject=subject, task="rest", modality="eeg", path=f"{subject}.edf")


@pytest.fixture
def tables(tmp_path: Path, recording: Recording) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One recording that was cleaned and one that was quarantined at ingest."""
    rows = [make_row("01"), make_row("02")]
    attrs = {**recording.attrs(), "source_files": {"01.edf": "ab" * 32}}
    for stage in ("ingest", "preprocess"):
        path = tmp_path / stage / f"{rows[0].recording}.zarr"
        write_artifact(path, "recording", arrays=recording.arrays(), attrs=attrs)
    lost = tmp_path / "preprocess" / f"{rows[1].recording}.manifest.json"
    write_quarantine(lost, QuarantineRow(rows[1].recording, "ingest_meeg", "02.edf", "truncated", "Bring it whole"))
    kept = tmp_path / "preprocess" / f"{rows[0].recording}.manifest.json"
    return recordings_table(rows, [kept, lost])


def test_every_row_of_the_sheet_is_accounted_for(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    recordings, quarantine = tables
    assert list(recordings["status"]) == ["artifact", "quarantined"]
    assert recordings["duration"][0] == pytest.approx(20.0)
    assert recordings["source_sha256"][0] == "ab" * 32
    assert quarantine.to_dict("records") == [
        {
            "recording": "s_a_sub-02_task-rest_eeg",
            "stage": "ingest_meeg",
            "file": "02.edf",
            "reason": "truncated",
            "remedy": "Bring it whole",
        }
    ]


def test_the_summary_counts_people_minutes_and_losses(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    (line,) = study_summary(tables[0]).to_dict("records")
    assert (line["subjects"], line["recordings"], line["quarantined"]) == (2, 2, 1)
    assert line["minutes"] == pytest.approx(20 / 60)


def test_a_study_of_which_nothing_is_left_still_has_its_tables(tmp_path: Path) -> None:
    manifest = tmp_path / "a.manifest.json"
    write_quarantine(manifest, QuarantineRow("a", "ingest_meeg", "a.edf", "truncated", "Bring it whole"))
    recordings, quarantine = recordings_table([make_row("01")], [manifest])
    assert len(quarantine) == 1
    (line,) = study_summary(recordings).to_dict("records")
    assert (line["recordings"], line["minutes"], line["quarantined"]) == (1, 0, 1)


def test_too_many_lost_recordings_stop_the_run(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, quarantine = tables
    with pytest.raises(ConfigError, match=r"1 of 2 recordings were quarantined.*1 x truncated"):
        check_quarantine(quarantine, n_recordings=2, max_fraction=0.4)
    assert check_quarantine(quarantine, n_recordings=2, max_fraction=0.5)["quarantined"] == 1


def test_rows_of_quarantined_recordings_are_left_out(tmp_path: Path) -> None:
    pd.DataFrame([{"recording": "a", "quarantined": False, "n_bads": 2}]).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame([{"recording": "b", "quarantined": True}]).to_parquet(tmp_path / "b.parquet")
    assert list(concat_rows([tmp_path / "a.parquet", tmp_path / "b.parquet"])["recording"]) == ["a"]
    assert len(concat_rows([tmp_path / "b.parquet"])) == 0
