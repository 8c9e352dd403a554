from neuroloom.config import RecordingRow
from neuroloom.signals.scores import Score
from neuroloom.study.scoring import tabulate_scores


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
