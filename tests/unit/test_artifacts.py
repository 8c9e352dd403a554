import json
from pathlib import Path

import numpy as np
import pytest

from neuroloom.artifacts import SPECS, ArtifactError, ShardGridError, open_artifact, verify, write_artifact
from neuroloom.manifest import manifest_path
from neuroloom.quarantine import Quarantined, QuarantineRow, write_quarantine
from neuroloom.records import Recording


def test_round_trip_keeps_every_value(store: Path, recording: Recording) -> None:
    again = Recording.from_artifact(open_artifact(store, kind="recording"))
    np.testing.assert_array_equal(again.signal_CT, recording.signal_CT)
    np.testing.assert_array_equal(again.loc_C12, recording.loc_C12)
    assert (again.ch_names, again.events.label, again.line_freq) == (recording.ch_names, recording.events.label, 50.0)


def test_chunk_is_one_window_of_all_channels(store: Path) -> None:
    signal = open_artifact(store)["signal"]
    assert signal.chunks == (19, 500)
    assert signal.shards == (19, 5000)


def test_float_arrays_are_filled_with_nan(store: Path) -> None:
    artifact = open_artifact(store)
    floats = [
        name for name, spec in artifact.spec.arrays.items() if spec.dtype.startswith("float") and artifact.has(name)
    ]
    assert all(np.isnan(artifact[name].fill_value) for name in floats)


def test_xarray_opens_with_labels(store: Path, recording: Recording) -> None:
    dataset = open_artifact(store).to_xarray()
    assert dataset["signal"].dims == ("channel", "time")
    assert dataset["signal"].sel(channel="Cz").load().values == pytest.approx(recording.signal_CT[9])


def test_equal_content_has_an_equal_digest_whatever_its_provenance(recording: Recording, tmp_path: Path) -> None:
    digests = []
    for name, commit in (("a", "1"), ("b", "2")):
        attrs = {**recording.attrs(), "git_commit": commit}
        digests.append(
            write_artifact(tmp_path / f"{name}.zarr", "recording", arrays=recording.arrays(), attrs=attrs)["digest"]
        )
    assert digests[0] == digests[1]


def test_other_content_has_another_digest(recording: Recording, tmp_path: Path) -> None:
    arrays = recording.arrays()
    one = write_artifact(tmp_path / "a.zarr", "recording", arrays=arrays, attrs=recording.attrs())
    arrays["signal"] = arrays["signal"].copy()
    arrays["signal"][3, 7] += 1e-7
    other = write_artifact(tmp_path / "b.zarr", "recording", arrays=arrays, attrs=recording.attrs())
    assert one["digest"] != other["digest"]


def a_chunk(store: Path) -> Path:
    return store / "signal" / "c" / "0" / "0"


def test_missing_chunk_is_refused_at_opening(store: Path) -> None:
    a_chunk(store).unlink()
    with pytest.raises(ArtifactError, match="signal/c/0/0 is missing"):
        open_artifact(store)


def test_truncated_chunk_is_refused_at_opening(store: Path) -> None:
    chunk = a_chunk(store)
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="bytes, not"):
        open_artifact(store)


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_flipped_bit_is_found_when_decoded_and_by_verify(store: Path, where: float) -> None:
    chunk = a_chunk(store)
    content = bytearray(chunk.read_bytes())
    content[int(where * len(content))] ^= 1
    chunk.write_bytes(bytes(content))
    with pytest.raises(Exception, match=r"(?i)crc32c|checksum"):
        open_artifact(store).read("signal")
    with pytest.raises(ArtifactError, match="signal/c/0/0 has changed"):
        verify(store)


def test_store_without_manifest_is_unfinished(store: Path) -> None:
    manifest_path(store).unlink()
    with pytest.raises(ArtifactError, match="no manifest"):
        open_artifact(store)


def test_damaged_manifest_is_named(store: Path) -> None:
    manifest_path(store).write_text('{"schema": ')
    with pytest.raises(ArtifactError, match="damaged"):
        open_artifact(store)


def test_swapped_digest_is_found(store: Path) -> None:
    manifest = json.loads(manifest_path(store).read_text())
    manifest_path(store).write_text(json.dumps({**manifest, "digest": "0" * 64}))
    with pytest.raises(ArtifactError, match="does not follow"):
        verify(store)


def test_added_file_is_found(store: Path) -> None:
    (store / "signal" / "c" / "0" / "1").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="not in the manifest"):
        verify(store)


def test_snakemakes_time_stamp_is_no_content(store: Path) -> None:
    digest = verify(store)
    (store / ".snakemake_timestamp").touch()
    assert verify(store) == digest


def test_other_kind_is_refused(store: Path) -> None:
    with pytest.raises(ArtifactError, match="'recording' store, a 'bold' store is needed"):
        open_artifact(store, kind="bold")


def test_quarantined_recording_says_why(tmp_path: Path) -> None:
    row = QuarantineRow("a", "ingest_meeg", "a.edf", "truncated", "Bring the whole file")
    write_quarantine(tmp_path / "a.manifest.json", row)
    with pytest.raises(Quarantined, match="truncated") as error:
        open_artifact(tmp_path / "a.zarr")
    assert error.value.row == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signal": None}, "'signal' is missing"),
        ({"extra": np.zeros(3)}, "'extra' is not in the spec"),
        ({"channel": ["Cz"]}, "along 'channel'"),
        ({"signal": np.zeros(5)}, "has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(recording: Recording, tmp_path: Path, change: dict, message: str) -> None:
    arrays = {name: values for name, values in {**recording.arrays(), **change}.items() if values is not None}
    with pytest.raises(ArtifactError, match=message):
        write_artifact(tmp_path / "a.zarr", "recording", arrays=arrays, attrs=recording.attrs())
    assert not (tmp_path / "a.manifest.json").exists()


def test_missing_attribute_is_refused(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'sfreq' is missing"):
        write_artifact(
            tmp_path / "a.zarr", "recording", arrays=recording.arrays(), attrs={"line_freq": 50, "reference": ""}
        )


def test_dask_chunks_that_are_shards_are_written(recording: Recording, tmp_path: Path) -> None:
    import dask.array

    arrays = recording.arrays()
    plain = write_artifact(tmp_path / "a.zarr", "recording", arrays=arrays, attrs=recording.attrs(), window=10)
    arrays["signal"] = dask.array.from_array(recording.signal_CT, chunks=(19, 2500))
    lazy = write_artifact(tmp_path / "b.zarr", "recording", arrays=arrays, attrs=recording.attrs(), window=10)
    assert lazy["digest"] == plain["digest"]


@pytest.mark.parametrize("chunk", [250, 1000, 5000])
def test_dask_chunks_that_are_not_shards_are_refused(recording: Recording, tmp_path: Path, chunk: int) -> None:
    import dask.array

    arrays = {**recording.arrays(), "signal": dask.array.from_array(recording.signal_CT, chunks=(19, chunk))}
    with pytest.raises(ShardGridError, match="rechunk to"):
        write_artifact(tmp_path / "a.zarr", "recording", arrays=arrays, attrs=recording.attrs(), window=10)


def test_every_kind_has_a_windowed_array_of_its_own() -> None:
    assert all(spec.windowed in spec.arrays for spec in SPECS.values())
