"""The rows of the first screen: numbers are those of the tables, and what is not there is not told."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from neuroloom.evaluation.tables import BASELINE, SCRATCH
from neuroloom.figures.headline import Finding, headline_table
from neuroloom.figures.synthesis_models import only

from .test_evaluation_plots import evaluation_table, failing
from .test_federation_plots import federation_tables
from .test_model_plots import models_table, pretraining_table
from .test_report_evaluation import all_tables
from .test_synthesis_plots import synthesis_tables
from .test_token_plots import tokenizers_table


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return {
        **{"pretraining": pretraining_table(), "models": models_table(), "tokenizers": tokenizers_table()},
        **all_tables(evaluation_table(("eyes",))),
        **federation_tables(),
        **synthesis_tables(),
    }


def test_each_part_of_a_study_has_its_questions_in_the_order_of_the_stages(tables: dict[str, pd.DataFrame]) -> None:
    found = headline_table(tables)
    assert list(dict.fromkeys(found["section"])) == ["tokenizers", "models", "evaluation", "federation", "synthesis"]
    assert set(found["answer"]) <= {"yes", "open", "in part", "no", "unknown"}
    assert found["table"].isin(list(tables)).all()
    assert (found["verdict"].str.len() > 20).all()
    assert list(found.columns) == [field.name for field in fields(Finding)]


def test_a_score_stands_beside_its_interval_chance_and_the_best_baseline(tables: dict[str, pd.DataFrame]) -> None:
    (row,) = headline_table({name: tables[name] for name in tables if name.startswith("evaluation")}).to_dict("records")
    scores = only(tables["evaluation_summary"], metric="balanced_accuracy", share=1.0).dropna(subset=["score"])
    best = scores[~scores["regime"].isin([BASELINE, SCRATCH])].sort_values("score").iloc[-1]
    assert [row[name] for name in ("score", "ci_low", "ci_high", "null", "n_participants")] == pytest.approx(
        [best[name] for name in ("score", "ci_low", "ci_high", "chance", "n_participants")]
    )
    assert row["baseline"] == scores.loc[scores["regime"] == BASELINE, "score"].max()
    assert best["model"] in row["what"]


@pytest.mark.parametrize(
    ("low", "null", "answer"),
    [(0.5, 0.1, "yes"), (0.05, 0.1, "open"), (np.nan, 0.1, "open"), (np.nan, 0.7, "no"), (0.5, 0.7, "no")],
)
def test_a_waveform_comes_back_only_where_the_interval_leaves_the_null_out(
    low: float, null: float, answer: str
) -> None:
    scores = {"correlation": 0.6, "correlation_low": low, "correlation_null": null}
    (row,) = headline_table({"tokenizers": tokenizers_table(1, 1).assign(**scores)}).to_dict("records")
    assert row["answer"] == answer
    assert ("that may be chance" in row["verdict"]) == (answer == "open")


def test_predicted_bold_stands_beside_the_highest_of_its_nulls(tables: dict[str, pd.DataFrame]) -> None:
    found = headline_table({name: tables[name] for name in tables if name.startswith("synthesis")})
    for row in found.to_dict("records"):
        own = only(tables["synthesis_summary"], model=row["what"])
        assert row["score"] in list(own["r"])
        nulls = own[(own["target"] == row["null_name"])]["r"]
        assert row["null"] in list(nulls)
        assert row["baseline_name"] == "ridge"


def test_sites_together_stand_beside_every_site_alone(tables: dict[str, pd.DataFrame]) -> None:
    found = headline_table({name: tables[name] for name in tables if name.startswith("federation")})
    pooled = only(tables["federation_summary"], site="all", metric="balanced_accuracy", kind="local")
    assert set(found["baseline"]) == set(pooled["score"])
    assert found["null"].notna().all()


def test_a_task_that_nobody_answered_is_unknown_and_has_no_number() -> None:
    table = failing(evaluation_table(("eyes",), models=("reve",)), model="reve", note="no recording")
    (row,) = headline_table(all_tables(table)).to_dict("records")
    assert row["answer"] == "unknown"
    assert row["what"] == ""
    assert np.isnan([row["score"], row["null"]]).all()


def test_a_study_without_parts_has_no_rows() -> None:
    assert len(headline_table({"recordings": pd.DataFrame({"a": [1]}), "models": pd.DataFrame()})) == 0
