"""Seconds and memory of a dry run (`snakemake -n`) for studies of 100, 1,000 and 10,000 recordings.

    python benchmarks/dag_scale.py [--recordings 100 1000 10000]

The files are empty, because a dry run opens none. `growth` is the exponent of seconds over recordings between one size
and the next: 1 is linear.
"""

import argparse
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import keep

ROOT = Path(__file__).parents[1]


def make_study(folder: Path, n_recordings: int) -> Path:
    lines = ["study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath"]
    for at in range(n_recordings):
        modality, suffix = (("eeg", "edf"), ("meg", "fif"), ("bold", "nii.gz"))[at % 3]
        path = f"{at:05d}_{modality}.{suffix}"
        (folder / path).touch()
        lines.append(f"scale\tsite{at % 20}\t{at:05d}\tn/a\trest\tn/a\t{modality}\t{path}")
    (folder / "recordings.tsv").write_text("\n".join(lines) + "\n")
    config = folder / "scale.yaml"
    config.write_text(f"study: {{name: scale, recordings: {folder / 'recordings.tsv'}, root: {folder}}}\n")
    return config


def dry_run(n_recordings: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = make_study(folder, n_recordings)
        command = [sys.executable, "-m", "snakemake", "-n", "-q", "all", "-s", str(ROOT / "Snakefile")]
        command += ["--directory", str(folder), "--configfile", str(config), "--cores", "1"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"the dry run failed: {process.stderr.read().decode()[-2000:] if process.stderr else ''}")
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "recordings": n_recordings,
        "jobs": 2 * n_recordings + 4,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, nargs="+", default=[100, 1000, 10_000])
    rows = [dry_run(n_recordings) for n_recordings in parser.parse_args().recordings]
    for before, row in itertools.pairwise(rows):
        steps = math.log(row["recordings"] / before["recordings"])
        row["growth"] = math.log(row["cpu_seconds"] / before["cpu_seconds"]) / steps
    keep(rows, "dag_scale")


if __name__ == "__main__":
    main()
