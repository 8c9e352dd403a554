import numpy as np
import pytest

from neuroloom.bold.confounds import framewise_displacement
from neuroloom.config import ConfigError
from neuroloom.study.bold_model import bold_response, head_motion, paint_scan, voxel_grid


def test_volumes_do_not_see_the_future() -> None:
    drive_PG = np.zeros((1, 1000))
    drive_PG[0, 500:] = 1.0
    bold_PV = bold_response(drive_PG, t_r=1.0, n_volumes=100, hrf_lag=0.0)
    np.testing.assert_allclose(bold_PV[0, :50], bold_PV[0, 0])
    assert bold_PV[0, 60] > bold_PV[0, 0] + 1
    assert bold_PV.mean() == pytest.approx(0, abs=1e-12)
    assert bold_PV.std() == pytest.approx(1)


@pytest.mark.parametrize("lag", [-2.0, -1.0, 1.5, 4.0])
def test_the_lag_shifts_the_response(lag: float) -> None:
    drive_PG = np.random.default_rng(0).standard_normal((4, 6000))
    plain, shifted = (bold_response(drive_PG, t_r=0.1, n_volumes=5900, hrf_lag=shift) for shift in (0.0, lag))
    shifts = np.arange(-60, 61)
    match = [np.mean(plain[:, 1000:4000] * shifted[:, 1000 + step : 4000 + step]) for step in shifts]
    assert shifts[int(np.argmax(match))] / 10 == pytest.approx(lag, abs=0.15)


def test_signal_and_noise_have_the_planted_ratio() -> None:
    grid = voxel_grid(8.0, 16)
    bold_PV = np.random.default_rng(0).standard_normal((16, 400))
    scan = paint_scan(bold_PV, grid=grid, snr=0.5, motion_mm=0.0, rng=np.random.default_rng(1))
    time_V = np.linspace(-1, 1, 400)
    nuisance = np.stack([np.ones(400), time_V, np.cos(np.pi * time_V)], axis=1)
    series_XV = scan.bold_XYZV[grid.brain_XYZ].astype(float)
    series_XV -= (nuisance @ np.linalg.lstsq(nuisance, series_XV.T, rcond=None)[0]).T
    inside = grid.labels_X > 0
    own_XV = bold_PV[grid.labels_X[inside] - 1]
    slope_X = (series_XV[inside] * own_XV).sum(axis=1) / (own_XV**2).sum(axis=1)
    noise_X = (series_XV[inside] - slope_X[:, None] * own_XV).std(axis=1)
    np.testing.assert_allclose(np.median(slope_X / grid.baseline_X[inside]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.median(slope_X / noise_X), 0.5, rtol=0.05)
    assert np.all(scan.bold_XYZV[~grid.brain_XYZ] == 0)


def test_motion_moves_the_image() -> None:
    """The first-order effect is the difference to the image really shifted by that much."""
    grid = voxel_grid(4.0, 16)
    image = np.zeros(grid.brain_XYZ.shape)
    image[grid.brain_XYZ] = grid.baseline_X
    core = np.zeros_like(grid.brain_XYZ)
    core[1:-1] = grid.brain_XYZ[1:-1] & grid.brain_XYZ[2:] & grid.brain_XYZ[:-2]
    ahead = np.roll(image, 1, axis=0) - image
    behind = image - np.roll(image, -1, axis=0)
    shift_mm = 4.0  # one voxel to the right, central difference
    expected = ((ahead + behind) / 2)[core]
    effect = np.zeros(grid.brain_XYZ.shape)
    effect[grid.brain_XYZ] = grid.motion_X6[:, 0] * shift_mm
    np.testing.assert_allclose(effect[core], expected, atol=0.05)


def test_steps_have_the_planted_size() -> None:
    motion_V6 = head_motion(400, 0.5, np.random.default_rng(0))
    moved_V = framewise_displacement(motion_V6)
    assert np.isnan(moved_V[0])
    steps = moved_V[1:][moved_V[1:] > 0]
    assert len(steps) == 20
    assert steps.min() >= 0.25
    assert steps.max() <= 0.75
    assert np.abs(motion_V6[:, 3:]).max() < 0.05


def test_a_parcel_without_voxels_is_an_error() -> None:
    with pytest.raises(ConfigError, match="lower voxel_mm"):
        voxel_grid(12.0, 400)
