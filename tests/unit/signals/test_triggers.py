import numpy as np
import pytest

from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Events
from neuroloom.signals.triggers import volume_onsets

ONSET = 1.0 + 2.0 * np.arange(30)


def events(**onsets: np.ndarray) -> Events:
    label = [name for name, onset in onsets.items() for _ in onset]
    onset = np.concatenate(list(onsets.values()))
    return Events(onset, np.zeros(len(onset)), label)


def test_volumes_are_found_among_other_events() -> None:
    found, note = volume_onsets(events(volume=ONSET, left=3.3 + 8.1 * np.arange(7)), t_r=2.0, file="x")
    np.testing.assert_allclose(found, ONSET)
    assert note == "30 volumes from volume triggers `volume`"


def test_lost_triggers_are_filled_in_and_counted() -> None:
    found, note = volume_onsets(events(R128=np.delete(ONSET, [3, 11, 12])), t_r=2.0, file="x")
    np.testing.assert_allclose(found, ONSET, atol=1e-9)
    assert "3 triggers missing" in note


def test_triggers_beside_the_grid_are_left_out() -> None:
    found, note = volume_onsets(events(R128=np.sort(np.append(ONSET, [10.2, 31.7]))), t_r=2.0, file="x")
    np.testing.assert_allclose(found, ONSET, atol=1e-9)
    assert "2 triggers beside the grid" in note


def test_slices_become_volumes() -> None:
    slices = 1.0 + np.arange(30 * 32) / 16
    found, note = volume_onsets(events(slice=slices), t_r=2.0, file="x")
    np.testing.assert_allclose(found, ONSET, atol=1e-6)
    assert "slice (32 a volume)" in note
    both, note = volume_onsets(events(slice=slices, volume=ONSET), t_r=2.0, file="x")
    assert "`volume`" in note
    np.testing.assert_allclose(both, ONSET)


def test_a_drifting_clock_is_followed() -> None:
    onset = np.round((0.7 + 2.0001 * np.arange(300)) * 250) / 250
    found, _ = volume_onsets(events(volume=np.delete(onset, 100)), t_r=2.0, file="x")
    assert np.abs(found - (0.7 + 2.0001 * np.arange(300))).max() < 0.0025


def test_without_triggers_the_remedy_is_said() -> None:
    with pytest.raises(UnusableRecording, match=r"run1.*no trigger repeats every 2 s.*beep.*Mark each volume"):
        volume_onsets(events(beep=np.arange(0, 60, 1.0)), t_r=2.0, file="run1")
    with pytest.raises(UnusableRecording, match="no events"):
        volume_onsets(Events.none(), t_r=2.0, file="run1")


def test_two_runs_are_not_one() -> None:
    with pytest.raises(UnusableRecording, match="Two runs of the scanner"):
        volume_onsets(events(volume=np.concatenate([ONSET, 200 + ONSET])), t_r=2.0, file="x")
