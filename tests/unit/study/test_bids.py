import logging
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from neuroloom.config import ConfigError, RecordingRow, StudyConfig
from neuroloom.study.bids import index_bids, parse_name
from neuroloom.study.sheet import check_files, read_sheet

ROOT = Path(__file__).parents[3]


def dataset(root: Path, *files: str, participants: str = "") -> Path:
    """Empty files (folders where the name ends with a slash) below a BIDS root."""
    root.mkdir(exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    if participants:
        (root / "participants.tsv").write_text(participants.replace(" ", "\t"))
    return root


def paths(root: Path) -> list[str]:
    return [row.path for row in index_bids(root, study="demo")]


def problems(root: Path, labels: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        index_bids(root, study="demo", labels=labels)
    return str(caught.value).split("\n  ")[1:]


def test_entities_become_columns(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "ds",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_acq-high_run-02_eeg.edf",
        "sub-02/func/sub-02_task-nback_dir-AP_bold.nii.gz",
    )
    assert index_bids(root, study="demo") == [
        RecordingRow(
            study="demo",
            site="demo",
            subject="01",
            session="a",
            task="rest",
            run="02",
            modality="eeg",
            path="sub-01/ses-a/eeg/sub-01_ses-a_task-rest_acq-high_run-02_eeg.edf",
        ),
        RecordingRow(
            study="demo",
            site="demo",
            subject="02",
            task="nback",
            modality="bold",
            path="sub-02/func/sub-02_task-nback_dir-AP_bold.nii.gz",
        ),
    ]


def test_one_row_for_each_format_and_none_for_companions(tmp_path: Path) -> None:
    kept = [
        "sub-01/eeg/sub-01_task-a_eeg.vhdr",
        "sub-01/eeg/sub-01_task-b_eeg.set",
        "sub-01/eeg/sub-01_task-c_eeg.bdf",
        "sub-01/meg/sub-01_task-a_meg.ds",
        "sub-01/meg/sub-01_task-b_meg",
        "sub-01/meg/sub-01_task-c_split-01_meg.fif",
        "sub-01/meg/sub-01_task-d_meg.con",
        "sub-01/func/sub-01_task-a_bold.nii",
    ]
    root = dataset(
        tmp_path / "ds",
        *(name for name in kept if not name.endswith(("a_meg.ds", "b_meg"))),
        "sub-01/meg/sub-01_task-a_meg.ds/sub-01_task-a_meg.meg4",
        "sub-01/meg/sub-01_task-b_meg/c,rfDC",
        "sub-01/eeg/sub-01_task-a_eeg.eeg",
        "sub-01/eeg/sub-01_task-a_eeg.vmrk",
        "sub-01/eeg/sub-01_task-a_eeg.json",
        "sub-01/eeg/sub-01_task-a_events.tsv",
        "sub-01/eeg/sub-01_task-a_channels.tsv",
        "sub-01/eeg/sub-01_task-b_eeg.fdt",
        "sub-01/meg/sub-01_task-c_split-02_meg.fif",
        "sub-01/meg/sub-01_task-d_markers.sqd",
        "sub-01/meg/sub-01_acq-crosstalk_meg.fif",
        "sub-01/meg/sub-01_acq-calibration_meg.dat",
        "sub-01/meg/sub-01_headshape.pos",
        "sub-01/func/sub-01_task-a_sbref.nii.gz",
        "sub-01/func/sub-01_task-a_physio.tsv.gz",
        "sub-01/anat/sub-01_T1w.nii.gz",
    )
    assert sorted(paths(root)) == sorted(kept)


def test_other_folders_are_not_walked_and_what_is_left_out_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "eeg/sub-01_task-a_eeg.edf"
    root = dataset(
        tmp_path / "ds",
        f"sub-01/{name}",
        f"derivatives/clean/sub-01/{name}",
        f"sourcedata/sub-01/{name}",
        f"code/sub-01/{name}",
        f".git/sub-01/{name}",
        "sub-01/eeg/._sub-01_task-a_eeg.edf",
        "sub-01/ieeg/sub-01_task-a_ieeg.edf",
        "sub-01/ieeg/sub-01_task-a_ieeg.json",
        "sub-02/ieeg/sub-02_task-a_ieeg.vhdr",
        "sub-emptyroom/ses-20200101/meg/sub-emptyroom_ses-20200101_task-noise_meg.fif",
    )
    with caplog.at_level(logging.INFO):
        assert paths(root) == [f"sub-01/{name}"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}: 2 iEEG recording(s) are not listed",
        f"{root}: 1 empty-room recording(s) are not listed",
    ]


def test_sites_and_labels_come_from_the_participants(tmp_path: Path) -> None:
    files = [f"sub-0{n}/eeg/sub-0{n}_task-a_eeg.edf" for n in (1, 2)]
    table = "participant_id age site\nsub-01 31 UCLA_1\nsub-02 n/a NYU\n"
    rows = index_bids(dataset(tmp_path / "ds", *files, participants=table), study="demo", labels=("age",))
    assert [(row.site, row.labels) for row in rows] == [("UCLA1", {"age": "31"}), ("NYU", {})]


def test_participants_that_do_not_say_what_is_asked(tmp_path: Path) -> None:
    file = "sub-01/eeg/sub-01_task-a_eeg.edf"
    root = dataset(tmp_path / "ds", file, participants="participant_id site\nsub-01 n/a\n")
    assert problems(root) == [f"{file}: participants.tsv has a column site but no site for sub-01; fill it in"]
    with pytest.raises(ConfigError, match=r"no column group; there are participant_id, site\. Correct study\.labels"):
        index_bids(root, study="demo", labels=("group",))
    dataset(root, participants="participant_id site\nsub-01 A1\nsub-02 A_1\n")
    with pytest.raises(ConfigError, match=r"two of the sites \['A1', 'A_1'\] are one"):
        index_bids(root, study="demo")


def test_names_that_cannot_be_used_are_all_listed(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "ds",
        "sub-01/eeg/sub-01_task-a_eeg.edf",
        "sub-01/eeg/sub-01_task-a_colour-red_eeg.edf",
        "sub-01/eeg/sub-01_task-a_rest_eeg.edf",
        "sub-01/eeg/sub-01_task-a_task-b_eeg.edf",
        "sub-01/eeg/sub-01_eeg.edf",
        "sub-01/eeg/sub-01_task-b+c_eeg.edf",
        "sub-01/eeg/sub-01_task-d_eeg.xdf",
        "sub-01/eeg/sub-02_task-e_eeg.edf",
        "sub-01/meg/sub-01_task-f_split-02_meg.fif",
        "sub-01/meg/sub-01_task-g_meg",
    )
    assert problems(root) == [
        "sub-01/eeg/sub-01_eeg.edf: task is empty",
        "sub-01/eeg/sub-01_task-a_colour-red_eeg.edf: 'colour-red' is not a BIDS entity with a value; rename the file",
        "sub-01/eeg/sub-01_task-a_rest_eeg.edf: 'rest' is not a BIDS entity with a value; rename the file",
        "sub-01/eeg/sub-01_task-a_task-b_eeg.edf: entity 'task' stands twice; rename the file",
        "sub-01/eeg/sub-01_task-b+c_eeg.edf: task 'b+c': only the letters A-Z, a-z and digits are allowed",
        "sub-01/eeg/sub-01_task-d_eeg.xdf: format '.xdf' is not read as eeg (.bdf .edf .set .vhdr); "
        "convert or remove the file",
        "sub-01/eeg/sub-02_task-e_eeg.edf: the name does not belong into sub-01; move or rename the file",
        "sub-01/meg/sub-01_task-f_split-02_meg.fif: the first part of this split file is missing",
        "sub-01/meg/sub-01_task-g_meg: format '' is not read as meg (.con .ds .fif .pdf .sqd); "
        "convert or remove the file",
    ]


@pytest.mark.parametrize(
    ("first", "second", "by"),
    [
        ("func/sub-01_task-a_echo-1_bold.nii.gz", "func/sub-01_task-a_echo-2_bold.nii.gz", "echo"),
        ("func/sub-01_task-a_acq-a_dir-AP_bold.nii.gz", "func/sub-01_task-a_dir-PA_bold.nii.gz", "acq, dir"),
        ("eeg/sub-01_task-a_eeg.edf", "eeg/sub-01_task-a_eeg.set", "format"),
    ],
)
def test_files_that_the_sheet_cannot_tell_apart_are_refused(tmp_path: Path, first: str, second: str, by: str) -> None:
    (line,) = problems(dataset(tmp_path / "ds", f"sub-01/{first}", f"sub-01/{second}"))
    assert line.startswith(f"sub-01/{second}: the same recording as sub-01/{first} but for {by}, ")


def test_folders_that_are_not_bids(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a BIDS dataset \(no dataset_description\.json\)"):
        index_bids(tmp_path, study="demo")
    with pytest.raises(ConfigError, match="no EEG, MEG or BOLD recording"):
        index_bids(dataset(tmp_path / "ds", "sub-01/anat/sub-01_T1w.nii.gz"), study="demo")


def test_parse_name() -> None:
    name = "sub-01_ses-2_task-x_split-01_meg.fif"
    assert parse_name(name) == ({"sub": "01", "ses": "2", "task": "x", "split": "01"}, "meg", ".fif")
    assert parse_name("sub-01_task-x_bold.nii.gz")[1:] == ("bold", ".nii.gz")


def test_ten_thousand_files_are_quick(tmp_path: Path) -> None:
    stems = [f"sub-{n:04d}/eeg/sub-{n:04d}_task-rest_run-{run}_" for n in range(625) for run in range(4)]
    ends = ("eeg.edf", "eeg.json", "channels.tsv", "events.tsv")
    root = dataset(tmp_path / "ds", *(stem + end for stem in stems for end in ends))
    start = time.process_time()
    rows = index_bids(root, study="demo")
    assert len(rows) == 2500
    assert time.process_time() - start < 5


def test_the_script_writes_a_sheet_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(
        tmp_path / "ds", "sub-01/eeg/sub-01_task-a_eeg.edf", participants="participant_id age group\nsub-01 31 n/a\n"
    )
    sheet, labels = tmp_path / "recordings.tsv", ("age", "group")
    monkeypatch.setenv("NEUROLOOM_TEST_DATASETS", str(tmp_path))
    bids_root = "${NEUROLOOM_TEST_DATASETS:-nowhere}/ds"
    study = StudyConfig(name="demo", seed=1, bids_root=bids_root, root=str(tmp_path / "data"), labels=labels)
    snakemake = SimpleNamespace(
        params=SimpleNamespace(study=study.model_dump()), output=[str(sheet)], log=[str(tmp_path / "log")]
    )
    runpy.run_path(str(ROOT / "src/index_study.py"), init_globals={"snakemake": snakemake})
    rows = read_sheet(sheet, labels=labels)
    assert [(row.study, row.path) for row in rows] == [("demo", "../ds/sub-01/eeg/sub-01_task-a_eeg.edf")]
    (tmp_path / "data").mkdir()
    check_files(rows, Path(study.root_path), sheet=sheet, folders=study.folders)
