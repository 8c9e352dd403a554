from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nilearn.image import smooth_img

from neuroloom.bold.confounds import MOTION, framewise_displacement, has_motion
from neuroloom.bold.parcels import make_parcellation
from neuroloom.bold.preparation import prepare_volumes, smooth
from neuroloom.bold.preprocess import parcel_coverage, preprocess_bold
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Confounds, Volumes

NOTHING = BoldConfig(realign="never", slice_timing="none")


def prepared(volumes: Volumes, **changes: object):
    return prepare_volumes(volumes, config=NOTHING.model_copy(update=changes), file="run5")


def test_with_every_step_off_nothing_changes(volumes: Volumes) -> None:
    timed = replace(volumes, slice_time_Z=np.linspace(0, 1.9, 14))
    done = prepared(timed)
    np.testing.assert_array_equal(done.volumes.bold_XYZV, volumes.bold_XYZV)
    assert (done.motion, done.slice_timing, done.start_time) == ("unknown", "none", 0.0)
    assert np.isnan(done.smooth_mm)
    assert done.volumes.confounds.names == []


def test_auto_realigns_where_no_motion_parameters_came(volumes: Volumes) -> None:
    done = prepared(volumes, realign="auto")
    assert done.motion == "estimated"
    assert done.volumes.confounds.names == [*MOTION, "framewise_displacement"]
    values_VM = done.volumes.confounds.values_VM
    np.testing.assert_allclose(values_VM[:, 6], framewise_displacement(values_VM[:, :6]), rtol=1e-3, atol=1e-5)
    given = replace(volumes, confounds=Confounds(list(MOTION), np.zeros((40, 6), np.float32)))
    kept = prepared(given, realign="auto")
    assert kept.motion == "given"
    assert kept.volumes.bold_XYZV is given.bold_XYZV
    assert prepared(given, realign="always").motion == "estimated"


def test_a_series_that_cannot_be_realigned_is_noted_or_refused(volumes: Volumes) -> None:
    slab = replace(volumes, bold_XYZV=volumes.bold_XYZV[:, :, 5:8])
    done = prepared(slab, realign="auto")
    assert done.motion == "unknown"
    assert done.volumes.notes == ("not realigned: 3 voxels along one axis, 8 are needed",)
    with pytest.raises(UnusableRecording, match=r"run5: cannot be realigned: 3 voxels"):
        prepared(slab, realign="always")


@pytest.mark.parametrize(("moment", "start_time"), [("start", 0.0), ("middle", 1.0)])
def test_slice_timing_says_what_moment_its_values_stand_for(volumes: Volumes, moment: str, start_time: float) -> None:
    timed = replace(volumes, slice_time_Z=np.linspace(0, 1.9, 14))
    done = prepared(timed, slice_timing=moment)
    assert (done.slice_timing, done.start_time) == (moment, start_time)
    assert not np.array_equal(done.volumes.bold_XYZV[:, :, 13], volumes.bold_XYZV[:, :, 13])
    assert prepared(volumes, slice_timing=moment).slice_timing == "none"


def test_smoothing_is_nilearns(volumes: Volumes) -> None:
    image = nibabel.Nifti1Image(volumes.bold_XYZV, volumes.affine_44)
    done = prepared(volumes, smooth_mm=6.0)
    np.testing.assert_allclose(done.volumes.bold_XYZV, smooth_img(image, 6.0).get_fdata(), rtol=1e-4)
    assert done.smooth_mm == 6.0


def test_smoothing_keeps_gaps_where_they_are(volumes: Volumes) -> None:
    bold_XYZV = volumes.bold_XYZV.copy()
    bold_XYZV[8, 9, 7] = np.nan
    smoothed = smooth(bold_XYZV, volumes.affine_44, fwhm=6.0)
    assert np.isnan(smoothed).all(axis=3).sum() == 1
    assert np.isnan(smoothed[8, 9, 7]).all()


def quarters(volumes: Volumes, step_mm: float = 4.0):
    """Four slabs along the first axis, on a grid of another voxel size."""
    factor = 4 / step_mm
    shape = tuple(int(size * factor) for size in volumes.bold_XYZV.shape[:3])
    labels = np.broadcast_to((np.arange(shape[0]) * 4 // shape[0] + 1)[:, None, None], shape)
    affine_44 = volumes.affine_44 @ np.diag([1 / factor, 1 / factor, 1 / factor, 1])
    corner = (1 / factor - 1) / 2
    affine_44[:3, 3] += volumes.affine_44[:3, :3] @ np.full(3, corner)
    return make_parcellation(labels_XYZ=labels, affine_44=affine_44, names=list("abcd"), name="q", space="native")


@pytest.mark.parametrize("step_mm", [4.0, 2.0, 1.0])
def test_coverage_is_the_share_of_atlas_voxels_in_the_mask(volumes: Volumes, step_mm: float) -> None:
    mask_XYZ = np.ones(volumes.bold_XYZV.shape[:3], bool)
    mask_XYZ[4:6] = False
    mask_XYZ[8:12, :9] = False
    coverage_P = parcel_coverage(quarters(volumes, step_mm), mask_XYZ, volumes.affine_44)
    np.testing.assert_allclose(coverage_P, [1, 0.5, 0.5, 1])


def test_what_lies_beyond_the_field_of_view_is_not_covered(volumes: Volumes) -> None:
    mask_XYZ = np.ones((8, 18, 14), bool)
    np.testing.assert_allclose(parcel_coverage(quarters(volumes), mask_XYZ, volumes.affine_44), [1, 1, 0, 0])


def test_a_parcel_that_is_half_missing_is_nan_with_a_reason(volumes: Volumes) -> None:
    mask_XYZ = np.ones(volumes.bold_XYZV.shape[:3], bool)
    mask_XYZ[4:7] = False
    config = BoldConfig(realign="never", min_coverage=0.5)
    series, qc = preprocess_bold(
        volumes=replace(volumes, mask_XYZ=mask_XYZ), parcellation=quarters(volumes), config=config
    )
    assert np.isnan(series.bold_PV).all(axis=1).tolist() == [False, True, False, False]
    assert qc.empty_parcels == ("b (25% of it measured, 252 voxels)",)
    np.testing.assert_allclose(series.coverage_P, [1, 0.25, 1, 1])
    assert qc.coverage_min == 0.25
    lenient = BoldConfig(realign="never", min_coverage=0.25)
    assert (
        preprocess_bold(volumes=replace(volumes, mask_XYZ=mask_XYZ), parcellation=quarters(volumes), config=lenient)[
            1
        ].empty_parcels
        == ()
    )


def test_the_row_says_what_was_done(volumes: Volumes) -> None:
    timed = replace(volumes, slice_time_Z=np.linspace(0, 1.9, 14))
    config = BoldConfig(smooth_mm=5.0, min_coverage=0)
    series, qc = preprocess_bold(volumes=timed, parcellation=quarters(volumes), config=config)
    row = qc.row()
    assert (row["motion"], row["slice_timing"], row["smooth_mm"]) == ("estimated", "start", 5.0)
    assert np.isfinite(row["fd_mean"])
    assert has_motion(series.confounds)


def test_nuisance_that_cannot_be_computed_is_noted_not_refused(volumes: Volumes) -> None:
    config = BoldConfig(confounds=("a_comp_cor", "trans_"), realign="auto", min_coverage=0)
    _, qc = preprocess_bold(volumes=volumes, parcellation=quarters(volumes), config=config)
    assert qc.n_confounds == 3
    assert "no confounds were given: a_comp_cor not regressed" in qc.notes
