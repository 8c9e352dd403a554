import json
from pathlib import Path

import pytest
import yaml

from neuroloom.config import Config, ConfigError, RecordingRow, parse_config
from neuroloom.study.site_files import SITE_FILES, empty_rooms_of, find_empty_room, head_files_of


def config_of(repository: Path, root: Path, *, magnetic: str = "auto", sheet: bool = True, **source: str) -> Config:
    values = yaml.safe_load((repository / "config/config.yaml").read_text())
    values["study"] |= {"recordings": "a.tsv" if sheet else None, "root": str(root)}
    values["sources"] = {"lab": source}
    values["preprocess"]["meeg"]["magnetic"] = magnetic
    return parse_config(values)


def row(path: str = "a.fif", modality: str = "meg") -> RecordingRow:
    return RecordingRow(study="lab", site="one", subject="01", task="rest", modality=modality, path=path)


def dataset(root: Path, *sessions: str, day: str | None = "2024-03-05") -> Path:
    """A recording of a day, and empty rooms of others."""
    (root / "sub-01" / "meg").mkdir(parents=True)
    (root / "dataset_description.json").write_text("{}")
    path = root / "sub-01" / "meg" / "sub-01_task-rest_meg.fif"
    path.touch()
    if day:
        (root / "sub-01" / "sub-01_scans.tsv").write_text(f"filename\tacq_time\nmeg/{path.name}\t{day}T10:00:00\n")
    for session in sessions:
        folder = root / "sub-emptyroom" / f"ses-{session}" / "meg"
        folder.mkdir(parents=True)
        for name in ("task-noise_split-02_meg.fif", "task-noise_split-01_meg.fif", "task-noise_meg.json"):
            (folder / f"sub-emptyroom_ses-{session}_{name}").touch()
    return path


def test_a_room_is_a_path_below_the_root(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "er.fif").touch()
    config = config_of(repository, tmp_path, empty_room="${NEUROLOOM_TEST_ROOMS:-rooms}/er.fif")
    assert empty_rooms_of(row(), config) == [str(tmp_path / "rooms" / "er.fif")]
    assert empty_rooms_of(row(modality="eeg"), config) == []
    monkeypatch.setenv("NEUROLOOM_TEST_ROOMS", str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match=r"elsewhere/er\.fif: no such file; correct sources\.lab\.empty_room"):
        empty_rooms_of(row(), config)


def test_files_that_a_method_does_not_use_are_no_input(repository: Path, tmp_path: Path) -> None:
    for magnetic, uses_room, uses_head in (("ssp", True, False), ("tsss", False, True), ("hfc", False, False)):
        (tmp_path / "er.fif").touch()
        config = config_of(repository, tmp_path, magnetic=magnetic, empty_room="er.fif")
        assert bool(empty_rooms_of(row(), config)) == uses_room
        assert bool(head_files_of(row(), config)) == uses_head


def test_where_the_head_was_is_in_the_file_or_in_a_table(repository: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "day" / "a_raw.fif")
    automatic = config_of(repository, tmp_path)
    assert head_files_of(row("day/a_raw.fif"), automatic) == [path]
    assert head_files_of(row("day/a.sqd"), automatic) == []
    assert head_files_of(row("day/a_raw.fif"), config_of(repository, tmp_path, head_positions="none")) == []
    assert head_files_of(row("day/a_raw.fif", "eeg"), automatic) == []
    named = config_of(repository, tmp_path, head_positions="pos/{stem}.pos")
    with pytest.raises(ConfigError, match=r"pos/a_raw\.pos: no such file; correct sources\.lab\.head_positions"):
        head_files_of(row("day/a_raw.fif"), named)
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "a_raw.pos").touch()
    assert head_files_of(row("day/a_raw.fif"), named) == [path, str(tmp_path / "pos" / "a_raw.pos")]


def test_a_simulated_study_has_no_files_of_a_site(repository: Path, tmp_path: Path) -> None:
    config = config_of(repository, tmp_path, sheet=False)
    simulated = row().model_copy(update={"site": next(iter(config.simulate.sites))})
    assert empty_rooms_of(simulated, config) == head_files_of(simulated, config) == []


def test_keys_that_name_files_are_keys_of_a_source(repository: Path, tmp_path: Path) -> None:
    """They are left out of what ingest gets, so that another room does not ingest everything anew."""
    assert set(config_of(repository, tmp_path).sources["lab"].model_dump()) >= SITE_FILES


def test_the_sidecar_names_the_room(tmp_path: Path) -> None:
    path = dataset(tmp_path, "20240304", "20240306")
    name = "sub-emptyroom/ses-20240306/meg/sub-emptyroom_ses-20240306_task-noise_split-01_meg.fif"
    for said in (name, f"bids::{name}", [f"bids::{name}"]):
        path.with_suffix(".json").write_text(json.dumps({"AssociatedEmptyRoom": said}))
        assert find_empty_room(path) == tmp_path / name
    path.with_suffix(".json").write_text(json.dumps({"AssociatedEmptyRoom": "sub-emptyroom/gone.fif"}))
    with pytest.raises(ConfigError, match=r"gone\.fif is not there; correct the sidecar"):
        find_empty_room(path)


def test_else_it_is_the_one_closest_in_time(repository: Path, tmp_path: Path) -> None:
    path = dataset(tmp_path, "20240201", "20240303", "20240310")
    found = find_empty_room(path)
    assert found.name == "sub-emptyroom_ses-20240303_task-noise_split-01_meg.fif"
    config = config_of(repository, tmp_path, empty_room="bids")
    assert empty_rooms_of(row(str(path.relative_to(tmp_path))), config) == [str(found)]


def test_a_single_room_needs_no_date_and_more_do(tmp_path: Path) -> None:
    only = dataset(tmp_path / "one", "20240201", day=None)
    assert "ses-20240201" in find_empty_room(only).name
    with pytest.raises(ConfigError, match=r"2 empty rooms, and scans\.tsv does not say when"):
        find_empty_room(dataset(tmp_path / "two", "20240201", "20240202", day=None))
    with pytest.raises(ConfigError, match="2 empty rooms, and their sessions are no dates"):
        find_empty_room(dataset(tmp_path / "three", "a", "b"))


def test_where_there_is_none_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recording in sub-emptyroom"):
        find_empty_room(dataset(tmp_path / "none"))
    with pytest.raises(ConfigError, match="not in a BIDS dataset"):
        find_empty_room(tmp_path / "a.fif")
