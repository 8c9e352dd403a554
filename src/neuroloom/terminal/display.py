"""Stages of a run on a screen, as bars that move; in a log file, as a plain line now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from neuroloom.terminal.stages import Progress, Stage
from neuroloom.terminal.summary import duration

if TYPE_CHECKING:
    from rich.console import Console

REFRESH = 2  # times a second
BAR = 24  # characters
STEP = 10  # %, between two lines in a log file


class Display(Protocol):
    """Where a run is shown."""

    def begin(self, progress: Progress) -> None:
        """Jobs are known."""

    def update(self) -> None:
        """Something has changed."""

    def say(self, text: str, *, style: str = "") -> None:
        """Lines that stay."""

    def end(self) -> None:
        """Nothing moves from here on."""


class Bars:
    """A bar for each stage, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Any = None

    def begin(self, progress: Progress) -> None:
        """Draw the bars, and from here on again and again."""
        from rich.live import Live

        self._live = Live(
            console=self.console,
            get_renderable=lambda: picture(progress),
            refresh_per_second=REFRESH,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def update(self) -> None:
        """Nothing to do: the next drawing shows it."""

    def say(self, text: str, *, style: str = "") -> None:
        """Lines above the bars."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Leave the bars as they are."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def picture(progress: Progress) -> Any:
    """Stages as a table of bars, and a line about the whole."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for stage in progress.overview():
        bar = ProgressBar(total=max(stage.total, 1), completed=stage.done, width=BAR)
        failed = Text(f"{stage.failed} failed", style="bold red") if stage.failed else Text()
        at_work = Text(names_of(stage), style="dim", no_wrap=True, overflow="ellipsis")
        table.add_row(stage.name, bar, Text(f"{stage.done}/{stage.total}", justify="right"), failed, at_work)
    return Group(table, Text(whole(progress), style="bold"))


def names_of(stage: Stage) -> str:
    """Rules at work, each once, with how often."""
    return ", ".join(f"{rule} x{n}" if n > 1 else rule for rule, n in Counter(stage.running).items())


def whole(progress: Progress) -> str:
    """Jobs, time so far and time left."""
    done, left = progress.done.total(), progress.seconds_left()
    rest = "" if left is None or done + len(progress.failed) >= progress.n_jobs else f", about {duration(left)} left"
    return f"{done} of {progress.n_jobs} jobs in {duration(progress.elapsed)}{rest}"


class Lines:
    """Plain lines: where a stage begins and ends, and at every tenth of all jobs."""

    def __init__(self, write: Callable[[str], None], now: Callable[[], str] | None = None) -> None:
        self.write = write
        self.now = now or (lambda: time.strftime("%H:%M:%S"))
        self._progress: Progress | None = None
        self._begun: set[str] = set()
        self._over: set[str] = set()
        self._tenth = 0

    def begin(self, progress: Progress) -> None:
        """Say how much there is."""
        self._progress = progress
        self._line(f"{progress.n_jobs} jobs in {len(progress.overview())} stages")

    def update(self) -> None:
        """Say what has begun, ended or passed a tenth since the last time."""
        if self._progress is None:
            return
        for stage in self._progress.overview():
            if stage.name not in self._begun and (stage.running or stage.done):
                self._begun.add(stage.name)
                self._line(f"{stage.name}: begins, {stage.total} jobs")
            if stage.name not in self._over and stage.over:
                self._over.add(stage.name)
                self._line(f"{stage.name}: done, {stage.done} of {stage.total} jobs")
        tenth = 100 * self._progress.done.total() // max(self._progress.n_jobs, 1) // STEP
        if tenth > self._tenth:
            self._tenth = tenth
            self._line(f"{tenth * STEP} %: {whole(self._progress)}")

    def say(self, text: str, *, style: str = "") -> None:
        """Lines as they are."""
        self.write(text)

    def end(self) -> None:
        """Nothing is left to write."""

    def _line(self, text: str) -> None:
        self.write(f"{self.now()} {text}")
