from pathlib import Path

import numpy as np
import pytest

from neuroloom.bold.tables import read_table
from neuroloom.quarantine import UnusableRecording


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "parcels"),
    [
        ("a.1D", "#7\t#9\n1 2\n3 5\n", ["7", "9"]),
        ("a.1D", "# made by 3dROIstats, long comment\n1\t2\n3\t5\n", ["p001", "p002"]),
        ("a.tsv", "left right\tback\n1\t2\n3\t5\n", ["left right", "back"]),
        ("a.csv", "V1,V2\n1,2\n3,5\n\n", ["V1", "V2"]),
        ("a.csv", "1,2\n3,5\n", ["p001", "p002"]),
    ],
)
def test_layouts(tmp_path: Path, name: str, text: str, parcels: list[str]) -> None:
    bold_PV, names, _ = read_table(write(tmp_path, name, text))
    np.testing.assert_array_equal(bold_PV, np.array([[1, 3], [2, 5]], np.float32))
    assert names == parcels


def test_parcels_with_gaps_or_without_change_are_nan(tmp_path: Path) -> None:
    bold_PV, _, _ = read_table(write(tmp_path, "a.csv", "a,b,c,d\n1,n/a,0,\n2,3,0,1\n4,4,0,2\n"))
    np.testing.assert_array_equal(np.isnan(bold_PV).all(axis=1), [False, True, True, True])
    np.testing.assert_array_equal(bold_PV[0], [1, 2, 4])


def test_the_checksum_follows_the_names(tmp_path: Path) -> None:
    first, same, other = (
        read_table(write(tmp_path, "a.csv", text))[2]
        for text in ("a,b\n1,2\n3,5\n", "a,b\n7,2\n3,5\n", "a,c\n1,2\n3,5\n")
    )
    assert first == same != other


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n3\n", "1 or 2 columns"),
        ("a,b\n1,2\n", "1 rows"),
        ("", "0 rows of no columns"),
        ("a,b\n1,2\n3,x\n", "row 2 of the values holds 'x'"),
        (",a\n0,2\n1,3\n", "without a name"),
        ("a,a\n0,2\n1,3\n", "appear twice"),
        ("a,b\n2,2\n2,2\n", "no parcel has a complete series"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UnusableRecording, match=reason):
        read_table(write(tmp_path, "a.csv", text))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.1D"
    path.write_bytes(b"\xff\xfe\x00\x81" * 10)
    with pytest.raises(UnusableRecording, match="not a text file"):
        read_table(path)
