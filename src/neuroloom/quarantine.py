"""Recordings that cannot be used: said once, carried through the graph, shown in the report, never dropped silently."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SCHEMA = "neuroloom/quarantine@1"


class UnusableRecording(Exception):
    """A recording cannot be used; the rest of the study goes on.

    Parameters
    ----------
    file : str or Path
        What was read.
    reason : str
        What was found.
    remedy : str
        What to do about it.
    """

    def __init__(self, file: str | Path, reason: str, remedy: str) -> None:
        super().__init__(f"{file}: {reason}. {remedy}")
        self.file, self.reason, self.remedy = str(file), reason, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """How it comes back from another process: an exception is made again of its message by default."""
        return type(self), (self.file, self.reason, self.remedy)


@dataclass(frozen=True)
class QuarantineRow:
    """One row of `tables/quarantine.parquet`."""

    recording: str
    stage: str
    file: str
    reason: str
    remedy: str


class Quarantined(UnusableRecording):
    """An earlier stage has quarantined this recording; carries the row of that stage."""

    def __init__(self, row: QuarantineRow) -> None:
        super().__init__(row.file, row.reason, row.remedy)
        self.row = row

    def __reduce__(self) -> tuple[Any, ...]:
        """As above, of its one argument."""
        return type(self), (self.row,)


def write_quarantine(manifest: Path, row: QuarantineRow) -> None:
    """Write a quarantine row in place of an artifact's manifest, so that later stages see it."""
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schema": SCHEMA, **asdict(row)}, indent=1) + "\n")


def read_quarantine(manifest: dict[str, str]) -> QuarantineRow:
    """The row held by a quarantine manifest that was read as JSON."""
    return QuarantineRow(**{key: value for key, value in manifest.items() if key != "schema"})
