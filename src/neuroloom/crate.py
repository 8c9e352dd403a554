"""A study as an RO-Crate: what its files are, and which job made which from what, for readers that know nothing of us.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profile Process Run Crate 0.5, as plain JSON-LD.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from neuroloom.journal import Entry, Journal, is_outside
from neuroloom.lineage import follow
from neuroloom.manifest import SUFFIX, store_path

logger = logging.getLogger(__name__)
NAME = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT = [f"{SPECIFICATION}/context", "https://w3id.org/ro/terms/workflow-run/context"]
LICENCE = "Not stated here: that of the recordings it was made from."


def make_crate(journal: Journal, roots: Iterable[str], *, name: str) -> dict[str, Any]:
    """The crate of a study: its last results, all that they were made from, and the jobs in between.

    It follows from the records alone, so that equal records give equal bytes.

    Parameters
    ----------
    journal : Journal
    roots : iterable of str
        Names of the last results, as in the records.
    name : str
        Of the study.

    Returns
    -------
    dict
        Content of `ro-crate-metadata.json`.
    """
    digests: dict[str, str] = {}
    jobs: dict[str, Entry] = {}
    for claim in sorted(follow(journal, roots), key=lambda claim: claim.made):
        if claim.entry is None:
            logger.warning("%s: no record says who made it; neuroloom verify tells what to do", claim.path)
            continue
        digests[claim.path] = claim.digest
        if claim.made:
            jobs[claim.entry.name] = claim.entry
    digests |= {path: digest for entry in jobs.values() for path, digest in entry.outputs.items()}
    entries = [jobs[key] for key in sorted(jobs)]
    files = [_file(journal.study, path, digests[path]) for path in sorted(digests)]
    actions = [_action(journal.study, entry, digests) for entry in entries]
    return {"@context": CONTEXT, "@graph": [*_about(name, files, entries), *_software(entries), *actions, *files]}


def _about(name: str, files: Sequence[dict[str, Any]], entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """The crate about itself, and the study as a whole."""
    yield {"@id": NAME, "@type": "CreativeWork", "conformsTo": _ref(SPECIFICATION), "about": _ref("./")}
    yield {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": _ref(PROFILE),
        "name": name,
        "description": f"The study {name}: cleaned recordings, models, tables, figures and the report, by NeuroLoom.",
        "license": LICENCE,
        "datePublished": max((entry.made for entry in entries), default=""),
        "hasPart": [_ref(file["@id"]) for file in files if not file["@id"].startswith("#")],
        "mentions": [_ref(f"#{entry.name}") for entry in entries],
    }
    yield {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}


def _software(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Each version of a rule's code, and the libraries that can change a number."""
    about = metadata("neuroloom")
    found = {_tool_id(entry): entry for entry in entries}
    for key, entry in found.items():
        yield {
            "@id": key,
            "@type": "SoftwareApplication",
            "name": f"NeuroLoom, rule {entry.rule}",
            "description": f"{about['Summary']}. Code {entry.source_digest}, commit {entry.git_commit or 'unknown'}.",
            "softwareVersion": entry.versions["neuroloom"],
            "softwareRequirements": [_ref(_library_id(*one)) for one in _libraries([entry])],
        }
    for library, version in _libraries(found.values()):
        facts = {"name": library, "softwareVersion": version}
        yield {"@id": _library_id(library, version), "@type": "SoftwareApplication", **facts}


def _action(study: Path, entry: Entry, digests: dict[str, str]) -> dict[str, Any]:
    return {
        "@id": f"#{entry.name}",
        "@type": "CreateAction",
        "name": entry.name,
        "description": f"Settings with sha256 {entry.config_digest}; they stand in provenance/{entry.name}.json.",
        "endTime": entry.made,
        "instrument": _ref(_tool_id(entry)),
        "object": [_ref(_file_id(study, path, digests[path])) for path in entry.inputs],
        "result": [_ref(_file_id(study, path, digests[path])) for path in entry.outputs],
    }


def _file(study: Path, path: str, digest: str) -> dict[str, Any]:
    """A file with its sha256; a store is a folder, whose digest is over its chunks; sources are named, not placed."""
    key = _file_id(study, path, digest)
    if key.endswith("/"):
        return {"@id": key, "@type": "Dataset", "name": path.removesuffix(SUFFIX), "identifier": f"sha256:{digest}"}
    return {"@id": key, "@type": "File", "name": Path(path).name, "sha256": digest}


def _file_id(study: Path, path: str, digest: str) -> str:
    if is_outside(path):
        return f"#source-{digest}"  # where it lies is nobody's business but this machine's
    folder = store_path(study / path) if path.endswith(SUFFIX) else None
    return quote(f"{folder.relative_to(study).as_posix()}/" if folder else path)


def _tool_id(entry: Entry) -> str:
    return f"#code-{entry.rule}-{entry.source_digest[:12]}-{entry.git_commit[:12]}"


def _libraries(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    return sorted({pair for entry in entries for pair in entry.versions.items() if pair[0] != "neuroloom"})


def _library_id(library: str, version: str) -> str:
    return f"#{library}-{version}"


def _ref(key: str) -> dict[str, str]:
    return {"@id": key}
