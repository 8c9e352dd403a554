"""Many short recordings from EDF to the report: what a job costs beside its work, and what a recording leaves on disk.

    python benchmarks/many_recordings.py [--recordings 300] [--cores 1]

Each recording has eight electrodes and 20 s, so that starting and importing are nearly all there is. CPU seconds of
Snakemake and of all its jobs are counted, because they suffer less from what else a machine does than wall seconds.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import keep

ROOT = Path(__file__).parents[1]
ELECTRODES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")
SFREQ, SECONDS = 100, 20


def make_study(folder: Path, n_recordings: int) -> Path:
    """Write EDF files, their sheet and the config of a study without models; the config's path."""
    import edfio

    rng = np.random.default_rng(0)
    alpha = 10 * np.sin(2 * np.pi * 10 * np.arange(SECONDS * SFREQ) / SFREQ)
    lines = ["study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath"]
    unit = {"physical_dimension": "uV", "physical_range": (-500, 500)}
    for at in range(n_recordings):
        noise = 10 * rng.standard_normal((len(ELECTRODES), len(alpha)))
        signals = [
            edfio.EdfSignal(alpha + one, SFREQ, label=name, **unit) for name, one in zip(ELECTRODES, noise, strict=True)
        ]
        edfio.Edf(signals).write(folder / f"{at:05d}.edf")
        lines.append(f"many\tsite\t{at:05d}\tn/a\trest\tn/a\teeg\t{at:05d}.edf")
    (folder / "recordings.tsv").write_text("\n".join(lines) + "\n")
    config = folder / "many.yaml"
    config.write_text(
        f"study: {{name: many, recordings: {folder / 'recordings.tsv'}, root: {folder}}}\n"
        "sources: {many: {montage: standard_1005, line_freq: 50}}\n"
        "tokenize: {use: []}\npretrain: {use: [], sweep: {of: null}}\nevaluate: {use: []}\n"
        "federate: {use: []}\nsynthesize: {use: []}\n"
    )
    return config


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(folder: Path, config: Path, *words: str) -> tuple[float, float]:
    """Wall and CPU seconds of Snakemake and its jobs."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--workflow-profile", "none", "--configfile", str(config), *words]
    started, cpu = time.perf_counter(), cpu_of_children()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise SystemExit(f"the run failed: {ended.stderr[-2000:]}")
    return time.perf_counter() - started, cpu_of_children() - cpu


def left_behind(folder: Path, n_recordings: int) -> dict[str, float]:
    """Files and bytes of one recording, and those that Snakemake keeps of it."""
    found = {}
    for name, place in (
        ("results", folder / "results"),
        ("snakemake", folder / ".snakemake"),
        ("logs", folder / "logs"),
    ):
        sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
        found |= {f"{name}_files": len(sizes) / n_recordings, f"{name}_bytes": sum(sizes) / n_recordings}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=300)
    parser.add_argument("--cores", default="1")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, n_recordings = Path(name), given.recordings
        config = make_study(folder, n_recordings)
        _, start_cpu = run(folder, config, "--dry-run", "--cores", "1")
        seconds, cpu = run(folder, config, "--cores", given.cores)
        row = {
            "recordings": n_recordings,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "cpu_of_recording": (cpu - start_cpu) / n_recordings,
            **left_behind(folder, n_recordings),
        }
    keep([row], "many_recordings")


if __name__ == "__main__":
    main()
