from dataclasses import replace

import numpy as np
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.records import Recording
from neuroloom.signals.rejection import Judged, fit_limits


@pytest.fixture
def bursting(recording: Recording, rng: np.random.Generator) -> Recording:
    """A muscle burst over T7 at 7 s, and nothing but zeros from 15 s to the end."""
    signal_CT = recording.signal_CT.copy()
    signal_CT[7, 1750:2000] += 40e-6 * rng.standard_normal(250).astype(np.float32)
    signal_CT[:, 3750:] = 0.0
    return replace(recording, signal_CT=signal_CT)


def judged(recording: Recording, fitted_on: Recording) -> Recording:
    limits = fit_limits(fitted_on, [fitted_on.signal_CT], z=6.0)
    stream = Judged(recording.signal_CT, window=1250, limits=limits)
    return replace(recording, signal_CT=stream, window_status=stream.status)


def test_windows_with_bursts_are_rejected_with_time_and_place(bursting: Recording, recording: Recording) -> None:
    lazy = judged(bursting, recording)
    assert set(lazy.window_status) == {""}
    np.testing.assert_array_equal(lazy.load().signal_CT, bursting.signal_CT)
    first, second, third, fourth = lazy.window_status
    assert (first, third, fourth) == ("good", "good", "rejected: no signal")
    assert second.startswith("rejected: muscle at T7 (7 s, ")


def test_a_clean_recording_keeps_its_windows(recording: Recording) -> None:
    lazy = judged(recording, recording)
    lazy.load()
    assert lazy.window_status == ["good"] * 4


def test_bad_channels_reject_nothing(bursting: Recording, recording: Recording) -> None:
    status = ["bad: loose" if at == 7 else "good" for at in range(19)]
    lazy = judged(replace(bursting, status=status), replace(recording, status=status))
    lazy.load()
    assert lazy.window_status[1] == "good"
    none_good = replace(recording, status=["bad: loose"] * 19)
    assert fit_limits(none_good, [recording.signal_CT], z=6.0) is None


def test_the_store_says_what_was_found_while_it_was_written(
    bursting: Recording, recording: Recording, tmp_path: object
) -> None:
    lazy = judged(bursting, recording)
    write_artifact(f"{tmp_path}/a.zarr", "recording", arrays=lazy.arrays(), attrs=lazy.attrs(), window=1250)
    back = Recording.from_artifact(open_artifact(f"{tmp_path}/a.zarr"))
    assert back.window_status == lazy.window_status
    assert "" not in back.window_status
