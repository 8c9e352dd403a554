"""What the report says of the evaluation follows from its tables."""

from typing import Any

import pandas as pd
import pytest

from neuroloom.evaluation.tables import differences_table, summary_table, variance_table
from neuroloom.figures import report_evaluation
from neuroloom.figures.report_evaluation import best_verdicts, evaluation_section, few_shot_verdicts

from .test_evaluation_plots import audits_table, evaluation_table, failing, subjects_table

KEYS = ["task", "model", "regime", "share"]


def leveled(levels: dict[tuple[str, str], float], **facts: Any) -> pd.DataFrame:
    """A table in which these readers have these balanced accuracies in all runs."""
    table = evaluation_table(("eyes",), models=("reve",)).copy()
    for (model, regime), score in levels.items():
        chosen = (table["model"] == model) & (table["regime"] == regime)
        for name, value in facts.items():
            chosen &= table[name] == value
        table.loc[chosen, ["score", "ci_low", "ci_high"]] = (score, score - 0.1, score + 0.1)
    return table


def few_shot(linear: float, attentive: float, classical: float, *, paired: bool = True) -> Any:
    levels = {
        ("reve", "linear"): linear,
        ("reve", "attentive"): attentive,
        ("band_power_lda", "baseline"): classical,
    }
    table = leveled(levels, share=0.25)
    differences = differences_table(subjects_table(table)) if paired else pd.DataFrame()
    (verdict,) = few_shot_verdicts(summary_table(table), differences)
    return verdict


def test_frozen_features_that_beat_band_power_are_told_so() -> None:
    verdict = few_shot(0.8, 0.85, 0.65)
    assert verdict.answer == "yes"
    assert verdict.text.startswith("eyes, 25 % of the training people: frozen reve beats band power + LDA. ")
    assert "Chance-corrected: 0.60 (linear) and 0.70 (attentive) against 0.30" in verdict.text
    assert "Difference on the same 6 people: +0." in verdict.text


def test_frozen_features_that_do_not_are_told_plainly() -> None:
    verdict = few_shot(0.6, 0.65, 0.65)
    assert verdict.answer == "no"
    assert "frozen reve does not beat band power + LDA. " in verdict.text


def test_one_probe_of_two_is_not_picked_with_hindsight() -> None:
    verdict = few_shot(0.6, 0.85, 0.65)
    assert verdict.answer == "in part"
    assert "is ahead of band power + LDA only when it is read as attentive. " in verdict.text


@pytest.mark.parametrize(("linear", "paired"), [(0.651, True), (0.8, False)])
def test_a_lead_that_may_be_chance_is_open(linear: float, paired: bool) -> None:
    """A difference within what people differ by, or one that nobody could pair."""
    verdict = few_shot(linear, 0.85, 0.65, paired=paired)
    assert verdict.answer == "open"
    assert "frozen reve is ahead of band power + LDA, but that may be chance. " in verdict.text


def test_scores_are_compared_after_correction_for_their_own_chance() -> None:
    table = leveled({("reve", "linear"): 0.7, ("reve", "attentive"): 0.7, ("band_power_lda", "baseline"): 0.68})
    models = table["regime"] != "baseline"
    table.loc[models, "chance"] = 0.6
    (verdict,) = few_shot_verdicts(summary_table(table), pd.DataFrame())
    assert verdict.answer == "no"
    assert "0.25 (linear" in verdict.text
    assert "against 0.36" in verdict.text


def test_chance_that_is_not_ruled_out_is_told() -> None:
    words = "chance is not ruled out in every run"
    table = leveled({})
    for q, told in ((0.01, False), ((table["seed"] == 0) * 0.2, True)):
        summary = summary_table(table.assign(q=q))
        assert (words in best_verdicts(summary, pd.DataFrame())[0].text) == told
        assert (f"{words} for linear and attentive" in few_shot_verdicts(summary, pd.DataFrame())[0].text) == told


def test_a_difference_of_nothing_has_no_sign() -> None:
    text = few_shot(0.65, 0.65, 0.65).text
    assert "-0.00" not in text
    assert "+0.00" not in text


def test_the_best_of_each_side_is_told_with_interval_chance_and_people() -> None:
    table = leveled({("reve", "lora"): 0.9, ("reve", "scratch"): 0.99, ("riemann", "baseline"): 0.95}, share=1.0)
    (verdict,) = best_verdicts(summary_table(table), pd.DataFrame())
    assert verdict.answer == "no"
    assert verdict.text == (
        "eyes, all training people: the best model does not beat the best baseline. "
        "reve (LoRA): balanced accuracy 0.90 (0.80 to 1.00); Riemann: balanced accuracy 0.95 (0.85 to 1.05); "
        "chance 0.50, 6 people of the test."
    )
    table = leveled({("reve", "lora"): 1.1, ("riemann", "baseline"): 0.95}, share=1.0)
    (verdict,) = best_verdicts(summary_table(table), differences_table(subjects_table(table)))
    assert verdict.answer == "yes"
    assert "the best model beats the best baseline. " in verdict.text
    assert "Difference on the same 6 people: +0.1" in verdict.text
    (verdict,) = best_verdicts(summary_table(table), pd.DataFrame())
    assert verdict.answer == "open"
    assert "the best model is ahead of the best baseline, but that may be chance. " in verdict.text


def test_what_cannot_be_compared_is_unknown() -> None:
    table = failing(evaluation_table(("eyes",), models=("reve",)), model="band_power_lda", share=0.25)
    (verdict,) = few_shot_verdicts(summary_table(table), pd.DataFrame())
    assert verdict.answer == "unknown"
    table = failing(evaluation_table(("eyes",), models=("reve",)), model="reve", note="no recording")
    (verdict,) = best_verdicts(summary_table(table), pd.DataFrame())
    assert verdict.text == "eyes: no pretrained model has a score (no recording)."
    alone = evaluation_table(("eyes",), models=())
    assert [verdict.answer for verdict in best_verdicts(summary_table(alone), pd.DataFrame())] == ["unknown"]
    assert few_shot_verdicts(summary_table(alone), pd.DataFrame()) == []
    assert best_verdicts(pd.DataFrame(), pd.DataFrame()) == few_shot_verdicts(pd.DataFrame(), pd.DataFrame()) == []


def all_tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    subjects = subjects_table(table)
    return {
        "evaluation": table,
        "evaluation_summary": summary_table(table),
        "evaluation_subjects": subjects,
        "evaluation_differences": differences_table(subjects),
        "evaluation_variance": variance_table(subjects),
        "evaluation_audits": audits_table(("eyes",)),
    }


def test_tables_hold_every_reader_with_all_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_evaluation, "MOST_ROWS", 50)
    table = failing(evaluation_table(("eyes",)), model="reve", regime="full")
    tables = all_tables(table)
    section = evaluation_section(tables, {})
    summary = section["summary"]
    assert len(summary.rows) == 16 * 2, "also those that failed"
    at = {
        name: summary.headers.index(name) for name in ("reader", "share of people", "score", "kappa", "auroc", "note")
    }
    assert summary.rows[0][at["reader"]][0] == "majority"
    rows = {(row[at["reader"]][0], row[at["share of people"]][1]): row for row in summary.rows}
    means = tables["evaluation_summary"].set_index([*KEYS, "metric"])["score"]
    linear = rows["reve (linear, frozen)", 0.25]
    assert linear[at["score"]][1] == means["eyes", "reve", "linear", 0.25, "balanced_accuracy"]
    assert linear[at["auroc"]][1] == means["eyes", "reve", "linear", 0.25, "auroc"]
    assert rows["reve (all fine-tuned)", 1.0][at["score"]][0] == "n/a"
    assert rows["reve (all fine-tuned)", 1.0][at["note"]][0] == "one class in training"
    runs = section["runs"]
    assert (len(runs.rows), runs.n_left) == (50, 16 * 2 * 3 - 50)
    assert section["audits"].n_left == 12 * 3 * 2 - 50, "rows of the majority are left out"
    assert len(section["differences"].rows) == len(tables["evaluation_differences"])


def test_a_study_without_scores_has_an_empty_section() -> None:
    names = ("", "_summary", "_subjects", "_differences", "_variance", "_audits")
    section = evaluation_section({f"evaluation{name}": pd.DataFrame() for name in names}, {})
    assert section["verdicts"] == []
    assert section["summary"].rows == section["runs"].rows == []
