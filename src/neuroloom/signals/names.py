"""Channel names: from what machines write to the names of the 10-05 system."""

from __future__ import annotations

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path

from neuroloom.quarantine import UnusableRecording

ALIASES = Path(__file__).parents[3] / "resources" / "electrode_aliases.tsv"
_DECORATION = re.compile(r"^(EEG|EOG|ECG|EMG)[ _-]+|[ _-]+(REF|LE|AR|AVG)$", re.IGNORECASE)
_TYPES = (
    (re.compile(r"^[HV]?EOG|^(L|R)?OC\b", re.IGNORECASE), "eog"),
    (re.compile(r"^(ECG|EKG)", re.IGNORECASE), "ecg"),
    (re.compile(r"^EMG", re.IGNORECASE), "emg"),
    (re.compile(r"^CWL\d", re.IGNORECASE), "misc"),  # carbon wire loops, which only hear the scanner
    (re.compile(r"^(STI|STATUS|TRIG|MARKER|EVENT)", re.IGNORECASE), "stim"),
)


@cache
def _known() -> dict[str, str]:
    """Names of the 10-05 system in MNE's spelling, by lower case, with old names mapped to today's."""
    import mne

    names = {name.lower(): name for name in mne.channels.make_standard_montage("colin27_1005").ch_names}
    with ALIASES.open() as stream:
        aliases = {row["alias"].lower(): row["name"] for row in csv.DictReader(stream, delimiter="\t")}
    return names | aliases


def normalise_name(name: str) -> str:
    """One channel name in 10-05 spelling, or stripped but otherwise as it was where it is not an electrode.

    >>> normalise_name("Fc5."), normalise_name("EEG FP1-REF"), normalise_name("T3"), normalise_name("MEG 0111")
    ('FC5', 'Fp1', 'T7', 'MEG 0111')
    """
    bare = _DECORATION.sub("", name.strip()).strip(" .")
    return _known().get(bare.lower(), name.strip())


def normalise_names(names: list[str], *, file: Path) -> list[str]:
    """All names of a recording.

    Raises
    ------
    UnusableRecording
        If two channels end with one name.
    """
    new = [normalise_name(name) for name in names]
    twice = [name for name, count in Counter(new).items() if count > 1]
    if twice:
        pairs = [f"{old} -> {name}" for old, name in zip(names, new, strict=True) if name in twice]
        raise UnusableRecording(file, f"channels with one name: {', '.join(pairs)}", "Rename or drop one of them")
    return new


def type_by_name(name: str) -> str | None:
    """Channel type that a name says for itself (`EOG`, `ECG ECG`, `STI 014`), None where it says nothing."""
    return next((ch_type for pattern, ch_type in _TYPES if pattern.search(name.strip())), None)
