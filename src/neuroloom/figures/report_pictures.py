"""Figures as the report shows them: embedded, with number, caption, digest of their tables, and other files."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuroloom.figures.gallery import FIGURES, FORMATS, label
from neuroloom.figures.stamp import read_stamp

CAPTIONS = Path(__file__).parents[3] / "resources" / "captions"
WIDTH, QUALITY, EFFORT = 1100, 80, 2  # more effort costs twice the time for 2 % of the bytes


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes
    ----------
    name, title : str
    image : str
        As a `data:` address.
    width, height : int
        Pixels.
    caption : str
    digest : str
        Over the tables that it was drawn from; empty where the file does not say.
    tables : tuple of str
        Their names.
    files : tuple of str
        Beside the PNG, in the `figures` folder of the study.
    """

    name: str
    title: str
    image: str
    width: int
    height: int
    caption: str
    digest: str = ""
    tables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def embed_figures(drawn: Mapping[str, Path], section: str) -> list[Picture]:
    """The figures of a section, whose names start with its own, in the order of the paper."""
    own = [name for name in drawn if name.startswith(f"{section}_")]
    order = list(FIGURES)
    own.sort(key=lambda name: order.index(name) if name in order else len(order))
    return [_picture(name, drawn[name], section) for name in own]


def _picture(name: str, path: Path, section: str) -> Picture:
    image, width, height = embed_image(path)
    words = CAPTIONS / f"{name}.rst"
    title = name.removeprefix(f"{section}_").replace("_", " ").capitalize()
    if name in FIGURES:
        title = f"Figure {label(name)}. {FIGURES[name].title}"
    caption = words.read_text().strip() if words.exists() else title
    digest, tables = _stamped(path)
    files = tuple(f"{name}.{ending}" for ending in FORMATS) if digest else ()
    return Picture(name, title, image, width, height, caption, digest, tables, files)


def _stamped(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        stamp = read_stamp(path)
    except ValueError:
        return "", ()
    return str(stamp["digest"]), tuple(stamp["tables"])


def embed_image(path: Path) -> tuple[str, int, int]:
    """A figure as a `data:` address, with its width and height; WebP keeps a page of sixty figures under 15 MB."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
        if small.width > WIDTH:
            small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, "WEBP", quality=QUALITY, method=EFFORT)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode(), *small.size
