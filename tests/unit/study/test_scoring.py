from types import SimpleNamespace

import numpy as np
import pytest

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.signals.scanner_scores import HARMONIC, Curve
from neuroloom.signals.scores import BOUNDS, Score
from neuroloom.study.scoring import CURVE_COLUMNS, check_parcels, tabulate_curves, tabulate_scores


def make_row(subject: str, site: str = "a") -> RecordingRow:
    return RecordingRow(study="s", site=site, subject=subject, task="rest", modality="eeg", path="x")


def test_the_worst_recording_decides_where_it_must_and_the_mean_elsewhere() -> None:
    table = tabulate_scores(
        [
            (make_row("01"), [Score("blink", 0.01), Score("alpha", 0.01), Score("line_drop", 50.0)]),
            (make_row("02"), [Score("blink", 0.30), Score("alpha", 0.06), Score("line_drop", 20.0)]),
        ]
    ).set_index("what")
    assert (table.loc["blink", "worst"], table.loc["blink", "met"]) == (0.30, "NO")
    assert table.loc["alpha", "met"] == "yes"
    assert (table.loc["line_drop", "worst"], table.loc["line_drop", "bound"]) == (20.0, "at least 30")
    assert table.loc["line_drop", "met"] == "NO"


def test_without_scores_the_table_has_its_columns() -> None:
    assert list(tabulate_scores([]).columns)[:2] == ["what", "figure"]


def test_sites_have_rows_of_their_own_and_what_has_no_value_has_none() -> None:
    scores = [(make_row("01", site), [Score("blink", 0.01), Score("bads_recall", float("nan"))]) for site in "ab"]
    table = tabulate_scores(scores)
    assert list(table["what"]) == ["blink", "blink"]
    assert list(table["site"]) == ["a", "b"]


def test_curves_have_the_mean_and_the_lowest_recording_at_each_point() -> None:
    def curve(what: str, *values: float) -> Curve:
        return Curve(what, np.arange(1.0, len(values) + 1), HARMONIC, np.array(values))

    table = tabulate_curves(
        [
            (make_row("01"), [curve("cardiac_drop", 10.0, 20.0), curve("cardiac_over_eeg", -3.0)]),
            (make_row("02"), [curve("cardiac_drop", 14.0, np.nan)]),
            (make_row("01", "b"), [curve("scanner_r_second", 0.5)]),
        ]
    )
    assert list(table.columns) == CURVE_COLUMNS
    rows = table.set_index(["what", "site", "x"])
    first, second = rows.loc[("cardiac_drop", "a", 1.0)], rows.loc[("cardiac_drop", "a", 2.0)]
    assert (first["recordings"], first["mean"], first["worst"], first["unit"]) == (2, 12.0, 10.0, "dB")
    assert (second["recordings"], second["mean"]) == (1, 20.0)
    assert first["bound"] == BOUNDS["cardiac_worst"].least
    context = rows.loc[("cardiac_over_eeg", "a", 1.0)]
    assert context["unit"] == "dB"
    assert np.isnan(context["bound"])
    seconds = rows.loc[("scanner_r_second", "b", 1.0)]
    assert (seconds["unit"], seconds["bound"]) == ("r", BOUNDS["scanner_r"].least)


def test_without_curves_their_table_has_its_columns() -> None:
    assert list(tabulate_curves([(make_row("01"), [])]).columns) == CURVE_COLUMNS


def test_bold_in_other_parcels_than_the_truth_is_refused() -> None:
    truth = SimpleNamespace(path="a/truth/x.zarr", manifest={"arrays": {"bold": {"shape": [64, 20]}}})
    check_parcels(64, truth)
    with pytest.raises(ConfigError, match=r"truth has 64 parcels, .* has 16; .* to template64"):
        check_parcels(16, truth)
