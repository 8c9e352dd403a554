"""What a run shows while it runs, and the table that it leaves: one row for each step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)
LOG_SECONDS = 30.0  # between lines of the log, where there is no terminal
CHECKED = ("loss", "grad_norm")


class Curve:
    """The table of a run: rows by step, kept as tensors until they are asked for, so that no step waits for a GPU.

    Parameters
    ----------
    folder : Path or None
        Where parts of the table are written; None keeps them in memory.
    step : int
        Steps that are already done; parts behind it are of a run that was killed and are removed.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._folder = folder
        self._rows: list[dict[str, float]] = []
        self._pending: list[tuple[dict[str, float], dict[str, Tensor], Any]] = []
        self._parts = [] if folder is None else sorted(folder.glob("*.parquet"))
        for part in [part for part in self._parts if int(part.stem) > step]:
            part.unlink()
            self._parts.remove(part)

    def add(self, facts: Mapping[str, float], measured: Mapping[str, Tensor], source: Any) -> None:
        """Take a row: numbers, scalar tensors, and what the row was made from, for the message of an error."""
        self._pending.append((dict(facts), dict(measured), source))

    def flush(self, reduce: Callable[[Tensor], Tensor], describe: Callable[[Any], str]) -> dict[str, float]:
        """Bring the pending rows over from the device; the last one is returned.

        Parameters
        ----------
        reduce : callable
            Mean over processes of a tensor (rows, columns).
        describe : callable
            Says in words what a row was made from.

        Raises
        ------
        FloatingPointError
            A loss or a gradient is not finite.
        """
        import torch

        if self._pending:
            names = list(self._pending[0][1])
            stacked = torch.stack([torch.stack([row[name].float() for name in names]) for _, row, _ in self._pending])
            for (facts, _, source), values in zip(self._pending, reduce(stacked).tolist(), strict=True):
                row = {**facts, **dict(zip(names, values, strict=True))}
                _check(row, partial(describe, source))
                self._rows.append(row)
            self._pending = []
        return self._rows[-1] if self._rows else {}

    def note(self, values: Mapping[str, float]) -> None:
        """Add columns to the last row, such as those of a validation."""
        self._rows[-1].update(values)

    def save(self) -> None:
        """Write the rows since the last part, by rename."""
        if self._folder is not None and self._rows:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{int(self._rows[-1]['step']):09d}.parquet"
            write_table(pd.DataFrame(self._rows), path)
            self._parts.append(path)
            self._rows = []

    def table(self) -> pd.DataFrame:
        """All rows, those of parts included."""
        parts = [pd.read_parquet(path) for path in self._parts]
        rows = [pd.DataFrame(self._rows)] if self._rows else []
        return pd.concat([*parts, *rows], ignore_index=True) if parts or rows else pd.DataFrame()


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table, by rename."""
    partial = path.with_name(path.name + ".partial")
    table.to_parquet(partial)
    partial.replace(path)


def write_tensorboard(table: pd.DataFrame, folder: Path) -> None:
    """Write a table of steps for TensorBoard, which must be installed."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for row in table.to_dict("records"):
            for name, value in row.items():
                if value == value:
                    writer.add_scalar(str(name), value, int(row["step"]))


@contextmanager
def live_progress(*, steps: int, done: int, quiet: bool = False) -> Iterator[Callable[[int, int, float], None]]:
    """A bar with loss, tokens/s and time left on a terminal, else a line of the log now and then.

    Parameters
    ----------
    steps, done : int
        All steps, and those of an earlier start.
    quiet : bool
        Show nothing: another process does.

    Yields
    ------
    callable
        To be called after each step with its number, its tokens, and the loss (the last one that is known).
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda step, tokens, loss: None
    elif console.is_terminal:
        with _bar(console, steps, done) as show:
            yield show
    else:
        yield _Lines(steps, done)


@contextmanager
def _bar(console: Any, steps: int, done: int) -> Iterator[Callable[[int, int, float], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("loss {task.fields[loss]:.4g} · {task.fields[rate]:,.0f} tokens/s")
    clock = _Clock()
    with Progress(BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("training", total=steps, completed=done, loss=math.nan, rate=math.nan)

        def show(step: int, tokens: int, loss: float) -> None:
            progress.update(task, completed=step, loss=loss, rate=clock.rate(tokens))

        yield show


class _Clock:
    """Tokens per second since the start."""

    def __init__(self) -> None:
        self.started, self.tokens = time.monotonic(), 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def rate(self, tokens: int) -> float:
        self.tokens += tokens
        return self.tokens / max(self.seconds, 1e-9)


class _Lines:
    """Lines of the log, one every `LOG_SECONDS` and one at the end."""

    def __init__(self, steps: int, done: int) -> None:
        self._clock, self._steps, self._done, self._said = _Clock(), steps, done, 0.0

    def __call__(self, step: int, tokens: int, loss: float) -> None:
        rate, seconds = self._clock.rate(tokens), self._clock.seconds
        if seconds - self._said >= LOG_SECONDS or step == self._steps:
            self._said = seconds
            left = seconds / max(step - self._done, 1) * (self._steps - step)
            line = "step %d of %d: loss %.4g, %.0f tokens/s, %.0f s left"
            logger.info(line, step, self._steps, loss, rate, left)


def _check(row: Mapping[str, float], describe: Callable[[], str]) -> None:
    for name in CHECKED:
        if not math.isfinite(row[name]):
            raise FloatingPointError(
                f"step {row['step']:.0f}: {name} is {row[name]}, on a batch of {describe()}. Lower lr or raise warmup; "
                "if it is always the same recordings, look at their windows"
            )
