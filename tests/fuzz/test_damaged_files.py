"""Files whose bytes were changed: a usable recording or a reason, whatever the bytes, in little memory."""

import gzip
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Reader

FILES = [
    *("x.edf", "x.bdf", "x.gdf", "x.vhdr", "x.vmrk", "x.set", "x_raw.fif", "x.csv", "x.arff"),
    *("x_bold.nii", "y_bold.nii", "x_bold.nii.gz", "x_bold.tsv", "x_bold.json"),
]
OPENED = {"x.vmrk": "x.vhdr", "x_bold.json": "x_bold.nii"}  # a companion, and what is opened with it
NUMBERS = [
    *(b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x40", b"\0\0\0\0"),
    *(b"99999999", b"-1      ", b"1e308   ", b"NaN     ", b"0       ", b"\xff\xff\xff\xff\xff\xff\xff\x7f"),
]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "write", "insert", "cut"]),
        st.integers(0, 2**16),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(NUMBERS)),
    ),
    min_size=1,
    max_size=4,
)


def change(data: bytes, changes: list[tuple[str, int, bytes]], *, within: int) -> bytes:
    """Bytes flipped, overwritten, put in or cut off, in the first `within` of them."""
    made = bytearray(data)
    for how, place, value in changes:
        at = place % min(within, max(len(made), 1))
        if how == "flip" and at < len(made):
            made[at] ^= value[0]
        elif how == "write":
            made[at : at + len(value)] = value
        elif how == "insert":
            made[at:at] = value
        elif how == "cut":
            del made[at + 1 :]
    return bytes(made)


@pytest.mark.parametrize("name", FILES)
def test_an_undamaged_file_is_usable(samples: Path, reader: Reader, name: str) -> None:
    assert reader.ingest(samples / OPENED.get(name, name)) == {"outcome": "usable", "text": ""}


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(changes=CHANGES, within=st.sampled_from([256, 800, 2**16]))
def test_a_damaged_file_is_usable_or_refused_with_a_reason(
    samples: Path,
    tmp_path_factory: pytest.TempPathFactory,
    reader: Reader,
    name: str,
    changes: list[tuple[str, int, bytes]],
    within: int,
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    for file in samples.glob(f"{name.split('.')[0]}.*"):
        shutil.copy(file, folder)
    data = (folder / name).read_bytes()
    damaged = change(gzip.decompress(data) if name.endswith(".gz") else data, changes, within=within)
    (folder / name).write_bytes(gzip.compress(damaged) if name.endswith(".gz") else damaged)
    answer = reader.ingest(folder / OPENED.get(name, name))
    shutil.rmtree(folder)
    assert answer["outcome"] in ("usable", "unusable"), answer["text"]
    assert "MemoryError" not in answer["text"], "it has to be refused before anything is as large as the header says"
