from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.manifest import ArtifactError
from neuroloom.records import Recording
from neuroloom.windows import WindowReader


@pytest.fixture
def reader(store: Path) -> WindowReader:
    return WindowReader(open_artifact(store))


def test_a_window_is_that_piece_of_the_signal(reader: WindowReader, recording: Recording) -> None:
    assert (len(reader), reader.shape) == (10, (19, 500))
    np.testing.assert_array_equal(reader.read(3)[0], recording.signal_CT[:, 1500:2000])


def test_a_run_of_windows_is_windows_in_order(reader: WindowReader, recording: Recording) -> None:
    expected = recording.signal_CT.reshape(19, 10, 500).transpose(1, 0, 2)
    np.testing.assert_array_equal(reader.read(0, 10), expected)
    np.testing.assert_array_equal(reader.read(7, 3), expected[7:])


def test_threads_read_the_same(store: Path, recording: Recording) -> None:
    expected = recording.signal_CT.reshape(19, 10, 500).transpose(1, 0, 2)
    np.testing.assert_array_equal(WindowReader(open_artifact(store), threads=3).read(0, 10), expected)


def test_a_given_array_is_filled(reader: WindowReader, recording: Recording) -> None:
    out = np.empty((2, 19, 500), np.float32)
    assert reader.read(4, 2, out=out) is out
    np.testing.assert_array_equal(out[1], recording.signal_CT[:, 2500:3000])


def test_runs_cross_shards(recording: Recording, tmp_path: Path) -> None:
    write_artifact(tmp_path / "a.zarr", "recording", arrays=recording.arrays(), attrs=recording.attrs(), window=10)
    reader = WindowReader(open_artifact(tmp_path / "a.zarr"))
    assert len(reader) == 500
    expected = recording.signal_CT[:, 2400:2600].reshape(19, 20, 10).transpose(1, 0, 2)
    np.testing.assert_array_equal(reader.read(240, 20), expected)


def test_the_rest_at_the_end_is_no_window(recording: Recording, tmp_path: Path) -> None:
    short = replace(recording, signal_CT=recording.signal_CT[:, :1234])
    write_artifact(tmp_path / "a.zarr", "recording", arrays=short.arrays(), attrs=short.attrs(), window=500)
    reader = WindowReader(open_artifact(tmp_path / "a.zarr"))
    assert len(reader) == 2
    np.testing.assert_array_equal(reader.read(1)[0], short.signal_CT[:, 500:1000])


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (10, 1), (8, 3), (0, 0)])
def test_windows_that_are_not_there_are_an_index_error(reader: WindowReader, first: int, count: int) -> None:
    with pytest.raises(IndexError, match="of 10"):
        reader.read(first, count)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_flipped_bit_is_found(store: Path, threads: int) -> None:
    reader = WindowReader(open_artifact(store), threads=threads)
    reader.read(4)
    shard = store / "signal" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="checksum"):
        reader.read(0, 10)


def test_a_flipped_bit_in_the_index_is_found(store: Path) -> None:
    shard = store / "signal" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[-10] ^= 4
    shard.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="checksum"):
        WindowReader(open_artifact(store)).read(0)


def test_a_store_without_windows_is_refused(recording: Recording, tmp_path: Path) -> None:
    write_artifact(tmp_path / "a.zarr", "recording", arrays=recording.arrays(), attrs=recording.attrs())
    with pytest.raises(ArtifactError, match="not stored in windows"):
        WindowReader(open_artifact(tmp_path / "a.zarr"))
