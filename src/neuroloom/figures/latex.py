"""Tables of a paper as LaTeX and csv."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.figures.listings import Column, Listing

ESCAPES = {
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "²": r"\textsuperscript{2}",
    "≤": r"$\leq$",
    "<": r"$<$",
    ">": r"$>$",
    "µ": r"\textmu{}",
}
NONE = "--"


def to_csv(listing: Listing, rows: pd.DataFrame) -> str:
    """All digits of all numbers; an interval is two columns more."""
    words = {column.names[0]: column.header for column in listing.columns}
    ends = {name: f"{column.header}: {end}" for column in listing.columns for name, end in _ends(column)}
    return rows.rename(columns={**words, **ends}).to_csv(index=False, lineterminator="\n")


def _ends(column: Column) -> list[tuple[str, str]]:
    return list(zip(column.names[1:], ("from", "to"), strict=False))


def to_latex(listing: Listing, rows: pd.DataFrame, *, note: str = "") -> str:
    """A `table` for the package booktabs, its title above; `0.65 [0.60, 0.70]` is a score with its interval.

    Parameters
    ----------
    listing : Listing
    rows : DataFrame
        As `Listing.rows` gives them.
    note : str
        For the first line, which is a comment: digests of the tables.
    """
    words = "".join("r" if _is_number(rows, column) else "l" for column in listing.columns)
    lines = [
        f"% {note}",
        r"\begin{table}",
        rf"\caption{{{escape(listing.title)}}}",
        rf"\begin{{tabular}}{{{words}}}",
        r"\toprule",
        _line([escape(column.header) for column in listing.columns]),
        r"\midrule",
        *(_line([_cell(row, column) for column in listing.columns]) for row in rows.to_dict("records")),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _is_number(rows: pd.DataFrame, column: Column) -> bool:
    return pd.api.types.is_numeric_dtype(rows[column.names[0]]) and len(rows) > 0


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(row: Mapping[Any, Any], column: Column) -> str:
    value, *ends = (row[name] for name in column.names)
    told = _told(value, column.digits)
    known = ends and all(pd.notna(end) for end in ends) and told != NONE
    return f"{told} [{', '.join(_told(end, column.digits) for end in ends)}]" if known else told


def _told(value: Any, digits: str) -> str:
    if pd.isna(value):
        return NONE
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, int | float | np.number):
        return escape(str(value))
    if not math.isfinite(value):
        return r"$\infty$"
    told = format(float(value), digits)
    return told.replace("-", "$-$" if float(told) else "")


def escape(words: str) -> str:
    """Words as LaTeX prints them."""
    return "".join(ESCAPES.get(sign, sign) for sign in words)
