"""A failed job in a few lines: what it worked on, what its log says last, and where the whole log is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

N_LINES = 12
MAX_BYTES = 64 * 1024


def describe_failure(rule: str, *, wildcards: Mapping[str, Any], logs: Sequence[str], said: str = "") -> str:
    """Lines about one failed job.

    Parameters
    ----------
    rule : str
    wildcards : mapping
        What the job worked on, such as its recording.
    logs : sequence of str
        Its log files.
    said : str
        What Snakemake adds, such as that outputs are missing.
    """
    on = ", ".join(f"{name} {value}" for name, value in wildcards.items())
    lines = [f"Error in rule {rule}{f', {on}' if on else ''}:"]
    lines += [f"    {line}" for line in said.splitlines()]
    for log in logs:
        last = last_lines(Path(log))
        lines += [f"    {line}" for line in last]
        lines.append(f"    Whole log: {log}" if last else f"    Its log is empty or not there: {log}")
    return "\n".join(lines)


def last_lines(path: Path) -> list[str]:
    """The end of a text file; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - MAX_BYTES, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-N_LINES:]


def closing_paragraph(failed: Mapping[int, str], *, done: int, total: int) -> str:
    """What is to be done after a run in which jobs failed."""
    rules = ", ".join(sorted(set(failed.values())))
    jobs = "1 job" if len(failed) == 1 else f"{len(failed)} jobs"
    return (
        f"{jobs} failed ({rules}), {done} of {total} are done and kept. Read the lines under `Error in rule` above, "
        "mend what they name, and run the same command again: it goes on from here. `neuroloom doctor` says whether "
        "anything was left behind."
    )
