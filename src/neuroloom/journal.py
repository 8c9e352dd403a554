"""What each job of a study made of what: one JSON record a job, in `results/<study>/provenance/<rule>/<job>.json`.

A record holds the content digest of every input and output, by path from the folder of the study, so that the folder
can be moved. Stores carry their own provenance as well; tables, figures, weights and reports have it only here, because
their bytes have to be the same twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from neuroloom.manifest import STAMP, SUFFIX, ArtifactError, manifest_path, read_manifest, verify
from neuroloom.provenance import UNTOLD, config_digest, file_digest, git_commit, versions
from neuroloom.quarantine import Quarantined

SCHEMA = "neuroloom/provenance@1"
FOLDER = "provenance"


@dataclass(frozen=True)
class Entry:
    """The record of one job.

    Attributes
    ----------
    rule, job : str
        Names of the rule and of its log file.
    made : str
        When it ended, UTC.
    inputs, outputs : dict
        Content digest by path: from the folder of the study, or absolute where it lies elsewhere and was given so.
    config : dict
        The parameters of the rule, without the sheet.
    config_digest, source_digest, git_commit, versions
        As in the attributes of a store.
    """

    rule: str
    job: str
    made: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    config: dict[str, Any]
    config_digest: str
    source_digest: str
    git_commit: str
    versions: dict[str, str]

    @property
    def name(self) -> str:
        """Rule and job, which is the place of the record."""
        return f"{self.rule}/{self.job}"


@dataclass(frozen=True)
class Journal:
    """All records of a study.

    Attributes
    ----------
    study : Path
        Its folder.
    entries : tuple of Entry
        Oldest first.
    """

    study: Path
    entries: tuple[Entry, ...]

    @cached_property
    def makers(self) -> dict[str, Entry]:
        """The last job that made each file."""
        return {path: entry for entry in self.entries for path in entry.outputs}

    def output_of(self, path: str) -> str | None:
        """The recorded output that a file is or lies in: a store stands under the name of its manifest."""
        folders = [str(folder) for folder in PurePosixPath(path).parents if folder.name]
        names = [path, *(manifest_path(folder).as_posix() for folder in (path, *folders))]
        return next((name for name in names if name in self.makers), None)


def write_entry(snakemake: Any, sources: Mapping[Path, str]) -> None:
    """Note what a job that has just ended made of what; jobs outside of a study leave no record.

    Parameters
    ----------
    snakemake : object
        The object that Snakemake gives to a script.
    sources : mapping
        sha256 of the files that were read beside the inputs.
    """
    log = Path(snakemake.log[0])
    if log.parts[0] != "logs" or len(log.parts) < 4:
        return
    study, rule, job = Path("results", log.parts[1]), log.parts[2], "-".join(log.with_suffix("").parts[3:])
    outputs = dict(_digests(_without_stores(map(Path, snakemake.output)), study, {}))
    outputs = {name: digest for name, digest in outputs.items() if not is_outside(name)}
    if not outputs:
        return
    # run times are about the study, not part of what it says
    read = (path for path in map(Path, snakemake.input) if path.parts[0] != "benchmarks")
    known = {named(path, study): digest for path, digest in sources.items()}
    params = {key: value for key, value in snakemake.params.items() if key not in UNTOLD}
    source = snakemake.params.get("source", "")
    entry = Entry(
        rule=rule,
        job=job,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=dict(sorted({**dict(_digests(read, study, known)), **known}.items())),
        outputs=outputs,
        config={key: value for key, value in params.items() if key != "rows"},
        config_digest=config_digest(params),
        source_digest=source if isinstance(source, str) else config_digest(source),
        git_commit=git_commit(),
        versions=versions(),
    )
    path = study / FOLDER / rule / f"{job}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"schema": SCHEMA, **asdict(entry)}, indent=1, default=str) + "\n")
    partial.replace(path)


def read_journal(study: Path) -> Journal:
    """Read the records of a study.

    Raises
    ------
    ArtifactError
        One is damaged.
    """
    entries = [_read_entry(path) for path in sorted((study / FOLDER).glob("*/*.json"))]
    return Journal(study, tuple(sorted(entries, key=lambda entry: entry.made)))


def find_study(path: Path) -> Path | None:
    """The folder of the study that a path is or lies in: the nearest that has records."""
    path = plain(path)
    return next((folder for folder in (path, *path.parents) if (folder / FOLDER).is_dir()), None)


def digest_of(path: Path, *, rehash: bool = False) -> str:
    """Content digest of what a path holds: of a store by its manifest, of any other file over its bytes.

    Parameters
    ----------
    path : Path
        A file, or the manifest of a store.
    rehash : bool
        Read every byte of a store, too, instead of believing its manifest.

    Raises
    ------
    ArtifactError
        The store is not what its manifest says.
    """
    if path.name.endswith(SUFFIX):
        try:
            return verify(path) if rehash else str(read_manifest(path)["digest"])
        except Quarantined:
            pass  # then the manifest is all that there is
    return file_digest(path)


def plain(path: Path) -> Path:
    """The absolute path, without `..`; links are kept."""
    return Path(os.path.abspath(path))


def named(path: Path, study: Path) -> str:
    """Name of a file in the records: from the folder of the study, unless it lies elsewhere and was given absolute."""
    if path.is_absolute() and not path.is_relative_to(plain(study)):
        return path.as_posix()
    return Path(os.path.relpath(path, study)).as_posix()


def is_outside(name: str) -> bool:
    """Whether a recorded file is no part of the study's folder."""
    return name.startswith(("/", "../")) or Path(name).is_absolute()


def _without_stores(outputs: Iterator[Path]) -> list[Path]:
    """A store is vouched for by its manifest, and other folders by each of their files."""
    paths = list(outputs)
    return [path for path in paths if path.name.endswith(SUFFIX) or manifest_path(path) not in paths]


def _digests(paths: Iterator[Path] | list[Path], study: Path, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        inside = path.rglob("*") if path.is_dir() else [path]
        for file in sorted(one for one in inside if one.is_file() and one.name != STAMP):
            name = named(file, study)
            yield name, known[name] if name in known else digest_of(file)


def _read_entry(path: Path) -> Entry:
    try:
        values = json.loads(path.read_text())
        if values.pop("schema") != SCHEMA:
            raise ValueError(f"not a record of {SCHEMA}")
        return Entry(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: the record is damaged ({error}). Delete it and what it lists, run again"
        ) from None
