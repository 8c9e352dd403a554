"""What a BIDS dataset holds, found out from its names, sidecars and tables, and from the header of one recording."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neuroloom.config import ConfigError, RecordingRow, SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.signals.reading import read_sidecar
from neuroloom.study.bids import index_bids
from neuroloom.study.sheet import ABSENT, read_records

VALUES = (2, 10)  # of a column of participants.tsv that may be a question
LEAST_PEOPLE = 3  # who answer alike: one to train on, one to validate and one to test
LEAST_EVENTS = 5  # of one label and person
MAX_OPENED = 5  # recordings that are tried, until one can be read
MONTAGES = ("colin27_1020", "colin27_1005")
NO_QUESTION = re.compile(r"^(participant_id|site|.*(date|year|time|name|id))$", re.IGNORECASE)
NO_ANSWER = re.compile(r"boundary|^(n/a|bad.*|edge.*|status|stimulus|response|start|end)$", re.IGNORECASE)


@dataclass(frozen=True)
class Montage:
    """Where electrodes are.

    Attributes
    ----------
    name : str or None
        MNE montage that has the electrodes; None where the files say positions, or nobody does.
    foreign : tuple of str
        Channels of type EEG that no montage knows, as the file names them.
    unread : str
        Why no recording could be opened; empty where one could.
    """

    name: str | None = None
    foreign: tuple[str, ...] = ()
    unread: str = ""


@dataclass(frozen=True)
class Survey:
    """Facts about a dataset.

    Attributes
    ----------
    root : Path
    rows : sequence of RecordingRow
        Paths start from `root`.
    sfreqs, line_freqs : tuple of float
        Hz, that sidecars name, of EEG and MEG.
    durations : tuple of float
        s, of EEG and MEG whose sidecars say it.
    montage : Montage
    scanner_t_r : float or None
        s, where EEG was recorded with BOLD.
    columns : mapping
        Column of participants.tsv with 2 to 10 values -> value -> people.
    events : mapping
        Label of events.tsv -> people who have enough of it.
    in_template : bool
        Whether all BOLD is in an MNI space.
    """

    root: Path
    rows: Sequence[RecordingRow]
    sfreqs: tuple[float, ...] = ()
    line_freqs: tuple[float, ...] = ()
    durations: tuple[float, ...] = ()
    montage: Montage = Montage()
    scanner_t_r: float | None = None
    columns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    in_template: bool = True

    def of(self, *modalities: str) -> list[RecordingRow]:
        """Rows of some modalities."""
        return [row for row in self.rows if row.modality in modalities]


def survey_bids(root: Path, *, name: str) -> Survey:
    """Look at a BIDS dataset.

    Parameters
    ----------
    root : Path
        Folder with `dataset_description.json`.
    name : str
        Of the study.

    Raises
    ------
    ConfigError
        If it is none, or holds nothing that can be used.
    """
    columns = question_columns(root)
    rows = index_bids(root, study=name, labels=tuple(columns))
    signals = [row for row in rows if row.modality != "bold"]
    sidecars = [_sidecar(root / row.path) for row in signals]
    said = {key: _numbers(sidecars, key) for key in ("SamplingFrequency", "PowerLineFrequency", "RecordingDuration")}
    return Survey(
        root=root,
        rows=rows,
        sfreqs=tuple(sorted(set(said["SamplingFrequency"]))),
        line_freqs=tuple(sorted(set(said["PowerLineFrequency"]))),
        durations=said["RecordingDuration"],
        montage=find_montage([root / row.path for row in signals if row.modality == "eeg"]),
        scanner_t_r=_scanner_t_r(root, rows),
        columns=columns,
        events=count_events(root, signals),
        in_template=all("_space-MNI" in row.path for row in rows if row.modality == "bold"),
    )


def question_columns(root: Path) -> dict[str, dict[str, int]]:
    """Columns of participants.tsv that may be asked for, with how many people have which value."""
    file = root / "participants.tsv"
    if not file.is_file():
        return {}
    header, people = read_records(file)
    found: dict[str, dict[str, int]] = {}
    for column in header:
        values = Counter(row[column] for row in people if row.get(column) not in (None, "", ABSENT))
        if not NO_QUESTION.match(column) and VALUES[0] <= len(values) <= VALUES[1]:
            found[column] = dict(values.most_common())
    return found


def find_montage(paths: Sequence[Path]) -> Montage:
    """The smallest montage that has all electrodes of the first recording that can be read, if it says no positions.

    Parameters
    ----------
    paths : sequence of Path
        EEG recordings.
    """
    problems = []
    for path in paths[:MAX_OPENED]:
        try:
            electrodes = lost_electrodes(path)
        except UnusableRecording as error:
            problems.append(str(error))
            continue
        return _montage_of(electrodes) if electrodes else Montage()
    return Montage(unread="".join(problems[:1]))


def lost_electrodes(path: Path) -> dict[str, str]:
    """Channels of type EEG without a position: name in the file -> name in the 10-05 system.

    Raises
    ------
    UnusableRecording
        If it cannot be read.
    """
    import numpy as np

    from neuroloom.signals.ingest import head_locations
    from neuroloom.signals.names import normalise_name, type_by_name
    from neuroloom.signals.reading import read_raw

    raw = read_raw(path, source=SourceConfig())
    lost_C = np.isnan(head_locations(raw.info)[:, :3]).any(axis=1)
    known = zip(raw.ch_names, raw.get_channel_types(), lost_C, strict=True)
    return {
        name: normalise_name(name) for name, kind, lost in known if kind == "eeg" and lost and not type_by_name(name)
    }


def _montage_of(electrodes: Mapping[str, str]) -> Montage:
    import mne

    of_montage = {name: set(mne.channels.make_standard_montage(name).ch_names) for name in MONTAGES}
    anywhere = set().union(*of_montage.values())
    foreign = tuple(name for name, clean in electrodes.items() if clean not in anywhere)
    known = {clean for name, clean in electrodes.items() if name not in foreign}
    if not known:
        return Montage(None, foreign)
    return Montage(next(name for name, there in of_montage.items() if known <= there), foreign)


def count_events(root: Path, rows: Iterable[RecordingRow]) -> dict[str, int]:
    """Labels of events (`trial_type`) -> people who have enough of them, the commonest first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        stem = (root / row.path).name.split(".")[0].rpartition("_")[0]
        file = (root / row.path).with_name(f"{stem}_events.tsv")
        for event in read_records(file)[1] if file.is_file() else ():
            label = event.get("trial_type", ABSENT)
            if not NO_ANSWER.search(label):
                counts[label][f"{row.site}/{row.subject}"] += 1
    people = Counter({label: sum(n >= LEAST_EVENTS for n in of.values()) for label, of in counts.items()})
    return {label: n for label, n in people.most_common() if n >= LEAST_PEOPLE}


def _sidecar(path: Path) -> Mapping[str, object]:
    try:
        return read_sidecar(path)
    except UnusableRecording:  # the run will say so, of this recording alone
        return {}


def _numbers(sidecars: Iterable[Mapping[str, object]], key: str) -> tuple[float, ...]:
    values = [sidecar.get(key) for sidecar in sidecars]
    return tuple(float(value) for value in values if isinstance(value, int | float) and value > 0)


def _scanner_t_r(root: Path, rows: Sequence[RecordingRow]) -> float | None:
    """Repetition time, where EEG and BOLD are one scan."""
    from neuroloom.synthesis.pairs import find_pairs

    try:
        pairs = find_pairs(rows)
    except ConfigError:
        return None
    known = _numbers([_sidecar(root / pair.bold.path) for pair in pairs], "RepetitionTime")
    return known[0] if known else None
