"""Tables and pictures as the report shows them: readable cells that sort by their value, and embedded figures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

CAPTIONS = Path(__file__).parents[3] / "resources" / "captions"
WIDTH, QUALITY = 1100, 80


@dataclass(frozen=True)
class Table:
    """A table of the page: headers and rows of cells; a cell is its text and the value that it sorts by."""

    headers: list[str]
    rows: list[list[tuple[str, Any]]]


def select(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """The columns that are named, in words."""
    chosen = table[[name for name in columns if name in table.columns]]
    if "bads" in chosen:
        chosen = chosen.assign(bads=[_listed(json.loads(bads)) for bads in chosen["bads"]])
    return chosen.rename(columns=dict(columns))


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def to_table(table: pd.DataFrame) -> Table:
    """Cells with a readable text and a value to sort by."""
    rows = [[(_text(value), "" if _empty(value) else value) for value in row] for row in table.itertuples(index=False)]
    return Table([str(name) for name in table.columns], rows)


def _empty(value: Any) -> bool:
    return value is None or (not isinstance(value, (list, dict, str)) and bool(pd.isna(value)))


def _text(value: Any) -> str:
    if _empty(value):
        return "n/a"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    text = str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def embed_figures(drawn: Mapping[str, Path], section: str) -> list[tuple[str, str, str]]:
    """Title, image and caption of the figures of a section, whose names start with its own."""
    return [
        (name.removeprefix(f"{section}_"), embed_image(path), (CAPTIONS / f"{name}.rst").read_text().strip())
        for name, path in drawn.items()
        if name.startswith(f"{section}_")
    ]


def embed_image(path: Path) -> str:
    """A figure as a `data:` address; WebP keeps a page of sixty figures under 15 MB."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
        if small.width > WIDTH:
            small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
