"""Which recordings train, which validate and which test, and the proof that they are kept apart.

A participant is study/site/subject, whatever was recorded of them: EEG and MEG of one head never stand on two sides.
Disjointness is checked pair by pair, when a split is made, when it is written and when it is read; the test of a
triple intersection that published code uses lets every pairwise overlap pass (BrainOmni, arXiv 2505.18185, its code).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.manifest import ArtifactError
from neuroloom.records import Array

Kind = Literal["subjects", "site", "sessions", "runs"]
PARTS = ("train", "validation", "test")
WITHIN: tuple[Kind, ...] = ("sessions", "runs")  # kinds that have a participant on both sides, by name
SCHEMA = "neuroloom/split@1"
_Names = Mapping[str, str] | None


class LeakError(ValueError):
    """Something of the test is known in training; the message names it and where it was found."""


@dataclass(frozen=True)
class Split:
    """Names of the recordings of each part.

    Attributes
    ----------
    kind : str
        What is kept apart: participants (`subjects`, and `site` for those of one site against the rest), or `sessions`
        or `runs` of the same participants.
    fold : str
        Number of the fold, or the site, session or run that is tested.
    train, validation, test : tuple of str
        Recordings.
    participants : mapping
        Recording -> participant.
    blocks : mapping
        Recording -> its session or run; empty where participants are kept apart.
    left_out : tuple of str
        Recordings of no part: what else there is of participants who are tested on a held-out device.
    share : float
        Share of the training participants that was kept (few-shot).
    """

    kind: Kind
    fold: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    participants: Mapping[str, str]
    blocks: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    share: float = 1.0

    def recordings(self, part: str) -> tuple[str, ...]:
        """Recordings of a part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[part]

    def people(self, part: str) -> tuple[str, ...]:
        """Participants of a part, sorted."""
        return tuple(sorted({self.participants[name] for name in self.recordings(part)}))


def participant_of(row: RecordingRow) -> str:
    """The participant of a recording, study/site/subject."""
    return f"{row.study}/{row.site}/{row.subject}"


def site_of(row: RecordingRow) -> str:
    """The site of a recording, study/site."""
    return f"{row.study}/{row.site}"


def device_of(row: RecordingRow) -> str:
    """The device of a recording: what one site measures one modality with."""
    return f"{row.study}-{row.site}-{row.modality}"


def assign_folds(rows: Sequence[RecordingRow], n_folds: int) -> dict[str, int]:
    """Folds of the participants, stratified by site.

    The k-th participant of the i-th site, both sorted, goes to fold (k + i) modulo `n_folds`: nothing is drawn, and a
    participant who joins at the end of a site moves nobody.

    Returns
    -------
    folds : dict
        Participant -> fold.

    Raises
    ------
    ConfigError
        If there are fewer than 3 folds: one each for training, validation and test.
    """
    if n_folds < 3:
        raise ConfigError(f"{n_folds} folds: training, validation and test need one each; set n_folds to 3 or more")
    sites: dict[str, set[str]] = {}
    for row in rows:
        sites.setdefault(site_of(row), set()).add(participant_of(row))
    return {
        participant: (k + i) % n_folds
        for i, site in enumerate(sorted(sites))
        for k, participant in enumerate(sorted(sites[site]))
    }


def split_subjects(
    rows: Sequence[RecordingRow], *, n_folds: int, fold: int, held_out_devices: Collection[str] = ()
) -> Split:
    """Participants of one fold against the rest; those of the next fold validate.

    Recordings of a held-out device are always test. What else there is of its participants is test in their fold and
    left out otherwise, because training on their EEG would make their MEG a seen head.

    Parameters
    ----------
    rows : sequence of RecordingRow
    n_folds, fold : int
    held_out_devices : collection of str
        `study-site-modality`.

    Raises
    ------
    ConfigError
        If a part would be empty, the fold does not exist, or a device is not in the sheet.
    """
    if not 0 <= fold < n_folds:
        raise ConfigError(f"fold {fold}: with n_folds = {n_folds} there are folds 0 to {n_folds - 1}")
    devices = {device_of(row) for row in rows}
    if unknown := sorted(set(held_out_devices) - devices):
        raise ConfigError(f"held-out device {unknown[0]}: not in the sheet, which has {', '.join(sorted(devices))}")
    folds = assign_folds(rows, n_folds)
    met = {participant_of(row) for row in rows if device_of(row) in held_out_devices}

    def part(row: RecordingRow) -> str:
        person = participant_of(row)
        if device_of(row) in held_out_devices or folds[person] == fold:
            return "test"
        if person in met:
            return "left_out"
        return "validation" if folds[person] == (fold + 1) % n_folds else "train"

    return _made("subjects", str(fold), rows, [part(row) for row in rows], setting=f"n_folds = {n_folds}")


def split_site(rows: Sequence[RecordingRow], *, site: str, n_folds: int) -> Split:
    """Leave one site (`study/site`) out: it is tested, and one of `n_folds` folds of the other sites validates.

    Raises
    ------
    ConfigError
        If the sheet lacks the site, or a part would be empty.
    """
    sites = sorted({site_of(row) for row in rows})
    if site not in sites:
        raise ConfigError(f"site {site}: not in the sheet, which has {', '.join(sites)}")
    folds = assign_folds([row for row in rows if site_of(row) != site], n_folds)
    name_of = {None: "test", 0: "validation"}
    parts = [name_of.get(folds.get(participant_of(row)), "train") for row in rows]
    return _made("site", site, rows, parts, setting=f"n_folds = {n_folds}")


def split_within(rows: Sequence[RecordingRow], *, by: Literal["session", "run"], fold: int) -> Split:
    """Cross-session (or cross-run): one session of each participant is tested, another one validates.

    Session number `fold` (sorted, cyclic) is the test of each participant who has two or more; the next one validates
    where there are three; all else trains. The kind says that participants are known to the training.

    Raises
    ------
    ConfigError
        If no participant has three sessions (runs), so that a part would be empty.
    """
    blocks: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: getattr(row, by) or ""):
        names = blocks.setdefault(participant_of(row), [])
        if (name := getattr(row, by) or "") not in names:
            names.append(name)

    def part(row: RecordingRow) -> str:
        names = blocks[participant_of(row)]
        place = (names.index(getattr(row, by) or "") - fold) % len(names)
        if len(names) < 2 or place > 1:
            return "train"
        return "test" if place == 0 else "validation" if len(names) > 2 else "train"

    kind: Kind = "sessions" if by == "session" else "runs"
    named = {row.recording: getattr(row, by) or "" for row in rows}
    return _made(kind, str(fold), rows, [part(row) for row in rows], setting=f"by = {by}", blocks=named)


def few_shot(
    split: Split, *, share: float, labels: Mapping[str, Iterable[str]] | None = None, rng: np.random.Generator
) -> Split:
    """Keep a share of the training participants, at least one for each class.

    The order is drawn once and then cut, so that the same seed gives 1 % inside 5 % inside 25 %.

    Parameters
    ----------
    split : Split
    share : float
        Between 0 and 1.
    labels : mapping, optional
        Recording -> classes of its windows.
    rng : np.random.Generator

    Raises
    ------
    ConfigError
        If the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ConfigError(f"few-shot share {share:g}: give a part of the participants, above 0 and at most 1")
    classes: dict[str, set[str]] = {person: set() for person in split.people("train")}
    for name in split.train:
        classes[split.participants[name]] |= set((labels or {}).get(name, ()))
    order = [str(person) for person in rng.permutation(list(classes))]
    first: list[str] = []
    for person in order:
        known = set().union(*(classes[other] for other in first))
        first += [person] if classes[person] - known else []
    order = first + [person for person in order if person not in first]
    kept = set(order[: max(round(share * len(order)), len(first), 1)])
    train = tuple(name for name in split.train if split.participants[name] in kept)
    return check_split(replace(split, train=train, share=share))


def check_split(split: Split, *, rows: Sequence[RecordingRow] | None = None) -> Split:
    """Return the split if no two parts share a recording or a participant (a session or run, where the kind says so).

    Parameters
    ----------
    split : Split
    rows : sequence of RecordingRow, optional
        The sheet; who a recording is of is then taken from there, and not from the split.

    Raises
    ------
    LeakError
        Naming what two parts share, and both parts.
    ArtifactError
        If a recording is of nobody, or not in the sheet.
    """
    people = split.participants if rows is None else {row.recording: participant_of(row) for row in rows}
    names = [name for part in PARTS for name in split.recordings(part)]
    if unknown := [name for name in names if name not in people]:
        where = "the split does not say of whom it is" if rows is None else "it is not in the sheet"
        raise ArtifactError(f"{split.kind} split, fold {split.fold}: recording {unknown[0]}: {where}; make it again")
    _check_pairs(split, "recording", {name: name for name in names})
    if split.kind in WITHIN:
        units = {name: f"{people[name]} {split.kind[:-1]} {split.blocks.get(name, '')}" for name in names}
        _check_pairs(split, "participant", units)
    else:
        _check_pairs(split, "participant", {name: people[name] for name in names})
    return split


def _check_pairs(split: Split, what: str, key: Mapping[str, str]) -> None:
    for one, other in combinations(PARTS, 2):
        shared = {key[name] for name in split.recordings(one)} & {key[name] for name in split.recordings(other)}
        if shared:
            raise LeakError(
                f"{split.kind} split, fold {split.fold}: {what} {min(shared)} is in {one} and in {other} "
                f"({len(shared)} shared); make the split again from the sheet"
            )


def to_json(split: Split) -> str:
    """The split as the text of its file, checked.

    Raises
    ------
    LeakError
        If two parts share a participant or a recording.
    """
    return json.dumps({"schema": SCHEMA, **asdict(check_split(split))}, indent=1) + "\n"


def from_json(text: str, *, file: str = "split.json", rows: Sequence[RecordingRow] | None = None) -> Split:
    """The split of a file, checked again; with `rows`, against the sheet.

    Raises
    ------
    LeakError
        If two parts share a participant or a recording.
    ArtifactError
        If the text is no split; the message names the file.
    """
    remedy = "Delete it and run snakemake again"
    try:
        values = json.loads(text)
        if values.pop("schema") != SCHEMA or values["kind"] not in get_args(Kind):
            raise ArtifactError(f"{file}: not a split of this version ({SCHEMA}). {remedy}")
        split = Split(**values | {name: tuple(values[name]) for name in (*PARTS, "left_out")})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{file}: not a split ({error}). {remedy}") from None
    return check_split(split, rows=rows)


def window_parts(split: Split, recordings_W: Sequence[str] | Array) -> Array:
    """The part of each window by the recording it is of; empty where that is in no part."""
    part_of = {name: part for part in PARTS for name in split.recordings(part)}
    return np.array([part_of.get(str(name), "") for name in recordings_W], dtype="U10")


def published_split(participants_W: Sequence[str] | Array, *, rng: np.random.Generator) -> Array:
    """Windows shuffled within each participant, as LiPCoT was published: 60 % train, 20 % test, the rest validates.

    Every participant is on all sides, and neighbouring windows too: offered to show how optimistic that is, next to
    `split_subjects`. Source: Anjum 2024, arXiv 2408.07292, its code (int(0.6 n) and int(0.2 n)).

    Returns
    -------
    parts_W : array of str

    Raises
    ------
    ConfigError
        If a participant has too few windows for three parts.
    """
    people_W = np.asarray(participants_W).astype(str)
    parts_W = np.full(len(people_W), "validation", dtype="U10")
    for person in np.unique(people_W):
        windows_N = rng.permutation(np.flatnonzero(people_W == person))
        n_train, n_test = int(0.6 * len(windows_N)), int(0.2 * len(windows_N))
        if n_test == 0:
            raise ConfigError(
                f"published split: {person} has {len(windows_N)} windows, at least 5 are needed; shorten the windows"
            )
        parts_W[windows_N[:n_train]] = "train"
        parts_W[windows_N[n_train : n_train + n_test]] = "test"
    return parts_W


def time_parts(recordings_W: Sequence[str] | Array, starts_W: Array) -> Array:
    """The first half of each recording trains, the next 10 % validate, 10 % are a gap, the last 30 % are tested.

    Parameters
    ----------
    recordings_W : sequence of str
    starts_W : array
        Where each window starts; only the order counts.

    Returns
    -------
    parts_W : array of str
        Empty in the gap, and in recordings of fewer than 10 windows.
    """
    names_W = np.asarray(recordings_W).astype(str)
    parts_W = np.full(len(names_W), "", dtype="U10")
    for name in np.unique(names_W):
        windows_N = np.flatnonzero(names_W == name)
        windows_N = windows_N[np.argsort(np.asarray(starts_W)[windows_N], kind="stable")]
        if len(windows_N) >= 10:
            cuts = [round(len(windows_N) * tenths / 10) for tenths in (5, 6, 7)]
            parts_W[windows_N[: cuts[0]]] = "train"
            parts_W[windows_N[cuts[0] : cuts[1]]] = "validation"
            parts_W[windows_N[cuts[2] :]] = "test"
    return parts_W


def _made(
    kind: Kind, fold: str, rows: Sequence[RecordingRow], parts: Sequence[str], *, setting: str, blocks: _Names = None
) -> Split:
    """A split from the part of each row, checked, with no part empty."""
    lists = [
        tuple(sorted(row.recording for row, part in zip(rows, parts, strict=True) if part == name))
        for name in (*PARTS, "left_out")
    ]
    people = {row.recording: participant_of(row) for row in rows}
    if empty := [name for name, names in zip(PARTS, lists, strict=False) if not names]:
        n_people, n_sites = len(set(people.values())), len({site_of(row) for row in rows})
        raise ConfigError(
            f"{kind} split, fold {fold} with {setting}: nothing for {' and '.join(empty)}; there are {n_people} "
            f"participants at {n_sites} sites. {_remedy(kind, n_people)}"
        )
    train, validation, test, left_out = lists
    return check_split(Split(kind, fold, train, validation, test, people, blocks or {}, left_out))


def _remedy(kind: Kind, n_people: int) -> str:
    if kind in WITHIN:
        return f"A participant with three {kind} is needed; add recordings, or split by subjects"
    if n_people < 3:
        return "Three participants are needed; add some, or split by sessions or runs"
    return "Set another n_folds (at least 3), hold out fewer devices, or add participants"
