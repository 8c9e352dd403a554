"""The smoke study with jobs that are forks of one process, and with a new Python for each.

    python benchmarks/starting_jobs.py [--config config/smoke.yaml] [--cores 2]

Both run one after the other, from nothing to the report, each in a folder of its own; then their stores are compared.
CPU seconds are those of Snakemake and all its jobs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import keep

ROOT = Path(__file__).parents[1]


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: Path, config: Path, cores: str, *, forked: bool) -> dict[str, float | str]:
    """Run a study; what it took."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--workflow-profile", str(ROOT / "profiles/default"), "--configfile", str(config), "--cores", cores]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NEUROLOOM_FORK": "yes" if forked else "no"}
    started, cpu = time.perf_counter(), cpu_of_children()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise SystemExit(f"the run failed: {ended.stderr[-2000:]}")
    seconds, cpu = time.perf_counter() - started, cpu_of_children() - cpu
    return {"jobs": "forked" if forked else "started anew", "seconds": seconds, "cpu_seconds": cpu}


def digests(folder: Path) -> dict[str, str]:
    """Content digest of each store, by its manifest."""
    found = (folder / "results").rglob("*.manifest.json")
    return {str(path.relative_to(folder)): json.loads(path.read_text())["digest"] for path in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "config/smoke.yaml")
    parser.add_argument("--cores", default="2")
    given = parser.parse_args()
    rows, made = [], []
    for forked in (True, False):
        with tempfile.TemporaryDirectory() as name:
            rows.append(run(Path(name), given.config.resolve(), given.cores, forked=forked))
            made.append(digests(Path(name)))
    equal = sum(made[0].get(path) == digest for path, digest in made[1].items())
    keep([{**row, "stores": len(made[1]), "equal": equal} for row in rows], "starting_jobs")


if __name__ == "__main__":
    main()
