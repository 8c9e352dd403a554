"""What the report says of the synthesis follows from its tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuroloom.config import Config
from neuroloom.figures import report_synthesis
from neuroloom.figures.report import render_report
from neuroloom.figures.report_synthesis import SEEN, SPHERE, notes_of, synthesis_section
from neuroloom.figures.style import plot_notice, save_figure
from neuroloom.figures.synthesis_models import only
from neuroloom.figures.synthesis_verdicts import connectivity_notes, synthesis_verdicts

from .test_report import config, figures, page_of, tables
from .test_synthesis_plots import MODELS, N_PARCELS, synthesis_tables

__all__ = ["config", "figures", "tables"]
FIGURES = ("scores", "differences", "maps", "traces", "nulls", "connectivity", "attribution", "calibration")


def told(tables: dict[str, pd.DataFrame]) -> list[Any]:
    return synthesis_verdicts(*(tables[f"synthesis_{name}"] for name in ("summary", "parcels", "differences")))


def changed(table: str, column: str, value: Any, tables: dict[str, pd.DataFrame], **where: Any) -> dict[str, Any]:
    """The same tables with one value of some rows."""
    own = tables[table].copy()
    own.loc[only(own, **where).index, column] = value
    return {**tables, table: own}


def test_a_model_that_beats_its_baseline_is_told_with_interval_people_and_nulls() -> None:
    tables = synthesis_tables()
    lead, ceiling, hidden, control = told(tables)
    assert lead.answer == "yes"
    row = only(tables["synthesis_differences"], model="sources", group="visible").iloc[0]
    assert lead.text.startswith("Other people: the best of 3 models, sources, beats ridge in parcels that EEG can see.")
    gain = f"{row['difference']:+.2f} (95 % {row['ci_low']:+.2f} to {row['ci_high']:+.2f}) on the same 5 people."
    assert f"r is higher by {gain}" in lead.text
    other = only(tables["synthesis_summary"], model="sources", group="visible", target="other subject").iloc[0]
    assert f"{other['r']:.2f} (other subject)".replace("-0.00", "0.00") in lead.text
    assert "tokens " in lead.text
    assert ", 3 people" in lead.text
    share = only(tables["synthesis_summary"], model="sources", group="visible", target="measured").iloc[0]["of_ceiling"]
    assert f"sources reaches {100 * share:.1f} % of what true band power attains" in ceiling.text
    assert ceiling.answer == ("yes" if share >= 0.8 else "no")
    assert hidden.text.startswith("Other people: sources in parcels that EEG cannot see ")
    assert control.text.startswith("Other people: artefact, which knows only what scanner and heart left in the EEG, ")
    assert control.answer == "yes"


def test_a_difference_that_may_be_chance_is_open_and_a_loss_is_no() -> None:
    tables = synthesis_tables()
    where = {"model": "sources", "group": "visible"}
    unsure = changed("synthesis_differences", "ci_low", -0.1, tables, **where)
    assert told(unsure)[0].answer == "open"
    assert "sources, is ahead of ridge in parcels that EEG can see, but that may be chance." in told(unsure)[0].text
    worse = told(synthesis_tables(("ridge", "neurobolt", "cnn")))[0]
    assert worse.answer == "no"
    assert "the best of 2 models, neurobolt, does not beat ridge" in worse.text


def test_a_model_within_its_nulls_has_found_nothing() -> None:
    where = {"model": "sources", "group": "visible"}
    tables = changed("synthesis_summary", "r", 0.9, synthesis_tables(), **where, target="other subject")
    lead = told(tables)[0]
    assert lead.answer == "open"
    assert lead.text.endswith("It is not beyond its nulls, so none of this is a finding.")


def test_the_ceiling_asks_for_four_fifths() -> None:
    where = {"model": "sources", "group": "visible", "target": "measured"}
    for share, answer in ((0.79, "no"), (0.81, "yes")):
        verdict = told(changed("synthesis_summary", "of_ceiling", share, synthesis_tables(), **where))[1]
        assert verdict.answer == answer
        assert f"{100 * share:.1f} %" in verdict.text


@pytest.mark.parametrize(("low", "found", "answer"), [(-0.1, 0, "yes"), (0.3, 0, "in part"), (0.3, 12, "no")])
def test_what_must_fail_is_judged_by_its_mean_and_by_its_parcels(low: float, found: int, answer: str) -> None:
    tables = changed("synthesis_summary", "ci_low", low, synthesis_tables(), model="artefact", group="all",
                     target="measured")  # fmt: skip
    parcels = tables["synthesis_parcels"].copy()
    own = only(parcels, model="artefact", target="measured").index
    for name in ("q_phase", "q_shift", "q_other"):
        parcels.loc[own, name] = np.where(np.arange(len(own)) < found, 0.01, 0.9)
    verdict = told({**tables, "synthesis_parcels": parcels})[-1]
    assert verdict.answer == answer
    assert f"beyond one null at least are {found} of {N_PARCELS} parcels" in verdict.text


def test_false_discoveries_are_not_held_against_a_model() -> None:
    tables = changed("synthesis_summary", "ci_low", -0.1, synthesis_tables(), model="sources", group="invisible",
                     target="measured")  # fmt: skip
    parcels = tables["synthesis_parcels"].copy()
    own = only(parcels, model="sources", target="measured")
    for name in ("q_phase", "q_shift", "q_other"):
        parcels.loc[own.index, name] = 0.9
        seen = own.index[own["group"] != "invisible"]
        parcels.loc[[*seen, own.index[own["group"] == "invisible"][0]], name] = 0.01
    hidden = told({**tables, "synthesis_parcels": parcels})[2]
    assert hidden.answer == "yes", "one of eleven is within what may be false"
    assert "beyond one null at least are 1 of 2 parcels (of the 11 in all, 1 may be false)" in hidden.text


def test_a_constant_control_finds_nothing() -> None:
    tables = changed("synthesis_summary", "r", np.nan, synthesis_tables(), model="artefact", group="all",
                     target="measured")  # fmt: skip
    verdict = told(tables)[-1]
    assert (verdict.answer, verdict.text.endswith("finds nothing: its prediction is constant.")) == ("yes", True)


def test_a_real_study_has_neither_ceiling_nor_invisible_parcels() -> None:
    verdicts = told(synthesis_tables(real=True))
    assert len(verdicts) == 2
    assert "in all parcels" in verdicts[0].text
    assert "ceiling" not in verdicts[0].text


def test_one_person_proves_nothing() -> None:
    lead, *_, control = told(synthesis_tables(("ridge", "artefact", "sources"), n_people=1))
    assert lead.answer == "open"
    assert "on the same 1 person, too few for an interval." in lead.text
    assert control.answer == "unknown"


def test_without_a_baseline_nothing_is_claimed() -> None:
    tables = synthesis_tables(("mean", "sources"))
    (verdict,) = told(tables)
    assert (verdict.answer, verdict.text) == ("unknown", "Other people: no model stands beside a baseline with an r.")
    assert told({name: pd.DataFrame() for name in tables}) == []


def test_notes_say_who_was_asked_less_and_what_is_simulated() -> None:
    tables = synthesis_tables()
    notes = notes_of(tables, simulated=True)
    assert notes[0] == SPHERE
    assert any(
        note.startswith("Other people: tokens (3) were asked about fewer people than the others (5)") for note in notes
    )
    assert SPHERE not in notes_of(tables, simulated=False)
    assert SEEN not in notes
    seen = {**tables, "synthesis": tables["synthesis"].assign(seen=True)}
    assert SEEN in notes_of(seen, simulated=True)
    missing = notes_of(synthesis_tables(("ridge", "sources"), n_people=1), simulated=True)
    assert any(note.startswith("A null is missing: ") for note in missing)


def test_the_table_has_nulls_beside_each_score(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = synthesis_tables(splits=("site", "subject"))
    section = synthesis_section(tables, {}, simulated=True)
    scores = section["scores"]
    assert len(scores.rows) == 2 * 4 * len(MODELS)
    assert [cell[0] for cell in scores.rows[1][:3]] == ["other people", "visible", "ridge"]
    at = scores.headers.index("null: circular shift")
    summary = tables["synthesis_summary"]
    expected = only(summary, model="ridge", split="subject", group="visible", target="circular shift").iloc[0]["r"]
    assert scores.rows[1][at][1] == pytest.approx(expected)
    agreement = section["agreement"]
    at = agreement.headers.index("static, null: shuffled parcels")
    expected = only(summary, model="ridge", split="subject", group="visible", target="shuffled parcels").iloc[0]
    assert agreement.rows[1][at][1] == pytest.approx(expected["fc_static"])
    monkeypatch.setattr(report_synthesis, "MOST_ROWS", 10)
    table = synthesis_section(tables, {}, simulated=True)["parcels"]
    assert (len(table.rows), table.n_left) == (10, 2 * len(MODELS) * N_PARCELS - 10)


def test_connectivity_is_told_beside_that_of_other_people() -> None:
    tables = synthesis_tables()
    (note,) = connectivity_notes(tables["synthesis_summary"], tables["synthesis_differences"])
    pooled = only(tables["synthesis_summary"], group="all", model="sources").set_index("target")["fc_static"]
    told = f"sources {pooled['measured']:.2f} and {pooled['other subject']:.2f}; artefact".replace("-0.00", "0.00")
    assert told in note
    assert connectivity_notes(pd.DataFrame(), pd.DataFrame()) == []


def test_the_page_has_a_section(config: Config, tables: dict, figures: dict[str, Path], tmp_path: Path) -> None:
    drawn = {name: tmp_path / f"{name}.png" for name in (f"synthesis_{figure}" for figure in FIGURES)}
    for name, path in drawn.items():
        save_figure(plot_notice(name, "text"), path)
    connectomes = pd.DataFrame({"model": ["ridge"], "score": [0.42]})
    found = {**tables, **synthesis_tables(), "connectomes": connectomes}
    html = render_report(config=config, tables=found, figures=figures, drawn=drawn)
    section = page_of(html, "synthesis")
    assert 'href="#synthesis"' in html
    assert section.count('src="data:image/webp') == len(FIGURES)
    assert "the best of 3 models, sources, beats ridge" in section
    assert SPHERE.replace("'", "&#39;") in section
    assert "0.42" in page_of(html, "connectomes")
    without = render_report(config=config, tables=tables, figures=figures)
    assert 'id="synthesis"' not in without
    assert "#connectomes" not in without
