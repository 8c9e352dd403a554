import pytest

from neuroloom.config import ConfigError, RecordingRow
from neuroloom.synthesis.pairs import find_pairs


def row(modality: str, **changes: str) -> RecordingRow:
    facts = {"study": "demo", "site": "north", "subject": "01", "task": "rest", "modality": modality}
    return RecordingRow(**{**facts, "path": f"{modality}.x", **changes})


def test_eeg_and_bold_with_equal_entities_are_a_pair() -> None:
    rows = [
        row("eeg", subject="02", session="a", run="1"),
        row("eeg"),
        row("meg"),
        row("bold"),
        row("bold", subject="02", session="a", run="1"),
    ]
    pairs = find_pairs(rows)
    assert [pair.name for pair in pairs] == [
        "demo_north_sub-02_ses-a_task-rest_run-1",
        "demo_north_sub-01_task-rest",
    ]
    assert (pairs[0].eeg, pairs[0].bold) == (rows[0], rows[4])


@pytest.mark.parametrize("entity", ["study", "site", "subject", "session", "task", "run"])
def test_one_other_entity_and_they_are_no_pair(entity: str) -> None:
    assert find_pairs([row("eeg"), row("bold", **{entity: "other"})]) == []


@pytest.mark.parametrize(("twice", "once"), [("eeg", "bold"), ("bold", "eeg")])
def test_two_recordings_for_one_partner_are_refused_by_name(twice: str, once: str) -> None:
    rows = [row(twice, path="one.x"), row(once), row(twice, path="two.x")]
    with pytest.raises(
        ConfigError, match=rf"one\.x, two\.x: 2 {twice} recordings for demo_north_sub-01_task-rest_{once}"
    ):
        find_pairs(rows)


def test_two_recordings_without_a_partner_are_no_matter() -> None:
    assert find_pairs([row("eeg", path="one.x"), row("eeg", path="two.x")]) == []
