"""The chain from a file back to its sources, and whether it still holds: what the records say against what is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neuroloom.journal import FOLDER, Entry, Journal, digest_of, is_outside, named, plain
from neuroloom.manifest import SUFFIX, ArtifactError, read_manifest, store_path
from neuroloom.quarantine import Quarantined, QuarantineRow

SHORT = 12  # characters of a digest that people compare
NO_RECORD = "no record says who made it. Make it again by snakemake, or ask who put it there"


@dataclass(frozen=True)
class Claim:
    """What a job said that a file held when it made it, or read it; nobody did where `entry` is none."""

    path: str
    digest: str
    entry: Entry | None
    made: bool


@dataclass(frozen=True)
class Fault:
    """A file that is not, or not any more, what was recorded."""

    path: str
    state: str
    message: str


@dataclass(frozen=True)
class Lineage:
    """The chain back from some files.

    Attributes
    ----------
    journal : Journal
    roots : tuple of str
        What was asked for.
    claims : tuple of Claim
        Every file of the chain, once for each job that made or read it.
    faults : dict
        By path.
    """

    journal: Journal
    roots: tuple[str, ...]
    claims: tuple[Claim, ...]
    faults: dict[str, Fault]

    @cached_property
    def jobs(self) -> dict[str, Entry]:
        """The jobs of the chain, by name."""
        return {claim.entry.name: claim.entry for claim in self.claims if claim.entry}

    @cached_property
    def digests(self) -> dict[str, str]:
        """Recorded digest of each file: by the job that made it, or else by one that read it."""
        return {claim.path: claim.digest for claim in sorted(self.claims, key=lambda claim: claim.made)}

    @cached_property
    def sources(self) -> dict[str, str]:
        """sha256 of the files that no job made by itself: those of the study, or of a simulated dataset."""
        return {path: digest for path, digest in self.digests.items() if path not in self.journal.makers and digest}

    @cached_property
    def quarantined(self) -> dict[str, QuarantineRow]:
        """The recordings of the chain that could not be used, by the path of their manifest."""
        rows = ((path, quarantine_of(self.journal.study / path)) for path in self.digests)
        return {path: row for path, row in rows if row}


def trace(journal: Journal, roots: Iterable[str]) -> Lineage:
    """Follow files back to their sources, and check every file on the way.

    Parameters
    ----------
    journal : Journal
    roots : iterable of str
        Names of files, as in the records.
    """
    roots = tuple(roots)
    claims = tuple(follow(journal, roots))
    return Lineage(journal, roots, claims, find_faults(journal, claims))


def follow(journal: Journal, roots: Iterable[str]) -> Iterator[Claim]:
    """What the jobs behind some files said about them, and about all that they were made from."""
    todo, seen = deque(roots), set[str]()
    while todo:
        path = todo.popleft()
        output = journal.output_of(path)
        if path in seen or output in seen:
            continue
        seen.add(output or path)
        if output is None:
            yield from unrecorded(journal, path)
            continue
        entry = journal.makers[output]
        yield Claim(output, entry.outputs[output], entry, made=True)
        yield from (Claim(name, digest, entry, made=False) for name, digest in entry.inputs.items())
        todo += entry.inputs


def unrecorded(journal: Journal, path: str) -> Iterator[Claim]:
    """Nobody's claim about a file of the study that no job made; sources lie elsewhere, or in a recorded folder."""
    if not is_outside(path) and journal.output_of(path) is None:
        yield Claim(path, "", None, made=True)


def find_faults(journal: Journal, claims: Sequence[Claim]) -> dict[str, Fault]:
    """Hash every file that is claimed about, and compare; one fault for each file, the first that its maker tells."""
    paths = sorted({claim.path for claim in claims if claim.entry})
    found = dict(zip(paths, hash_all([journal.study / path for path in paths]), strict=True))
    faults: dict[str, Fault] = {}
    for claim in sorted(claims, key=lambda claim: not claim.made):
        fault = _judge(claim, found.get(claim.path))
        if fault and claim.path not in faults:
            faults[claim.path] = fault
    return faults


def hash_all(paths: Sequence[Path]) -> list[str | ArtifactError | None]:
    """Content digest of each path, several at a time; nothing where it is gone, the error where a store is damaged."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(_present, paths))


def find_outputs(journal: Journal, path: Path) -> list[str]:
    """Recorded files that a path is, lies in (a store, a simulated dataset), holds, or is a copy of.

    A file of the study that no record knows is returned as it is, so that it is told as a fault.
    """
    name = named(plain(path), plain(journal.study))
    if name == ".":
        return sorted(journal.makers)
    if found := journal.output_of(name):
        return [found]
    if below := sorted(output for output in journal.makers if output.startswith(f"{name}/")):
        return below
    if not path.is_file() or not is_outside(name):
        return [name] if path.is_file() else []
    digest = digest_of(path)
    return sorted(output for output, entry in journal.makers.items() if entry.outputs[output] == digest)


def quarantine_of(path: Path) -> QuarantineRow | None:
    """Why a recording could not be used, if a path is its manifest."""
    if path.name.endswith(SUFFIX):
        try:
            read_manifest(path)
        except Quarantined as error:
            return error.row
        except ArtifactError:
            pass  # told as a fault
    return None


def to_dict(lineage: Lineage) -> dict[str, Any]:
    """The chain as plain values, for JSON."""
    return {
        "study": str(lineage.journal.study),
        "paths": list(lineage.roots),
        "trusted": not lineage.faults,
        "files": lineage.digests,
        "sources": lineage.sources,
        "faults": {path: {"state": fault.state, "message": fault.message} for path, fault in lineage.faults.items()},
        "quarantined": {path: asdict(row) for path, row in lineage.quarantined.items()},
        "jobs": {name: asdict(entry) for name, entry in lineage.jobs.items()},
    }


def render(lineage: Lineage) -> Iterator[str]:
    """The chain as a tree of lines: a file, the job that made it, and below what it was made from."""
    seen: set[str] = set()
    for root in lineage.roots:
        yield from _render(lineage, root, "", seen)
    for libraries in sorted({tuple(entry.versions.items()) for entry in lineage.jobs.values()}):
        yield f"with {', '.join(' '.join(library) for library in libraries)}"


def _render(lineage: Lineage, path: str, indent: str, seen: set[str]) -> Iterator[str]:
    entry = lineage.journal.makers.get(path)
    digest = lineage.digests.get(path, "")
    notes = [lineage.faults[path].state.upper()] if path in lineage.faults else []
    if row := lineage.quarantined.get(path):
        notes.append(f"quarantined by {row.stage}: {row.reason}")
    if entry is None:
        yield "  ".join([f"{indent}{path}", f"sha256 {digest}" if digest else "", *notes]).rstrip()
        return
    again = path in seen
    yield "  ".join([f"{indent}{path}", digest[:SHORT], *notes, *(["(above)"] if again else [])])
    if not again:
        seen.add(path)
        indent += "  "
        yield f"{indent}by {entry.name}  {_facts(entry)}"
        for name in entry.inputs:
            yield from _render(lineage, name, indent, seen)


def _facts(entry: Entry) -> str:
    facts = {"config": entry.config_digest[:SHORT], "code": entry.source_digest[:SHORT]}
    facts |= {"commit": entry.git_commit[:SHORT] + "+" * entry.git_commit.endswith("+"), "made": entry.made}
    return "  ".join(f"{name} {value}" for name, value in facts.items() if value)


def _present(path: Path) -> str | ArtifactError | None:
    try:
        return digest_of(path, rehash=True)
    except FileNotFoundError:
        return None
    except ArtifactError as error:
        return error if path.exists() or store_path(path).exists() else None


def _judge(claim: Claim, found: str | ArtifactError | None) -> Fault | None:
    path, entry = claim.path, claim.entry
    if entry is None:
        return Fault(path, "no record", NO_RECORD)
    did = f"{entry.name} {'made' if claim.made else 'read'} it ({entry.made})"
    if found is None:
        record = f"Run snakemake again; {FOLDER}/{entry.name}.json goes where the study has no use for it any more"
        return Fault(path, "gone", f"gone since {did}. {record if claim.made else 'Bring it back'}")
    if isinstance(found, ArtifactError):
        return Fault(path, "changed since", f"changed since {did}: {found}")
    if found == claim.digest:
        return None
    stale = f"Bring it back, or run snakemake again: what {entry.name} made is out of date"
    remedy = "Delete it and run snakemake again" if claim.made else stale
    what = f"it held {claim.digest[:SHORT]}, now {found[:SHORT]}"
    return Fault(path, "changed since", f"changed since {did}: {what}. {remedy}")
