import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from neuroloom.bold.realign import (
    estimate_motion,
    grid_centre,
    hindrance,
    resample_moved,
    rigid_matrix,
    rigid_parameters,
)
from neuroloom.records import Volumes

AFFINE = np.array([[-4.0, 0, 0, 50], [0, 4, 0, -60], [0, 0, 4, -44], [0, 0, 0, 1]])
SHAPE = (26, 30, 24)


def head(position_X3: np.ndarray) -> np.ndarray:
    """A smooth, lopsided head with structure inside, at any position in mm."""
    x, y, z = position_X3.T
    edge = 1 / (1 + np.exp((np.sqrt((x / 38) ** 2 + (y / 46) ** 2 + (z / 36) ** 2) - 1) * 8))
    inside = 1 + 0.2 * np.sin(x / 9 + 0.5) * np.cos(y / 11) + 0.15 * np.sin((z + y) / 8)
    return 1000 * edge * inside


def scanned(motion_V6: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """The head as it is seen after each movement."""
    position_X3 = np.argwhere(np.ones(SHAPE)) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    volumes = []
    for motion_6 in motion_V6:
        back_44 = np.linalg.inv(rigid_matrix(motion_6, grid_centre(SHAPE, AFFINE)))
        volumes.append(head(position_X3 @ back_44[:3, :3].T + back_44[:3, 3]).reshape(SHAPE))
    bold_XYZV = np.stack(volumes, axis=-1)
    return (bold_XYZV + noise * np.random.default_rng(seed).standard_normal(bold_XYZV.shape)).astype(np.float32)


@pytest.fixture
def motion_V6(rng: np.random.Generator) -> np.ndarray:
    motion_V6 = np.zeros((9, 6))
    motion_V6[5:] = np.concatenate([rng.uniform(-2, 2, (4, 3)), np.deg2rad(rng.uniform(-2, 2, (4, 3)))], axis=1)
    return motion_V6


def test_parameters_and_matrix_are_inverse(motion_V6: np.ndarray) -> None:
    centre_3 = np.array([3.0, -20.0, 11.0])
    for motion_6 in motion_V6:
        np.testing.assert_allclose(rigid_parameters(rigid_matrix(motion_6, centre_3), centre_3), motion_6, atol=1e-12)


@pytest.mark.parametrize(
    ("motion", "start", "end"),
    [
        ({0: 2.0}, (1, 2, 3), (3, 2, 3)),
        ({3: np.pi / 2}, (0, 1, 0), (0, 0, 1)),  # nodding back: front goes up
        ({5: np.pi / 2}, (1, 0, 0), (0, 1, 0)),  # turning left: right goes to the front
    ],
)
def test_signs_are_those_of_a_right_handed_head(motion: dict[int, float], start: tuple, end: tuple) -> None:
    motion_6 = np.zeros(6)
    motion_6[list(motion)] = list(motion.values())
    np.testing.assert_allclose(rigid_matrix(motion_6, np.zeros(3)) @ [*start, 1], [*end, 1], atol=1e-12)


def test_planted_motion_is_found_with_its_signs(motion_V6: np.ndarray) -> None:
    found_V6, n_lost = estimate_motion(scanned(motion_V6, noise=5), AFFINE)
    error_V6 = found_V6 - found_V6[:5].mean(axis=0) - motion_V6
    assert np.abs(error_V6[:, :3]).max() < 0.05
    assert np.rad2deg(np.abs(error_V6[:, 3:])).max() < 0.05
    assert n_lost == 0


def test_a_gain_is_not_mistaken_for_motion() -> None:
    still_XYZV = scanned(np.zeros((7, 6)), noise=2)
    x_X = np.linspace(-1, 1, SHAPE[0])[:, None, None, None]
    brighter_XYZV = still_XYZV * (1 + 0.03 * np.linspace(-1, 1, 7) * (1 + x_X))
    found_V6, _ = estimate_motion(brighter_XYZV, AFFINE)
    assert np.abs(np.diff(found_V6, axis=0) * [1, 1, 1, 50, 50, 50]).max() < 0.02


def test_moved_volumes_are_brought_back(motion_V6: np.ndarray) -> None:
    bold_XYZV = scanned(motion_V6)
    back_XYZV = resample_moved(bold_XYZV, AFFINE, motion_V6)
    still = bold_XYZV[..., :1]
    inner = (slice(3, -3),) * 3
    before, after = (np.abs(x - still)[inner][..., 5:] for x in (bold_XYZV, back_XYZV))
    assert np.sqrt((after**2).mean()) < 0.05 * np.sqrt((before**2).mean())
    np.testing.assert_array_equal(back_XYZV[inner][..., :5], bold_XYZV[inner][..., :5])


def test_what_left_the_field_of_view_or_lies_beside_a_gap_is_nan() -> None:
    motion_V6 = np.zeros((6, 6))
    motion_V6[3, 2] = 4.5  # mm up: the lowest slice of the rest lies in the second one, the highest is gone
    bold_XYZV = scanned(motion_V6)
    bold_XYZV[10, 12, 8] = np.nan
    back_XYZV = resample_moved(bold_XYZV, AFFINE, motion_V6)
    lost_XYZ = np.isnan(back_XYZV)
    assert (lost_XYZ.all(axis=3) == lost_XYZ.any(axis=3)).all()
    assert lost_XYZ[:, :, -1].all()
    assert not lost_XYZ[:, :, 0].any()
    assert lost_XYZ[10, 12, 6:9, 0].tolist() == [True, True, True]
    assert lost_XYZ[:, :, :-1, 0].sum() <= 3


def test_half_a_voxel_beyond_the_edge_is_still_seen() -> None:
    motion_V6 = np.zeros((4, 6))
    motion_V6[2, 2] = 1.9
    assert np.isfinite(resample_moved(scanned(motion_V6), AFFINE, motion_V6)).all()


def test_cubic_interpolation_is_scipys_and_air_stays_as_it_is() -> None:
    motion_V6, n = np.array([[0.7, -0.3, 1.1, 0.01, 0.02, -0.01]]), SHAPE[0]
    noisy_XYZV = scanned(np.zeros((1, 6)), noise=10)
    bold_XYZV = np.concatenate([noisy_XYZV, 0.01 * noisy_XYZV])  # a head, and air beside it
    seen_44 = np.linalg.inv(AFFINE) @ rigid_matrix(motion_V6[0], grid_centre(bold_XYZV.shape, AFFINE)) @ AFFINE
    at_X3 = np.argwhere(np.ones(bold_XYZV.shape[:3])) @ seen_44[:3, :3].T + seen_44[:3, 3]
    expected = map_coordinates(bold_XYZV[..., 0], at_X3.T, order=3, mode="nearest").reshape(bold_XYZV.shape[:3])
    found = resample_moved(bold_XYZV, AFFINE, motion_V6)[..., 0]
    known = np.isfinite(found)
    assert known.mean() > 0.9
    head = known[:n] & (scanned(np.zeros((1, 6)))[..., 0] > 150)
    np.testing.assert_allclose(found[:n][head], expected[:n][head], rtol=1e-4, atol=0.01)
    air = known[n + 4 :]
    np.testing.assert_array_equal(found[n + 4 :][air], bold_XYZV[n + 4 :, ..., 0][air])


def test_series_that_cannot_be_realigned_are_named(volumes: Volumes) -> None:
    bold_XYZV, affine_44 = volumes.bold_XYZV, volumes.affine_44
    assert hindrance(bold_XYZV, affine_44) is None
    assert hindrance(bold_XYZV[:, :, :3], affine_44) == "3 voxels along one axis, 8 are needed"
    coarse_44 = affine_44 @ np.diag([5, 5, 5, 1])
    assert str(hindrance(bold_XYZV, coarse_44)).startswith("voxels of 20 mm")
    residual = replace(volumes, bold_XYZV=bold_XYZV - bold_XYZV.mean(axis=3, keepdims=True))
    assert hindrance(residual.bold_XYZV, affine_44) == "the series came without its mean"


def test_a_volume_takes_well_under_a_fifth_of_a_second() -> None:
    bold_XYZV = scanned(np.zeros((10, 6)), noise=10)
    start = time.process_time()
    estimate_motion(bold_XYZV, AFFINE)
    assert (time.process_time() - start) / 10 < 0.2
