from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neuroloom.cli import app
from neuroloom.quarantine import QuarantineRow, write_quarantine


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_verify_says_ok_with_the_digest(store: Path) -> None:
    result = run("verify", store)
    assert result.exit_code == 0
    assert result.output.startswith("ok ")


def test_verify_walks_a_folder_and_fails_when_one_store_is_broken(store: Path) -> None:
    write_quarantine(
        store.parent / "b.manifest.json", QuarantineRow("b", "ingest_meeg", "b.edf", "truncated", "Bring it")
    )
    assert run("verify", store.parent).exit_code == 0
    next(store.glob("signal/c/0/*")).write_bytes(b"x")
    result = run("verify", store.parent)
    assert result.exit_code == 1
    assert "has changed" in result.output
    assert "quarantined  ingest_meeg: truncated" in result.output


def test_verify_of_a_folder_without_manifests_says_so(tmp_path: Path) -> None:
    result = run("verify", tmp_path)
    assert result.exit_code == 2
    assert "no manifest there" in result.output


def test_where_names_the_report_of_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("study: {name: demo}")
    mine = tmp_path / "mine.yaml"
    mine.write_text("study: {name: mine}")
    monkeypatch.chdir(tmp_path)
    assert "No report yet: results/mine/report.html" in run("where", "--config", mine).output
    (tmp_path / "results" / "demo").mkdir(parents=True)
    (tmp_path / "results" / "demo" / "report.html").touch()
    assert "Report: results/demo/report.html" in run("where").output


def test_every_command_has_an_example() -> None:
    for command in ("verify", "where"):
        assert f"Example: neuroloom {command}" in run(command, "--help").output
