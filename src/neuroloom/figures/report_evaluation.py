"""The report's section on the evaluation: in words, whether pretrained models beat baselines, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neuroloom.evaluation.tables import KEYS, LEVEL, REFERENCE, best_rows, main_rows
from neuroloom.figures.readers import KINDS, MEASURES, REGIMES, full_name, name_of, readers_of
from neuroloom.figures.report_pictures import embed_figures
from neuroloom.figures.report_tables import MOST_ROWS, Table, select, to_table
from neuroloom.figures.verdicts import Difference, Verdict, answer_of, but

OTHERS = ("kappa", "auroc", "auprc")  # beside the score that a task is judged by
READER = {"task": "task", "reader": "reader", "share": "share of people"}
SCORE = {"score": "score", "ci_low": "from", "ci_high": "to", "chance": "chance", "chance_high": "chance up to"}
COUNTS = {"n_participants": "people", "n_windows": "windows"}
SPENT = {"n_parameters": "weights", "n_trainable": "trained weights", "n_fits": "fits", "n_epochs": "epochs"}
SUMMARY_COLUMNS = {
    **READER,
    "metric": "metric",
    **SCORE,
    "corrected": "chance-corrected",
    "q": "q",
    **{name: name for name in OTHERS},
    **COUNTS,
    **SPENT,
    "n_runs": "runs",
    "n_failed": "failed",
    "seen": "people seen",
    "split": "kept apart",
    "note": "note",
}
RUN_COLUMNS = {
    **READER,
    "fold": "fold",
    "seed": "seed",
    "metric": "metric",
    **SCORE,
    "p": "p",
    "q": "q",
    **COUNTS,
    **SPENT,
    "seen": "people seen",
    "rule": "chosen by",
    "note": "note",
}
DIFFERENCE_COLUMNS = {
    **READER,
    "other": "against",
    "metric": "metric",
    "difference": "difference",
    "ci_low": "from",
    "ci_high": "to",
    "n_participants": "people",
}
SUBJECT_COLUMNS = {**READER, "fold": "fold", "seed": "seed", "participant": "participant", "metric": "metric"} | {
    "score": "score",
    "n_windows": "windows",
}
VARIANCE_COLUMNS = {**READER, "source": "source", "variance": "variance", "part": "part", "levels": "levels"}
AUDIT_COLUMNS = {
    "task": "task",
    "model": "model",
    "fold": "fold",
    "audit": "audit",
    "target": "asked",
    "metric": "metric",
    **SCORE,
    "p": "p",
    **COUNTS,
    "note": "note",
}


def evaluation_section(tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path]) -> dict[str, Any]:
    """What the template needs: verdicts, figures and tables."""
    summary, differences = tables["evaluation_summary"], tables["evaluation_differences"]
    audits = tables["evaluation_audits"]
    return {
        "verdicts": [*best_verdicts(summary, differences), *few_shot_verdicts(summary, differences)],
        "figures": embed_figures(drawn, "evaluation"),
        "summary": to_table(select(_named(_wide(summary)), SUMMARY_COLUMNS), "evaluation_summary"),
        "differences": to_table(select(_named(differences), DIFFERENCE_COLUMNS), "evaluation_differences"),
        "variance": to_table(select(_named(tables["evaluation_variance"]), VARIANCE_COLUMNS), "evaluation_variance"),
        "runs": _shortened(_named(main_rows(tables["evaluation"])), RUN_COLUMNS, "evaluation"),
        "subjects": _shortened(_named(tables["evaluation_subjects"]), SUBJECT_COLUMNS, "evaluation_subjects"),
        "audits": _shortened(_without_majority(audits), AUDIT_COLUMNS, "evaluation_audits"),
    }


def _shortened(table: pd.DataFrame, columns: Mapping[str, str], source: str) -> Table:
    """The first rows."""
    return to_table(select(table, columns), source, most=MOST_ROWS)


def _without_majority(audits: pd.DataFrame) -> pd.DataFrame:
    return audits[audits["probe"] != "majority"] if len(audits) else audits


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with the reader in words, in the order of the figures."""
    if table.empty:
        return table
    place = {reader: at for at, reader in enumerate(readers_of(table))}
    pairs = list(zip(table["model"], table["regime"], strict=True))
    ordered = table.assign(reader=[full_name(pair) for pair in pairs], place=[place[pair] for pair in pairs])
    return ordered.sort_values(["task", "share", "place"], kind="stable")


def _wide(summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each reader, task and share: the score it is judged by, and the others beside."""
    main = main_rows(summary)
    for name in OTHERS:
        scores = summary.loc[summary["metric"] == name, [*KEYS, "score"]] if len(summary) else summary
        main = main.merge(scores.rename(columns={"score": name}), on=KEYS, how="left") if len(scores) else main
    return main


def _difference(differences: pd.DataFrame, row: Mapping[Any, Any], other: str) -> Difference | None:
    """That of one reader; None where there are not two people to compare."""
    if differences.empty:
        return None
    same = differences["other"] == other
    for key in KEYS:
        same &= differences[key] == row[key]
    found = differences[same].dropna(subset=["ci_low"]).to_dict("records")
    return Difference.of(found[0]) if found else None


def best_verdicts(summary: pd.DataFrame, differences: pd.DataFrame) -> list[Verdict]:
    """Whether the best pretrained model beats the best baseline in each task, with all training people.

    Both are the best by the score that is told, with hindsight.

    Parameters
    ----------
    summary, differences : DataFrame
        `evaluation_summary` and `evaluation_differences`.
    """
    verdicts = []
    for task, means in main_rows(summary).groupby("task", sort=True) if len(summary) else ():
        most = means["share"].max()
        part = means[means["share"] == most]
        models, baselines = (best_rows(part, baselines=wanted).to_dict("records") for wanted in (False, True))
        if not (models and baselines):
            lacking = "pretrained model" if not models else "baseline"
            verdicts.append(Verdict("unknown", f"{task}: no {lacking} has a score{_why(part)}."))
            continue
        model, baseline = models[0], baselines[0]
        paired = _difference(differences, model, str(baseline["model"]))
        answer = answer_of([model["score"] > baseline["score"]], [paired])
        words = {"yes": "beats", "open": "is ahead of", "no": "does not beat"}[answer]
        text = (
            f"{task}, {_people(most)}: the best model {words} the best baseline{but(answer)}. "
            f"{_told(model)}; {_told(baseline)}; chance {model['chance']:.2f}, "
            f"{model['n_participants']:.0f} people of the test.{_on_the_same([('', paired)])}"
        )
        verdicts.append(Verdict(answer, text))
    return verdicts


def few_shot_verdicts(summary: pd.DataFrame, differences: pd.DataFrame) -> list[Verdict]:
    """Whether frozen features beat band power + LDA's chance-corrected score with few training people.

    One verdict for each task, share below the largest, and model. None of its regimes is picked with hindsight: yes if
    every frozen one has the higher score and no difference on the same people may be chance.

    Parameters
    ----------
    summary, differences : DataFrame
        `evaluation_summary` and `evaluation_differences`.
    """
    frozen = [regime for regime, kind in KINDS.items() if kind == "frozen"]
    verdicts = []
    for task, means in main_rows(summary).groupby("task", sort=True) if len(summary) else ():
        for share in sorted(means["share"].unique())[:-1]:
            part = means[means["share"] == share]
            reference = part[part["model"] == REFERENCE].to_dict("records")
            rows = part[part["regime"].isin(frozen)]
            for model, own in rows.groupby("model", sort=True):
                where = f"{task}, {_people(share)}: frozen {model}"
                verdicts.append(_few_shot(where, own.to_dict("records"), reference, differences))
    return verdicts


def _few_shot(
    where: str, own: Sequence[dict[Any, Any]], reference: Sequence[dict[Any, Any]], differences: pd.DataFrame
) -> Verdict:
    known = sorted(
        (row for row in own if pd.notna(row["corrected"])), key=lambda row: list(REGIMES).index(row["regime"])
    )
    if not known or not reference or pd.isna(reference[0]["corrected"]):
        return Verdict("unknown", f"{where} cannot be compared with band power + LDA: one of them has no score.")
    bar = float(reference[0]["corrected"])
    above = [row["corrected"] > bar for row in known]
    paired = [(_short(row), _difference(differences, row, REFERENCE)) for row in known]
    answer = answer_of(above, [difference for _, difference in paired])
    winners = " and ".join(_short(row) for row, won in zip(known, above, strict=True) if won)
    words = {
        "yes": "beats band power + LDA",
        "open": "is ahead of band power + LDA",
        "in part": f"is ahead of band power + LDA only when it is read as {winners}",
        "no": "does not beat band power + LDA",
    }[answer]
    scores = " and ".join(f"{row['corrected']:.2f} ({_short(row)})" for row in known)
    weak = [_short(row) for row in known if not row["q"] <= LEVEL]
    unsure = f"; chance is not ruled out in every run for {' and '.join(weak)}" if weak else ""
    text = f"{where} {words}{but(answer)}. Chance-corrected: {scores} against {bar:.2f}{unsure}."
    return Verdict(answer, text + _on_the_same(paired))


def _short(row: Mapping[Any, Any]) -> str:
    return name_of((str(row["model"]), str(row["regime"]))).removesuffix(", frozen")


def _people(share: float) -> str:
    return "all training people" if share == 1 else f"{100 * share:.3g} % of the training people"


def _told(row: Mapping[Any, Any]) -> str:
    """A reader with its score, interval, and whether it is above chance."""
    limits = f" ({row['ci_low']:.2f} to {row['ci_high']:.2f})" if pd.notna(row["ci_low"]) else ""
    name = full_name((str(row["model"]), str(row["regime"])))
    measure = MEASURES.get(str(row["metric"]), str(row["metric"]))
    return f"{name}: {measure} {row['score']:.2f}{limits}{_above_chance(row)}"


def _above_chance(row: Mapping[Any, Any]) -> str:
    return "" if row["q"] <= LEVEL else ", chance is not ruled out in every run"


def _on_the_same(paired: Sequence[tuple[str, Difference | None]]) -> str:
    """The differences on the same people, each with its name."""
    known = [(name, one) for name, one in paired if one is not None]
    if not known:
        return ""
    listed = " and ".join(f"{one}{f' {name}' if name else ''}" for name, one in known)
    return f" Difference on the same {known[0][1].n:.0f} people: {listed}."


def _why(rows: pd.DataFrame) -> str:
    notes = [str(note) for note in rows.loc[rows["score"].isna(), "note"].unique() if note]
    return f" ({notes[0]})" if notes else ""
