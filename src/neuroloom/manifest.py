"""Manifests: the list of a folder's files with size and sha256, written last, that makes the folder trustworthy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from neuroloom.provenance import file_digest
from neuroloom.quarantine import SCHEMA as QUARANTINE_SCHEMA
from neuroloom.quarantine import Quarantined, read_quarantine

SUFFIX = ".manifest.json"
METADATA = "zarr.json"
STAMP = ".snakemake_timestamp"  # Snakemake writes it into every directory output
REMEDY = "Delete it with its manifest and run snakemake again"


class ArtifactError(Exception):
    """A store or manifest that cannot be trusted; the message names the file, what was found and what to do."""


def by_recording(manifests: Iterable[Path | str]) -> dict[str, Path]:
    """Manifests by the name of their recording, which is that of the file."""
    return {Path(path).name.removesuffix(SUFFIX): Path(path) for path in manifests}


def manifest_path(path: Path | str) -> Path:
    """The manifest that belongs to a store or folder; a manifest path is returned as it is."""
    path = Path(path)
    if path.name.endswith(SUFFIX):
        return path
    return path.with_name(path.name.removesuffix(".zarr") + SUFFIX)


def store_path(path: Path | str) -> Path:
    """The store (`x.zarr`), or the folder (`x`), that a manifest `x.manifest.json` belongs to."""
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        return path
    name = path.name.removesuffix(SUFFIX)
    folder = path.with_name(name)
    return folder if folder.is_dir() else path.with_name(name + ".zarr")


def write_manifest(folder: Path, schema: str, *, arrays: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Hash every file of a folder and write its manifest, by rename, so that there is a whole one or none."""
    files = hash_files(folder)
    arrays = dict(sorted((arrays or {}).items()))
    manifest = {"schema": schema, "digest": content_digest(files, arrays), "arrays": arrays, "files": files}
    target = manifest_path(folder)
    partial = target.with_name(target.name + ".partial")
    with partial.open("w") as stream:
        json.dump(manifest, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(target)
    return manifest


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read the manifest of a store.

    Raises
    ------
    ArtifactError
        If it is missing or damaged.
    Quarantined
        If an earlier stage quarantined the recording.
    """
    path = manifest_path(path)
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no manifest, so the store is unfinished or foreign. {REMEDY}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: the manifest is damaged ({error}). {REMEDY}") from None
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise ArtifactError(f"{path}: not a manifest (no schema). {REMEDY}")
    if manifest["schema"] == QUARANTINE_SCHEMA:
        raise Quarantined(read_quarantine(manifest))
    if not {"digest", "arrays", "files"} <= manifest.keys():
        raise ArtifactError(f"{path}: the manifest lacks digest, arrays or files. {REMEDY}")
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a folder in which a listed file is missing or has another size, or Zarr's metadata another content.

    Data is not read, so this is cheap; metadata is, because it holds rates and units and no codec guards it.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: the store is missing, its manifest is there. {REMEDY}")
    problems = []
    for key, (size, digest) in manifest["files"].items():
        try:
            found = (folder / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            problems.append(f"{key} is missing")
            continue
        if found != size:
            problems.append(f"{key} has {found} bytes, not {size}")
        elif Path(key).name == METADATA and file_digest(folder / key) != digest:
            problems.append(f"{key} has changed")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ArtifactError(f"{folder}: {'; '.join(problems[:5])}{more}. {REMEDY}")


def check_name(store: Path) -> None:
    """Refuse a store that holds another recording than its name says; a folder that is no store has none to check."""
    try:
        held = json.loads((store / METADATA).read_text()).get("attributes", {}).get("recording", store.stem)
    except FileNotFoundError:
        return
    if held != store.stem:
        raise ArtifactError(f"{store}: holds {held}, so it was renamed or exchanged. {REMEDY}")


def find_damaged(paths: Iterable[Path | str]) -> Iterator[ArtifactError]:
    """What is wrong with the stores of those of the paths that are manifests; every byte is read."""
    for path in paths:
        if str(path).endswith(SUFFIX):
            try:
                verify(path)
            except Quarantined:
                continue
            except ArtifactError as error:
                yield error


def verify(path: Path | str) -> str:
    """Rehash every file of a store or folder against its manifest; return the content digest.

    Raises
    ------
    ArtifactError
        Lists every file that is missing, changed or not in the manifest.
    Quarantined
        There is nothing to verify: the recording was quarantined.
    """
    manifest, folder = read_manifest(path), store_path(path)
    listed, found = manifest["files"], hash_files(folder)
    problems = [f"{key} is missing" for key in listed.keys() - found.keys()]
    problems += [f"{key} is not in the manifest" for key in found.keys() - listed.keys()]
    problems += [f"{key} has changed" for key in listed.keys() & found.keys() if found[key] != listed[key]]
    if not problems and content_digest(found, manifest["arrays"]) != manifest["digest"]:
        problems = ["the manifest's digest does not follow from its files"]
    if problems:
        raise ArtifactError(f"{folder} ({manifest['schema']}): {'; '.join(sorted(problems))}. {REMEDY}")
    check_name(folder)
    return str(manifest["digest"])


def hash_files(folder: Path) -> dict[str, list[Any]]:
    """Size and sha256 of each file of a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STAMP)
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, file_digest(path)] for path in files}


def content_digest(files: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """sha256 over arrays and data files; Zarr's metadata, which holds provenance, is left out."""
    data = {key: value for key, value in files.items() if Path(key).name != METADATA}
    return hashlib.sha256(json.dumps({"arrays": arrays, "files": data}, sort_keys=True).encode()).hexdigest()
