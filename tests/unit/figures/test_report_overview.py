"""The first screen says what the tables say: findings with null and baseline, and what was lost."""

import json
from math import nan

import pandas as pd
import pytest

from neuroloom.figures.headline import Finding, headline_table
from neuroloom.figures.report_overview import facts, findings, findings_table, losses, places

ROW = {"section": "evaluation", "question": "Better?", "answer": "no", "what": "reve", "where": "eyes", "measure": "r"}
NUMBERS = {"score": 0.7, "ci_low": 0.6, "ci_high": 0.8, "null_name": "chance", "null": 0.5}
NUMBERS |= {"baseline_name": "ridge", "baseline": -0.001, "n_participants": 6.0}
REST = {"table": "evaluation_summary", "verdict": "It does not."}


def table(*changes: dict) -> pd.DataFrame:
    return pd.DataFrame([{**ROW, **NUMBERS, **REST, **change} for change in changes])


def test_a_row_has_the_columns_of_the_headline() -> None:
    assert set(table({})) == set(Finding.__dataclass_fields__)


def test_a_finding_stands_beside_its_null_and_its_baseline() -> None:
    ((question, (one,)),) = findings(table({}))
    assert question == "Better?"
    assert (one.score, one.interval, one.null, one.baseline, one.people) == (
        *("0.70", "[0.60, 0.80]", "0.50 chance", "0.00 ridge", "6"),
    )
    assert one.marks["baseline"] < one.marks["null"] < one.marks["ci_low"] < one.marks["score"] < one.marks["ci_high"]


def test_what_is_not_known_is_not_drawn() -> None:
    unknown = {name: nan for name in ("ci_low", "ci_high", "baseline", "n_participants")}
    ((_, (one,)),) = findings(table(unknown))
    assert (one.interval, one.baseline, one.people) == ("", "", "")
    assert set(one.marks) == {"score", "null"}
    assert places({"score": 3.0, "null": nan}) == {"score": 50.0}
    assert places({"score": nan}) == {}


def test_findings_come_by_question_in_the_order_of_the_table() -> None:
    found = findings(table({}, {"what": "brainomni"}, {"question": "Private?"}))
    assert [(question, [row.what for row in rows]) for question, rows in found] == [
        ("Better?", ["reve", "brainomni"]),
        ("Private?", ["reve"]),
    ]


@pytest.mark.parametrize("headline", [None, headline_table({})])
def test_a_study_that_was_asked_nothing_has_no_findings(headline: pd.DataFrame | None) -> None:
    assert findings(headline) == []
    assert findings_table(headline) is None


def lost(*reasons: str) -> pd.DataFrame:
    return pd.DataFrame([{"recording": f"r{at}", "stage": "ingest", "reason": one} for at, one in enumerate(reasons)])


def test_losses_are_counted_by_reason_and_the_most_frequent_comes_first() -> None:
    tables = {"quarantine": lost("short", "truncated", "truncated"), "pair_quarantine": lost("no clock")}
    found, n_more = losses(tables)
    assert found[0] == (2, "ingest", "truncated")
    assert {reason for _, _, reason in found} == {"short", "truncated", "no clock"}
    assert n_more == 0
    many, n_more = losses({"quarantine": lost(*(f"reason {at}" for at in range(9)))})
    assert (len(many), n_more) == (4, 5)
    assert losses({"quarantine": lost("a")[:0]}) == ([], 0)


def test_facts_count_people_sites_and_usable_time() -> None:
    rows = [("north", "01", "eeg", 7200.0), ("north", "01", "bold", 90.0), ("south", "01", "eeg", nan)]
    recordings = pd.DataFrame(rows, columns=["site", "subject", "modality", "duration"])
    recordings = recordings.assign(study="s", bytes=1e6, status=["artifact", "artifact", "quarantined"])
    told = dict(map(reversed, facts({"recordings": recordings, "quarantine": lost("a")})))
    assert told == json.loads(
        '{"people at 2 sites": "2", "recordings": "3", "usable BOLD": "2 min", "usable EEG": "2.0 h", '
        '"quarantined": "1", "in checked artifacts": "2 MB"}'
    )
