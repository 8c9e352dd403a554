"""What a hospital types: a key, and joining with it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neuroloom.cli import app


def test_a_key_is_made_once(tmp_path: Path) -> None:
    first = CliRunner().invoke(app, ["site-key", str(tmp_path / "keys"), "north"])
    assert first.exit_code == 0
    key = tmp_path / "keys" / "north.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert str(key) in first.output
    before = key.read_bytes()
    again = CliRunner().invoke(app, ["site-key", str(tmp_path / "keys"), "north"])
    assert again.exit_code == 1
    assert "north.key" in again.output
    assert key.read_bytes() == before


def test_joining_runs_the_installed_app_and_tells_nobody(
    set_up: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))
    CliRunner().invoke(app, ["site-key", str(tmp_path), "north"])
    (tmp_path / "authority.crt").write_text("x")
    path = set_up("fedavg").paths[0]
    words = ["--server", "h:1", "--authority", str(tmp_path / "authority.crt"), "--key", str(tmp_path / "north.key")]
    done = CliRunner().invoke(app, ["join", str(path), *words])
    assert done.exit_code == 0, done.output
    (_, command, variables) = started[0]
    assert command[1:4] == ["-m", "neuroloom.federated.node", "neuroloom.federated.client:app"]
    assert f'site-file="{path.resolve()}"' in command
    assert variables["FLWR_TELEMETRY_ENABLED"] == "0"


@pytest.mark.parametrize("missing", ["site", "authority"])
def test_what_is_missing_is_named(set_up: Callable[..., Any], tmp_path: Path, missing: str) -> None:
    path = set_up("fedavg").paths[0] if missing == "authority" else tmp_path / "none.json"
    words = ["--server", "h:1", "--authority", str(tmp_path / "authority.crt"), "--key", str(tmp_path / "north.key")]
    done = CliRunner().invoke(app, ["join", str(path), *words])
    assert done.exit_code == 1
    assert ("none.json" if missing == "site" else "authority.crt") in done.output
