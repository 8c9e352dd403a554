import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nilearn.maskers import NiftiLabelsMasker

from neuroloom.bold.parcels import Parcellation, template_parcels
from neuroloom.config import RecordingRow
from neuroloom.synthesis.export import entities_of, resampled, write_bold_image

N_PARCELS, N_VOLUMES = 16, 7
SPACE = "MNI152NLin2009aSym"
STEM = "sub-01_task-rest_space-MNI152NLin2009aSym"


@pytest.fixture(scope="module")
def atlas() -> Parcellation:
    return template_parcels(N_PARCELS)


@pytest.fixture
def bold_PV(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N_PARCELS, N_VOLUMES)).astype(np.float32)


def write(bold_PV: np.ndarray, atlas: Parcellation, folder: Path, **changes: Any) -> Path:
    facts = {"parcellation": atlas, "t_r": 1.5, "space": SPACE, "folder": folder, "description": "ridge"}
    facts |= {"entities": {"sub": "01", "task": "rest"}, "sources": ["bids::sub-01/eeg/sub-01_task-rest_eeg.edf"]}
    return write_bold_image(bold_PV, **(facts | changes))


@pytest.mark.parametrize("voxel_mm", [None, 4.0, 6.0])
def test_nilearn_gets_the_series_back(
    bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path, voxel_mm: float | None
) -> None:
    path = write(bold_PV, atlas, tmp_path, voxel_mm=voxel_mm)
    labels = nibabel.load(path.with_name(f"{STEM}_seg-template16_dseg.nii.gz"))
    found_VP = NiftiLabelsMasker(labels, standardize=None).fit_transform(path)
    np.testing.assert_allclose(found_VP.T, bold_PV, atol=1e-5)
    image = nibabel.load(path)
    assert image.shape[3] == N_VOLUMES
    assert image.get_data_dtype() == np.float32
    assert image.header.get_zooms()[3] == 1.5
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert int(image.header["sform_code"]) == 4, "MNI"
    np.testing.assert_allclose(image.header.get_zooms()[:3], voxel_mm or 4.0)


def test_voxels_lie_at_their_parcels_in_mni_space(bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path) -> None:
    image = nibabel.load(write(bold_PV, atlas, tmp_path, voxel_mm=6.0))
    held_XYZ = np.asarray(image.dataobj)[..., 0] == bold_PV[3, 0]
    centre_3 = nibabel.affines.apply_affine(image.affine, np.argwhere(held_XYZ)).mean(axis=0)
    np.testing.assert_allclose(centre_3, atlas.centroid_P3[3], atol=2.0)


def test_the_uncertainty_stands_beside_it(bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path) -> None:
    path = write(bold_PV, atlas, tmp_path, std_PV=np.abs(bold_PV))
    sd = nibabel.load(path.with_name(f"{STEM}_desc-predictedsd_bold.nii.gz"))
    np.testing.assert_allclose(np.abs(nibabel.load(path).get_fdata()), sd.get_fdata())
    text = json.loads(path.with_name(f"{STEM}_desc-predictedsd_bold.json").read_text())["Description"]
    assert text == "Standard deviation of: ridge"


def test_sidecar_and_dataset_say_what_it_is(bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path) -> None:
    path = write(bold_PV, atlas, tmp_path, start_time=0.75)
    assert path == tmp_path / "sub-01" / "func" / f"{STEM}_desc-predicted_bold.nii.gz"
    sidecar = json.loads(path.with_name(f"{STEM}_desc-predicted_bold.json").read_text())
    assert (sidecar["RepetitionTime"], sidecar["StartTime"], sidecar["TaskName"]) == (1.5, 0.75, "rest")
    assert (sidecar["Description"], sidecar["Units"], sidecar["SpatialReference"]) == ("ridge", "%", SPACE)
    assert sidecar["Sources"] == ["bids::sub-01/eeg/sub-01_task-rest_eeg.edf"]
    assert sidecar["Parcellation"] == {"Name": "template16", "SHA256": atlas.sha256, "Space": "MNI152"}
    assert sidecar["GeneratedBy"][0]["Name"] == "NeuroLoom"
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert {"Name", "BIDSVersion", "GeneratedBy"} <= description.keys()


def test_a_parcel_that_was_not_measured_is_empty_and_named(
    bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path
) -> None:
    bold_PV[5] = np.nan
    path = write(bold_PV, atlas, tmp_path)
    held_XYZV = np.asarray(nibabel.load(path).dataobj)
    assert not held_XYZV[atlas.labels_XYZ == 6].any()
    assert np.isfinite(held_XYZV).all()
    sidecar = json.loads(path.with_name(f"{STEM}_desc-predicted_bold.json").read_text())
    assert sidecar["MissingParcels"] == [atlas.names[5]]


def test_entities_follow_the_sheet(bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path) -> None:
    facts = {"study": "s", "site": "n", "subject": "07", "session": "b", "run": "2", "task": "rest"}
    entities = entities_of(RecordingRow(**facts, modality="eeg", path=""))
    path = write(bold_PV, atlas, tmp_path, entities=entities)
    name = f"sub-07_ses-b_task-rest_run-2_space-{SPACE}_desc-predicted_bold.nii.gz"
    assert path == tmp_path / "sub-07" / "ses-b" / "func" / name


def test_a_person_of_the_same_label_is_not_written_over(
    bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path
) -> None:
    path = write(bold_PV, atlas, tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="each site a folder of its own"):
        write(2 * bold_PV, atlas, tmp_path)
    assert path.read_bytes() == before


def test_the_official_validator_finds_no_error(bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path) -> None:
    write(bold_PV, atlas, tmp_path, std_PV=np.abs(bold_PV))
    validator = Path(sys.executable).with_name("bids-validator-deno")
    result = subprocess.run([validator, tmp_path, "-r", "--format", "json"], capture_output=True, check=False)
    found = json.loads(result.stdout)
    assert found["summary"]["totalFiles"] > 6
    assert [issue for issue in found["issues"]["issues"] if issue["severity"] == "error"] == []


def test_equal_content_gives_equal_bytes(bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path) -> None:
    one, two = (write(bold_PV, atlas, tmp_path / folder).read_bytes() for folder in ("a", "b"))
    assert one == two


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std_PV": np.zeros((N_PARCELS, 3))}, "series of shape"),
        ({"space": "native"}, "an MNI atlas is needed"),
        ({"entities": {"task": "rest"}}, "give `sub`"),
        ({"entities": {"sub": "0_1"}}, "letters and digits only"),
        ({"voxel_mm": 60.0}, "no voxel of 60 mm in .*lower voxel_mm"),
    ],
)
def test_what_cannot_be_written_is_refused(
    bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write(bold_PV, atlas, tmp_path, **changes)
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_a_parcel_of_another_count_is_refused(bold_PV: np.ndarray, atlas: Parcellation, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for 16 parcels of template16"):
        write(bold_PV[:-1], atlas, tmp_path)


def test_the_atlas_on_its_own_grid_stays_as_it_is(atlas: Parcellation) -> None:
    assert resampled(atlas, 4.0) is atlas
    assert resampled(atlas, 6.0).sha256 == atlas.sha256, "the name of what was parcellated"
