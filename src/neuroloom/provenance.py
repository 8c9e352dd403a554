"""Where a number came from: digests of sources, configs and code, versions, and seeds that follow from names."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
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
def _parsed(module: str) -> tuple[str, tuple[str, ...]]:
    """Digest of one module's syntax tree, and the modules of this package that it imports."""
    file = _file_of(module)
    if file is None:
        raise ModuleNotFoundError(f"{module}: no such module to digest; name a module of {PACKAGE}")
    tree = ast.parse(file.read_bytes())
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            imported |= {str(node.module), *(name for name in names if _file_of(name))}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name.startswith(PACKAGE)}
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(sorted(imported))


@cache
def _file_of(module: str) -> Path | None:
    """File of a module of this package; importlib would import the package around it, torch and all, to find it."""
    stem = HERE.joinpath(*module.split(".")[1:])
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


@cache
def source_digest(*modules: str) -> str:
    """Digest of modules and of every module of this package that they import, directly or not.

    Snakemake does not see an edit of an imported module; as a rule parameter, this makes the rule run again. Comments
    and layout do not count, because the syntax tree is hashed. Modules of settings (`config`) do not count either: a
    stage gets the values of its own section as a parameter, and all sections stand in one tree.
    """
    todo, digests = list(modules), dict[str, str]()
    while todo:
        module = todo.pop()
        if module not in digests and not module.endswith(".config"):
            digests[module], imported = _parsed(module)
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
