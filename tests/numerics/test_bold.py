"""BOLD numbers against nilearn and against formulas written out by hand."""

import nibabel
import numpy as np
import pytest

from neuroloom.bold.cleaning import clean_parcels, clean_series
from neuroloom.bold.confounds import MOTION, framewise_displacement, motion_displacement
from neuroloom.bold.parcels import template_parcels
from neuroloom.bold.preprocess import labels_on_grid, parcel_means, preprocess_bold
from neuroloom.bold.realign import estimate_motion, grid_centre, rigid_matrix, rigid_parameters
from neuroloom.config import BoldConfig
from neuroloom.records import Confounds, Volumes

AFFINE = np.array([[-5.0, 0, 0, 72], [0, 5, 0, -106], [0, 0, 5, -66], [0, 0, 0, 1]])
SHAPE = (30, 35, 30)
# nilearn announces that it will standardise confounds another way, which does not change their span.
pytestmark = pytest.mark.filterwarnings("ignore:From release 0.14.0:DeprecationWarning")
CONFIG = BoldConfig(realign="never", confounds=("c",), min_voxels=1)


@pytest.fixture
def volumes(rng: np.random.Generator) -> Volumes:
    bold_XYZV = (1000 + 100 * rng.standard_normal((*SHAPE, 1)) + 10 * rng.standard_normal((*SHAPE, 80))).astype(
        np.float32
    )
    mask_XYZ = rng.random(SHAPE) < 0.8
    confounds = Confounds(["c1", "c2"], rng.standard_normal((80, 2)).astype(np.float32))
    return Volumes(bold_XYZV, AFFINE, 2.0, "MNI152NLin6Asym", mask_XYZ, confounds)


def masker(volumes: Volumes, **settings: object):
    from nilearn.maskers import NiftiLabelsMasker

    atlas = template_parcels(16)
    return NiftiLabelsMasker(
        nibabel.Nifti1Image(np.array(atlas.labels_XYZ), atlas.affine_44),
        mask_img=nibabel.Nifti1Image(volumes.mask_XYZ.astype(np.uint8), AFFINE),
        resampling_target="data",
        standardize=None,
        **settings,
    ).fit(nibabel.Nifti1Image(volumes.bold_XYZV, AFFINE))


def test_parcel_means_equal_nilearns_masker(volumes: Volumes) -> None:
    inside = volumes.mask_XYZ
    labels_XYZ = labels_on_grid(template_parcels(16), volumes)
    means_PV, n_voxels_P = parcel_means(volumes.bold_XYZV[inside], labels_XYZ[inside] - 1, 16)
    expected_VP = masker(volumes).transform(nibabel.Nifti1Image(volumes.bold_XYZV, AFFINE))
    assert n_voxels_P.min() > 20
    np.testing.assert_allclose(means_PV.T, expected_VP, rtol=1e-5)


def test_the_whole_chain_equals_nilearns_masker_with_its_cleaning(volumes: Volumes) -> None:
    """Percent change before cleaning is a division by the mean, which nilearn does not do before it filters."""
    series, _ = preprocess_bold(volumes=volumes, parcellation=template_parcels(16), config=CONFIG)
    image = nibabel.Nifti1Image(volumes.bold_XYZV, AFFINE)
    settings = {"detrend": True, "low_pass": 0.1, "high_pass": 0.008, "t_r": 2.0}
    cleaned_VP = masker(volumes, **settings).transform(image, confounds=volumes.confounds.values_VM)
    mean_P = masker(volumes).transform(image).mean(axis=0)
    np.testing.assert_allclose(series.bold_PV, (100 * cleaned_VP / mean_P).T, atol=1e-5)


@pytest.mark.parametrize("detrend", [True, False])
@pytest.mark.parametrize(("high_pass", "low_pass"), [(0.008, 0.1), (None, 0.1), (0.01, None), (None, None)])
def test_cleaning_equals_nilearn(
    detrend: bool, high_pass: float | None, low_pass: float | None, rng: np.random.Generator
) -> None:
    from nilearn.signal import clean

    series_PV = rng.standard_normal((5, 80)).cumsum(axis=1)
    confounds_VM = rng.standard_normal((80, 3))
    settings = {"detrend": detrend, "high_pass": high_pass, "low_pass": low_pass, "t_r": 1.5}
    found_PV = clean_series(series_PV, confounds_VM=confounds_VM, **settings)  # type: ignore[arg-type]
    filtering = "butterworth" if high_pass or low_pass else False
    expected_VP = clean(series_PV.T, confounds=confounds_VM, standardize=None, filter=filtering, **settings)
    np.testing.assert_array_equal(found_PV, expected_VP.T)


def test_cleaning_parcels_equals_cleaning_voxels_and_averaging(rng: np.random.Generator) -> None:
    voxel_XV = 100 + rng.standard_normal((12, 90)).cumsum(axis=1)
    confounds_VM = rng.standard_normal((90, 2))
    parcel_X = np.repeat(np.arange(3), 4)

    def clean(series_PV: np.ndarray) -> np.ndarray:
        return clean_series(series_PV, t_r=2.0, detrend=True, high_pass=0.01, low_pass=0.1, confounds_VM=confounds_VM)

    before, _ = parcel_means(voxel_XV, parcel_X, 3)
    after, _ = parcel_means(clean(voxel_XV), parcel_X, 3)
    np.testing.assert_allclose(clean(before), after, atol=1e-10)


def test_a_short_series_is_filtered_with_the_padding_that_it_has(rng: np.random.Generator) -> None:
    from nilearn.signal import clean

    means_PV = 1000 + rng.standard_normal((4, 16))
    cleaned = clean_parcels(means_PV, t_r=2.0, confounds=Confounds.none(16), config=BoldConfig())
    expected_VP = clean(cleaned.change_PV.T, t_r=2.0, low_pass=0.1, standardize=None, butterworth__padlen=15)
    np.testing.assert_allclose(cleaned.bold_PV, expected_VP.T, atol=1e-6)


def test_displacement_equals_the_formula_of_power_2012() -> None:
    motion_VM = np.array(
        [[0, 0, 0, 0, 0, 0], [0.1, -0.2, 0.3, 0.001, 0, -0.002], [0.1, 0.2, 0.3, 0.001, 0.004, -0.002]]
    )
    by_hand_V = [np.nan, 0.1 + 0.2 + 0.3 + 50 * 0.001 + 50 * 0.002, 0.4 + 50 * 0.004]
    np.testing.assert_allclose(framewise_displacement(motion_VM), by_hand_V)
    np.testing.assert_allclose(motion_displacement(Confounds(list(MOTION), motion_VM)), by_hand_V)
    shuffled = [3, 0, 5, 1, 4, 2]
    confounds = Confounds([MOTION[index] for index in shuffled], motion_VM[:, shuffled])
    np.testing.assert_allclose(motion_displacement(confounds), by_hand_V)


def moved_template(motion_V6: np.ndarray, *, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """nilearn's T1 template as a scanner with voxels of 4 mm sees it in each pose, and the affine."""
    from nilearn.datasets import load_mni152_template
    from nilearn.image import smooth_img
    from scipy.ndimage import affine_transform

    brain = smooth_img(load_mni152_template(resolution=2), 4.0)
    affine_44 = np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]])
    shape = (50, 59, 48)
    volumes = []
    for motion_6 in motion_V6:
        pose_44 = rigid_matrix(motion_6, grid_centre(shape, affine_44))
        seen_44 = np.linalg.inv(brain.affine) @ np.linalg.inv(pose_44) @ affine_44
        volumes.append(affine_transform(brain.get_fdata(), seen_44[:3, :3], seen_44[:3, 3], output_shape=shape))
    bold_XYZV = 1000 * np.stack(volumes, axis=-1)
    bold_XYZV += noise * 1000 * rng.standard_normal(bold_XYZV.shape)
    return bold_XYZV.astype(np.float32), affine_44


def test_motion_of_a_real_brain_is_recovered_to_a_twentieth_of_a_millimetre(rng: np.random.Generator) -> None:
    motion_V6 = np.zeros((10, 6))
    motion_V6[4:] = np.concatenate([rng.uniform(-2, 2, (6, 3)), np.deg2rad(rng.uniform(-2, 2, (6, 3)))], axis=1)
    bold_XYZV, affine_44 = moved_template(motion_V6, noise=0.02, rng=rng)
    found_V6, n_lost = estimate_motion(bold_XYZV, affine_44)
    centre_3 = grid_centre(bold_XYZV.shape, affine_44)
    # The first pose is the reference of the truth, the mean of all that of the estimate.
    start_44 = np.linalg.inv(rigid_matrix(np.median(found_V6[:4], axis=0), centre_3))
    error_V6 = [rigid_parameters(rigid_matrix(found_6, centre_3) @ start_44, centre_3) for found_6 in found_V6]
    error_V6 = np.array(error_V6) - motion_V6
    assert n_lost == 0
    assert np.abs(error_V6[:, :3]).max() < 0.05
    assert np.rad2deg(np.abs(error_V6[:, 3:])).max() < 0.05


def test_realigned_parcels_follow_the_truth_more_closely(rng: np.random.Generator) -> None:
    """Half of the volumes were measured after a movement of 3 mm."""
    motion_V6 = np.zeros((24, 6))
    motion_V6[12:] = [1.5, -1.0, 2.0, 0.02, -0.03, 0.02]
    bold_XYZV, affine_44 = moved_template(motion_V6, noise=0.005, rng=rng)
    true_V = np.sin(np.arange(24) * 0.8)
    bold_XYZV *= 1 + 0.02 * true_V.astype(np.float32)
    volumes = Volumes(bold_XYZV, affine_44, 2.0, "MNI152NLin6Asym", None, Confounds.none(24))
    reached = {}
    for realign in ("never", "auto"):
        config = BoldConfig(realign=realign, detrend=False, high_pass=None, low_pass=None)
        series, _ = preprocess_bold(volumes=volumes, parcellation=template_parcels(32), config=config)
        filled_PV = series.bold_PV[np.isfinite(series.bold_PV).all(axis=1)]
        assert len(filled_PV) >= 30
        reached[realign] = np.median([np.corrcoef(series_V, true_V)[0, 1] for series_V in filled_PV])
    assert reached["never"] < 0.95
    assert reached["auto"] > 0.99
