"""Where a number came from: digests of sources, configs and code, versions, and seeds that follow from names."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

PACKAGE = "neuroloom"
UNTOLD = {"source", "dask"}  # params that are no settings: the digest of the code, and where a job computes
HERE = Path(__file__).parent
LIBRARIES = ("numpy", "scipy", "mne", "nilearn", "nibabel", "zarr", "dask", "torch")


def file_digest(*paths: Path) -> str:
    """sha256 over the bytes of the files, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def config_digest(values: Any) -> str:
    """sha256 of a config section (anything that JSON can hold), independent of key order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _compiled(module: str) -> tuple[str, frozenset[str]]:
    """Digest of one module's instructions, and the modules of this package that it imports."""
    file = _file_of(module)
    if file is None:
        raise ModuleNotFoundError(f"{module}: no such module to digest; name a module of {PACKAGE}")
    # what Python has compiled already: to parse the package at each start of Snakemake would take two seconds
    code: Any = SourceFileLoader(module, str(file)).get_code(module)
    return hashlib.sha256(repr(_plain(code)).encode()).hexdigest(), frozenset(_imported(code))


def _plain(value: Any) -> Any:
    """Instructions and constants without places in the file, and in one order."""
    if isinstance(value, CodeType):
        names = (value.co_name, value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        counts = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags)
        return names, counts, value.co_code, value.co_exceptiontable, _plain(value.co_consts)
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


def _imported(code: CodeType) -> Iterator[str]:
    """Modules of this package that instructions import: no other name has dots."""
    for name in code.co_names:
        if name == PACKAGE or name.startswith(f"{PACKAGE}."):
            yield name
            if _stem_of(name).is_dir():  # a package, of which modules may be what is imported
                yield from (f"{name}.{other}" for other in code.co_names if _file_of(f"{name}.{other}"))
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _imported(part)


@cache
def _file_of(module: str) -> Path | None:
    """File of a module of this package; importlib would import the package around it, torch and all, to find it."""
    stem = _stem_of(module)
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


def _stem_of(module: str) -> Path:
    return HERE.joinpath(*module.split(".")[1:])


@cache
def source_digest(*modules: str) -> str:
    """Digest of modules and of every module of this package that they import, directly or not.

    Snakemake does not see an edit of an imported module; as a rule parameter, this makes the rule run again. Comments
    do not count, because instructions are hashed; line breaks hardly ever do (one may leave an instruction that does
    nothing). Modules of settings (`config`) do not count either: a stage gets the values of its own section as a
    parameter, and all sections stand in one tree.
    """
    todo, digests = list(modules), dict[str, str]()
    while todo:
        module = todo.pop()
        if module not in digests and not module.endswith(".config"):
            digests[module], imported = _compiled(module)
            todo += imported
    return config_digest(digests)


def resource_digest(name: str) -> str:
    """Digest of a file or a folder of `resources/`: a page or a style that is edited makes its rule run again."""
    place = Path(__file__).parents[2] / "resources" / name
    return file_digest(*(sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]))


def child_rng(seed: int, entity: str) -> np.random.Generator:
    """Random generator of one entity (a recording, a site): depends on the seed and the name alone."""
    name = int.from_bytes(hashlib.sha256(entity.encode()).digest()[:16], "big")
    return np.random.default_rng(np.random.SeedSequence([seed, name]))


@cache
def git_commit() -> str:
    """Commit of this checkout, with `+` where files differ from it; empty outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that can change a number."""
    installed: Iterable[str] = (PACKAGE, *LIBRARIES)
    found = {}
    for name in installed:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
