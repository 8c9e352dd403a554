from pathlib import Path

import pytest

from neuroloom.quarantine import UnusableRecording
from neuroloom.signals.names import normalise_name, normalise_names, type_by_name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Fc5.", "FC5"),
        ("C3..", "C3"),
        ("Fcz.", "FCz"),
        ("EEG Fp1", "Fp1"),
        ("EEG FP2-REF", "Fp2"),
        ("EEG T3-LE", "T7"),
        ("T6", "P8"),
        ("poz", "POz"),
        ("MEG 0111", "MEG 0111"),
        ("EEG 053", "EEG 053"),
        ("TP9", "TP9"),
        ("E12", "E12"),
    ],
)
def test_names_become_those_of_the_ten_five_system(written: str, name: str) -> None:
    assert normalise_name(written) == name


def test_two_channels_with_one_name_are_refused() -> None:
    with pytest.raises(UnusableRecording, match=r"T3 -> T7, T7 -> T7"):
        normalise_names(["T3", "T7", "Cz"], file=Path("a.edf"))


@pytest.mark.parametrize(
    ("name", "ch_type"),
    [
        ("EOG 061", "eog"),
        ("HEOG", "eog"),
        ("ECG ECG", "ecg"),
        ("STI 014", "stim"),
        ("Status", "stim"),
        ("Cz", None),
        ("O1", None),
    ],
)
def test_some_names_say_their_type(name: str, ch_type: str | None) -> None:
    assert type_by_name(name) == ch_type
