"""The list of seen people stops an evaluation, or marks its rows."""

import pytest

from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import ContaminationError, check_contamination, seen_datasets, seen_subjects
from neuroloom.manifest import ArtifactError


def row(study: str, subject: int, task: str = "rest") -> RecordingRow:
    return RecordingRow(study=study, site="north", subject=f"{subject:02d}", task=task, modality="eeg", path="x")


TRAINED = [row("demo", subject, task) for subject in range(3) for task in ("rest", "imagery")]
CARD = {"salt": "5a17", "seen_subjects": seen_subjects(TRAINED, salt="5a17", versions={"demo": "1.2"})}


def test_the_list_has_one_hashed_entry_per_participant() -> None:
    assert len(CARD["seen_subjects"]) == 3
    assert {(entry["dataset"], entry["version"]) for entry in CARD["seen_subjects"]} == {("demo", "1.2")}
    assert all(len(entry["subject_sha256"]) == 64 for entry in CARD["seen_subjects"])
    other = {entry["subject_sha256"] for entry in seen_subjects(TRAINED, salt="other")}
    assert not other & {entry["subject_sha256"] for entry in CARD["seen_subjects"]}


def test_a_seen_participant_stops_the_run_by_the_name_of_the_recording() -> None:
    test = [row("demo", 7), row("demo", 2, "oddball")]
    with pytest.raises(ContaminationError, match="demo_north_sub-02_task-oddball_eeg"):
        check_contamination(CARD, test, allow_seen_subjects=False)
    marks = check_contamination(CARD, test, allow_seen_subjects=True)
    assert marks == {"demo/north/07": False, "demo/north/02": True}


def test_unseen_participants_pass_and_the_dataset_counts() -> None:
    test = [row("demo", 7), row("elsewhere", 2)]
    assert not any(check_contamination(CARD, test, allow_seen_subjects=False).values())


def test_weights_from_elsewhere_have_seen_whole_datasets() -> None:
    card = {"salt": "", "seen_subjects": seen_datasets("TUEG", "Demo")}
    with pytest.raises(ContaminationError, match="and 1 more"):
        check_contamination(card, TRAINED, allow_seen_subjects=False, file="reve.json")
    assert check_contamination(card, [row("elsewhere", 1)], allow_seen_subjects=False) == {"elsewhere/north/01": False}


@pytest.mark.parametrize("card", [{}, {"salt": "a"}, {"seen_subjects": []}, {"salt": "a", "seen_subjects": None}])
def test_a_card_that_says_nothing_is_refused(card: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match=r"reve\.json: no list of seen subjects"):
        check_contamination(card, TRAINED, allow_seen_subjects=True, file="reve.json")
