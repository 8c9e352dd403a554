"""EEGBCI through MNE without a network, and the sheet of the real recordings."""

import os
from pathlib import Path

import mne
import pytest
import yaml

from neuroloom.study.public import EEGBCI_FOLDER, eegbci
from neuroloom.study.sheet import check_files, read_sheet

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("NEUROLOOM_REAL_DATA", ROOT.parent / "shared/data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real recordings in {DATA} (NEUROLOOM_REAL_DATA)")
RUNS = {1: "resteyesopen", 3: "fistexecution", 4: "fistimagery", 5: "fistsfeetexecution", 6: "fistsfeetimagery"}


def test_eegbci_laid_out_as_mne_expects_it(tmp_path: Path) -> None:
    folder = tmp_path / EEGBCI_FOLDER / "S001"
    folder.mkdir(parents=True)
    for run in RUNS:
        name = f"S001R{run:02d}.edf"
        (folder / name).symlink_to((DATA / "eegmmidb_S001" / name).resolve())
    rows = eegbci(folder=tmp_path, subjects=[1], runs=list(RUNS))
    assert [(row.subject, row.run, row.task) for row in rows] == [
        ("S001", f"{run:02d}", task) for run, task in RUNS.items()
    ]
    check_files(rows, tmp_path, folders=[DATA])
    raw = mne.io.read_raw_edf(tmp_path / rows[1].path, verbose="error")
    assert (len(raw.ch_names), raw.info["sfreq"], raw.times[-1] + 1 / 160) == (64, 160.0, 125.0)
    assert list(raw.annotations.description).count("T1") == 8


def test_the_sheet_names_only_files_that_are_there() -> None:
    study = yaml.safe_load((ROOT / "config/real.yaml").read_text())["study"]
    rows = read_sheet(ROOT / "config/real.tsv", labels=tuple(study["labels"]))
    check_files(rows, DATA)
    listed = {row.path for row in rows}
    folders = ("eegmat_physionet", "eegmmidb_S001", "openbci_mi_peterson2020", "muse_lsl_visual", "abide_cc200")
    patterns = ("*.edf", "*_raw.fif", "*session*.csv", "*.1D")
    there = {file for folder in folders for pattern in patterns for file in (DATA / folder).glob(pattern)}
    assert {file.relative_to(DATA).as_posix() for file in there} <= listed


def test_the_sheet_gives_eegbci_the_names_of_the_fetcher(tmp_path: Path) -> None:
    sheet = read_sheet(ROOT / "config/real.tsv", labels=("age", "sex", "group"))
    rows = [row for row in sheet if row.study == "eegmmidb" and "first60s" not in row.path]  # which is not as published
    folder = tmp_path / EEGBCI_FOLDER / "S001"
    folder.mkdir(parents=True)
    for row in rows:
        (folder / f"S001R{row.run}.edf").symlink_to((DATA / row.path).resolve())
    fetched = eegbci(folder=tmp_path, subjects=[1], runs=[int(row.run or 0) for row in rows])
    assert [row.recording for row in rows] == [row.recording for row in fetched]
