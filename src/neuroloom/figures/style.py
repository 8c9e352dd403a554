"""One look for all figures, and one way to save them with the same bytes twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from neuroloom.figures.stamp import metadata, stamp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = Path(__file__).parents[3] / "resources" / "figure.mplstyle"
PRINTED = 200  # pixels in an inch of what is no line in a PDF or SVG, such as surfaces of the brain
LAYOUT = ("GSUB", "GPOS", "GDEF", "MATH")  # tables of a font by which letters are chosen and placed
BEFORE, AFTER, BAD = "#999999", "#0072B2", "#D55E00"


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw inside this context; `matplotlib.pyplot` with its windows and global state is not needed."""
    import matplotlib
    import matplotlib.style

    with matplotlib.rc_context():
        matplotlib.style.use(STYLE)
        yield


def save_figure(figure: Figure, *paths: Path | str, tables: Iterable[Path | str] = ()) -> None:
    """Write a figure without dates, so that equal figures are equal files, with the digests of its tables inside.

    Parameters
    ----------
    figure : Figure
    *paths : Path or str
        PNG, PDF or SVG, by their ending.
    tables : iterable of Path or str
        Files that it was drawn from; their sha256 stand in the metadata of each file (`stamp.read_stamp`).
    """
    import matplotlib

    note = stamp(tables)
    with figure_style():
        if engine := figure.get_layout_engine():
            # places are found once, and are the same in all files; with any engine left each file is drawn twice
            engine.execute(figure)
            matplotlib.rcParams["figure.constrained_layout.use"] = False
            figure.set_layout_engine(None)
        for path in map(Path, paths):
            pixels = "figure" if path.suffix == ".png" else PRINTED
            with _plain_fonts() if path.suffix == ".pdf" else nullcontext():
                figure.savefig(path, metadata=metadata(path.suffix, note), dpi=pixels)


@contextmanager
def _plain_fonts() -> Iterator[None]:
    """Fonts are embedded without what a PDF has no use for: its letters have their places.

    To reduce these tables to the letters of a figure takes two fifths of the time of its PDF, and matplotlib has no
    option to leave them out.
    """
    from fontTools.subset import Options

    before = Options._drop_tables_default
    Options._drop_tables_default = [*before, *LAYOUT]
    try:
        yield
    finally:
        Options._drop_tables_default = before


def plot_notice(title: str, text: str) -> Figure:
    """A figure that says in words why there is nothing to draw."""
    import textwrap

    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(7.5, 1.4))
        lines = [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, 110)]
        figure.text(0.02, 0.85, title, weight="bold", va="top")
        figure.text(0.02, 0.65, "\n".join(lines), va="top")
    return figure
