"""The end of a run in the terminal: what came out beside its null, who was left out, and where the report is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

WIDE = 170  # columns of a terminal
WORDS = {"yes": "green", "no": "red", "open": "yellow", "in part": "yellow", "unknown": "dim"}


def show_summary(results: Path, *, seconds: float | None = None, console: Any = None) -> None:
    """Print it.

    Parameters
    ----------
    results : Path
        Folder of the study.
    seconds : float, optional
        That the run took.
    console : rich.console.Console, optional
        Default: standard output.
    """
    from rich.console import Console

    console = console or Console(highlight=False)
    rows = read_rows(results / "tables" / "headline.parquet")
    console.print()
    if rows:
        console.print(headline(rows, width=console.width))
    for line in closing_lines(results, seconds):
        console.print(line, soft_wrap=True, markup=False)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a table; none where there is no such table."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist() if path.is_file() else []


def headline(rows: list[dict[str, Any]], *, width: int = WIDE) -> Any:
    """One line for each question: where it was asked, answer, best score with its interval, null, baseline, people.

    Below `WIDE` columns the section stands for the question, with the place below it, and the score goes without its
    unit.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    first = ("", "in") if width >= WIDE else ("",)
    for name in (*first, "answer", "by", "score [95 % CI]", "null", "baseline", "n"):
        numeric = name in ("null", "baseline", "n")
        whole = numeric or name == "answer" or (name.startswith("score") and width < WIDE)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=whole)
    for row in rows:
        answer = Text(str(row["answer"]), style=WORDS.get(str(row["answer"]), ""))
        wide, narrow = (row["question"], row["where"]), (f"{row['section']}\n{_word(row['where'])}",)
        asked = wide if width >= WIDE else narrow
        table.add_row(*(Text(_word(word)) for word in asked), answer, *_cells(row, measured=width >= WIDE))
    return table


def _cells(row: dict[str, Any], *, measured: bool) -> list[Any]:
    from rich.text import Text

    low, high = row["ci_low"], row["ci_high"]
    interval = f" [{_number(low)}, {_number(high)}]" if known(low) and known(high) else ""
    measure = f" {_word(row['measure']).partition(' (')[0]}" if measured and known(row["score"]) else ""
    people = f"{row['n_participants']:.0f}" if known(row["n_participants"]) else ""
    score = f"{_number(row['score'])}{interval}{measure}"
    return [Text(text) for text in (_word(row["what"]), score, _number(row["null"]), _number(row["baseline"]), people)]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def known(value: Any) -> bool:
    """Whether it is a number."""
    return isinstance(value, int | float) and not math.isnan(value)


def _number(value: Any) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00") if known(value) else ""


def closing_lines(results: Path, seconds: float | None) -> list[str]:
    """Quarantine, time and report, a line each."""
    table, report = results / "tables" / "quarantine.parquet", results / "report.html"
    lines = []
    if table.is_file():
        rows = read_rows(table)
        first = f" recording(s), the first because {rows[0].get('reason')}" if rows else " recordings"
        lines.append(f"Quarantined: {len(rows)}{first}")
    if seconds is not None:
        lines.append(f"Took:        {duration(seconds)}")
    return [*lines, f"Report:      {report}" if report.exists() else f"No report yet: {report}"]


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(42.4), duration(125), duration(7300)
    ('42 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
