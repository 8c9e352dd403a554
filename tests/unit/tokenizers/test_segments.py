"""Segments: which pieces of a recording are read, at what rate and size, and recordings that give none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording
from neuroloom.tokenizers.segments import Segments, normalize_positions, normalize_segments

# until artifacts._grid makes a shard of a recording that is not longer than one window


def written(recording: Recording, folder: Path, /, *, window: int = 500, name: str = "a", **attrs: Any) -> Any:
    path = folder / f"{name}.zarr"
    write_artifact(path, "recording", arrays=recording.arrays(), attrs={**recording.attrs(), **attrs}, window=window)
    return open_artifact(path)


def test_positions_are_centred_and_scaled_for_each_modality(rng: np.random.Generator) -> None:
    kinds = np.array([0] * 7 + [1] * 3 + [2] * 4)
    positions_C6 = rng.normal(0.05, 0.07, (14, 6))
    placed_C6 = normalize_positions(positions_C6, kinds)
    for of_kind in (kinds == 0, kinds > 0):
        centred = positions_C6[of_kind, :3] - positions_C6[of_kind, :3].mean(0)
        expected = centred / np.sqrt(3 * np.mean(np.sum(centred**2, axis=1)))
        np.testing.assert_allclose(placed_C6[of_kind, :3], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.mean(np.sum(placed_C6[of_kind, :3] ** 2, axis=1)), 1 / 3, rtol=1e-5)
    np.testing.assert_allclose(placed_C6[:, 3:], positions_C6[:, 3:], rtol=1e-6)
    assert placed_C6.dtype == np.float32


def test_positions_know_no_unit_and_no_origin(rng: np.random.Generator) -> None:
    positions_C6, kinds = rng.normal(size=(9, 6)), np.zeros(9, int)
    moved_C6 = positions_C6 * [1000, 1000, 1000, 1, 1, 1] + [5, -3, 2, 0, 0, 0]
    np.testing.assert_allclose(
        normalize_positions(moved_C6, kinds), normalize_positions(positions_C6, kinds), rtol=0, atol=1e-4
    )


def test_one_sensor_is_at_the_centre() -> None:
    np.testing.assert_array_equal(normalize_positions(np.full((1, 6), 0.3), np.array([0]))[0, :3], 0)


def test_segments_are_brought_to_the_average_and_one_size_of_each_type(rng: np.random.Generator) -> None:
    kinds = np.array([0, 1, 0, 2, 1, 0, 2])
    scale_C = np.array([1e-5, 1e-13, 3e-5, 1e-12, 2e-13, 2e-5, 2e-12])
    raw_BCT = rng.normal(size=(3, 7, 300)) * scale_C[:, None] * np.array([1, 5, 0.2])[:, None, None]
    scaled_BCT = normalize_segments(raw_BCT, kinds)
    for kind in range(3):
        rows = np.flatnonzero(kinds == kind)
        part = raw_BCT[:, rows] - raw_BCT[:, rows].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(
            scaled_BCT[:, rows], part / part.std(axis=(1, 2), keepdims=True), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(scaled_BCT[:, rows].std(axis=(1, 2)), 1, rtol=1e-5)
    sd_C = scaled_BCT[0].std(axis=1)
    assert sd_C[2] > 1.2 * sd_C[0]  # not each channel for itself


def test_a_flat_segment_stays_zero() -> None:
    scaled_BCT = normalize_segments(np.full((1, 4, 50), 3e-5), np.array([0, 0, 1, 2]))
    np.testing.assert_array_equal(scaled_BCT, 0)


def test_rejected_windows_and_bad_channels_are_left_out(recording: Recording, tmp_path: Path) -> None:
    status = ["good"] * 19
    status[4], status[7] = "bad: flat", "interpolated: noisy"
    types = ["eeg"] * 18 + ["ecg"]
    windows = ["good", "rejected: burst", *["good"] * 7, "rejected: jump"]
    changed = replace(recording, status=status, ch_types=types, window_status=windows)
    segments = Segments(written(changed, tmp_path))
    assert segments.kept_N.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    assert segments.start_N.tolist() == [500 * window for window in segments.kept_N]
    kept = [row for row in range(18) if row != 4]
    assert segments.ch_names == [recording.ch_names[row] for row in kept]
    assert (len(segments), segments.n_channels, segments.n_times, segments.duration) == (8, 17, 500, 2.0)
    raw_CT = np.asarray(recording.signal_CT)[kept, 1000:1500]
    np.testing.assert_allclose(
        segments.read(1), normalize_segments(raw_CT[None], segments.sensor_type_C), rtol=0, atol=1e-5
    )
    assert segments.read(0, 8).shape == (8, 17, 500)
    assert segments.read(0, 8).dtype == np.float32


def test_positions_and_types_are_those_of_the_sensors(recording: Recording, tmp_path: Path) -> None:
    types = ["eeg"] * 9 + ["mag"] * 5 + ["grad"] * 5
    coil_C = np.array([1] * 9 + [3024] * 5 + [3012] * 5, np.int32)
    loc_C12 = np.concatenate([recording.loc_C12[:, :3], np.arange(19 * 9).reshape(19, 9)], axis=1).astype(np.float32)
    units = ["V"] * 9 + ["T"] * 5 + ["T/m"] * 5
    segments = Segments(
        written(replace(recording, ch_types=types, units=units, coil_C=coil_C, loc_C12=loc_C12), tmp_path)
    )
    assert segments.sensor_type_C.tolist() == [0] * 9 + [1] * 5 + [2] * 5
    expected_C6 = np.concatenate([loc_C12[:, :3], np.zeros((19, 3))], axis=1)
    expected_C6[9:14, 3:] = loc_C12[9:14, 9:12]  # normal of a magnetometer
    expected_C6[14:, 3:] = loc_C12[14:, 3:6]  # direction of a planar gradiometer
    np.testing.assert_allclose(
        segments.positions_C6, normalize_positions(expected_C6, segments.sensor_type_C), rtol=1e-5, atol=1e-6
    )


def test_the_name_comes_from_the_store(recording: Recording, tmp_path: Path) -> None:
    assert Segments(written(recording, tmp_path)).recording == "a"
    assert Segments(written(recording, tmp_path, name="sub-07", recording="sub-07")).recording == "sub-07"


def test_a_limit_is_spread_over_the_recording(store: Path) -> None:
    assert Segments(open_artifact(store), limit=3).kept_N.tolist() in ([0, 4, 9], [0, 5, 9])
    assert len(Segments(open_artifact(store), limit=50)) == 10
    assert Segments(open_artifact(store), limit=1).kept_N.tolist() == [0]


@pytest.mark.parametrize("sfreq", [256.0, 100.0])
def test_another_rate_keeps_a_sine(recording: Recording, tmp_path: Path, sfreq: float) -> None:
    time_T = np.arange(5000) / 250
    phase_C = np.linspace(0, 2 * np.pi, 19, endpoint=False)
    signal_CT = 2e-5 * np.sin(2 * np.pi * 10 * time_T + phase_C[:, None])
    segments = Segments(written(replace(recording, signal_CT=signal_CT.astype(np.float32)), tmp_path), sfreq=sfreq)
    assert segments.n_times == 2 * sfreq
    assert segments.duration == 2.0
    assert segments.start_N[3] == 1500  # at the rate of the store
    time_T = np.arange(segments.n_times) / sfreq
    expected_CT = np.sqrt(2) * np.sin(2 * np.pi * 10 * time_T + phase_C[:, None])  # windows of whole periods
    edge = round(0.1 * sfreq)
    np.testing.assert_allclose(segments.read(3)[0][:, edge:-edge], expected_CT[:, edge:-edge], rtol=0, atol=0.05)


def test_a_recording_without_positions_says_which_channels(recording: Recording, tmp_path: Path) -> None:
    loc_C12 = recording.loc_C12.copy()
    loc_C12[[2, 5], :3] = np.nan
    with pytest.raises(UnusableRecording, match=r"no position of F7, F4\. give a montage in sources\.<study>\.montage"):
        Segments(written(replace(recording, loc_C12=loc_C12), tmp_path))
    bad = ["bad: no position" if row in (2, 5) else "good" for row in range(19)]
    assert Segments(written(replace(recording, loc_C12=loc_C12, status=bad), tmp_path, name="b")).n_channels == 17


def test_a_recording_without_usable_windows_says_so(recording: Recording, tmp_path: Path) -> None:
    rejected = replace(recording, window_status=["rejected: burst"] * 10)
    with pytest.raises(UnusableRecording, match="no usable window of 2 s: 10 windows, all rejected"):
        Segments(written(rejected, tmp_path))


@pytest.mark.parametrize("n_times", [300, 499])
def test_a_recording_that_is_shorter_than_a_window_is_unusable(
    recording: Recording, tmp_path: Path, n_times: int
) -> None:
    with pytest.raises(UnusableRecording, match="shorter"):
        Segments(written(replace(recording, signal_CT=recording.signal_CT[:, :n_times]), tmp_path))


def test_a_recording_of_just_one_window_is_usable(recording: Recording, tmp_path: Path) -> None:
    segments = Segments(written(replace(recording, signal_CT=recording.signal_CT[:, :500]), tmp_path))
    assert segments.read(0).shape == (1, 19, 500)


@pytest.mark.parametrize("changes", [{"status": ["bad: flat"] * 19}, {"ch_types": ["misc"] * 19}])
def test_a_recording_without_sensors_is_unusable(
    recording: Recording, tmp_path: Path, changes: dict[str, list[str]]
) -> None:
    with pytest.raises(UnusableRecording, match="no good EEG or MEG channel"):
        Segments(written(replace(recording, **changes), tmp_path))


def test_missing_values_are_found_when_they_are_read(recording: Recording, tmp_path: Path) -> None:
    signal_CT = np.array(recording.signal_CT)
    signal_CT[4, 1100] = np.nan
    segments = Segments(written(replace(recording, signal_CT=signal_CT), tmp_path))
    assert np.isfinite(segments.read(0, 2)).all()
    with pytest.raises(UnusableRecording, match=r"a\.zarr: missing values"):
        segments.read(1, 2)
    status = ["bad: dropout" if row == 4 else "good" for row in range(19)]
    left = Segments(written(replace(recording, signal_CT=signal_CT, status=status), tmp_path, name="b"))
    assert np.isfinite(left.read(1, 2)).all()


def test_segments_can_start_anywhere(recording: Recording, tmp_path: Path) -> None:
    """Pieces of 1 s across the windows of 2 s; those in a rejected window, or beyond the end, are left out."""
    status = ["good"] * 5 + ["rejected: burst"] + ["good"] * 4
    onset_N = np.array([0.0, 1.5, 3.2, 9.5, 10.5, 12.0, 18.999, 19.1, -0.5])
    segments = Segments(written(replace(recording, window_status=status), tmp_path), onset_N=onset_N, duration=1.0)
    assert segments.kept_N.tolist() == [0, 1, 2, 5, 6]
    assert segments.n_times == 250
    raw_CT = np.asarray(recording.signal_CT)
    expected = np.stack([raw_CT[:, round(onset * 250) :][:, :250] for onset in onset_N[segments.kept_N]])
    np.testing.assert_allclose(
        segments.read(0, 5), normalize_segments(expected, segments.sensor_type_C), rtol=0, atol=1e-5
    )


def test_windows_are_cut_into_shorter_pieces(recording: Recording, tmp_path: Path) -> None:
    status = ["good", "rejected: burst"] + ["good"] * 8
    segments = Segments(written(replace(recording, window_status=status), tmp_path), duration=0.8)
    assert len(segments) == 9 * 2
    assert segments.start_N[:4].tolist() == [0, 200, 1000, 1200]
    assert segments.n_times == 200


def test_reve_standardizes_channels_over_the_recording(recording: Recording, tmp_path: Path) -> None:
    signal_CT = np.asarray(recording.signal_CT) * np.linspace(1, 9, 19)[:, None] + 3e-5
    signal_CT[3, 100] = 1.0  # a volt: what is far off is cut
    changed = replace(recording, signal_CT=signal_CT.astype(np.float32))
    segments = Segments(written(changed, tmp_path), preparation="reve")
    x_CT = np.concatenate(list(segments.read(0, 10)), axis=1)
    others = np.delete(np.arange(19), 3)
    np.testing.assert_allclose(x_CT[others].std(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(x_CT[others].mean(axis=1), 0, atol=1e-4)
    assert x_CT[3, 100] == 15
    np.testing.assert_allclose(segments.positions_C6[:, :3], recording.position_C3, rtol=1e-6)
