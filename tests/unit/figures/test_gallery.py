"""The gallery: every figure is drawn from its tables alone, is the same twice, and says which tables they were."""

import ast
import hashlib
import re
import zlib
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure
from matplotlib.text import Text

from neuroloom.figures.gallery import FIGURES, FORMATS, SECTIONS, drawn_from, label, rule_names
from neuroloom.figures.listings import LISTINGS
from neuroloom.figures.stamp import read_stamp
from neuroloom.figures.style import LAYOUT, plot_notice, save_figure

ROOT = Path(__file__).parents[3]
PLOTS = ROOT / "src/neuroloom/figures"
APART = {"plot_meeg_qc", "plot_bold_qc", "plot_notice"}  # figures of one recording, and words where nothing is drawn
COLUMN, SMALLEST = 7.2, 4.5  # inches of two columns (183 mm), pt of the smallest letter there


def draw(name: str, files: dict[str, Path]) -> tuple[Figure, list[Path]]:
    needed = FIGURES[name].needs(files)
    figure = FIGURES[name].draw({table: pd.read_parquet(files[table]) for table in needed})
    return figure, [files[table] for table in needed]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_the_same_bytes_twice_and_the_digests_of_its_tables(
    name: str, study_files: dict[str, Path], tmp_path: Path
) -> None:
    for turn in ("first", "second"):
        (tmp_path / turn).mkdir()
        figure, tables = draw(name, study_files)
        figure.set_dpi(30)  # of the PNG, which takes longest
        save_figure(figure, *(tmp_path / turn / f"{name}.{ending}" for ending in FORMATS), tables=tables)
    assert not any(text.get_text().startswith("No ") for text in figure.texts), "the small study has something to draw"
    expected = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}
    for ending in FORMATS:
        path = tmp_path / "first" / f"{name}.{ending}"
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
        assert b"CreationDate" not in path.read_bytes()
        assert read_stamp(path)["tables"] == expected
    assert smallest_letter(figure) * COLUMN / figure.get_size_inches()[0] >= SMALLEST


def smallest_letter(figure: Figure) -> float:
    """Of the words that are shown, pt."""
    words = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return min(text.get_fontsize() for text in words)


def test_a_changed_number_changes_the_digest(study_files: dict[str, Path], tmp_path: Path) -> None:
    figure, tables = draw("federation_gains", study_files)
    changed = tmp_path / "federation_gains.parquet"
    values = pd.read_parquet(tables[0])
    values.loc[0, "difference"] += 1e-9
    values.to_parquet(changed)
    found = {}
    for at, source in enumerate((tables[0], changed)):
        paths = [tmp_path / f"{at}.{ending}" for ending in FORMATS]
        save_figure(figure, *paths, tables=[source])
        digests = {read_stamp(path)["digest"] for path in paths}
        assert len(digests) == 1, "all formats say the same"
        found[at] = digests.pop()
    assert found[0] != found[1]


def test_a_figure_of_no_table_says_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / f"notice.{ending}" for ending in FORMATS]
    save_figure(plot_notice("title", "words"), *paths)
    for path in paths:
        with pytest.raises(ValueError, match=r"notice.*no digests of tables inside"):
            read_stamp(path)
    with pytest.raises(ValueError, match=r"saved as .png, .pdf, .svg, not as '.jpg'"):
        save_figure(plot_notice("title", "words"), tmp_path / "notice.jpg")


def test_every_plot_is_in_the_gallery_and_every_figure_has_its_parts() -> None:
    written = {
        f"{file.stem}.{node.name}"
        for file in PLOTS.glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("plot_") and node.name not in APART
    }
    assert written == {drawing.plot for drawing in FIGURES.values()}
    captions = {path.stem for path in (ROOT / "resources/captions").glob("*.rst")}
    assert captions == {*FIGURES, "qc_meeg", "qc_bold"}
    for name, drawing in FIGURES.items():
        assert name.partition("_")[0] in SECTIONS
        assert callable(getattr(import_module(drawing.module), drawing.plot.partition(".")[2]))
    assert set(rule_names()) == {"figures", *(f"draw_{name}" for name in FIGURES), *(f"write_{n}" for n in LISTINGS)}


def test_a_plot_reads_tables_and_no_file() -> None:
    modules = {drawing.module for drawing in FIGURES.values()}
    for module in modules:
        text = (PLOTS / f"{module.rpartition('.')[2]}.py").read_text()
        assert not any(word in text for word in ("read_parquet", "read_csv", "open(", "read_text", "open_artifact"))


def test_numbers_are_those_of_the_paper() -> None:
    labels = [label(name) for name in FIGURES]
    assert len(set(labels)) == len(labels)
    assert {drawing.number for drawing in FIGURES.values()} == set(range(1, 10))
    assert label("study_pipeline") == "1"
    assert label("evaluation_few_shot") == "6"
    assert labels.index("3a") < labels.index("3b")


def test_a_study_has_the_figures_that_its_tables_allow() -> None:
    assert set(drawn_from(["evaluation_summary", "evaluation"])) == {"evaluation_downstream", "evaluation_few_shot"}
    pipeline = FIGURES["study_pipeline"]
    assert pipeline.needs(["models"]) == ["recordings", "quarantine", "headline", "models"]
    assert drawn_from([]) == {}


def embedded_fonts(pdf: bytes) -> list[TTFont]:
    contents = (zlib.decompress(part) for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL))
    return [TTFont(BytesIO(content)) for content in contents if content.startswith(b"\0\1\0\0")]


def test_letters_are_of_one_font(study_files: dict[str, Path], tmp_path: Path) -> None:
    figure, _ = draw("federation_gains", study_files)
    save_figure(figure, tmp_path / "a.pdf", tmp_path / "a.svg")
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf, "TrueType inside, which printers ask for"
    assert b"/Type3" not in pdf
    fonts = embedded_fonts(pdf)
    assert fonts
    assert all({"glyf", "loca", "hmtx"} <= set(font.keys()) for font in fonts)
    assert all(set(font.keys()).isdisjoint(LAYOUT) for font in fonts), "letters of a PDF have their places"
    assert "<text" not in (tmp_path / "a.svg").read_text(), "letters are paths"
    assert np.isfinite(figure.get_size_inches()).all()
