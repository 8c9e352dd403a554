import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from neuroloom.config import ConfigError, RecordingRow, SourceConfig
from neuroloom.study.sheet import COLUMNS, check_files, read_sheet, write_sheet

CONFIG = Path(__file__).parents[3] / "config"
GOOD = "demo\tnorth\t01\tn/a\trest\t\teeg\ta/x.edf\t31"
OTHER = "demo\tnorth\t02\t1\trest\t02\tbold\ta/y.nii.gz\tn/a"


def sheet(tmp_path: Path, *lines: str, header: tuple[str, ...] = (*COLUMNS, "age")) -> Path:
    path = tmp_path / "recordings.tsv"
    path.write_text("\n".join(["\t".join(header), *lines]) + "\n")
    return path


def problems(path: Path, labels: tuple[str, ...] = ("age",)) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_sheet(path, labels=labels)
    head, *lines = str(caught.value).split("\n  ")
    assert head == f"{path}: {len(lines)} problem(s)"
    return lines


def test_reads_rows_with_absent_values(tmp_path: Path) -> None:
    first, second = read_sheet(sheet(tmp_path, GOOD, OTHER), labels=("age",))
    assert first == RecordingRow(
        study="demo", site="north", subject="01", task="rest", modality="eeg", path="a/x.edf", labels={"age": "31"}
    )
    assert (second.session, second.run, second.labels) == ("1", "02", {})


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    order = [7, 0, 8, 1, 2, 3, 4, 5, 6]
    turn = ["\t".join(line.split("\t")[at] for at in order) for line in (GOOD, OTHER)]
    turned = sheet(tmp_path, *turn, header=tuple((*COLUMNS, "age")[at] for at in order))
    rows = read_sheet(turned, labels=("age",))
    assert rows == read_sheet(sheet(tmp_path, GOOD, OTHER), labels=("age",))


def test_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = sheet(tmp_path, GOOD, OTHER)
    rows = read_sheet(path, labels=("age",))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_sheet(path, labels=("age",)) == rows


def test_write_gives_back_the_same_rows(tmp_path: Path) -> None:
    rows = read_sheet(sheet(tmp_path, GOOD, OTHER), labels=("age",))
    again = tmp_path / "again.tsv"
    write_sheet(rows, again, labels=("group", "age"))
    assert read_sheet(again, labels=("age", "group")) == rows
    assert again.read_text().splitlines()[2].split("\t") == [*OTHER.split("\t")[:-1], "n/a", "n/a"]


def test_all_problems_are_in_one_message(tmp_path: Path) -> None:
    path = sheet(
        tmp_path,
        GOOD,
        GOOD.replace("\t01\t", "\tS_01\t").replace("x.edf", "b.edf"),
        GOOD.replace("\teeg\t", "\tecog\t").replace("\t01\t", "\t03\t"),
        GOOD.replace("x.edf", "z.edf"),
        GOOD.replace("\t01\t", "\t04\t").replace("a/x.edf", "a/./x.edf"),
        "",
        OTHER.replace("\trest\t", "\tn/a\t"),
        OTHER + "\textra",
    )
    assert problems(path) == [
        "line 3: subject 'S_01': only the letters A-Z, a-z and digits are allowed",
        "line 4: modality 'ecog': it is one of 'eeg', 'meg' or 'bold'",
        "line 5: the same recording as line 2 (study=demo site=north subject=01 task=rest modality=eeg)",
        "line 6: the same path and modality as line 2 (a/./x.edf, eeg)",
        "line 7: empty line",
        "line 8: task is empty",
        "line 9: 10 cells, the header has 9 (tabs between all cells?)",
    ]


def test_one_file_may_hold_two_modalities(tmp_path: Path) -> None:
    both = sheet(tmp_path, GOOD, GOOD.replace("\teeg\t", "\tmeg\t"))
    assert [row.modality for row in read_sheet(both, labels=("age",))] == ["eeg", "meg"]


def test_header_problems(tmp_path: Path) -> None:
    path = sheet(tmp_path, GOOD, GOOD, header=(*COLUMNS[:6], "modalitty", "path", "path"))
    assert problems(path) == [
        "line 1: missing column 'modality'",
        "line 1: missing column 'age'",
        "line 1: unknown column 'modalitty': rename it, or name it in study.labels",
        "line 1: column 'path' stands 2 times",
    ]


def test_a_label_that_the_config_does_not_name_is_an_unknown_column(tmp_path: Path) -> None:
    (line,) = problems(sheet(tmp_path, GOOD), labels=())
    assert line == "line 1: unknown column 'age': rename it, or name it in study.labels"


def test_empty_and_absent_sheets(tmp_path: Path) -> None:
    assert problems(sheet(tmp_path)) == ["line 1: no recording follows the header"]
    with pytest.raises(ConfigError, match=r"none\.tsv: no such recordings sheet"):
        read_sheet(tmp_path / "none.tsv", labels=())
    latin = tmp_path / "latin.tsv"
    latin.write_bytes("stud\xfc".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_sheet(latin, labels=())


def test_missing_files_are_named_with_their_lines(tmp_path: Path) -> None:
    rows = read_sheet(sheet(tmp_path, GOOD, OTHER, OTHER.replace("02", "03").replace("y.n", "z.n")), labels=("age",))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/y.nii.gz").symlink_to("annex-object")
    (tmp_path / "a/z.nii.gz").touch()
    with pytest.raises(ConfigError) as caught:
        check_files(rows, tmp_path, sheet="my.tsv")
    assert str(caught.value).split("\n  ") == [
        "my.tsv: 2 problem(s)",
        f"line 2: no file 'a/x.edf' below {tmp_path}",
        f"line 3: no file 'a/y.nii.gz' below {tmp_path} (a link without content: fetch it with git-annex or datalad)",
    ]


def test_paths_may_leave_the_root_or_be_absolute_where_the_config_says_so(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "x.edf").touch()
    lines = [GOOD.replace("a/x.edf", "../x.edf"), GOOD.replace("01", "02").replace("a/x.edf", str(tmp_path / "x.edf"))]
    rows = read_sheet(sheet(tmp_path, *lines), labels=("age",))
    check_files(rows, tmp_path / "root", folders=[tmp_path])
    with pytest.raises(ConfigError, match="2 problem"):
        check_files(rows, tmp_path / "root")


def test_ten_thousand_rows_are_quick(tmp_path: Path) -> None:
    lines = [f"s\ta\t{n:05d}\t1\trest\t1\teeg\tsub-{n:05d}/x.edf\t{n % 90}" for n in range(10_000)]
    path = sheet(tmp_path, *lines)
    seconds = []
    for _ in range(3):  # one may meet a collection of all that earlier tests have left
        start = time.process_time()
        rows = read_sheet(path, labels=("age",))
        seconds.append(time.process_time() - start)
    assert len(rows) == 10_000
    assert rows[-1].recording == "s_a_sub-09999_ses-1_task-rest_run-1_eeg"
    assert min(seconds) < 0.5


def test_import_stays_light() -> None:
    code = "import sys, neuroloom.study.sheet, neuroloom.study.bids; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mne", "nilearn", "nibabel", "pandas", "scipy"} & set(loaded)


def test_the_sheet_of_the_real_recordings_fits_its_config() -> None:
    config = yaml.safe_load((CONFIG / "real.yaml").read_text())
    rows = read_sheet(CONFIG / "real.tsv", labels=tuple(config["study"]["labels"]))
    assert len(rows) == 94
    for values in config["sources"].values():
        SourceConfig.model_validate(values)
    assert set(config["sources"]) <= {row.study for row in rows}
