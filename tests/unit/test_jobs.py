import errno
import logging
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from neuroloom.artifacts import open_artifact
from neuroloom.jobs import logged, recording_job
from neuroloom.quarantine import Quarantined, QuarantineRow, UnusableRecording, write_quarantine
from neuroloom.records import Recording


class Outputs(list):
    """Named outputs that can also be walked through, as Snakemake gives them."""

    def __init__(self, **named: Path) -> None:
        super().__init__(str(path) for path in named.values())
        vars(self).update({name: str(path) for name, path in named.items()})


@pytest.fixture
def snakemake(tmp_path: Path) -> Any:
    return SimpleNamespace(
        rule="preprocess_meeg",
        wildcards=SimpleNamespace(recording="a"),
        log=[str(tmp_path / "a.log")],
        params={"meeg": {"l_freq": 1.0}, "source": "0123"},
        input=[],
        output=Outputs(
            store=tmp_path / "a.zarr",
            manifest=tmp_path / "a.manifest.json",
            qc=tmp_path / "a.parquet",
            figure=tmp_path / "a.png",
        ),
    )


def test_a_store_carries_where_it_came_from(snakemake: Any, recording: Recording, tmp_path: Path) -> None:
    source = tmp_path / "raw.edf"
    source.write_bytes(b"abc")
    with recording_job(snakemake) as job:
        job.write(
            "recording", recording, sources=[source], upstream={"ingest": "d1"}, notes={"x": float("nan"), "y": 1}
        )
    attrs = open_artifact(tmp_path / "a.zarr").attrs
    assert attrs["source_files"] == {"raw.edf": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert attrs["upstream"] == {"ingest": "d1"}
    assert attrs["notes"] == {"x": None, "y": 1}
    assert (attrs["recording"], attrs["stage"], attrs["source_digest"]) == ("a", "preprocess_meeg", "0123")
    assert {"numpy", "mne", "zarr"} <= attrs["versions"].keys()


def test_an_unusable_recording_leaves_every_output_and_its_reason(snakemake: Any, tmp_path: Path) -> None:
    with recording_job(snakemake):
        (tmp_path / "a.zarr").mkdir()
        (tmp_path / "a.zarr" / "half").touch()
        raise UnusableRecording("raw.edf", "all channels are flat", "Check the recording itself")
    assert list((tmp_path / "a.zarr").iterdir()) == [], "nothing half-written stays"
    assert pd.read_parquet(tmp_path / "a.parquet")["quarantined"].all()
    assert (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(Quarantined) as error:
        open_artifact(tmp_path / "a.zarr")
    assert error.value.row == QuarantineRow(
        "a", "preprocess_meeg", "raw.edf", "all channels are flat", "Check the recording itself"
    )


def test_an_earlier_quarantine_is_carried_on_with_its_own_stage(snakemake: Any, tmp_path: Path) -> None:
    row = QuarantineRow("a", "ingest_meeg", "raw.edf", "truncated", "Bring the whole file")
    write_quarantine(tmp_path / "before.manifest.json", row)
    with recording_job(snakemake):
        open_artifact(tmp_path / "before.zarr")
    with pytest.raises(Quarantined) as error:
        open_artifact(tmp_path / "a.zarr")
    assert error.value.row == row


def test_a_fault_of_ours_is_no_quarantine(snakemake: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), recording_job(snakemake):
        raise ZeroDivisionError
    assert not (tmp_path / "a.manifest.json").exists()
    assert "Traceback" in (tmp_path / "a.log").read_text()


def test_log_records_go_to_the_log_of_the_rule(snakemake: Any, tmp_path: Path) -> None:
    with recording_job(snakemake):
        logging.getLogger("neuroloom.x").info("seen")
    logging.getLogger("neuroloom.x").info("not seen")
    assert "seen" in (tmp_path / "a.log").read_text()
    assert "not seen" not in (tmp_path / "a.log").read_text()


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full: make room"),
        (OSError(errno.ESTALE, "Stale file handle"), "The network file system lost a file"),
        (ValueError("I/O error: no space (os error 28)"), "The disk is full: make room"),
    ],
)
def test_no_recording_is_blamed_for_the_machine(snakemake: Any, tmp_path: Path, cause: Exception, said: str) -> None:
    with pytest.raises(UnusableRecording) as error, recording_job(snakemake):
        raise UnusableRecording("raw.edf", "MNE cannot read it", "Check the file") from cause
    assert said in error.value.__notes__[0]
    assert said in (tmp_path / "a.log").read_text().splitlines()[-1]
    assert not (tmp_path / "a.manifest.json").exists()


@pytest.mark.parametrize("cause", [FileNotFoundError(errno.ENOENT, "none"), MemoryError("7 TiB, says the header")])
def test_what_lies_in_a_file_is_a_matter_of_the_recording(snakemake: Any, tmp_path: Path, cause: Exception) -> None:
    with recording_job(snakemake):
        raise UnusableRecording("raw.edf", "MNE cannot read it", "Check the file") from cause
    assert "quarantine" in (tmp_path / "a.manifest.json").read_text()


def test_a_failure_names_the_input_that_is_damaged(snakemake: Any, store: Path, tmp_path: Path) -> None:
    chunk = store / "signal/c/0/0"
    content = bytearray(chunk.read_bytes())
    for at in range(0, len(content), 1000):
        content[at] ^= 1
    chunk.write_bytes(content)
    snakemake.input = [str(store.with_name("a.manifest.json")), str(tmp_path / "other.json")]
    snakemake.log = [str(tmp_path / "job.log")]
    with pytest.raises(RuntimeError, match="checksum"), recording_job(snakemake):
        open_artifact(store).read("signal")
    last = (tmp_path / "job.log").read_text().splitlines()[-1]
    assert last.startswith(f"An input is damaged: {store} ")
    assert last.endswith("signal/c/0/0 has changed. Delete it with its manifest and run snakemake again")


HOLD = """
import sys, time
from types import SimpleNamespace
from neuroloom.jobs import logged

with logged(SimpleNamespace(rule="x", log=[sys.argv[1]], input=[], output=[], params={})):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_job_waits_for_one_that_outlived_its_snakemake(snakemake: Any, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    command = [sys.executable, "-c", HOLD, str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "holds\n"
        began = threading.Event()

        def work() -> None:
            with logged(snakemake):
                began.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert not began.wait(0.5)
        assert "the same job of an earlier run is still at work" in log.read_text()
        other.communicate()
        assert began.wait(10)
        thread.join()


def test_processes_of_one_job_do_not_wait_for_each_other(
    snakemake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with logged(snakemake):
        monkeypatch.setenv("SLURM_PROCID", "1")
        with logged(snakemake):
            pass
