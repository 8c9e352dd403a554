"""The tables of the paper: csv has every number, LaTeX is whole, and both are those of the study's tables."""

import io
import re
from pathlib import Path

import pandas as pd
import pytest

from neuroloom.figures.latex import escape, to_csv, to_latex
from neuroloom.figures.listings import LISTINGS, NULLS, Column, Listing, listed_from
from neuroloom.figures.stamp import read_stamp, stamp
from neuroloom.synthesis import nulls

Tables = dict[str, pd.DataFrame]


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)&", line.removesuffix(r"\\"))


@pytest.mark.parametrize("name", LISTINGS)
def test_csv_is_the_table_and_latex_is_whole(name: str, study_tables: Tables, study_files: dict[str, Path]) -> None:
    listing = LISTINGS[name]
    rows = listing.rows(study_tables)
    assert len(rows)
    read = pd.read_csv(io.StringIO(to_csv(listing, rows)), keep_default_na=True)
    assert read.columns[0] == listing.columns[0].header
    assert len(read.columns) == rows.shape[1]
    for at, column in enumerate(rows.select_dtypes("number")):
        place = list(rows.columns).index(column)
        pd.testing.assert_series_equal(
            read.iloc[:, place].astype(float), rows[column].astype(float), check_names=False, obj=f"{name} {at}"
        )
    text = to_latex(listing, rows, note=stamp([study_files[table] for table in listing.tables]))
    bare = re.sub(r"\\[\\{}&%$#_]", "", text.partition("\n")[2])
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert len(body) == len(rows)
    assert {len(cells(line)) for line in body} == {len(listing.columns)}
    assert all(line.endswith(r"\\") for line in body)


def test_latex_says_which_tables_it_was_made_from(study_files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "runtime.tex"
    listing = LISTINGS["runtime"]
    rows = listing.rows({"runtime": pd.read_parquet(study_files["runtime"])})
    path.write_text(to_latex(listing, rows, note=stamp([study_files["runtime"]])))
    assert set(read_stamp(path)["tables"]) == {"runtime"}


def test_numbers_are_written_as_in_a_paper() -> None:
    columns = (
        Column("name", ("name",)),
        Column("score (%)", ("score", "low", "high")),
        Column("n", ("n",), ".0f"),
    )
    listing = Listing("A & B", ("t",), columns)
    table = pd.DataFrame(
        {"name": ["a_1", "b"], "score": [0.654, -0.001], "low": [0.6, None], "high": [0.7, None], "n": [12, None]}
    )
    text = to_latex(listing, listing.rows({"t": table}))
    assert r"a\_1 & 0.65 [0.60, 0.70] & 12 \\" in text
    assert r"b & 0.00 & -- \\" in text
    assert r"\caption{A \& B}" in text
    assert r"name & score (\%) & n \\" in text
    assert r"\begin{tabular}{lrr}" in text


def test_words_are_printed_as_they_are() -> None:
    assert escape("50 % of a_b & {c} < d\\e") == r"50 \% of a\_b \& \{c\} $<$ d\textbackslash{}e"


def test_readers_have_their_interval_and_their_chance(study_tables: Tables) -> None:
    rows = LISTINGS["evaluation"].rows(study_tables)
    assert {"band power + LDA", "reve (linear, frozen)"} <= set(rows["reader"])
    known = rows.dropna(subset=["score"])
    assert (known["ci_low"] <= known["score"]).all()
    assert (known["score"] <= known["ci_high"]).all()
    assert rows["chance"].notna().all()
    headers = [column.header for column in LISTINGS["evaluation"].columns]
    assert {"q", "n (people)", "chance to 97.5 %"} <= set(headers)


def test_predictions_stand_beside_all_their_nulls(study_tables: Tables) -> None:
    assert NULLS == (nulls.PHASE, nulls.SHIFT, nulls.OTHER)
    rows = LISTINGS["synthesis"].rows(study_tables)
    summary = study_tables["synthesis_summary"]
    for null in NULLS:
        known = summary[(summary["target"] == null) & summary["r"].notna()]
        assert rows[f"null: {null}"].dropna().round(12).isin(known["r"].round(12)).all()
        assert rows[f"null: {null}"].notna().any()


def test_a_study_has_the_tables_of_its_parts() -> None:
    assert set(listed_from(["recordings", "models"])) == {"recordings", "models"}


def test_a_part_without_rows_is_an_empty_table() -> None:
    listing = LISTINGS["evaluation"]
    rows = listing.rows({"evaluation_summary": pd.DataFrame()})
    assert rows.empty
    assert r"\bottomrule" in to_latex(listing, rows)
    assert to_csv(listing, rows).count("\n") == 1
