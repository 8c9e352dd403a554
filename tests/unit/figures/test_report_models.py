"""What the report says of pretraining follows from its tables."""

import numpy as np
import pandas as pd
import pytest

from neuroloom.figures.report_models import models_section, pretraining_verdicts, scaling_verdicts
from neuroloom.models.curves import pretraining_tables

from .test_model_plots import models_table, pretraining_table


def test_a_loss_below_its_nulls_is_told_with_the_numbers() -> None:
    table = pretraining_table(("reve",))
    (verdict,) = pretraining_verdicts(table, models_table(("reve",)))
    last = table["validation_reconstruction"].iloc[-1]
    assert verdict.answer == "yes"
    assert verdict.text == (
        f"reve: after 845 k tokens its validation loss of {last:.3g} is below the nulls, "
        "0.79 (mean patch) and 1.02 (last value)."
    )


@pytest.mark.parametrize(
    ("mean_patch", "last_value", "answer", "words"),
    [(0.9, 0.5, "in part", "is below only some of the nulls"), (0.5, 0.5, "no", "is not below the nulls")],
)
def test_a_loss_above_a_null_is_told_plainly(mean_patch: float, last_value: float, answer: str, words: str) -> None:
    table = pretraining_table(("reve",)).assign(validation_mean_patch=mean_patch, validation_last_value=last_value)
    (verdict,) = pretraining_verdicts(table, models_table(("reve",)))
    assert (verdict.answer, words in verdict.text) == (answer, True)


@pytest.mark.parametrize(("lead", "answer"), [(0.002, "open"), (0.02, "yes")])
def test_a_lead_of_almost_nothing_is_open(lead: float, answer: str) -> None:
    table = pretraining_table(("reve",))
    table = table.assign(validation_mean_patch=table["validation_reconstruction"].iloc[-1] * (1 + lead))
    (verdict,) = pretraining_verdicts(table, models_table(("reve",)))
    assert verdict.answer == answer
    assert ("below the nearest by 0.2 % alone, but that may be chance" in verdict.text) == (answer == "open")


def test_each_fold_is_told_and_the_sweep_is_not() -> None:
    folds = (0, 1)
    verdicts = pretraining_verdicts(pretraining_table(folds=folds), models_table(folds=folds))
    names = {verdict.text.split(":")[0] for verdict in verdicts}
    assert names == {f"{model}, fold {fold}" for model in ("reve", "brainomni") for fold in folds}


def test_what_cannot_be_told_is_unknown() -> None:
    curves, models = pretraining_table(("brainomni",)), models_table(("brainomni", "reve"))
    by_name = {verdict.text.split(":")[0]: verdict for verdict in pretraining_verdicts(curves, models)}
    assert by_name["reve"].text == "reve: no curve: its weights were imported."
    lost = models.assign(unusable="no recording is left")
    assert pretraining_verdicts(pd.DataFrame(), lost)[0].text == "brainomni: no model: no recording is left."
    assert {name: verdict.answer for name, verdict in by_name.items()} == {"reve": "unknown", "brainomni": "yes"}
    blind = curves.drop(columns=[name for name in curves if name.startswith("validation_")])
    (verdict,) = pretraining_verdicts(blind, models_table(("brainomni",)))
    assert verdict.text == "brainomni: it was not validated beside a null."
    assert pretraining_verdicts(pd.DataFrame(), pd.DataFrame()) == []
    untrained = pretraining_tables([], [], sweep=())[0]
    assert {verdict.answer for verdict in pretraining_verdicts(untrained, models)} == {"unknown"}
    assert {verdict.answer for verdict in scaling_verdicts(untrained, models_table())} == {"unknown"}


def test_the_loss_falls_with_size_and_data() -> None:
    size, data = scaling_verdicts(pretraining_table(), models_table())
    assert (size.answer, data.answer) == ("yes", "yes")
    assert "falls with each size: 0.673 (41 k weights), 0.642 (431 k weights), 0.628 (1.31 M weights)" in size.text
    assert "lower with 12 recordings (0.642) than with 3 (0.692)" in data.text


def test_a_loss_that_does_not_fall_is_told_plainly() -> None:
    table, models = pretraining_table(), models_table()
    wide = table["model"] == "revewide"
    table.loc[wide, "validation_reconstruction"] += 0.5
    assert scaling_verdicts(table, models)[0].answer == "in part"
    table.loc[table["model"] == "revenarrow", "validation_reconstruction"] -= 0.5
    table.loc[table["model"] == "revequarter", "validation_reconstruction"] -= 0.5
    size, data = scaling_verdicts(table, models)
    assert (size.answer, data.answer) == ("no", "no")
    assert "does not fall with size" in size.text
    assert "is not lower with 12 recordings" in data.text
    lost = table.assign(validation_reconstruction=np.nan, validation_loss=np.nan)
    assert [verdict.answer for verdict in scaling_verdicts(lost, models)] == ["unknown"]
    assert scaling_verdicts(table, models[models["role"] == "model"]) == []


def test_the_table_of_models_stands_beside_the_lowest_null() -> None:
    tables = {"pretraining": pretraining_table(), "models": models_table()}
    table = models_section(tables, {})["table"]
    at = {name: table.headers.index(name) for name in ("model", "validation loss", "best null", "weights")}
    values = {row[at["model"]][1]: [row[at[name]][1] for name in list(at)[1:]] for row in table.rows}
    assert values["reve"][1:] == [0.79, 431_000]
    assert values["brainomni"][1] == pytest.approx(4.9)
    assert values["revewide"][0] == pytest.approx(0.628, abs=1e-3)


def test_a_study_without_models_has_an_empty_section() -> None:
    section = models_section({"pretraining": pd.DataFrame(), "models": pd.DataFrame()}, {})
    assert section["verdicts"] == []
    assert section["table"].rows == []
