"""What a figure or a table of the paper says of itself: the sha256 of the tables that it was made from."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neuroloom.provenance import config_digest, file_digest

SCHEMA = "neuroloom/figure@1"
KEY = "neuroloom"  # of the text in a PNG


def stamp(tables: Iterable[Path | str]) -> str:
    """JSON of the sha256 of each table by its name, and one digest over them; empty without tables."""
    digests = {Path(path).stem: file_digest(Path(path)) for path in tables}
    if not digests:
        return ""
    return json.dumps({"schema": SCHEMA, "digest": config_digest(digests), "tables": digests}, sort_keys=True)


def metadata(suffix: str, note: str) -> dict[str, Any] | None:
    """Metadata of a file as matplotlib takes them, without anything that differs from day to day.

    Raises
    ------
    ValueError
        The ending is not one of a figure.
    """
    told = {
        ".png": {"Software": None, KEY: note},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Keywords": note},
        ".svg": {"Date": None, "Creator": None, "Description": note},
    }
    if suffix not in told:
        raise ValueError(f"a figure is saved as {', '.join(told)}, not as {suffix!r}")
    return {key: value for key, value in told[suffix].items() if value is None or value}


def read_stamp(path: Path) -> dict[str, Any]:
    """What a figure (PNG, PDF, SVG) or a LaTeX table says of the tables that it was made from.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        `digest` over all tables, `tables` (sha256 of the parquet file by name) and `schema`.

    Raises
    ------
    ValueError
        Nothing is said: it was not made from tables, or by another program.
    """
    note = _READERS[path.suffix](path) if path.suffix in _READERS else ""
    if not note:
        raise ValueError(f"{path}: no digests of tables inside; draw it again with `make figures`")
    return dict(json.loads(note))


def _of_png(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return str(image.info.get(KEY, ""))


def _of_pdf(path: Path) -> str:
    found = re.search(rb"/Keywords \((.*?)\)", path.read_bytes())
    return found[1].decode() if found else ""


def _of_svg(path: Path) -> str:
    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text())
    return html.unescape(found[1]) if found else ""


def _of_tex(path: Path) -> str:
    return path.read_text().partition("\n")[0].removeprefix("% ")


_READERS = {".png": _of_png, ".pdf": _of_pdf, ".svg": _of_svg, ".tex": _of_tex}
