"""The curves of cleaning: what is drawn and said equals the tables, and no words overlap."""

import numpy as np
import pandas as pd
import pytest

from neuroloom.config import RecordingRow
from neuroloom.figures.cleaning_plots import HEART, LOSSES, SHOWN, cleaning_reasons, plot_cleaning_curves
from neuroloom.signals.scanner_scores import FROM_START, FROM_STOP, HARMONIC, Curve
from neuroloom.signals.scores import Score
from neuroloom.study.scoring import tabulate_curves, tabulate_scores

from .test_token_plots import assert_readable, drawn, legend_words, panels, words

EARLY, LATE = np.arange(-2.5, 60), np.arange(-59.5, 3)


def row(site: str, subject: str) -> RecordingRow:
    return RecordingRow(study="s", site=site, subject=subject, task="rest", modality="eeg", path="x")


def curves(level: float) -> list[Curve]:
    """The first second costs most, the scanner's ends cost some; the first harmonic is weak."""
    seconds = {FROM_START: np.full(len(EARLY), level), FROM_STOP: np.full(len(LATE), level)}
    without = {unit: value_N - 0.02 for unit, value_N in seconds.items()}
    seconds[FROM_START][[0, 2, 3]] = 0.4, 0.8, 0.7
    seconds[FROM_STOP][[-4, -3]] = 0.6, 0.8
    without[FROM_START][0] += 0.01
    without[FROM_STOP][-4] += 0.004
    x = {FROM_START: EARLY, FROM_STOP: LATE}
    found = [Curve("scanner_r_second", x[unit], unit, value_N) for unit, value_N in seconds.items()]
    found += [Curve("scanner_r_without", x[unit], unit, value_N) for unit, value_N in without.items()]
    number_N = np.arange(1.0, 6)
    drop_N, planted_N = np.array([12.0, 21, 22, 20, 18]), np.array([4.0, 14, 20, 19, 10])
    return [
        *found,
        Curve("cardiac_drop", number_N, HARMONIC, drop_N + level),
        Curve("cardiac_over_eeg", number_N, HARMONIC, planted_N),
    ]


@pytest.fixture
def table() -> pd.DataFrame:
    levels = [("north", "01", 0.95), ("north", "02", 0.955), ("south", "01", 0.98)]
    return tabulate_curves([(row(site, subject), curves(level)) for site, subject, level in levels])


@pytest.fixture
def scores() -> pd.DataFrame:
    found = [Score("scanner_r", 0.93), Score("cardiac_worst", 12.95), Score("cardiac", 20.0)]
    kept = [Score("scanner_r", 0.96), Score("cardiac_worst", 12.98)]
    return tabulate_scores([(row("north", "01"), found), (row("south", "01"), kept)])


def test_curves_are_those_of_the_table(table: pd.DataFrame) -> None:
    figure = plot_cleaning_curves(table)
    assert_readable(figure)
    places = [(what, unit) for what in LOSSES for unit in (FROM_START, FROM_STOP)] + [
        (what, HARMONIC) for what in HEART
    ]
    for axes, (what, unit) in zip(panels(figure), places, strict=True):
        assert axes.get_xlabel() == unit
        part = table[(table["what"] == what) & (table["x_unit"] == unit) & (table["x"].abs() <= SHOWN)]
        for site in ("north", "south"):
            for column in ("mean", "worst"):
                (line,) = drawn(axes, f"{site} {column}")
                rows = part[part["site"] == site].sort_values("x")
                np.testing.assert_array_equal(line.get_xdata(), rows["x"])
                np.testing.assert_array_equal(line.get_ydata(), rows[column])
                low, high = axes.get_ylim()
                assert low <= rows[column].min() <= rows[column].max() <= high
        bounds = [line.get_ydata()[0] for line in drawn(axes, "bound")]
        assert bounds == list(part["bound"].dropna().unique())
    assert {"north, n = 2", "south, n = 1", "worst recording", "bound"} <= set(legend_words(figure))


def test_sites_that_miss_a_bound_are_told_where(table: pd.DataFrame, scores: pd.DataFrame) -> None:
    north, *heart = cleaning_reasons(scores, table)
    assert north.startswith("north: r is 0.930 in the worst recording")
    assert "2 to 3 s before the scanner's start, the first of the recording" in north
    assert "would have 0.940 and still not meet the bound" in north
    assert "0.75 beside the scanner's start, 0.70 beside its stop and 0.95 in the median second" in north
    assert [reason.split(":")[0] for reason in heart] == ["north", "south"]
    assert "fall by 13.0 dB in the worst recording, at harmonic 1." in heart[1]
    assert "planted at +4 dB against EEG and -9 dB are left" in heart[1]
    assert "planted at +10 to +20 dB and -9 to -2 dB are left" in heart[1]


def test_a_second_alone_can_be_all_that_is_lost(table: pd.DataFrame, scores: pd.DataFrame) -> None:
    stop = (table["what"] == "scanner_r_without") & (table["x_unit"] == FROM_STOP) & (table["x"] == -0.5)
    reason = cleaning_reasons(scores, table.assign(worst=table["worst"].mask(stop, 0.951)))[0]
    assert "0 to 1 s before the scanner's stop: without it, the worst recording would have 0.951 and meet" in reason


def test_a_point_that_the_worst_recording_lacks_is_no_reason(table: pd.DataFrame, scores: pd.DataFrame) -> None:
    at = (table["what"] == "scanner_r_without") & (table["x"] == 40.5)
    lacking = table.assign(worst=table["worst"].mask(at, 0.99), recordings=table["recordings"].mask(at, 1))
    assert cleaning_reasons(scores, lacking) == cleaning_reasons(scores, table)


def test_where_all_bounds_are_met_there_is_nothing_to_say(table: pd.DataFrame, scores: pd.DataFrame) -> None:
    assert cleaning_reasons(scores.assign(met="yes"), table) == []


def test_without_eeg_from_a_scanner_the_figure_says_so() -> None:
    assert any("No EEG from a scanner" in word for word in words(plot_cleaning_curves(tabulate_curves([]))))


def test_a_table_without_its_columns_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"no column worst.*score_cleaning"):
        plot_cleaning_curves(table.drop(columns="worst"))
