import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from neuroloom.config import ConfigError
from neuroloom.study import public
from neuroloom.study.neurobolt import neurobolt_study
from neuroloom.study.public import NILEARN, PUBLIC, eegbci, moabb_study, nilearn_study, openneuro


def test_registry_names_every_fetcher() -> None:
    fetchers = {"eegbci": eegbci, "moabb": moabb_study, "openneuro": openneuro, "nilearn": nilearn_study}
    fetchers |= {"neurobolt": neurobolt_study}
    assert fetchers == PUBLIC


@pytest.mark.usefixtures("no_network")
def test_eegbci_without_network_names_only_the_files_that_are_missing(tmp_path: Path) -> None:
    folder = tmp_path / "MNE-eegbci-data/files/eegmmidb/1.0.0/S001"
    folder.mkdir(parents=True)
    (folder / "S001R04.edf").touch()
    with pytest.raises(ConfigError, match="cannot be fetched") as caught:
        eegbci(folder=tmp_path, subjects=[1], runs=[4, 8])
    message = str(caught.value)
    assert f"Looked for {folder / 'S001R08.edf'}. Place these files" in message
    assert "S001R04.edf" not in message.split("Looked for")[1]


def test_eegbci_knows_its_subjects_and_runs(tmp_path: Path) -> None:
    assert sorted(run for runs in public.EEGBCI_TASKS.values() for run in runs) == list(range(1, 15))
    for subjects, runs in ([[110], [1]], [[1], [15]]):
        with pytest.raises(ConfigError, match="there are subjects 1-109, runs 1-14"):
            eegbci(folder=tmp_path, subjects=subjects, runs=runs)


@pytest.mark.usefixtures("no_network")
def test_openneuro_without_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="openneuro ds000246: cannot be fetched") as caught:
        openneuro(dataset_id="ds000246", folder=tmp_path, include=["sub-0001"])
    assert f"Looked for {tmp_path / 'ds000246/sub-0001'}. Copy the dataset there" in str(caught.value)


def test_openneuro_lists_what_was_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*, dataset: str, target_dir: Path, include: list[str] | None) -> None:
        assert (dataset, include) == ("ds000246", ["sub-0001"])
        (target_dir / "sub-0001/meg/sub-0001_task-AEF_run-01_meg.ds").mkdir(parents=True)
        (target_dir / "dataset_description.json").touch()

    monkeypatch.setattr("openneuro.download", download)
    (row,) = openneuro(dataset_id="ds000246", folder=tmp_path, include=["sub-0001"])
    assert row.recording == "ds000246_ds000246_sub-0001_task-AEF_run-01_meg"
    assert row.path == "ds000246/sub-0001/meg/sub-0001_task-AEF_run-01_meg.ds"


@pytest.mark.usefixtures("no_network")
def test_nilearn_finds_what_was_placed_and_says_what_it_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "development_fmri/development_fmri"  # nilearn adds the name twice
    folder.mkdir(parents=True)
    person = {"participant_id": "sub-pixar123", "Age": 27.06, "AgeGroup": "Adult", "Child_Adult": "adult"}
    child = {"participant_id": "sub-pixar001", "Age": 4.77, "AgeGroup": "4yo", "Child_Adult": "child"}
    table = pd.DataFrame([child, person]).assign(Gender="F", Handedness="R")
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    for end in ("desc-confounds_regressors.tsv", "space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"):
        (folder / f"sub-pixar123_task-pixar_{end}").touch()
    (row,) = nilearn_study(name="development_fmri", folder=tmp_path, n_subjects=1)
    assert row.recording == "developmentfmri_developmentfmri_sub-pixar123_task-pixar_bold"
    assert row.labels == {"Age": "27.06", "Child_Adult": "adult", "Gender": "F"}
    assert (tmp_path / row.path).is_file()
    with pytest.raises(ConfigError, match="nilearn development_fmri: cannot be fetched") as caught:
        nilearn_study(name="development_fmri", folder=tmp_path, n_subjects=2)
    assert f"Looked for {tmp_path}. Run nilearn.datasets.fetch_development_fmri" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("haxby", ["haxby2001/subj1/bold.nii.gz"], "haxby_haxby_sub-1_task-objectviewing_bold"),
        (
            "abide_pcp",
            ["ABIDE_pcp/cpac/nofilt_noglobal/UCLA_1_0051204_func_preproc.nii.gz"],
            "abidepcp_UCLA1_sub-0051204_task-rest_bold",
        ),
    ],
)
def test_nilearn_file_names_become_entities(
    name: str, files: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = pd.DataFrame({label: ["2"] for label in ("AGE_AT_SCAN", "DX_GROUP", "SEX")})

    class Answer(dict[str, Any]):
        phenotypic = people

    known = NILEARN[name]

    def fetch(*, data_dir: str, verbose: int, **options: Any) -> Answer:
        assert options == {known.count: 1, **known.options}
        return Answer({known.files: [str(Path(data_dir) / file) for file in files]})

    monkeypatch.setattr(f"nilearn.datasets.{known.fetcher}", fetch)
    (row,) = nilearn_study(name=name, folder=tmp_path, n_subjects=1)
    assert (row.recording, row.path) == (expected, files[0])
    assert set(row.labels) == set(known.labels)


def test_nilearn_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no study 'oasis'; there are development_fmri, haxby, abide_pcp"):
        nilearn_study(name="oasis", folder=tmp_path, n_subjects=1)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public.importlib.util, "find_spec", lambda _: None)
    for fetch in (moabb_study, openneuro):
        with pytest.raises(ConfigError, match=r"is not installed; run: pip install neuroloom\[public\]"):
            fetch(dataset_id="x", folder=tmp_path)


@pytest.fixture
def fake_moabb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of MOABB 1.x that are used: a dataset class whose cache is a BIDS folder with digests in the names."""

    class Toy2014:
        code = "Toy-2014"

        def get_data(self, subjects: list[int] | None, cache_config: dict[str, Any]) -> None:
            if subjects == [99]:
                raise ConnectionError("no route to host")
            assert cache_config["use"]
            assert cache_config["save_raw"]
            root = Path(cache_config["path"]) / "MNE-BIDS-toy-2014"
            for subject in subjects or [1, 2, 3]:
                folder = root / f"sub-{subject}/ses-0train/eeg"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"sub-{subject}_ses-0train_task-imagery_run-0_desc-0a1b2c_eeg.edf").touch()
            (root / "dataset_description.json").touch()

    modules = {name: ModuleType(name) for name in ("moabb", "moabb.datasets", "moabb.datasets.bids_interface")}
    modules["moabb"].datasets = modules["moabb.datasets"]  # type: ignore[attr-defined]
    modules["moabb.datasets"].Toy2014 = Toy2014  # type: ignore[attr-defined]
    interface = modules["moabb.datasets.bids_interface"]
    interface.get_bids_root = lambda code, path: Path(path) / f"MNE-BIDS-{code.lower()}"  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(public.importlib.util, "find_spec", lambda _: SimpleNamespace())


@pytest.mark.usefixtures("fake_moabb")
def test_moabb_lists_its_bids_cache(tmp_path: Path) -> None:
    assert len(moabb_study(dataset_id="Toy2014", folder=tmp_path)) == 3
    (row,) = moabb_study(dataset_id="Toy2014", folder=tmp_path, subjects=[2])
    assert row.recording == "Toy2014_Toy2014_sub-2_ses-0train_task-imagery_run-0_eeg"
    assert (tmp_path / row.path).is_file()


@pytest.mark.usefixtures("fake_moabb")
def test_moabb_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="moabb: no dataset 'Toy2015'"):
        moabb_study(dataset_id="Toy2015", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"moabb Toy2014: cannot be fetched \(ConnectionError: no route to host\)"):
        moabb_study(dataset_id="Toy2014", folder=tmp_path, subjects=[99])
