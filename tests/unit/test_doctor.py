import os
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neuroloom import doctor
from neuroloom.artifacts import write_artifact
from neuroloom.cli import app
from neuroloom.records import Recording

STUDY = Path("results/demo")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: Recording) -> Path:
    """A folder with a finished store, in which nothing is wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    for name in ("locks", "incomplete", "scripts", "log"):
        (tmp_path / ".snakemake" / name).mkdir(parents=True)
    STUDY.mkdir(parents=True)
    write_artifact(STUDY / "a.zarr", "recording", arrays=recording.arrays(), attrs=recording.attrs(), window=500)
    return tmp_path


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def everything(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def mark_incomplete(name: str) -> None:
    """As Snakemake does it: base64, cut where a file name would be too long."""
    code = urlsafe_b64encode(name.encode()).decode()
    parts = [code[at : at + 254] for at in range(0, len(code), 254)]
    path = Path(".snakemake/incomplete").joinpath(*[f"@{part}" for part in parts[:-1]], parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_nothing_is_wrong_with_a_finished_study(folder: Path) -> None:
    before = everything(folder)
    said = ask("--mend")
    assert said.exit_code == 0, said.output
    assert "WRONG" not in said.output
    assert "removing" not in said.output
    assert "1 manifests compared with their stores; neuroloom verify results/demo reads every byte" in said.output
    assert "GiB free" in said.output
    assert "snakemake 9." in said.output
    assert everything(folder) == before


def test_a_folder_without_any_run_is_no_error(folder: Path) -> None:
    shutil.rmtree(".snakemake")
    shutil.rmtree("results")
    assert ask().exit_code == 0


@pytest.mark.parametrize("name", ["results/demo/half.parquet", "results/demo/" + "long" * 60 + ".parquet"])
def test_an_output_that_was_being_made_is_named_and_kept(folder: Path, name: str) -> None:
    mark_incomplete(name)
    mark_incomplete("results/demo/gone.parquet")
    Path(name).write_text("half")
    said = ask("--mend")
    assert said.exit_code == 0
    assert f"{name}: being made when a run ended. The next run makes them again" in said.output
    assert "gone.parquet" not in said.output
    assert Path(name).exists()


def test_what_a_killed_run_left_is_told_first_and_removed_when_asked(folder: Path) -> None:
    doomed = [Path(".snakemake/locks/0.input.lock"), Path(".snakemake/scripts/tmpabc.federate.py")]
    doomed += [STUDY / "a.manifest.json.partial", STUDY / "run-0123/checkpoints/step-000000002.partial"]
    doomed[-1].mkdir(parents=True)
    for path in doomed[:-1]:
        path.touch()
    before = everything(folder)
    told = ask()
    assert told.exit_code == 1
    assert all(f"to remove    {path}" in told.output for path in doomed)
    assert "locks of a run that ended without removing them" in told.output
    assert "make repair, or neuroloom doctor --mend" in told.output
    assert everything(folder) == before, "only --mend changes anything"
    mended = ask("--mend")
    assert mended.exit_code == 0
    assert all(f"removing     {path}" in mended.output for path in doomed)
    assert before - everything(folder) == set(doomed)
    assert ask().exit_code == 0


def test_the_last_sign_of_life_of_a_run_is_told(folder: Path) -> None:
    log = Path(".snakemake/log/2026.snakemake.log")
    log.touch()
    os.utime(log, times=(time.time() - 600,) * 2)
    Path(".snakemake/locks/0.input.lock").touch()
    assert "Its last sign of life was 10 min ago. Leave them if Snakemake runs here from another" in ask().output


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda: (STUDY / "a.zarr/signal/c/0/0").unlink(), "signal/c/0/0 is missing"),
        (lambda: (STUDY / "a.zarr/signal/zarr.json").write_text("{}"), "signal/zarr.json has 2 bytes"),
        (lambda: (STUDY / "a.manifest.json").write_text('{"schema": '), "the manifest is damaged"),
        (lambda: shutil.rmtree(STUDY / "a.zarr"), "a.zarr: the store is missing"),
    ],
    ids=["chunk", "metadata", "manifest", "store"],
)
def test_of_a_damaged_store_only_the_manifest_is_removed(folder: Path, damage: object, said: str) -> None:
    damage()  # type: ignore[operator]
    before = everything(folder)
    told = ask()
    assert told.exit_code == 1
    assert said in told.output
    assert ask("--mend").exit_code == 0
    assert before - everything(folder) == {STUDY / "a.manifest.json"}
    assert ("a.zarr: without a manifest, so unfinished" in ask().output) == (STUDY / "a.zarr").exists()


def test_a_store_under_another_name_is_found(folder: Path, recording: Recording) -> None:
    attrs = {**recording.attrs(), "recording": "b"}
    write_artifact(STUDY / "b.zarr", "recording", arrays=recording.arrays(), attrs=attrs, window=500)
    for end in (".zarr", ".manifest.json"):
        (STUDY / f"b{end}").rename(STUDY / f"c{end}")
    assert "c.zarr: holds b, so it was renamed or exchanged" in ask().output


def test_a_training_that_can_go_on_is_kept(folder: Path) -> None:
    for step in (2, 4):
        (STUDY / f"reve/run-0123/checkpoints/step-{step:09d}").mkdir(parents=True)
    said = ask("--mend")
    assert "run-0123: a training that was interrupted at step-000000004" in said.output
    assert (STUDY / "reve/run-0123/checkpoints/step-000000002").exists()


def test_files_from_the_future_are_told(folder: Path) -> None:
    os.utime(STUDY / "a.manifest.json", times=(time.time() + 3600,) * 2)
    said = ask()
    assert "a.manifest.json: dated in the future" in said.output
    assert said.exit_code == 0


def test_a_full_disk_is_wrong_and_cannot_be_mended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**70)
    assert "too little for a run. Make room" in ask().output
    assert ask("--mend").exit_code == 1


@pytest.fixture
def alive(folder: Path) -> Iterator[int]:
    """A process that looks like Snakemake, at work in the folder."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "snakemake"], cwd=folder) as process:
        time.sleep(0.2)
        yield process.pid
        process.kill()


def test_nothing_is_mended_while_snakemake_is_alive(folder: Path, alive: int) -> None:
    Path(".snakemake/locks/0.input.lock").touch()
    said = ask("--mend")
    assert said.exit_code == 2
    assert f"process {alive} (snakemake)" in said.output
    assert Path(".snakemake/locks/0.input.lock").exists()


def test_a_config_that_is_not_there_is_said(folder: Path) -> None:
    said = ask("--config", "mine.yaml")
    assert said.exit_code == 2
    assert "mine.yaml" in said.output
