from pathlib import Path

import numpy as np
import pytest

from neuroloom.bold.confounds import motion_displacement, read_confounds, select_confounds, today_name
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Confounds


def write(path: Path, text: str) -> Path:
    path.write_text(text.replace(" ", "\t"))
    return path


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("X", "trans_x"),
        ("RotZ", "rot_z"),
        ("FramewiseDisplacement", "framewise_displacement"),
        ("aCompCor03", "a_comp_cor_03"),
        ("NonSteadyStateOutlier00", "non_steady_state_outlier00"),
        ("trans_x_derivative1", "trans_x_derivative1"),
        ("a_comp_cor_03", "a_comp_cor_03"),
    ],
)
def test_old_names(old: str, today: str) -> None:
    assert today_name(old) == today


def test_a_table_is_read_with_gaps_and_text_columns_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv", "X FramewiseDisplacement comment\n0.5 n/a good\n1.5 0.25 bad\n")
    confounds, notes = read_confounds(path, n_volumes=2)
    assert confounds.names == ["trans_x", "framewise_displacement"]
    np.testing.assert_array_equal(confounds.values_VM, np.array([[0.5, np.nan], [1.5, 0.25]], np.float32))
    assert notes == ["confound columns without numbers left out: comment"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("X\n1\n2\n3\n", "3 rows.*2 volumes"), ("X trans_x\n1 1\n2 2\n", "twice: trans_x"), ("", "not a table")],
)
def test_tables_that_do_not_fit(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UnusableRecording, match=reason):
        read_confounds(write(tmp_path / "c.tsv", text), n_volumes=2)


def test_columns_are_chosen_by_prefix_and_leading_gaps_filled() -> None:
    values_VM = np.array([[1, np.nan, 7], [2, 4, 8], [3, 5, 9]], np.float32)
    confounds = Confounds(["trans_x", "trans_x_derivative1", "csf"], values_VM)
    names, chosen_VM = select_confounds(confounds, ("trans",), file="f")
    assert names == ["trans_x", "trans_x_derivative1"]
    np.testing.assert_array_equal(chosen_VM, [[1, 4], [2, 4], [3, 5]])


def test_no_prefix_chooses_nothing() -> None:
    names, chosen_VM = select_confounds(Confounds(["csf"], np.ones((3, 1))), (), file="f")
    assert (names, chosen_VM.shape) == ([], (3, 0))


def test_a_prefix_without_a_column_lists_the_columns() -> None:
    with pytest.raises(UnusableRecording, match=r"begins with rot; columns: csf, trans_x"):
        select_confounds(Confounds(["csf", "trans_x"], np.ones((3, 2))), ("csf", "rot"), file="f")


def test_a_gap_inside_a_column_is_refused() -> None:
    confounds = Confounds(["csf", "trans_x"], np.array([[1, 1], [2, np.nan], [3, 3]]))
    with pytest.raises(UnusableRecording, match="missing values after the first one: trans_x"):
        select_confounds(confounds, ("csf", "trans"), file="f")


def test_displacement_needs_all_six_parameters_unless_it_is_given() -> None:
    given_V = np.array([np.nan, 0.25, 0.5])
    assert motion_displacement(Confounds(["trans_x"], np.ones((3, 1)))) is None
    assert motion_displacement(Confounds(["framewise_displacement"], np.full((3, 1), np.nan))) is None
    found_V = motion_displacement(Confounds(["framewise_displacement"], given_V[:, None]))
    np.testing.assert_array_equal(found_V, given_V)
