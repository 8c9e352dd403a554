"""The simulation against references: nilearn's haemodynamic response, Sarvas' formula, Power's displacement."""

import numpy as np
import pytest
from mne.io.constants import FIFF
from nilearn.glm.first_level import compute_regressor, glover_hrf

from neuroloom.study.bold_model import bold_response
from neuroloom.study.sensors import head, meg_sensors

Array = np.ndarray


@pytest.mark.parametrize("lag", [0.0, 1.5, -1.0])
def test_impulse_response_is_nilearns(lag: float) -> None:
    drive_PG = np.zeros((1, 320))
    drive_PG[0, 0] = 1.0
    ours = bold_response(drive_PG, t_r=0.1, n_volumes=320, hrf_lag=lag)[0]
    theirs = glover_hrf(0.1, oversampling=1, time_length=32 + max(lag, 0), onset=lag)[:320]
    np.testing.assert_allclose(ours, (theirs - theirs.mean()) / theirs.std(), atol=1e-9)
    assert np.argmax(ours) / 10 == pytest.approx(5.0 + lag, abs=0.3)


def test_block_response_is_nilearns_regressor() -> None:
    grid_G = np.arange(2000) / 10
    drive_PG = (((grid_G >= 30) & (grid_G < 50)) | ((grid_G >= 100) & (grid_G < 110))).astype(float)[None]
    blocks = np.array([[30.0, 100.0], [20.0, 10.0], [1.0, 1.0]])
    frame_times = np.arange(100) * 2.0
    theirs = compute_regressor(blocks, "glover", frame_times)[0][:, 0]
    ours = bold_response(drive_PG, t_r=2.0, n_volumes=100, hrf_lag=0.0)[0]
    np.testing.assert_allclose(ours, (theirs - theirs.mean()) / theirs.std(), atol=0.05)


def sarvas(at: Array, source: Array, moment: Array) -> Array:
    """Field (T) of a current dipole in a conducting sphere around the origin (Sarvas 1987, eq. 25)."""
    apart = at - source
    a, r = np.linalg.norm(apart), np.linalg.norm(at)
    f = a * (r * a + r**2 - source @ at)
    gradient = (a**2 / r + apart @ at / a + 2 * a + 2 * r) * at - (a + 2 * r + apart @ at / a) * source
    turned = np.cross(moment, source)
    return 1e-7 * (f * turned - (turned @ at) * gradient) / f**2


def test_coils_see_the_field_of_sarvas_formula() -> None:
    """Magnetometers the normal component, planar gradiometers its change along their first axis, in T and T/m."""
    centre = head().sphere["r0"]
    source, moment = np.array([0.03, -0.02, 0.05]), np.array([0.3, 0.8, -0.2])
    sensors = meg_sensors(system="neuromag", n_places=30, sfreq=100, line_freq=50, position_P3=(source + centre)[None])
    ours = sensors.leadfield_CP3[:, 0] @ moment
    theirs = []
    for channel in sensors.info["chs"]:
        at, first, normal = channel["loc"][:3] - centre, channel["loc"][3:6], channel["loc"][9:12]
        if channel["coil_type"] == FIFF.FIFFV_COIL_VV_MAG_T3:
            theirs.append(sarvas(at, source, moment) @ normal)
        else:
            ends = [sarvas(at + side * 0.0084 * first, source, moment) @ normal for side in (1, -1)]
            theirs.append((ends[0] - ends[1]) / 0.0168)
    theirs_C = np.array(theirs)
    for ch_type in ("mag", "grad"):
        picks = np.array(sensors.ch_types) == ch_type
        # Coils have an extent of 2 cm, the formula is for points.
        assert np.abs(ours - theirs_C)[picks].max() < 0.06 * np.abs(theirs_C[picks]).max()
        assert np.polyfit(theirs_C[picks], ours[picks], 1)[0] == pytest.approx(1, abs=0.06)


def test_axial_gradiometers_see_the_difference_over_their_baseline() -> None:
    centre = head().sphere["r0"]
    source, moment = np.array([0.03, -0.02, 0.05]), np.array([0.3, 0.8, -0.2])
    sensors = meg_sensors(system="ctf", n_places=30, sfreq=100, line_freq=50, position_P3=(source + centre)[None])
    near_far = []
    for channel in sensors.info["chs"]:
        at, normal = channel["loc"][:3] - centre, channel["loc"][9:12]
        near_far.append([sarvas(at + out * normal, source, moment) @ normal for out in (0.0, 0.05)])
    theirs_C = np.subtract(*np.array(near_far).T)
    ours_C = sensors.leadfield_CP3[:, 0] @ moment
    assert np.abs(ours_C - theirs_C).max() < 0.03 * np.abs(theirs_C).max()
