import json
from pathlib import Path

import pytest

from neuroloom.bold.companions import bare_name, entities, find_companions, read_sidecar
from neuroloom.quarantine import UnusableRecording


def touch(root: Path, *files: str) -> list[Path]:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("{}" if file.endswith(".json") else "")
    return [root / file for file in files]


def test_names() -> None:
    path = Path("sub-01_task-rest_space-MNI152_desc-preproc_bold.nii.gz")
    assert bare_name(path) == "sub-01_task-rest_space-MNI152_desc-preproc_bold"
    assert entities(path) == {"sub": "01", "task": "rest", "space": "MNI152", "desc": "preproc"}
    assert bare_name(Path("a.b.1D")) == "a.b"


def test_sidecars_are_inherited_and_the_nearest_wins(tmp_path: Path) -> None:
    bold, *_ = touch(tmp_path, "sub-01/func/sub-01_task-rest_bold.nii.gz", "dataset_description.json")
    (tmp_path / "task-rest_bold.json").write_text('{"RepetitionTime": 2, "EchoTime": 0.03}')
    (tmp_path / "task-other_bold.json").write_text('{"RepetitionTime": 9}')
    (tmp_path / "sub-01/func/sub-01_task-rest_bold.json").write_text('{"RepetitionTime": 3}')
    (tmp_path / "sub-01/func/sub-01_task-rest_run-2_bold.json").write_text('{"RepetitionTime": 8}')
    assert read_sidecar(find_companions(bold)) == {"RepetitionTime": 3, "EchoTime": 0.03}


def test_nothing_is_inherited_from_above_the_dataset(tmp_path: Path) -> None:
    bold, *_ = touch(
        tmp_path, "data/sub-01/sub-01_task-a_bold.nii.gz", "data/dataset_description.json", "task-a_bold.json"
    )
    assert find_companions(bold).sidecars == []


def test_derivatives_give_confounds_and_masks_of_the_same_recording(tmp_path: Path) -> None:
    derived = "derivatives/fmriprep/sub-01/func/sub-01_task-rest"
    bold, *_ = touch(tmp_path, "sub-01/func/sub-01_task-rest_echo-1_bold.nii.gz", "dataset_description.json")
    confounds, mask, *_ = touch(
        tmp_path,
        f"{derived}_desc-confounds_timeseries.tsv",
        f"{derived}_space-MNI152NLin6Asym_desc-brain_mask.nii.gz",
        f"{derived}_run-2_desc-confounds_timeseries.tsv",
        f"{derived}_desc-aparc_mask.nii.gz",
        "derivatives/fmriprep/sub-02/func/sub-02_task-rest_desc-confounds_timeseries.tsv",
    )
    found = find_companions(bold)
    assert (found.confounds, found.masks) == ([confounds], [mask])


def test_confounds_beside_the_file_come_before_derivatives(tmp_path: Path) -> None:
    bold, beside, *_ = touch(
        tmp_path,
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "sub-01/func/sub-01_task-rest_bold_confounds.tsv",
        "derivatives/a/sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv",
        "dataset_description.json",
    )
    assert find_companions(bold).confounds == [beside]


def test_a_file_outside_bids_has_only_what_bears_its_name(tmp_path: Path) -> None:
    table, sidecar, events, *_ = touch(
        tmp_path, "a_cc200.1D", "a_cc200.json", "a_cc200_events.tsv", "b_cc200.json", "cc200.json", "events.tsv"
    )
    found = find_companions(table)
    assert (found.sidecars, found.events, found.confounds, found.masks) == ([sidecar], [events], [], [])


@pytest.mark.parametrize("content", ["{", json.dumps(["RepetitionTime"]), "3"])
def test_a_broken_sidecar_is_named(tmp_path: Path, content: str) -> None:
    bold, sidecar = touch(tmp_path, "sub-01_task-rest_bold.nii.gz", "sub-01_task-rest_bold.json")
    sidecar.write_text(content)
    with pytest.raises(UnusableRecording, match=r"sub-01_task-rest_bold\.json.*JSON object"):
        read_sidecar(find_companions(bold))
