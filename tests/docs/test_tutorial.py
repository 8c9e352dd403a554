"""The tutorial is run as it stands: every block of it, in order, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .blocks import blocks_of
from .conftest import ROOT


def run_bash(text: str, folder: Path) -> str:
    """Output of a block, with the environment of the tests and one core."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(folder / ".cache"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text.replace("neuroloom run", "neuroloom run --cores 1")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{text}\n{run.stdout[-5000:]}"
    return run.stdout


def test_the_tutorial_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    told = ""
    blocks = blocks_of(ROOT / "docs/tutorial.md", "bash", "python")
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "docs/tutorial.md", "exec"), names)  # noqa: S102
        else:
            told += run_bash(text, tmp_path)

    assert len(blocks) > 8
    assert "sub-01" in told
    assert set(names["main"]["regime"]) >= {"linear", "full", "baseline"}
    assert (tmp_path / "downstream.png").stat().st_size > 10_000
    assert (tmp_path / "results/first/report.html").exists()
