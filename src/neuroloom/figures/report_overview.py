"""The report's first screen: what was run on whom, what came out beside its null and baseline, and what was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from typing import Any

import pandas as pd

from neuroloom.figures.drawing import score_of, span_of
from neuroloom.figures.report_recordings import LOST
from neuroloom.figures.report_tables import Table, select, to_table

NUMBERS = ("ci_low", "ci_high", "score", "null", "baseline")
MARGIN = 8.0  # % of a strip beside its outermost mark
REASONS = 4  # that the first screen has room for
COLUMNS = {
    "question": "question",
    "answer": "answer",
    "verdict": "in words",
    "what": "best of what was tried",
    "where": "where",
    "measure": "measure",
    "score": "score",
    "ci_low": "from",
    "ci_high": "to",
    "null_name": "null",
    "null": "score of the null",
    "baseline_name": "baseline",
    "baseline": "score of the baseline",
    "n_participants": "people",
    "table": "table",
}


@dataclass(frozen=True)
class Finding:
    """One row of the first screen: numbers as text, and their places on a strip in %, none where there is no number."""

    answer: str
    what: str
    where: str
    measure: str
    score: str
    interval: str
    null: str
    baseline: str
    people: str
    section: str
    table: str
    verdict: str
    marks: dict[str, float]


def findings(headline: pd.DataFrame | None) -> list[tuple[str, list[Finding]]]:
    """Findings by question, in the order of the stages; none where nothing was asked.

    Parameters
    ----------
    headline : DataFrame, optional
        As `collect_headline` gives it.
    """
    rows = headline.to_dict("records") if headline is not None else []
    return [(question, [_finding(row) for row in own]) for question, own in groupby(rows, lambda row: row["question"])]


def _finding(row: Mapping[Any, Any]) -> Finding:
    named = {name: _number(row[name], row[f"{name}_name"]) for name in ("null", "baseline")}
    words = {name: str(row[name]) for name in ("answer", "what", "where", "measure", "section", "table", "verdict")}
    known = pd.notna(row["ci_low"]) and pd.notna(row["ci_high"])
    return Finding(
        **words,
        **named,
        score=_number(row["score"]),
        interval=f"[{_number(row['ci_low'])}, {_number(row['ci_high'])}]" if known else "",
        people=f"{row['n_participants']:.0f}" if pd.notna(row["n_participants"]) else "",
        marks=places({name: float(row[name]) for name in NUMBERS}),
    )


def places(values: Mapping[str, float]) -> dict[str, float]:
    """Where numbers stand on a line that all of them fill, in % of its width; those that are not known are left out."""
    known = {name: value for name, value in values.items() if isfinite(value)}
    low, span = min(known.values(), default=0.0), max(known.values(), default=0.0) - min(known.values(), default=0.0)
    if span == 0:
        return dict.fromkeys(known, 50.0)
    return {name: round(MARGIN + (100 - 2 * MARGIN) * (value - low) / span, 1) for name, value in known.items()}


def _number(value: float, name: str = "") -> str:
    if pd.isna(value):
        return ""
    return f"{score_of(value) if abs(value) < 100 else f'{value:,.0f}'} {name}".strip()


def findings_table(headline: pd.DataFrame | None) -> Table | None:
    """The same with every number and the verdict in words."""
    return to_table(select(headline, COLUMNS), "headline") if headline is not None and len(headline) else None


def losses(tables: Mapping[str, pd.DataFrame]) -> tuple[list[tuple[int, str, str]], int]:
    """What was quarantined, by stage and reason with counts, most frequent first; and how many reasons are left out."""
    lost = pd.concat([tables[name][["stage", "reason"]] for name in LOST if name in tables])
    counts = lost.value_counts(sort=False).reset_index(name="n").sort_values(["n", "stage"], ascending=[False, True])
    listed = [(int(n), str(stage), str(reason)) for stage, reason, n in counts.itertuples(index=False, name=None)]
    return listed[:REASONS], max(len(listed) - REASONS, 0)


def facts(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """Who was measured and what is left of it: value and what it counts."""
    recordings = tables["recordings"]
    usable = recordings[recordings["status"] == "artifact"]
    people = recordings[["study", "site", "subject"]].drop_duplicates()
    n_sites = recordings[["study", "site"]].drop_duplicates().shape[0]
    return [
        (f"{len(people)}", f"people at {n_sites} site{'s' * (n_sites != 1)}"),
        (f"{len(recordings)}", "recordings"),
        *_hours(usable),
        (f"{sum(len(tables[name]) for name in LOST if name in tables)}", "quarantined"),
        (f"{usable['bytes'].sum() / 1e6:.0f} MB" if len(usable) else "0 MB", "in checked artifacts"),
    ]


def _hours(usable: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for kind, seconds in usable.groupby("modality")["duration"].sum().items() if len(usable) else ():
        yield span_of(seconds), f"usable {str(kind).upper()}"
