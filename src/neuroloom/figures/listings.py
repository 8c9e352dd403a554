"""Tables of a paper in one list: which rows and columns of the study's tables, with units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NULLS = ("phase randomised", "circular shift", "other subject")  # of synthesis.nulls, which is slow to load
SCORE = ("score", "ci_low", "ci_high")


@dataclass(frozen=True)
class Column:
    """A column of the paper.

    Attributes
    ----------
    header : str
        With the unit.
    names : tuple of str
        Columns of the rows: one, or a score with both ends of its interval.
    digits : str
        Format of numbers.
    """

    header: str
    names: tuple[str, ...]
    digits: str = ".2f"


@dataclass(frozen=True)
class Listing:
    """A table of the paper.

    Attributes
    ----------
    title : str
        What stands above it.
    tables : tuple of str
        Names of the tables of the study that it is made from.
    columns : tuple of Column
    choose : str
        Function of `listing_rows` that takes the tables and gives the rows; without one, they are those of the table.
    """

    title: str
    tables: tuple[str, ...]
    columns: tuple[Column, ...]
    choose: str = ""

    def rows(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Rows with the columns that are shown; none where a table is empty."""
        rows = tables[self.tables[0]]
        if self.choose and len(rows):
            rows = getattr(import_module("neuroloom.figures.listing_rows"), self.choose)(rows)
        names = [name for column in self.columns for name in column.names]
        return rows.reindex(columns=names).reset_index(drop=True)


def _of(name: str, header: str = "", digits: str = ".2f") -> Column:
    return Column(header or name, (name,), digits)


PEOPLE = _of("n_participants", "n (people)", ".0f")
LISTINGS: dict[str, Listing] = {
    "recordings": Listing(
        "Recordings by site",
        ("recordings",),
        (
            *(_of(name) for name in ("study", "site", "modality")),
            _of("subjects", "n (people)", ".0f"),
            _of("recordings", digits=".0f"),
            _of("minutes", "usable (min)", ".1f"),
            _of("quarantined", digits=".0f"),
        ),
        "study_summary",
    ),
    "cleaning": Listing(
        "What cleaning leaves of planted artefacts, beside its bounds",
        ("cleaning",),
        (
            *(_of(name) for name in ("figure", "site", "modality")),
            _of("recordings", "n (recordings)", ".0f"),
            _of("mean"),
            _of("worst"),
            _of("bound"),
            _of("unit"),
            _of("met"),
        ),
    ),
    "tokenizers": Listing(
        "Tokenizers on recordings of people that none was fitted on",
        ("tokenizers",),
        (
            _of("tokenizer"),
            _of("fold", digits=".0f"),
            _of("device"),
            PEOPLE,
            Column("waveform (r)", ("correlation", "correlation_low", "correlation_high")),
            _of("correlation_null", "null (r)"),
            Column("spectral error (dB)", ("spectral_db", "spectral_db_low", "spectral_db_high")),
            _of("spectral_db_null", "null (dB)"),
            _of("bits_per_second", "rate (bit/s)", ".0f"),
        ),
        "choose_tokenizers",
    ),
    "models": Listing(
        "Pretrained models",
        ("models",),
        (
            *(_of(name) for name in ("model", "architecture", "role")),
            _of("fold", digits=".0f"),
            _of("n_people", "n (people)", ".0f"),
            _of("n_train", "n (recordings, training)", ".0f"),
            _of("parameters", "weights", ".0f"),
            _of("steps", digits=".0f"),
            _of("tokens", digits=".0f"),
            _of("unusable", "no model because"),
        ),
    ),
    "evaluation": Listing(
        "Readers of each task with all training people: mean over runs [95 % over people]",
        ("evaluation_summary",),
        (
            _of("task"),
            _of("reader"),
            _of("measure"),
            Column("score", SCORE),
            _of("chance"),
            _of("chance_high", "chance to 97.5 %"),
            _of("q", digits=".3f"),
            PEOPLE,
            _of("n_runs", "runs", ".0f"),
        ),
        "choose_evaluation",
    ),
    "federation": Listing(
        "Arms of the federation by site: balanced accuracy, mean over runs [95 % over people]",
        ("federation_summary",),
        (
            _of("network"),
            _of("arm"),
            _of("site"),
            Column("balanced accuracy", SCORE),
            _of("chance"),
            _of("chance_high", "chance to 97.5 %"),
            _of("q", digits=".3f"),
            PEOPLE,
            _of("n_runs", "runs", ".0f"),
        ),
        "choose_federation",
    ),
    "synthesis": Listing(
        "BOLD from EEG: mean r [95 % over people] beside its nulls",
        ("synthesis_summary",),
        (
            _of("split", "tested on"),
            _of("group", "parcels"),
            _of("model"),
            Column("r", ("r", "ci_low", "ci_high")),
            *(_of(f"null: {null}", f"null: {null} (r)") for null in NULLS),
            _of("ceiling", "ceiling (r)"),
            _of("percent", "parcels with q < 0.05 (%)", ".0f"),
            PEOPLE,
        ),
        "choose_synthesis",
    ),
    "runtime": Listing(
        "Time and memory of the jobs, by rule",
        ("runtime",),
        (
            _of("rule"),
            _of("jobs", digits=".0f"),
            _of("seconds", "time (s)", ".1f"),
            _of("median_seconds", "median job (s)", ".1f"),
            _of("cpu_seconds", "CPU time (s)", ".1f"),
            _of("peak_mb", "peak memory (MB)", ".0f"),
        ),
    ),
    "headline": Listing(
        "What the study found: score [95 % over people] beside its null and its baseline",
        ("headline",),
        (
            _of("section", "part"),
            _of("question"),
            _of("answer"),
            _of("what", "best"),
            _of("where"),
            _of("measure"),
            Column("score", SCORE),
            _of("null"),
            _of("baseline_name", "baseline"),
            _of("baseline", "its score"),
            PEOPLE,
        ),
    ),
}


def listed_from(tables: Collection[str]) -> dict[str, Listing]:
    """The tables that a study with these tables has."""
    return {name: listing for name, listing in LISTINGS.items() if set(listing.tables) <= set(tables)}
