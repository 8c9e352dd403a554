"""What a run says: stages on a screen and in a log file, failures, and the summary at the end."""

import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent

from neuroloom.terminal.display import Bars
from neuroloom.terminal.stages import CLONE, Progress, stage_of_rules
from neuroloom.terminal.summary import show_summary
from snakemake_logger_plugin_neuroloom import LogHandler

STATS = {"ingest_meeg": 2, "preprocess_meeg": 2, "all": 1, "total": 5}


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


def handler(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> LogHandler:
    monkeypatch.setattr("sys.stderr", stream)
    settings: dict[str, Any] = dict.fromkeys(("dryrun", "verbose", "debug_dag", "stdout", "nocolor"), False)
    return LogHandler(SimpleNamespace(**settings, quiet=None), None)


def record(event: LogEvent | None, text: str = "", level: int = logging.INFO, **facts: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, text, None, None)
    vars(made).update(event=event, **facts)
    return made


def job(number: int, rule: str, recording: str, benchmark: str | None = None) -> logging.LogRecord:
    facts = {"jobid": number, "rule_name": rule, "wildcards": {"recording": recording}, "benchmark": benchmark}
    return record(LogEvent.JOB_INFO, **facts)


def events(log: Path) -> Iterator[logging.LogRecord]:
    """A run of which the second preprocessing fails."""
    yield record(None, "Building DAG of jobs...")
    yield record(LogEvent.RUN_INFO, stats=STATS)
    yield record(None, "Select jobs to execute...")
    for number, rule in ((1, "ingest_meeg"), (2, "ingest_meeg"), (3, "preprocess_meeg")):
        yield job(number, rule, f"rec{number}")
        yield record(LogEvent.JOB_FINISHED, job_id=number)
    yield job(4, "preprocess_meeg", "rec4")
    yield record(LogEvent.ERROR, "RuleException: exit status 1", logging.ERROR, exception="RuleException")
    facts = {"jobid": 4, "rule_name": "preprocess_meeg", "log": [str(log)], "rule_msg": None}
    yield record(LogEvent.JOB_ERROR, level=logging.ERROR, **facts)
    yield record(
        LogEvent.ERROR, "At least one job did not complete successfully.", logging.ERROR, exception="WorkflowError"
    )


def feed(logger: LogHandler, log: Path) -> None:
    log.write_text("".join(f"line {at}\n" for at in range(40)) + "The disk is full: make room\n")
    for one in events(log):
        logger.handle(one)
    logger.close()


def test_a_log_file_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = io.StringIO()
    feed(handler(monkeypatch, stream), tmp_path / "job.log")
    lines = [line[9:] if line[2:3] == ":" else line for line in stream.getvalue().splitlines()]
    assert lines[:4] == [
        "4 jobs in 2 stages",
        "ingest: begins, 2 jobs",
        lines[2],
        "ingest: done, 2 of 2 jobs",
    ]
    assert lines[2].startswith("20 %: 1 of 4 jobs in 0 s, about ")
    assert "preprocess: begins, 2 jobs" in lines
    assert "preprocess: done, 1 of 2 jobs" in lines
    at = lines.index("Error in rule preprocess_meeg, recording rec4:")
    assert lines[at + 1] == "    line 29"
    assert lines[at + 12 : at + 14] == ["    The disk is full: make room", f"    Whole log: {tmp_path / 'job.log'}"]
    assert lines[-1].startswith("1 job failed (preprocess_meeg), 3 of 4 are done and kept.")
    assert "run the same command again" in lines[-1]
    assert not [
        line
        for line in lines
        if "RuleException" in line or "At least one" in line or "Select jobs" in line or "Building" in line
    ]


def test_a_screen_gets_bars_and_the_same_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = Terminal()
    made = handler(monkeypatch, stream)
    made.display = Bars(Console(file=stream, force_terminal=True, width=100, color_system=None))
    feed(made, tmp_path / "job.log")
    shown = stream.getvalue()
    assert "Error in rule preprocess_meeg, recording rec4:" in shown
    last = shown[shown.rindex("ingest") :]
    assert "2/2" in last
    assert "1 failed" in last
    assert "3 of 4 jobs in 0 s" in last


def test_without_a_run_words_of_snakemake_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    made = handler(monkeypatch, stream)
    made.handle(record(None, "Nothing to be done (all requested files are present and up to date)."))
    made.close()
    assert "Nothing to be done" in stream.getvalue()


def test_an_error_before_a_run_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    made = handler(monkeypatch, stream)
    made.handle(record(None, "Building DAG of jobs..."))
    made.handle(record(LogEvent.ERROR, "ConfigError: no such sheet", logging.ERROR, exception="ConfigError"))
    made.close()
    assert stream.getvalue() == "ConfigError: no such sheet\n"


def test_stages_are_the_files_of_rules_in_the_order_of_the_data() -> None:
    stages = stage_of_rules(CLONE / "Snakefile")
    order = list(dict.fromkeys(stages.values()))
    assert stages["pretrain_model"] == "pretrain"
    assert [name for name in order if name in ("ingest", "preprocess", "tokenize", "pretrain", "evaluate")] == [
        "ingest", "preprocess", "tokenize", "pretrain", "evaluate",
    ]  # fmt: skip
    module = Progress({"loom_ingest_meeg": 1, "elsewhere": 1, "loom_draw_this": 2, "draw_that": 3}, stages)
    assert [(stage.name, stage.total) for stage in module.overview()] == [("ingest", 1), ("figures", 5), ("other", 1)]


def test_time_left_is_weighted_by_what_jobs_take() -> None:
    now = 0.0
    progress = Progress({"short": 10, "long": 10}, {"short": "a", "long": "b"}, clock=lambda: now)
    assert progress.seconds_left() is None
    progress.earlier["long"] = 100.0
    progress.start(1, "short")
    now = 1.0
    progress.finish(1)
    assert progress.seconds_left() == pytest.approx(9 * 1.0 + 10 * 100.0)
    progress.start(2, "long")
    now = 51.0
    assert progress.seconds_left() == pytest.approx(9 * 1.0 + 10 * 100.0 - 50.0)


def test_ten_thousand_jobs_cost_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = handler(monkeypatch, io.StringIO())
    made.handle(record(LogEvent.RUN_INFO, stats={"ingest_meeg": 5000, "preprocess_meeg": 5000}))
    began = time.process_time()
    for number in range(10_000):
        made.handle(job(number, "ingest_meeg" if number < 5000 else "preprocess_meeg", "x"))
        made.handle(record(LogEvent.JOB_FINISHED, job_id=number))
    assert time.process_time() - began < 5.0
    made.close()


HEADLINE = {
    "section": "evaluation", "question": "Does pretraining help?", "answer": "open",
    "what": "reve, full", "where": "eyes",
    "measure": "balanced accuracy", "score": 0.71, "ci_low": 0.6, "ci_high": 0.8, "null_name": "chance", "null": 0.5,
    "baseline_name": "riemann", "baseline": 0.69, "n_participants": 9.0, "table": "evaluation", "verdict": "-",
}  # fmt: skip


def summary(results: Path, width: int = 180) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_summary(results, seconds=125.0, console=console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_summary_tells_what_came_out(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "report.html").touch()
    unknown = {**HEADLINE, "question": "And MEG?", "answer": "unknown", "score": float("nan"), "ci_low": float("nan")}
    pd.DataFrame([HEADLINE, unknown]).to_parquet(tmp_path / "tables/headline.parquet")
    pd.DataFrame([{"recording": "a", "reason": "no positions"}]).to_parquet(tmp_path / "tables/quarantine.parquet")
    said = summary(tmp_path)
    line = next(line for line in said.splitlines() if "Does pretraining help?" in line)
    assert "0.71 [0.60, 0.80]" in line
    assert line.split()[-1] == "9"
    assert "balanced accuracy" in line
    assert "nan" not in said
    narrow = summary(tmp_path, width=80).splitlines()
    at = next(at for at, line in enumerate(narrow) if "0.71 [0.60, 0.80]" in line)
    assert narrow[at].split()[:2] == ["evaluation", "open"]
    assert narrow[at + 1].split()[0] == "eyes", "where it was asked stands below"
    assert "1 recording(s), the first because no positions" in said
    assert "2 min 5 s" in said
    assert f"Report:      {tmp_path / 'report.html'}" in said


def test_a_summary_without_headline_still_says_where_the_report_is(tmp_path: Path) -> None:
    assert summary(tmp_path).split("\n")[-2] == f"No report yet: {tmp_path / 'report.html'}"
