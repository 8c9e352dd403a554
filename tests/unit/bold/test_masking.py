from dataclasses import replace

import numpy as np
import pytest

from neuroloom.bold.masking import brain_mask
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Confounds, Volumes


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_a_given_mask_loses_voxels_without_a_series(volumes: Volumes, brain_XYZ: np.ndarray) -> None:
    bold_XYZV = volumes.bold_XYZV.copy()
    bold_XYZV[8, 9, 7], bold_XYZV[8, 9, 8, 2] = 5.0, np.nan
    mask_XYZ, origin = brain_mask(replace(volumes, bold_XYZV=bold_XYZV, mask_XYZ=brain_XYZ))
    assert origin == "given"
    assert np.argwhere(brain_XYZ & ~mask_XYZ).tolist() == [[8, 9, 7], [8, 9, 8]]


def test_the_mask_of_a_native_series_is_its_bright_part(volumes: Volumes, brain_XYZ: np.ndarray) -> None:
    mask_XYZ, origin = brain_mask(volumes)
    assert origin == "computed from the series"
    assert overlap(mask_XYZ, brain_XYZ) > 0.9


def test_large_voxels_are_not_eroded_away(volumes: Volumes, brain_XYZ: np.ndarray) -> None:
    mask_XYZ, _ = brain_mask(replace(volumes, affine_44=volumes.affine_44 @ np.diag([6, 6, 6, 1])))
    assert overlap(mask_XYZ, brain_XYZ) > 0.95


def test_a_series_in_mni_space_takes_the_template_brain(rng: np.random.Generator) -> None:
    affine_44 = np.array([[8.0, 0, 0, -84], [0, 8, 0, -118], [0, 0, 8, -78], [0, 0, 0, 1]])
    bold_XYZV = rng.standard_normal((22, 26, 22, 4)).astype(np.float32)
    volumes = Volumes(bold_XYZV, affine_44, 2.0, "MNI152NLin6Asym", None, Confounds.none(4))
    mask_XYZ, origin = brain_mask(volumes)
    assert origin == "MNI152 template"
    at = {"pole": (-20, 62, 8), "ventricle": (-4, 12, 8), "beside the head": (-80, 0, 0)}
    index = {name: tuple(np.rint((np.array(mm) - affine_44[:3, 3]) / 8).astype(int)) for name, mm in at.items()}
    assert {name: bool(mask_XYZ[where]) for name, where in index.items()} == {
        "pole": True,
        "ventricle": True,
        "beside the head": False,
    }
    assert 1.2e6 < mask_XYZ.sum() * 8**3 < 2.2e6  # mm³
    away = replace(volumes, affine_44=affine_44 + np.array([[0, 0, 0, 900]] * 3 + [[0, 0, 0, 0]]))
    with pytest.raises(UnusableRecording, match=r"no brain voxel.*MNI152 template"):
        brain_mask(away)


def test_no_voxel_is_an_error_with_the_file(volumes: Volumes, brain_XYZ: np.ndarray) -> None:
    still = replace(volumes, bold_XYZV=np.ones_like(volumes.bold_XYZV), mask_XYZ=brain_XYZ)
    with pytest.raises(UnusableRecording, match=r"run7: no brain voxel with a changing series \(mask: given\)"):
        brain_mask(still, file="run7")
