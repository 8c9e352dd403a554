"""What an interrupted run has left behind: what it means, and what can be cleared away without losing what is finished.

Snakemake knows files by name and age. What it leaves after a kill (locks, scripts), and what happened to a store since
it was made, is looked at here. Mending only removes: locks that nobody holds, files that were being written, and
manifests whose store is not what they say, so that Snakemake makes these stores again. Stores are never removed.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from neuroloom import forking
from neuroloom.manifest import SUFFIX, ArtifactError, check_files, check_name, manifest_path, read_manifest, store_path
from neuroloom.quarantine import Quarantined

STATE = ".snakemake"
LEAST_FREE = 2**30  # bytes
SLACK = 60.0  # s, by which the clocks of two machines may differ
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes
    ----------
    text : str
        What was found, and what it means or what to do.
    is_wrong : bool
        Whether something has to be done.
    remove : tuple of Path
        What mending removes.
    """

    text: str
    is_wrong: bool = False
    remove: tuple[Path, ...] = ()


def examine(folder: Path, study: Path) -> list[Finding]:
    """Look at everything that a run may have left; nothing is changed.

    Parameters
    ----------
    folder : Path
        Where Snakemake runs: it holds `.snakemake`.
    study : Path
        Results of one study.
    """
    of_run = [_find_locks(folder), _find_incomplete(folder), _find_scripts(folder)]
    of_study = [_find_partial(study), _find_stores(study), _find_training(study), _find_clock(study)]
    return list(chain(*of_run, *of_study, _check_disk(folder, study), _check_versions()))


def find_processes(folder: Path) -> list[str]:
    """Snakemake, and jobs of it, that are at work in a folder on this machine: number and command of each."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cwd", "cmdline", "name"]):
        words, cwd, name = process.info["cmdline"] or [], process.info["cwd"], process.info["name"]
        is_snakemake = any(Path(word).name == "snakemake" or f"{STATE}/scripts/" in word for word in words)
        is_forked = forking.__name__ in words and name != forking.NAME
        if (is_snakemake or is_forked) and process.info["pid"] not in own and cwd and Path(cwd) == folder.resolve():
            found.append(f"{process.info['pid']} ({name if is_forked else Path(words[-1]).name})")
    return found


def remove(paths: Sequence[Path]) -> None:
    """Remove what findings name; what has gone by itself is passed over."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _find_locks(folder: Path) -> Iterator[Finding]:
    locks = sorted((folder / STATE / "locks").glob("*.lock"))
    if locks:
        logs = (folder / STATE / "log").glob("*.log")
        last = max((path.stat().st_mtime for path in logs), default=None)
        ago = "" if last is None else f" Its last sign of life was {(time.time() - last) / 60:.0f} min ago."
        yield Finding(
            f"{_listed(locks)}: locks of a run that ended without removing them, for which Snakemake refuses to start."
            f"{ago} Leave them if Snakemake runs here from another machine",
            is_wrong=True,
            remove=tuple(locks),
        )


def _find_incomplete(folder: Path) -> Iterator[Finding]:
    marked = [Path(_decoded(path)) for path in _files(folder / STATE / "incomplete")]
    if there := sorted(path for path in marked if (folder / path).exists()):
        yield Finding(f"{_listed(there)}: being made when a run ended. The next run makes them again")


def _find_scripts(folder: Path) -> Iterator[Finding]:
    if scripts := sorted((folder / STATE / "scripts").glob("tmp*")):
        yield Finding(f"{_listed(scripts)}: scripts of jobs that were killed", remove=tuple(scripts))


def _find_partial(study: Path) -> Iterator[Finding]:
    if partial := sorted(path for path in study.rglob("*.partial")):
        text = f"{_listed(partial)}: being written when a job was killed, and read by nobody"
        yield Finding(text, remove=tuple(partial))


def _find_stores(study: Path) -> Iterator[Finding]:
    manifests = sorted(study.rglob(f"*{SUFFIX}"))
    for manifest in manifests:
        try:
            check_files(store_path(manifest), read_manifest(manifest))
            check_name(store_path(manifest))
        except Quarantined:
            continue
        except ArtifactError as error:
            yield Finding(f"{error}. Mending removes the manifest", is_wrong=True, remove=(manifest,))
    without = sorted(path for path in study.rglob("*.zarr") if not manifest_path(path).exists())
    if without:
        yield Finding(f"{_listed(without)}: without a manifest, so unfinished. A run that needs them makes them again")
    if manifests:
        yield Finding(
            f"{len(manifests)} manifests compared with their stores; neuroloom verify {study} reads every byte"
        )


def _find_training(study: Path) -> Iterator[Finding]:
    for folder in sorted(study.rglob("run-*/checkpoints")):
        if steps := sorted(folder.glob("step-*[0-9]")):
            text = f"{folder.parent}: a training that was interrupted at {steps[-1].name}"
            yield Finding(f"{text}. The next run goes on from there; with other settings it does not, and it can go")


def _find_clock(study: Path) -> Iterator[Finding]:
    ahead = [path for path in sorted(study.rglob(f"*{SUFFIX}")) if path.stat().st_mtime > time.time() + SLACK]
    if ahead:
        yield Finding(
            f"{_listed(ahead)}: dated in the future, as by a wrong clock. At worst, what follows is made again"
        )


def _check_disk(folder: Path, study: Path) -> Iterator[Finding]:
    place = next((path for path in (study, *study.parents) if path.exists()), folder)
    free = shutil.disk_usage(place).free
    text = f"{place}: {free / 2**30:.1f} GiB free"
    if free < LEAST_FREE:
        yield Finding(f"{text}, too little for a run. Make room, or work in another folder", is_wrong=True)
    else:
        yield Finding(text)
    for path in {folder, place}:
        if not os.access(path, os.W_OK):
            yield Finding(f"{path}: cannot be written to. Correct owner, mode or mount", is_wrong=True)


def _check_versions() -> Iterator[Finding]:
    from importlib.metadata import version

    from neuroloom.provenance import versions

    found = {"python": sys.version.split()[0], "snakemake": version("snakemake"), **versions()}
    absent = [name for name, number in found.items() if number == "absent"]
    if absent:
        yield Finding(f"{', '.join(absent)}: not installed. Run make env", is_wrong=True)
    yield Finding(", ".join(f"{name} {number}" for name, number in found.items()))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _decoded(marker: Path) -> str:
    """The output that Snakemake marked; long names are cut into folders whose names start with @."""
    parts = marker.parts[marker.parts.index("incomplete") + 1 :]
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(map(str, paths[:SHOWN])) + more
