"""Names and paths of strangers: refused with a reason before any job runs, and nothing in them is ever executed."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import yaml

from neuroloom.config import ConfigError, RecordingRow, SourceConfig, parse_config
from neuroloom.quarantine import UnusableRecording
from neuroloom.signals.reading import read_raw
from neuroloom.study.bids import index_bids
from neuroloom.study.links import check_companions
from neuroloom.study.sheet import COLUMNS, check_files, read_sheet

from ..workflow.conftest import ROOT, run_snakemake
from .conftest import Trap

NAMES = [
    *(
        "$(touch sprung)",
        "`touch sprung`",
        "a;touch sprung",
        "a b",
        "a\nb",
        "a'b",
        'a"b',
        "a|b",
        "a&b",
        "a>b",
        "*",
        "~",
    ),
    *("../a", "/a", ".", "", "{a}", "ä", "a\u202eb", "\u0661", "a\x00b", "-a", "a_b", "x" * 65),
]
HEADER = "\t".join(COLUMNS)
OFF = "tokenize: {use: []}\npretrain: {use: []}\nevaluate: {use: []}\nfederate: {use: []}\nsynthesize: {use: []}\n"


def sheet(folder: Path, *paths: str, subject: str = "01") -> Path:
    lines = [f"s\ta\t{subject}\tn/a\trest\t{run}\teeg\t{path}" for run, path in enumerate(paths)]
    (folder / "recordings.tsv").write_text("\n".join([HEADER, *lines]) + "\n")
    return folder / "recordings.tsv"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", ["study", "site", "subject", "session", "task", "run"])
def test_a_name_with_anything_but_letters_and_digits_is_refused(column: str, name: str) -> None:
    row = dict.fromkeys(COLUMNS, "a") | {"modality": "eeg", column: name}
    with pytest.raises(ValueError, match=column):
        RecordingRow.model_validate(row)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("", "a\nb")])
def test_the_sheet_names_the_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"line 2: (subject .*(only the letters|at most 64)|\d+ cells)"):
        read_sheet(sheet(tmp_path, "x.edf", subject=name), labels=())


def test_a_name_that_makes_no_file_name_is_refused(tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "a" * 64) | {"modality": "eeg"}
    line = "\t".join(row[column] for column in COLUMNS)
    (tmp_path / "x.tsv").write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(ConfigError, match=r"line 2: .*a name of 410 characters, at most 220 make a file name"):
        read_sheet(tmp_path / "x.tsv", labels=())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["study", "site", "tokenizer", "model", "task", "strategy", "synthesizer"])
def test_a_name_in_the_config_is_refused(place: str, name: str) -> None:
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    if place == "study":
        config["study"]["name"] = name
    else:
        sections = {
            "site": config["simulate"]["sites"],
            "tokenizer": config["tokenize"]["tokenizers"],
            "model": config["pretrain"]["models"],
            "task": config["evaluate"]["tasks"],
            "strategy": config["federate"]["strategies"],
            "synthesizer": config["synthesize"]["models"],
        }
        named = sections[place]
        named[name] = next(iter(named.values()))
    with pytest.raises(ConfigError, match="String should"):
        parse_config(config)


@pytest.mark.parametrize("name", ["sub-$(touch x)", "sub-a;b", "sub-a b", "sub-ä", "sub-a\nb", "sub-'a'"])
def test_a_bids_name_is_refused_with_its_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "a", "BIDSVersion": "1.9.0"}')
    for subject in (name, "sub-01"):
        (tmp_path / subject / "eeg").mkdir(parents=True)
        (tmp_path / subject / "eeg" / f"{subject}_task-rest_eeg.edf").touch()
    with pytest.raises(ConfigError, match="only the letters A-Z, a-z and digits") as caught:
        index_bids(tmp_path, study="s")
    assert "sub-01" not in str(caught.value)
    assert f"{name}_task-rest_eeg.edf" in str(caught.value)


@pytest.mark.parametrize("split", ["²", "x", "-1", "1e9"])
def test_a_split_that_is_no_number_is_refused(tmp_path: Path, split: str) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "a", "BIDSVersion": "1.9.0"}')
    (tmp_path / "sub-01/meg").mkdir(parents=True)
    (tmp_path / f"sub-01/meg/sub-01_task-rest_split-{split}_meg.fif").touch()
    with pytest.raises(ConfigError, match=r"is not a number|is not a BIDS entity"):
        index_bids(tmp_path, study="s")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of a dataset as git-annex leaves it, beside what is none of its business."""
    for name in ("study/.git/annex/objects/a", "study/raw", "private"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("private/secret.edf", "study/.git/annex/objects/a/x.edf", "study/raw/plain.edf"):
        (tmp_path / name).touch()
    (tmp_path / "study/raw/annexed.edf").symlink_to("../.git/annex/objects/a/x.edf")
    (tmp_path / "study/raw/leak.edf").symlink_to("../../private/secret.edf")
    (tmp_path / "study/raw/folder").symlink_to(tmp_path / "private")
    return tmp_path / "study"


def test_links_of_git_annex_and_paths_below_the_root_are_fine(study: Path) -> None:
    inside = ["raw/plain.edf", "raw/annexed.edf", str(study / "raw/plain.edf"), "raw/../raw/plain.edf"]
    rows = read_sheet(sheet(study, *inside[:3]), labels=())
    check_files(rows, study)
    assert check_files(rows, study / "raw/..") is None


@pytest.mark.parametrize(
    "path",
    ["../private/secret.edf", "raw/leak.edf", "raw/folder/secret.edf", "raw/../../private/secret.edf", "ABSOLUTE"],
)
def test_a_path_that_leads_out_is_refused_unless_the_config_names_its_folder(study: Path, path: str) -> None:
    secret = study.parent / "private/secret.edf"
    rows = read_sheet(sheet(study, "raw/plain.edf", path.replace("ABSOLUTE", str(secret))), labels=())
    with pytest.raises(ConfigError, match=rf"line 3: path .* leads out of .*, to {secret}: .*study\.elsewhere"):
        check_files(rows, study)
    check_files(rows, study, folders=[study.parent / "private"])
    check_files(rows, study, folders=["/"])


@pytest.mark.parametrize("path", ["a\x1b[31m.edf", "a\x00.edf", "{recording}.edf"])
def test_a_path_with_control_characters_or_wildcards_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"line 2: path .*no braces and no control characters are allowed"):
        read_sheet(sheet(tmp_path, path), labels=())


@pytest.mark.parametrize("name", ["../private/x.eeg", "/etc/passwd", "..\\private\\x.eeg"])
@pytest.mark.parametrize("key", ["DataFile", "MarkerFile"])
def test_a_header_that_names_a_file_elsewhere_is_refused(samples: Path, study: Path, key: str, name: str) -> None:
    for suffix in (".vhdr", ".eeg", ".vmrk"):
        (study / "raw/x").with_suffix(suffix).write_bytes((samples / "x").with_suffix(suffix).read_bytes())
    header = study / "raw/x.vhdr"
    lines = [f"{key}={name}" if line.startswith(key) else line for line in header.read_text().splitlines()]
    header.write_text("\n".join(lines) + "\n")
    with pytest.raises(UnusableRecording, match="which is no file beside it"):
        read_raw(header, source=SourceConfig())


def test_a_companion_that_is_a_link_out_is_refused(study: Path) -> None:
    (study / "raw/x.vmrk").symlink_to(study / "raw/annexed.edf")
    check_companions(study / "raw/plain.edf", [study / "raw/x.vmrk"])
    with pytest.raises(UnusableRecording, match=r"leak\.edf is a link out of"):
        check_companions(study / "raw/plain.edf", [study / "raw/leak.edf"])


def test_what_is_neither_file_nor_folder_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.edf")
    with pytest.raises(UnusableRecording, match="neither a file nor a folder"):
        read_raw(tmp_path / "x.edf", source=SourceConfig())


def laughs(depth: int = 12) -> str:
    lines = ['a0: &a0 ["ha", "ha"]', *(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, depth))]
    return "\n".join(lines) + f"\nstudy: {{name: x, labels: *a{depth - 1}}}\n"


def test_yaml_that_refers_to_itself_is_refused_in_a_few_words() -> None:
    with pytest.raises(ConfigError, match=r"study\.labels\.0: .*valid string") as caught:
        parse_config(yaml.safe_load(laughs()))
    assert len(str(caught.value)) < 10_000


def test_a_dry_run_stops_at_the_line_and_executes_nothing(tmp_path: Path) -> None:
    """Through Snakemake, with names that a shell would take for commands, and a path that is one."""
    (tmp_path / "$(touch sprung);`touch sprung` 'x.edf").touch()
    for name in NAMES[:3]:
        sheet(tmp_path, "$(touch sprung);`touch sprung` 'x.edf", subject=name)
        (tmp_path / "x.yaml").write_text(f"study: {{name: x, recordings: recordings.tsv}}\n{OFF}")
        run = run_snakemake(tmp_path, "--dry-run", "--cores", "1", config=tmp_path / "x.yaml")
        assert run.returncode != 0
        assert f"line 2: subject {name!r}: only the letters" in run.stdout
        assert not list(tmp_path.rglob("sprung"))


def test_the_rest_of_the_study_goes_on(tmp_path: Path, samples: Path) -> None:
    """A recording whose path a shell would take for a command is read; a pickle and a damaged file have a reason."""
    shutil.copy(samples / "x.edf", tmp_path / "$(touch sprung);`touch sprung` 'x.edf")
    (tmp_path / "x_raw.fif").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    (tmp_path / "x.set").write_bytes((samples / "x.set").read_bytes()[:145] + b"\xff\xff\xff\x7f" * 99)
    sheet(tmp_path, "$(touch sprung);`touch sprung` 'x.edf", "x_raw.fif", "x.set")
    (tmp_path / "x.yaml").write_text(
        f"study: {{name: x, recordings: recordings.tsv}}\nsources: {{s: {{montage: colin27_1020}}}}\n{OFF}"
    )
    made = [f"results/x/ingest/s_a_sub-01_task-rest_run-{run}_eeg.manifest.json" for run in range(3)]
    run = run_snakemake(tmp_path, "--cores", "2", *made, config=tmp_path / "x.yaml")
    assert run.returncode == 0, run.stdout[-3000:]
    read, *others = [json.loads((tmp_path / name).read_text()) for name in made]
    assert read["schema"].startswith("neuroloom/recording@")
    assert all("MNE cannot read it" in row["reason"] or "breaks down" in row["reason"] for row in others)
    assert not list(tmp_path.rglob("sprung"))
