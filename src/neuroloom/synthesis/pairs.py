"""Which EEG and which BOLD recording are two views of one scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroloom.config import ConfigError, RecordingRow

_SHARED = ("study", "site", "subject", "session", "task", "run")


@dataclass(frozen=True)
class Pair:
    """EEG and BOLD of one person, task and run, recorded at the same time.

    Attributes
    ----------
    name : str
        The recordings' name without their modality; the wildcard of the rules that work on pairs.
    eeg, bold : RecordingRow
    """

    name: str
    eeg: RecordingRow
    bold: RecordingRow


def find_pairs(rows: Sequence[RecordingRow]) -> list[Pair]:
    """EEG and BOLD rows whose other entities are the same, in the order of the sheet's EEG.

    Parameters
    ----------
    rows : sequence of RecordingRow
        The recordings sheet; what has no partner is in no pair.

    Raises
    ------
    ConfigError
        If there are several EEG or several BOLD rows for one scan.
    """
    found: dict[tuple[str | None, ...], dict[str, list[RecordingRow]]] = {}
    for row in rows:
        if row.modality in ("eeg", "bold"):
            scan = found.setdefault(tuple(getattr(row, name) for name in _SHARED), {"eeg": [], "bold": []})
            scan[row.modality].append(row)
    pairs = {(scan["eeg"][0].recording): scan for scan in found.values() if scan["eeg"] and scan["bold"]}
    problems = [text for scan in pairs.values() for text in _ambiguous(scan)]
    if problems:
        raise ConfigError("\n  ".join(["recordings sheet: EEG and BOLD cannot be paired", *problems]))
    order = [row.recording for row in rows if row.recording in pairs]
    return [_pair(**{kind: only for kind, (only,) in pairs[name].items()}) for name in order]


def _pair(eeg: RecordingRow, bold: RecordingRow) -> Pair:
    return Pair(eeg.recording.removesuffix("_eeg"), eeg, bold)


def _ambiguous(scan: dict[str, list[RecordingRow]]) -> list[str]:
    """What is there twice, with what to do about it."""
    other = {"eeg": "bold", "bold": "eeg"}
    return [
        f"{', '.join(row.path for row in several)}: {len(several)} {kind} recordings for "
        f"{scan[other[kind]][0].recording}; give them different sessions or runs, as their partners have"
        for kind, several in scan.items()
        if len(several) > 1
    ]
