import numpy as np
import pytest

from neuroloom.bold.confounds import framewise_displacement
from neuroloom.bold.realign import estimate_motion
from neuroloom.config import ConfigError
from neuroloom.study.bold_model import (
    bold_response,
    head_motion,
    paint_scan,
    slice_responses,
    slice_times,
    voxel_grid,
)


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
    options = {"grid": grid, "snr": 0.5, "motion_mm": 0.0, "realigned": False}
    scan = paint_scan(bold_PV[None], rng=np.random.default_rng(1), **options)
    time_V = np.linspace(-1, 1, 400)
    nuisance = np.stack([np.ones(400), time_V, np.cos(np.pi * time_V)], axis=1)
    series_XV = scan.bold_XYZV[grid.field_XYZ].astype(float)
    series_XV -= (nuisance @ np.linalg.lstsq(nuisance, series_XV.T, rcond=None)[0]).T
    inside = grid.labels_X > 0
    own_XV = bold_PV[grid.labels_X[inside] - 1]
    slope_X = (series_XV[inside] * own_XV).sum(axis=1) / (own_XV**2).sum(axis=1)
    noise_X = (series_XV[inside] - slope_X[:, None] * own_XV).std(axis=1)
    np.testing.assert_allclose(np.median(slope_X / grid.baseline_X[inside]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.median(slope_X / noise_X), 0.5, rtol=0.05)
    assert np.all(scan.bold_XYZV[~grid.field_XYZ] == 0)


def test_slices_read_the_response_at_their_own_time() -> None:
    drive_PG = np.random.default_rng(0).standard_normal((3, 900))
    times_Z = slice_times(8, 2.0, "interleaved")
    assert times_Z.tolist() == [0, 1.0, 0.25, 1.25, 0.5, 1.5, 0.75, 1.75]
    assert slice_times(4, 2.0, "ascending").tolist() == [0, 0.5, 1.0, 1.5]
    assert not slice_times(4, 2.0, "at_once").any()
    read_ZPV = slice_responses(drive_PG, t_r=2.0, n_volumes=40, hrf_lag=0.0, slice_time_Z=times_Z)
    fine_PV = bold_response(drive_PG, t_r=0.25, n_volumes=340, hrf_lag=0.0)
    for bold_PV, time in zip(read_ZPV, times_Z, strict=True):
        expected_PV = fine_PV[:, int(time / 0.25) : int(time / 0.25) + 320 : 8]
        assert min(np.corrcoef(*pair)[0, 1] for pair in zip(bold_PV, expected_PV, strict=True)) > 0.99999
    np.testing.assert_allclose(read_ZPV[0].std(axis=1), 1)


def test_the_image_is_really_moved() -> None:
    """Realignment, which knows nothing of the simulation, finds the motion that is in the truth."""
    grid = voxel_grid(4.0, 16)
    still_1PV = np.zeros((1, 16, 16))
    options = {"grid": grid, "snr": 4.0, "motion_mm": 2.0}
    scan, back = (
        paint_scan(still_1PV, realigned=realigned, rng=np.random.default_rng(3), **options)
        for realigned in (False, True)
    )
    found_V6, _ = estimate_motion(scan.bold_XYZV.astype(np.float32), grid.affine_44)
    planted = np.abs(np.diff(scan.motion_V6, axis=0)).sum(axis=1) > 0
    assert planted.sum() == 1
    step_6, true_6 = (x[1:][planted][0] - x[:-1][planted][0] for x in (found_V6, scan.motion_V6))
    np.testing.assert_allclose(step_6[:3], true_6[:3], atol=0.05)
    np.testing.assert_allclose(np.rad2deg(step_6[3:]), np.rad2deg(true_6[3:]), atol=0.05)
    np.testing.assert_array_equal(scan.motion_V6, back.motion_V6)
    left_V6, _ = estimate_motion(back.bold_XYZV.astype(np.float32), grid.affine_44)
    assert np.abs((left_V6[1:] - left_V6[:-1])[planted][0] * [1, 1, 1, 50, 50, 50]).max() < 0.05


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
