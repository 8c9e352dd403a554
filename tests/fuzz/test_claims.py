"""Headers that claim what the file has not, archives that unfold without end, and readers that break down over them."""

import gzip
import json
import os
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from neuroloom.bold.reading import read_bold
from neuroloom.bold.sizes import BOMB_BYTES, BOMB_FACTOR
from neuroloom.config import ConfigError, SourceConfig
from neuroloom.published import read_published
from neuroloom.quarantine import UnusableRecording
from neuroloom.sidecars import MAX_BYTES, read_object
from neuroloom.signals.reading import read_raw
from neuroloom.study.site_files import find_empty_room
from neuroloom.trial import find_harm

from .conftest import Reader

DIM, KIND, START, UNITS = 40, 70, 108, 123  # bytes of a NIfTI-1 header


def written(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def edf_of(n_channels: str, n_samples: str) -> Callable[[bytes], bytes]:
    """Another number of channels, and of samples in each record of the first of them."""

    def change(data: bytes) -> bytes:
        place = 256 + int(data[252:256]) * 216
        return written(written(data, place, n_samples.ljust(8).encode()), 252, n_channels.ljust(4).encode())

    return change


def vhdr_of(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new)


CLAIMS = [
    pytest.param("x.edf", edf_of("5", "99999999"), id="EDF: 10^8 samples a record"),
    pytest.param("x.edf", edf_of("9999", "100"), id="EDF: 10^4 channels"),
    pytest.param("x.edf", lambda data: written(data, 236, b"99999999"), id="EDF: 10^8 records"),
    pytest.param("x.edf", lambda data: written(data, 244, b"1e-9    "), id="EDF: 10^11 Hz"),
    pytest.param("x.gdf", lambda data: written(data, 252, b"\xff\xff\xff\x7f"), id="GDF: 2^31 channels"),
    pytest.param(
        "x.vhdr", vhdr_of(b"NumberOfChannels=4", b"NumberOfChannels=1000000"), id="BrainVision: 10^6 channels"
    ),
    pytest.param("x.vhdr", vhdr_of(b"SamplingInterval=", b"SamplingInterval=1e-9"), id="BrainVision: 10^15 Hz"),
    pytest.param("x.set", lambda data: written(data, 160, struct.pack("<2i", 2**20, 2**30)), id="EEGLAB: 2^50 samples"),
    pytest.param("x_raw.fif", lambda data: written(data, 8, b"\x7f\xff\xff\xff"), id="FIF: a first tag of 2 GB"),
    pytest.param(
        "x_bold.nii", lambda data: written(data, DIM + 2, struct.pack("<4h", *[32767] * 4)), id="NIfTI: 10^18"
    ),
    pytest.param("x_bold.nii", lambda data: written(data, START, struct.pack("<f", 1e30)), id="NIfTI: from byte 10^30"),
    pytest.param("y_bold.nii", lambda data: written(data, 24, struct.pack("<4q", *[2**40] * 4)), id="NIfTI-2: 2^160"),
]


@pytest.mark.parametrize(("name", "change"), CLAIMS)
def test_a_header_that_claims_too_much_is_refused_at_once(
    samples: Path, tmp_path: Path, reader: Reader, name: str, change: Callable[[bytes], bytes]
) -> None:
    for file in samples.glob(f"{name.split('.')[0]}.*"):
        shutil.copy(file, tmp_path)
    before = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(change(before))
    assert (tmp_path / name).read_bytes() != before
    answer = reader.ingest(tmp_path / name)
    assert answer["outcome"] in ("unusable", "usable"), answer["text"]  # MNE counts EDF records for itself
    assert "MemoryError" not in answer["text"]
    assert answer["outcome"] == "unusable" or "records" in os.environ["PYTEST_CURRENT_TEST"]


def test_a_compressed_series_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    """Beyond what its header says, and as far as it says where no series compresses so well."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((5, 6, 4, 8))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "a_bold.nii.gz", "wb") as stream:
        stream.write(header.binaryblock + b"\0" * 4)
        for _ in range(64):
            stream.write(b"\0" * 2**20)
    with pytest.raises(UnusableRecording, match="expands beyond the 1312 bytes that its header says"):
        read_bold(tmp_path / "a_bold.nii.gz", source=SourceConfig())
    header.set_data_shape((1024, 1024, 1024, 32))
    (tmp_path / "b_bold.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\0" * 2**20))
    with pytest.raises(UnusableRecording, match=f"that would expand to 34359738720, more than {BOMB_FACTOR}-fold"):
        read_bold(tmp_path / "b_bold.nii.gz", source=SourceConfig())


def test_a_small_series_of_zeros_is_no_bomb(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((32, 32, 32, 32), np.uint8), np.eye(4))
    image.to_filename(tmp_path / "a_bold.nii.gz")
    assert (tmp_path / "a_bold.nii.gz").stat().st_size * BOMB_FACTOR < 32**4 < BOMB_BYTES
    with pytest.raises(UnusableRecording, match="no repetition time"):
        read_bold(tmp_path / "a_bold.nii.gz", source=SourceConfig())


def test_a_reader_that_dies_hangs_or_eats_memory_is_outlived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuroloom.trial.SECONDS", 1.0)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def loop() -> None:
        while True:
            pass

    assert find_harm(lambda: None, size=9) == ""
    assert find_harm(lambda: 1 / 0, size=9) == "", "it raises the same where it can be said"
    assert "asks for more than 1.0 GiB" in find_harm(lambda: np.ones(2**28), size=9)
    assert "breaks down over it (exit code -6)" in find_harm(os.abort, size=9)
    assert "does not come to an end in 1 s" in find_harm(loop, size=9)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 2**17, "KiB"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "recursion"),
        (b"[1, 2]", "but a list"),
        (b"{", "Expecting"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
        (b"\xff\xfe\xff", "decode"),
        (b" " * (MAX_BYTES + 1), f"{MAX_BYTES + 1} bytes"),
    ],
)
def test_a_sidecar_that_is_a_trap_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(UnusableRecording, match=message):
        read_object(tmp_path / "x.json")


@pytest.mark.parametrize("t_r", ["1e400", "-1e400", "NaN", "9" * 400, '"2"', "true", "null", "[2.0]"])
def test_a_repetition_time_that_is_none_is_refused(samples: Path, tmp_path: Path, reader: Reader, t_r: str) -> None:
    shutil.copy(samples / "x_bold.nii", tmp_path)
    (tmp_path / "x_bold.json").write_text(f'{{"RepetitionTime": {t_r}}}')
    answer = reader.ingest(tmp_path / "x_bold.nii")
    assert answer["outcome"] == "unusable", answer["text"]


@pytest.mark.parametrize("room", ["../../secret.fif", "/secret.fif", "bids::../secret.fif"])
def test_an_empty_room_outside_of_the_dataset_is_refused(tmp_path: Path, room: str) -> None:
    path = tmp_path / "ds/sub-01/meg/sub-01_task-rest_meg.fif"
    path.parent.mkdir(parents=True)
    (tmp_path / "secret.fif").touch()
    (tmp_path / "ds/secret.fif").symlink_to(tmp_path / "secret.fif")
    (tmp_path / "ds/dataset_description.json").write_text("{}")
    path.with_suffix(".json").write_text(json.dumps({"AssociatedEmptyRoom": room}))
    with pytest.raises(ConfigError, match=r"leads out of|is not there"):
        find_empty_room(path)


def save(path: Path, *, compression: int = zipfile.ZIP_STORED, times: int = 1, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(f"x/{name.replace('_', '.').replace('SLASH', '/')}", data * times)
    return path


def test_a_checkpoint_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    packed = save(tmp_path / "a.pt", compression=zipfile.ZIP_DEFLATED, data_pkl=b"}.", dataSLASH0=b"\0" * 2**24)
    assert packed.stat().st_size < 2**16
    with pytest.raises(ConfigError, match=r"a\.pt: no tensors can be read \(compressed entries"):
        read_published(packed)
    torch.save({"x": torch.zeros(1).expand(2**40)}, tmp_path / "b.pt")
    with pytest.raises(ConfigError, match=r"b\.pt: no tensors .*out of 1 numbers"):
        read_published(tmp_path / "b.pt")


def test_an_eeglab_file_that_kills_scipy_is_refused(samples: Path, tmp_path: Path) -> None:
    """SciPy 1.17 reads beyond its memory where the flags of a matrix are damaged."""
    data = (samples / "x.set").read_bytes()
    (tmp_path / "x.set").write_bytes(written(data, 145, b"\xff\xff\xff\x7f"))
    with pytest.raises(UnusableRecording, match=r"its reader breaks down over it|MNE cannot read it"):
        read_raw(tmp_path / "x.set", source=SourceConfig())
