"""Snakemake's terminal output as NeuroLoom shows it: `logger: neuroloom` in a profile, or `--logger neuroloom`.

Stages with progress and time left on a screen, plain lines in a log file, and failures with the end of their log. A dry
run, `--verbose` and `--debug-dag` are left to Snakemake's own words; the raw log stays in `.snakemake/log`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from neuroloom.terminal.display import Bars, Display, Lines
from neuroloom.terminal.failures import closing_paragraph, describe_failure
from neuroloom.terminal.stages import CLONE, Progress, earlier_seconds, stage_of_rules
from neuroloom.terminal.summary import duration

TOLD_BY_JOBS = ("RuleException", "CalledProcessError")
AT_THE_END = ("At least one job did not complete", "Exiting because a job execution failed")
KEPT = "SLURM run ID"  # the name by which a run's jobs are found
MAIN_RULES = ("all", "total")


class LogHandler(LogHandlerBase):
    """Turns records of a run into stages."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._plain: logging.Handler | None = None
        settings = self.common_settings
        if settings.dryrun or settings.verbose or settings.debug_dag:
            self._plain = _snakemake_handler(settings)
        self.stream = sys.stdout if settings.stdout else sys.stderr
        self.display: Display = _display(self.stream, nocolor=settings.nocolor)
        self.progress: Progress | None = None
        self._snakefile: Path | None = None
        self._wildcards: dict[int, dict[str, Any]] = {}
        self._before: list[str] = []
        self._asked_benchmarks = False
        self._handlers = {
            LogEvent.WORKFLOW_STARTED: self._on_workflow,
            LogEvent.RUN_INFO: self._on_run,
            LogEvent.JOB_INFO: self._on_job,
            LogEvent.JOB_FINISHED: self._on_finished,
            LogEvent.JOB_ERROR: self._on_failed,
            LogEvent.GROUP_ERROR: self._on_group_failed,
            LogEvent.ERROR: self._on_error,
            None: self._on_text,
        }

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record; a fault of ours must not stop a run."""
        try:
            if self._plain is not None:
                if self._plain.filter(record):
                    self._plain.emit(record)
            elif on_event := self._handlers.get(getattr(record, "event", None)):
                on_event(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Say how the run ended."""
        self.display.end()
        for text in self._before if self.progress is None else ():
            self.display.say(text)
        self._before = []
        if self.progress is not None:
            self._say_end(self.progress)
            self.progress = None
        super().close()

    def _say_end(self, progress: Progress) -> None:
        done = progress.done.total()
        if progress.failed:
            text = closing_paragraph(progress.failed, done=done, total=progress.n_jobs)
            self.display.say(text, style="bold red")
        elif done >= progress.n_jobs:
            self.display.say(f"All {progress.n_jobs} jobs are done, in {duration(progress.elapsed)}")
        else:
            text = f"Stopped after {done} of {progress.n_jobs} jobs; give the same command again to go on"
            self.display.say(text, style="bold red")

    def _on_workflow(self, record: Any) -> None:
        self._snakefile = Path(record.snakefile_main) if getattr(record, "snakefile_main", None) else None

    def _on_run(self, record: Any) -> None:
        totals = {rule: int(count) for rule, count in record.stats.items() if rule not in MAIN_RULES}
        files = [file for file in (self._snakefile, CLONE / "Snakefile") if file]
        if self.progress is None and totals:
            self.progress = Progress(totals, stage_of_rules(*files))
            self.display.begin(self.progress)

    def _on_job(self, record: Any) -> None:
        if self.progress is None or record.rule_name in MAIN_RULES:
            return
        if not self._asked_benchmarks and record.benchmark:
            self._asked_benchmarks = True
            folder = Path(str(record.benchmark)).parent.parent
            self.progress.earlier.update(earlier_seconds(folder, self.progress.totals))
        self._wildcards[record.jobid] = dict(record.wildcards or {})
        self.progress.start(record.jobid, record.rule_name)
        self.display.update()

    def _on_finished(self, record: Any) -> None:
        if self.progress is not None:
            self.progress.finish(record.job_id)
            self.display.update()

    def _on_failed(self, record: Any) -> None:
        self._failed(vars(record))

    def _on_group_failed(self, record: Any) -> None:
        for job in record.job_error_info:
            self._failed(job)

    def _failed(self, job: dict[str, Any]) -> None:
        number, rule = job["jobid"], job["rule_name"]
        text = describe_failure(rule, wildcards=self._wildcards.get(number, {}), logs=job["log"] or [],
                                said=str(job.get("rule_msg") or ""))  # fmt: skip
        self.display.say(text, style="red")
        if self.progress is not None:
            self.progress.fail(number, rule)
            self.display.update()

    def _on_error(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._before = []  # what led to an error is no news beside it
        of_job = self.progress is not None and getattr(record, "exception", "") in TOLD_BY_JOBS
        if not of_job and not _is_end(text):
            self.display.say(text, style="red")

    def _on_text(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if _is_end(text):
            return
        if record.levelno >= logging.WARNING or KEPT in text:
            self.display.say(text, style="yellow")
        elif self.progress is None and record.levelno >= logging.INFO:
            self._before.append(text)


def _is_end(text: str) -> bool:
    """Whether it says no more than the end of a run with failures does."""
    return any(words in text for words in AT_THE_END)


def _display(stream: Any, *, nocolor: bool) -> Display:
    if not (hasattr(stream, "isatty") and stream.isatty()):
        return Lines(lambda text: print(text, file=stream, flush=True))
    from rich.console import Console

    return Bars(Console(file=stream, no_color=nocolor or None))


def _snakemake_handler(settings: Any) -> logging.Handler:
    """What Snakemake itself would have written."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    kinds = (settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds)
    return ColorizingTextHandler(
        nocolor=settings.nocolor,
        stream=sys.stdout if settings.stdout else sys.stderr,
        formatter=DefaultFormatter(settings.quiet, settings.show_failed_logs),
        filter=DefaultFilter(*kinds),
    )
