"""What the benchmark programs share: run a variant in a process of its own, and keep the rows."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

RESULTS = Path(__file__).parent / "results"


def cost(work: Callable[[], Any]) -> dict[str, float]:
    """Wall and CPU seconds of a call, and the peak memory of this process until then, MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Peak memory of this process until now, MB; getrusage would count the process that it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_own_process(program: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark program with arguments; it prints one JSON object as its last line."""
    run = subprocess.run([sys.executable, program, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def keep(rows: list[dict[str, Any]], name: str) -> None:
    """Print the rows and write them to `benchmarks/results/<name>.parquet`."""
    table = pd.DataFrame(rows).assign(machine=platform.machine(), python=platform.python_version())
    RESULTS.mkdir(parents=True, exist_ok=True)
    table.to_parquet(RESULTS / f"{name}.parquet")
    print(table.drop(columns=["machine", "python"]).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
