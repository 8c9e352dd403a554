from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from neuroloom.config import Config, RecordingRow, parse_config
from neuroloom.figures import report_evaluation
from neuroloom.figures.gallery import SECTIONS
from neuroloom.figures.report import render_report
from neuroloom.figures.report_recordings import worst_first
from neuroloom.figures.report_tables import to_table
from neuroloom.figures.stamp import read_stamp
from neuroloom.figures.style import plot_notice, save_figure
from neuroloom.signals.scanner_scores import FROM_START, FROM_STOP, Curve
from neuroloom.signals.scores import Score
from neuroloom.study.scoring import tabulate_curves, tabulate_scores

from .test_evaluation_plots import evaluation_table
from .test_federation_plots import federation_tables
from .test_model_plots import models_table, pretraining_table
from .test_report_evaluation import all_tables
from .test_report_overview import table as findings_of

SECONDS = [(kind, unit) for kind in ("second", "without") for unit in (FROM_START, FROM_STOP)]


def page_of(html: str, anchor: str) -> str:
    """One page of the report."""
    return html.split(f'<section class="page" id="{anchor}"')[1].split("</section>")[0]


@pytest.fixture
def config(repository: Path) -> Config:
    return parse_config(yaml.safe_load((repository / "config/config.yaml").read_text()))


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    entities: dict[str, Any] = {"study": "s", "site": "a", "task": "rest", "modality": "eeg"}
    return {
        "recordings": pd.DataFrame(
            [
                {
                    "recording": "r1_eeg",
                    "subject": "01",
                    **entities,
                    "status": "artifact",
                    "duration": 60.0,
                    "bytes": 1000,
                },
                {"recording": "r2_eeg", "subject": "02", **entities, "status": "quarantined"},
                {
                    "recording": "r3_eeg",
                    "subject": "03",
                    **entities,
                    "status": "artifact",
                    "duration": 60.0,
                    "bytes": 1000,
                },
            ]
        ),
        "qc_meeg": pd.DataFrame(
            [
                {"recording": "r1_eeg", "n_channels": 10, "n_bads": 0, "bads": "{}"},
                {"recording": "r3_eeg", "n_channels": 10, "n_bads": 2, "bads": '{"Cz": "flat <b>"}'},
            ]
        ),
        "qc_bold": pd.DataFrame({"recording": pd.Series(dtype="string")}),
        "quarantine": pd.DataFrame(
            [{"recording": "r2_eeg", "stage": "ingest", "file": "x.edf", "reason": "truncated", "remedy": "Bring it"}]
        ),
        "runtime": pd.DataFrame([{"rule": "ingest_meeg", "jobs": 3, "seconds": 6.0, "peak_mb": 100.0}]),
    }


@pytest.fixture
def figures(tmp_path: Path) -> dict[str, Path]:
    for name in ("r1_eeg", "r2_eeg", "r3_eeg"):
        save_figure(plot_notice(name, "text"), tmp_path / f"{name}.png")
    return {name: tmp_path / f"{name}.png" for name in ("r1_eeg", "r2_eeg", "r3_eeg")}


def test_the_worst_come_first(tables: dict[str, pd.DataFrame]) -> None:
    assert worst_first(tables) == ["r2_eeg", "r3_eeg", "r1_eeg"]


def test_modalities_take_turns(tables: dict[str, pd.DataFrame]) -> None:
    meeg = [("a_eeg", 3), ("b_eeg", 1), ("c_meg", 2)]
    tables["qc_meeg"] = pd.DataFrame([{"recording": name, "n_channels": 10, "n_bads": n} for name, n in meeg])
    tables["qc_bold"] = pd.DataFrame([{"recording": "d_bold", "fd_mean": 0.1}])
    assert worst_first(tables)[1:] == ["d_bold", "a_eeg", "c_meg", "b_eeg"]


def test_the_page_says_what_was_lost_and_why(config: Config, tables: dict, figures: dict[str, Path]) -> None:
    html = render_report(config=config, tables=tables, figures=figures)
    assert "truncated" in html
    assert "Bring it" in html
    assert "Cz: flat &lt;b&gt;" in html, "text from files is escaped"
    assert html.count('src="data:image/webp') == 3


def test_a_study_of_which_nothing_is_left_has_a_report(config: Config, tables: dict, figures: dict[str, Path]) -> None:
    lost = tables["recordings"].assign(status="quarantined", duration=float("nan"), bytes=float("nan"))
    empty = pd.DataFrame({"recording": pd.Series(dtype="string")})
    html = render_report(config=config, tables={**tables, "recordings": lost, "qc_meeg": empty}, figures=figures)
    assert "truncated" in html


def test_bounds_that_are_not_met_have_their_curves_below_the_table(
    config: Config, tables: dict, figures: dict[str, Path], tmp_path: Path
) -> None:
    seconds = [Curve(f"scanner_r_{kind}", np.array([-0.5]), unit, np.array([0.8])) for kind, unit in SECONDS]
    row = RecordingRow(study="s", site="north", subject="01", task="rest", modality="eeg", path="x")
    scored = {
        "cleaning": tabulate_scores([(row, [Score("scanner_r", 0.9)])]),
        "cleaning_curves": tabulate_curves([(row, seconds)]),
    }
    drawn = {"cleaning_curves": tmp_path / "cleaning_curves.png"}
    save_figure(plot_notice("curves", "text"), drawn["cleaning_curves"])
    html = render_report(config=config, tables={**tables, **scored}, figures=figures, drawn=drawn)
    section = page_of(html, "cleaning")
    table, reason, picture = (section.index(word) for word in ("</table>", "north: r is 0.900", "<img"))
    assert table < reason < picture
    nothing = render_report(config=config, tables={**tables, "cleaning": scored["cleaning"]}, figures=figures)
    assert "north: r is" not in nothing


def test_pictures_are_limited_to_the_worst(config: Config, tables: dict, figures: dict[str, Path]) -> None:
    few = config.model_copy(update={"report": config.report.model_copy(update={"max_figures": 1})})
    html = render_report(config=few, tables=tables, figures=figures)
    assert 'data-name="r2_eeg"' in html
    assert 'data-name="r1_eeg"' not in html
    assert "1 of 3 recordings" in html


def test_cells_are_readable_and_sort_by_their_value() -> None:
    frame = pd.DataFrame([{"a": 12345.678, "b": float("nan"), "c": "", "d": "ab" * 32, "e": "[Errno 2] {x}"}])
    (row,) = to_table(frame).rows
    assert [text for text, _ in row] == ["12,346", "n/a", "", "abababababab", "[Errno 2] {x}"]
    assert [value for _, value in row][:2] == [12345.678, ""]


def test_figures_are_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_figure(plot_notice("title", "text"), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.fixture
def learned(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables of a study with models that were pretrained and judged."""
    models = {"pretraining": pretraining_table(), "models": models_table()}
    return {**tables, **models, **all_tables(evaluation_table(("eyes",)))}


def test_models_and_their_evaluation_have_sections(
    config: Config, learned: dict, figures: dict[str, Path], tmp_path: Path
) -> None:
    names = ("models_pretraining", "models_scaling", "evaluation_downstream", "evaluation_few_shot")
    for name in names:
        save_figure(plot_notice(name, "text"), tmp_path / f"{name}.png")
    drawn = {name: tmp_path / f"{name}.png" for name in names}
    html = render_report(config=config, tables=learned, figures=figures, drawn=drawn)
    for anchor in ("models", "evaluation"):
        assert f'href="#{anchor}"' in html
        assert 'src="data:image/webp' in page_of(html, anchor)
    assert html.count('src="data:image/webp') == 3 + 4
    assert "<b>Figure 6. " in html
    assert '<b class="badge yes">Yes</b> <span>reve: after 845 k tokens' in html
    assert "frozen brainomni" in html
    assert "reve (linear, frozen)" in html
    assert (
        html.index('id="quality"')
        < html.index('id="models"')
        < html.index('id="evaluation"')
        < html.index('id="lineage"')
    )


def test_a_federation_has_a_section(config: Config, tables: dict, figures: dict[str, Path], tmp_path: Path) -> None:
    drawn = {name: tmp_path / f"{name}.png" for name in ("federation_scores", "federation_gains")}
    for name, path in drawn.items():
        save_figure(plot_notice(name, "text"), path)
    html = render_report(config=config, tables={**tables, **federation_tables()}, figures=figures, drawn=drawn)
    section = page_of(html, "federation")
    assert 'href="#federation"' in html
    assert section.count('src="data:image/webp') == 2
    assert "reve: the best of 5 federated arms, " in section
    assert "private protects nobody: its noise follows from a known seed" in section, "the settings are the config's"
    assert "Participation of the sites" in section
    assert "No arm here adds noise" not in section
    bare = config.model_copy(update={"federate": config.federate.model_copy(update={"use": ("fedavg",)})})
    html = render_report(config=bare, tables={**tables, **federation_tables(("fedavg",))}, figures=figures)
    assert "No arm here adds noise: nothing bounds what is given away." in html


def test_sections_of_what_was_not_done_are_left_out(config: Config, tables: dict, figures: dict[str, Path]) -> None:
    html = render_report(config=config, tables=tables, figures=figures)
    assert 'id="models"' not in html
    assert 'id="evaluation"' not in html
    assert "#evaluation" not in html
    assert "#federation" not in html


def test_long_tables_say_how_much_is_left_out(
    config: Config, learned: dict, figures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_evaluation, "MOST_ROWS", 10)
    html = render_report(config=config, tables=learned, figures=figures)
    assert f"{16 * 2 * 3 - 10} more rows are in the table's file" in html


def test_every_section_of_the_gallery_has_a_page() -> None:
    modules = Path(report_evaluation.__file__).parent.glob("report*.py")
    sources = "".join(path.read_text() for path in modules)
    assert [section for section in SECTIONS if f'embed_figures(drawn, "{section}")' not in sources] == []


def test_a_study_that_was_asked_nothing_says_so(config: Config, tables: dict, figures: dict[str, Path]) -> None:
    first = page_of(render_report(config=config, tables=tables, figures=figures), "overview")
    assert "the table of findings (headline.parquet) is absent or has no row" in first
    assert "<b>1</b> in ingest: truncated" in first


@pytest.mark.parametrize(
    ("what", "written"),
    [
        ("reve", 'reve<span class="note">, fleeg, all sites'),
        ("", '<td role="cell"><span class="note">fleeg, all sites'),
    ],
)
def test_the_first_screen_says_where_a_question_has_no_answer_yet(
    config: Config, tables: dict, figures: dict[str, Path], what: str, written: str
) -> None:
    headline = findings_of({"what": what, "where": "fleeg, all sites"})
    html = render_report(config=config, tables={**tables, "headline": headline}, figures=figures)
    assert written in page_of(html, "overview")


def test_a_figure_tells_the_digest_of_its_tables(
    config: Config, learned: dict, figures: dict[str, Path], tmp_path: Path
) -> None:
    table, drawn = tmp_path / "evaluation_summary.parquet", {"evaluation_few_shot": tmp_path / "few.png"}
    table.write_bytes(b"one")
    save_figure(plot_notice("few", "text"), drawn["evaluation_few_shot"], tables=[table])
    page = page_of(render_report(config=config, tables=learned, figures=figures, drawn=drawn), "evaluation")
    assert read_stamp(drawn["evaluation_few_shot"])["digest"][:12] in page
    assert '<a href="#lineage-evaluation_summary">evaluation_summary</a>; digest of its tables' in page
    assert 'href="figures/evaluation_few_shot.pdf"' in page
