"""Rehash what a study holds against its records and manifests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neuroloom.journal import FOLDER, Journal, find_study, is_outside, named, plain, read_journal
from neuroloom.lineage import NO_RECORD, Claim, find_faults, hash_all, quarantine_of, unrecorded
from neuroloom.manifest import SUFFIX, ArtifactError, manifest_path
from neuroloom.quarantine import QuarantineRow
from neuroloom.schema import ConfigError


@dataclass(frozen=True)
class Verdict:
    """What became of a path.

    Attributes
    ----------
    checked : int
        Files and stores that were hashed.
    faults : list of str
        One message for each that cannot be trusted.
    quarantined : list of QuarantineRow
        Recordings that could not be used, which is no fault.
    absent : int
        Source files outside of the study that are not here, such as after it was moved.
    unrecorded : int
        Stores that only their manifest vouches for.
    """

    checked: int
    faults: list[str]
    quarantined: list[QuarantineRow]
    absent: int
    unrecorded: int

    def __str__(self) -> str:
        words = {"checked": self.checked, "failed": len(self.faults), "quarantined": len(self.quarantined)}
        words |= {"source files not here": self.absent, "stores without a record": self.unrecorded}
        return ", ".join(f"{number} {word}" for word, number in words.items() if number or word == "checked")


def verify_path(path: Path) -> Verdict:
    """Rehash a file, a store, or everything in a folder; of a whole study its source files as well.

    Raises
    ------
    ConfigError
        There is nothing that a record or a manifest vouches for.
    ArtifactError
        A record is damaged.
    """
    journals = [read_journal(study) for study in find_studies(path)]
    path = plain(path)
    manifests = find_manifests(path)
    faults, checked, absent, alone = list[str](), 0, 0, set(manifests)
    for journal in journals:
        claims = list(claims_within(journal, path))
        found = find_faults(journal, claims)
        lost = {fault.path for fault in found.values() if fault.state == "gone" and is_outside(fault.path)}
        faults += [f"{journal.study / name}: {fault.message}" for name, fault in found.items() if name not in lost]
        checked += len({claim.path for claim in claims}) - len(lost)
        absent += len(lost)
        alone -= {path for path in alone if journal.output_of(named(path, journal.study))}
    faults += [str(error) for error in hash_all(sorted(alone)) if isinstance(error, ArtifactError)]
    if journals and path.is_file() and not checked:
        faults.append(f"{path}: {NO_RECORD}")
    elif not checked + absent + len(alone):
        raise ConfigError(f"{path}: no record and no manifest there; name a file, store or folder of a study's results")
    rows = [row for row in map(quarantine_of, manifests) if row]
    return Verdict(checked + len(alone), faults, rows, absent, len(alone))


def claims_within(journal: Journal, path: Path) -> Iterator[Claim]:
    """What all jobs said about the files at and below a path; for a whole study, about its sources too."""
    name = named(path, journal.study)
    whole = journal.study.is_relative_to(path)
    here = {name} if whole else {name, manifest_path(name).as_posix()}
    for entry in {entry.name: entry for entry in journal.makers.values()}.values():
        last = {one: digest for one, digest in entry.outputs.items() if journal.makers[one] is entry}
        claims = [Claim(one, digest, entry, made=True) for one, digest in last.items()]
        claims += [Claim(one, digest, entry, made=False) for one, digest in entry.inputs.items()]
        claims += [claim for one in entry.inputs for claim in unrecorded(journal, one)]
        for claim in claims:
            if whole or claim.path in here or claim.path.startswith(f"{name}/"):
                yield claim


def find_studies(path: Path) -> list[Path]:
    """The study that a path belongs to, or the studies in a folder of them."""
    study = find_study(path)
    return [study] if study else sorted(folder.parent for folder in plain(path).glob(f"*/{FOLDER}"))


def find_manifests(path: Path) -> list[Path]:
    """The manifest of a store; all manifests below a folder that is none."""
    manifest = manifest_path(path)
    if manifest.exists() or (path.exists() and path.suffix == ".zarr"):
        return [manifest]
    return sorted(path.rglob(f"*{SUFFIX}"))
