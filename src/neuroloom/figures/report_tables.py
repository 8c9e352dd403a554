"""Tables as the report shows them: readable cells that sort by their value, and the file that they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

MOST_ROWS = 1500  # of a table of single runs; the file has the rest


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    headers : list of str
    rows : list
        Of cells, each its text and the value that it sorts by.
    source : str
        Name of the study's table that it is made from.
    numeric : list of bool
        For each column, whether it holds numbers alone.
    n_left : int
        Rows that only the file has.
    """

    headers: list[str]
    rows: list[list[tuple[str, Any]]]
    source: str
    numeric: list[bool]
    n_left: int = 0


def select(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """The columns that are named, in words."""
    chosen = table[[name for name in columns if name in table.columns]]
    if "bads" in chosen:
        chosen = chosen.assign(bads=[_listed(json.loads(bads)) for bads in chosen["bads"]])
    return chosen.rename(columns=dict(columns))


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def to_table(table: pd.DataFrame, source: str = "", *, most: int | None = None) -> Table:
    """Cells with a readable text and a value to sort by.

    Parameters
    ----------
    table : DataFrame
    source : str
        Name of the study's table that it is made from.
    most : int, optional
        Rows that are shown.
    """
    shown = table[:most]
    rows = [[(_text(value), "" if _empty(value) else value) for value in row] for row in shown.itertuples(index=False)]
    numeric = [_is_numeric([row[at][1] for row in rows]) for at in range(table.shape[1])]
    return Table([str(name) for name in table.columns], rows, source, numeric, len(table) - len(shown))


def _is_numeric(values: list[Any]) -> bool:
    known = [value for value in values if value != ""]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _empty(value: Any) -> bool:
    return value is None or (not isinstance(value, (list, dict, str)) and bool(pd.isna(value)))


def _decimals(value: float) -> str:
    """Three figures; shares and scores with three decimals, so that points stand below each other."""
    if 1e-3 <= abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _text(value: Any) -> str:
    if _empty(value):
        return "n/a"
    if isinstance(value, float):
        return _decimals(value)
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    text = str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
