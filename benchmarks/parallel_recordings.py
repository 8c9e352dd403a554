"""Two recordings at a time on two cores against one: seconds of two processes that run together over those of one.

    python benchmarks/parallel_recordings.py [--hours 0.5] [--repeats 3]

Each process ingests and preprocesses a 64-channel recording of its own with one thread, as a job of Snakemake does.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import cost, keep
from preprocess_hour import make_edf, ours, warm_up

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def together(files: list[Path]) -> float:
    """Seconds of the slowest of as many processes as files; each says when it has imported what it needs."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--file", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
        )
        for path in files
    ]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return max(json.loads(process.communicate()[0].splitlines()[-1])["seconds"] for process in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if given.file:
        warm_up()
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(cost(lambda: ours(given.file))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{name}.edf") for name in "ab"]
        make_edf(files[0], given.hours)
        shutil.copy(files[0], files[1])
        for repeat in range(given.repeats):
            one, two = together(files[:1]), together(files)
            rows.append({"repeat": repeat, "one": one, "two_together": two, "ratio": two / one})
    keep(rows, "parallel_recordings")


if __name__ == "__main__":
    main()
