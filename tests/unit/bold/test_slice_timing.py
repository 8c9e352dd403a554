from pathlib import Path

import numpy as np
import pytest

from neuroloom.bold.slice_timing import correct_slice_timing, slice_timing
from neuroloom.quarantine import UnusableRecording

PATH = Path("sub-01_task-rest_bold.nii.gz")
SHAPE = (3, 4, 5, 60)
TIMES = [0.0, 1.2, 0.4, 1.6, 0.8]


def read(sidecar: dict, path: Path = PATH) -> tuple[np.ndarray | None, int, list[str]]:
    return slice_timing(path, sidecar, shape=SHAPE, t_r=2.0)


def test_times_go_by_index_along_their_axis() -> None:
    times_Z, axis, notes = read({"SliceTiming": TIMES})
    np.testing.assert_array_equal(times_Z, TIMES)
    assert (axis, notes) == (2, [])
    backwards_Z, axis, _ = read({"SliceTiming": TIMES, "SliceEncodingDirection": "k-"})
    np.testing.assert_array_equal(backwards_Z, TIMES[::-1])
    assert read({"SliceTiming": [0, 0.5, 1, 1.5], "SliceEncodingDirection": "j"})[1] == 1
    assert read({}) == (None, 2, [])


def test_times_that_no_longer_hold_are_left_out_with_a_note() -> None:
    assert "corrected" in read({"SliceTiming": TIMES, "SliceTimingCorrected": True})[2][0]
    resampled = Path("sub-01_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz")
    times, _, notes = read({"SliceTiming": TIMES}, resampled)
    assert times is None
    assert "(desc, space)" in notes[0]


@pytest.mark.parametrize(
    ("sidecar", "reason"),
    [
        ({"SliceTiming": TIMES[:4]}, "4 entries, the image 5 slices along k"),
        ({"SliceTiming": "interleaved"}, "1 entries"),
        ({"SliceTiming": [0, 400, 800, 1200, 1600]}, "0 to 1600 s, the repetition time is 2 s"),
        ({"SliceTiming": [-0.1, 0, 0, 0, 0]}, "from -0.1"),
        ({"SliceTiming": TIMES, "SliceEncodingDirection": "z"}, "SliceEncodingDirection 'z'"),
    ],
)
def test_contradictions_are_refused(sidecar: dict, reason: str) -> None:
    with pytest.raises(UnusableRecording, match=reason):
        read(sidecar)


@pytest.mark.parametrize("moment", [0.0, 1.0])
@pytest.mark.parametrize("axis", [1, 2])
def test_the_phase_of_a_wave_is_recovered(moment: float, axis: int) -> None:
    times_Z = np.array(TIMES[: SHAPE[axis]])
    start_V = np.arange(60) * 2.0
    wave = lambda time: 1000 + 20 * np.sin(2 * np.pi * 0.06 * time)  # noqa: E731
    slice_ZV = wave(start_V + times_Z[:, None])
    bold_XYZV = np.broadcast_to(np.moveaxis(slice_ZV[None, None], 2, axis), SHAPE)
    corrected = correct_slice_timing(bold_XYZV, slice_time_Z=times_Z, axis=axis, t_r=2.0, moment=moment)
    expected = np.broadcast_to(wave(start_V + moment), SHAPE)
    inner = slice(2, -2)
    before, after = (np.abs(x - expected)[..., inner].max() for x in (bold_XYZV, corrected))
    assert before > 5
    assert after < 0.5
    assert corrected.dtype == np.float32


def test_what_was_measured_at_the_moment_stays_and_gaps_stay() -> None:
    bold_XYZV = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    bold_XYZV[1, 1, 3] = np.nan
    corrected = correct_slice_timing(bold_XYZV, slice_time_Z=np.array(TIMES), axis=2, t_r=2.0, moment=0.0)
    np.testing.assert_array_equal(corrected[:, :, 0], bold_XYZV[:, :, 0])
    assert np.isnan(corrected).sum() == 60
    np.testing.assert_allclose(corrected[0, 0, 1, 0], bold_XYZV[0, 0, 1, 0], rtol=1e-5)  # nothing was measured before
