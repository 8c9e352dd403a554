"""A study of one site that runs every stage, and what it ends in when nothing goes wrong."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image
from snakemake.utils import update_config

ROOT = Path(__file__).parents[2]
RESULTS = Path("results/tiny")
# these tell times, as do columns of tables
UNLIKE = {"provenance", "ro-crate-metadata.json", "report.html"}
TIMED = ("jobs", "runtime", "schedule", "federation_cost", "computing_")  # tables and figures
STAMPED = (".pdf", ".svg", ".tex")  # with digests of tables that tell times; a PNG is compared by what it shows
TIMES = ("seconds", "speed", "overhead")


def command(folder: Path, *arguments: str) -> list[str]:
    """Snakemake with the tiny study; its config replaces the default, so that there is one site."""
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--workflow-profile", str(ROOT / "profiles" / "default"), "--configfile", str(folder / "tiny.yaml")),
        *("--replace-workflow-config", *arguments),
    ]


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(folder / ".cache"), "OMP_NUM_THREADS": "1", **more}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake to its end; standard error is in `stdout`."""
    return subprocess.run(
        command(folder, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=folder,
        env=environment(folder),
    )


def doctor(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `neuroloom doctor` in a folder; standard error is in `stdout`."""
    return subprocess.run(
        [sys.executable, "-c", "from neuroloom.cli import main; main()", "doctor", "--config", "tiny.yaml", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=folder,
    )


def write_config(folder: Path) -> None:
    config, tiny = (yaml.safe_load(path.read_text()) for path in (ROOT / "config/config.yaml", FOLDER / "tiny.yaml"))
    update_config(config, tiny)
    north = config["simulate"]["sites"]["north"]
    config["simulate"]["sites"] = {"north": {**north, "n_subjects": 3}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def contents(folder: Path) -> dict[str, str]:
    """Digest of every store, table, figure, image and weight of a study, by path; times that were measured left out."""
    results = folder / RESULTS
    manifests = sorted(results.rglob("*.manifest.json"))
    found = {str(path.relative_to(results)): json.loads(path.read_text())["digest"] for path in manifests}
    stems = [path.with_name(path.name.removesuffix(".manifest.json")) for path in manifests]
    stores = {*stems, *(stem.with_name(f"{stem.name}.zarr") for stem in stems)}
    for path in (path for path in results.rglob("*") if path.is_file() and not path.name.startswith(".snakemake")):
        name = path.relative_to(results)
        timed = path.name.startswith(TIMED) or path.suffix in STAMPED or {*name.parts} & UNLIKE
        if path not in manifests and not timed and stores.isdisjoint(path.parents):
            found[str(name)] = hashlib.sha256(_without_times(path)).hexdigest()
    return found


def _without_times(path: Path) -> bytes:
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.tobytes()
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = pd.read_parquet(path)
    return table.drop(columns=[name for name in table if str(name).endswith(TIMES)]).to_csv().encode()


FOLDER = Path(__file__).parent


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder in which nothing has run yet."""
    write_config(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, run once; nobody changes it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "tiny"
    with (shared / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            write_config(folder)
            (folder / "run.log").write_text(run(folder, "--cores", "2").stdout)
    assert (folder / RESULTS / "report.html").exists(), (folder / "run.log").read_text()[-5000:]
    return folder


@pytest.fixture
def finished(reference: Path, tmp_path: Path) -> Path:
    """A copy of the finished study, to be damaged."""
    return shutil.copytree(reference, tmp_path / "study", symlinks=True)
