import asyncio
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from neuroloom.cluster import LOST_AFTER, Absence, answers, growing, jobs_of, patient, run_tasks


def test_a_retry_gets_as_much_again() -> None:
    assert [growing(4000)({}, attempt) for attempt in (1, 2, 3)] == [4000, 8000, 12000]


def test_a_job_is_lost_once_squeue_has_answered_without_it_for_long() -> None:
    absence, end = Absence(), LOST_AFTER
    assert absence.lost(["1", "2"], {"1"}, 0.0) == set()
    assert absence.lost(["1", "2"], {"1"}, end - 1) == set()
    assert absence.lost(["1", "2"], {"1"}, end) == {"2"}


@pytest.mark.parametrize("between", [None, {"1", "2"}], ids=["no answer", "seen again"])
def test_absence_counts_from_its_start(between: set[str] | None) -> None:
    absence = Absence()
    absence.lost(["1", "2"], {"1"}, 0.0)
    assert absence.lost(["1", "2"], between, LOST_AFTER) == set()
    assert absence.lost(["1", "2"], {"1"}, LOST_AFTER + 1) == set()


def test_a_task_of_an_array_is_known_by_its_array() -> None:
    absence = Absence()
    absence.lost(["7_1", "8_1"], {"7"}, 0.0)
    assert absence.lost(["7_1", "8_1"], {"7"}, LOST_AFTER) == {"8_1"}


class Forgetful:
    """The plugin's executor: knows the end of some jobs, and forgets the rest where its questions fail."""

    run_uuid = "run"

    def __init__(self, workflow: Any, logger: Any) -> None:
        self.logger, self.ended, self.reported = logger, dict[str, bool](), dict[str, bool]()

    def report_job_success(self, job_info: Any) -> None:
        self.reported[job_info.external_jobid] = True

    def report_job_error(self, job_info: Any, msg: str | None = None) -> None:
        self.reported[job_info.external_jobid] = False

    async def check_active_jobs(self, active_jobs: list[Any]) -> Any:
        for job in active_jobs:
            if (well := self.ended.get(job.external_jobid)) is not None:
                (self.report_job_success if well else self.report_job_error)(job)
        for job in list[Any]():
            yield job


def squeue(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a squeue (and an scontrol) of our own first on the path."""
    for name in ("squeue", "scontrol"):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


async def still_active(executor: Any, jobs: list[Any]) -> list[Any]:
    return [job async for job in executor.check_active_jobs(jobs)]


@pytest.mark.parametrize(("text", "kept"), [("exit 1", {"2", "3"}), ("echo 2", {"2"})], ids=["away", "answers"])
def test_jobs_are_watched_until_their_end_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kept: set[str]
) -> None:
    """Job 1 has ended; 3 is not known to a squeue that answers, for too long."""
    squeue(tmp_path, text, monkeypatch)
    said: list[str] = []
    executor = patient(Forgetful)(None, SimpleNamespace(warning=said.append))
    executor.ended = {"1": True}
    executor.absence.since = {"3": -LOST_AFTER}
    jobs = [SimpleNamespace(external_jobid=name) for name in "123"]
    assert {job.external_jobid for job in asyncio.run(still_active(executor, jobs))} == kept
    assert executor.reported == ({"1": True} if text == "exit 1" else {"1": True, "3": False})
    assert bool(said) == (text == "exit 1")


def test_the_number_of_a_job_that_has_ended_may_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue(tmp_path, "echo 1", monkeypatch)
    executor = patient(Forgetful)(None, None)
    executor.report_job_success(SimpleNamespace(external_jobid="1"))
    again = SimpleNamespace(external_jobid="1")
    assert asyncio.run(still_active(executor, [again])) == [again]


def test_silence_of_slurm_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuroloom.cluster.ASK_TIMEOUT", 0.3)
    squeue(tmp_path, "exec sleep 30", monkeypatch)
    assert asyncio.run(jobs_of("run")) is None
    assert not answers()


def test_the_jobs_of_a_run_are_those_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue(tmp_path, 'case "$*" in *--name=run*) echo 4; echo 5;; esac', monkeypatch)
    assert asyncio.run(jobs_of("run")) == {"4", "5"}
    assert asyncio.run(jobs_of("another")) == set()
    assert answers()


def test_the_profile_names_rules_that_there_are(repository: Path) -> None:
    profile = yaml.safe_load((repository / "profiles/slurm/config.yaml").read_text())
    text = "".join(file.read_text() for file in (repository / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.MULTILINE))
    assert set(profile["groups"]) | set(profile["set-resources"]) <= rules


def test_the_profile_is_understood_and_groups_what_is_short(repository: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "snakemake", "--snakefile", repository / "Snakefile", "--directory", tmp_path]
    words += ["--workflow-profile", repository / "profiles/slurm", "--configfile", repository / "config/smoke.yaml"]
    run = subprocess.run([str(word) for word in [*words, "--dry-run"]], capture_output=True, text=True, cwd=tmp_path)
    said = run.stdout + run.stderr
    assert run.returncode == 0, said[-3000:]
    assert said.count("Group job recording") == 3
    assert said.count("Group job report") == 1


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({}, None),
        ({"nodes": 1, "tasks": 1}, None),
        ({"nodes": 2, "tasks_per_node": 4}, "--nodes=2 --ntasks-per-node=4"),
        ({"tasks_per_node": 2}, "--nodes=1 --ntasks-per-node=2"),
        ({"nodes": 2, "tasks": 2}, "--nodes=2 --ntasks-per-node=1"),
    ],
)
def test_tasks_are_started_by_srun_where_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: dict[str, int], words: str | None
) -> None:
    (tmp_path / "srun").write_text(
        f'#!/bin/sh\necho "$*" > {tmp_path}/asked; for last; do :; done; cat "$last" > {tmp_path}/given'
    )
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    ran: list[Any] = []
    run_tasks("some.module", {"seed": 1}, ran.append, file=tmp_path / "job.json", resources=resources, threads=3)
    assert ran == ([] if words else [{"seed": 1}])
    if words:
        asked = (tmp_path / "asked").read_text()
        assert asked.startswith(f"{words} --kill-on-bad-exit=1 --cpus-per-task=3 ")
        assert asked.endswith(f"-m some.module {tmp_path}/job.json\n")
        assert (tmp_path / "given").read_text() == '{"seed": 1}'
