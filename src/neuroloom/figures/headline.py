"""What a study found, one row for each question: the best that was tried, beside its null and its baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import pandas as pd

from neuroloom.evaluation.tables import best_rows, main_rows
from neuroloom.federated.tables import POOLED
from neuroloom.figures.arms import LOCAL, arm_name, arm_of, arms_of, main_scores
from neuroloom.figures.cleaning_plots import cleaning_reasons
from neuroloom.figures.federation_verdicts import best_gain, gain_verdicts
from neuroloom.figures.model_plots import NULLS, curve_of, last_losses, nulls_at_end
from neuroloom.figures.readers import MEASURES, full_name
from neuroloom.figures.report_evaluation import best_verdicts
from neuroloom.figures.report_models import pretraining_verdicts
from neuroloom.figures.synthesis_models import main_group, only, split_name, splits_of
from neuroloom.figures.synthesis_verdicts import WHERE, best_model, lead_verdict, rows_of_model
from neuroloom.figures.verdicts import Answer, Difference, answer_of, but

Row = Mapping[Any, Any]
Tables = Mapping[str, pd.DataFrame]
NONE = float("nan")
Section = Literal["cleaning", "tokenizers", "models", "evaluation", "federation", "synthesis"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An answer with its numbers; NaN where there is none.

    Attributes
    ----------
    section : str
        Part of the study.
    question : str
    answer : str
    what, where : str
        The best that was tried, and on which task, device or site.
    measure : str
    score, ci_low, ci_high : float
        With its interval over people.
    null_name, baseline_name : str
    null, baseline : float
        What chance gives, and what something simple does, in the same measure.
    n_participants : float
    table : str
        Stem of the table that the numbers come from.
    verdict : str
        The same in a sentence.
    """

    section: Section
    question: str
    answer: Answer
    what: str
    where: str
    measure: str
    score: float = NONE
    ci_low: float = NONE
    ci_high: float = NONE
    null_name: str = ""
    null: float = NONE
    baseline_name: str = ""
    baseline: float = NONE
    n_participants: float = NONE
    table: str
    verdict: str


def headline_table(tables: Tables) -> pd.DataFrame:
    """All findings of a study, in the order of its stages.

    Parameters
    ----------
    tables : mapping
        Tables of the study by name; parts that a study does not have are passed over.

    Returns
    -------
    DataFrame
        The fields of `Finding`.
    """
    parts = {
        "cleaning": _cleaning,
        "tokenizers": _tokenizers,
        "models": _models,
        "evaluation_summary": _evaluation,
        "federation_summary": _federation,
        "synthesis_summary": _synthesis,
    }
    rows = [vars(row) for name, find in parts.items() if name in tables and len(tables[name]) for row in find(tables)]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Finding)])


def _cleaning(tables: Tables) -> Iterator[Finding]:
    """How many of its bounds the cleaning meets."""
    table = tables["cleaning"]
    judged = table[table["met"].isin(["yes", "NO"])]
    n_met = int((judged["met"] == "yes").sum())
    reasons = cleaning_reasons(table, tables["cleaning_curves"]) if "cleaning_curves" in tables else []
    text = f"{n_met} of {len(judged)} bounds, by site, are met in the worst recording. {' '.join(reasons)}"
    answer: Answer = "yes" if n_met == len(judged) else "in part" if n_met else "no"
    yield Finding(
        section="cleaning",
        question="Is what was planted cleaned away, and the brain left?",
        answer=answer,
        what="cleaning",
        where=f"worst recordings of {table['site'].nunique()} sites",
        measure="share of bounds met",
        score=n_met / max(len(judged), 1),
        table="cleaning",
        verdict=text.strip(),
    )


def _tokenizers(tables: Tables) -> Iterator[Finding]:
    """What comes back of recordings of people, and if there is one of a device, that a tokenizer never saw."""
    for name, own in tables["tokenizers"].groupby("tokenizer", sort=True):
        part = own[own["held_out"]] if own["held_out"].any() else own
        row = part.sort_values(["n_participants", "device"], ascending=[False, True]).to_dict("records")[0]
        score, null = row["correlation"], row["correlation_null"]
        # one person has no interval, and proves nothing
        low, high = row["correlation_low"], row["correlation_high"]
        lead = Difference(score - null, low - null, high - null, row["n_participants"])
        answer: Answer = "unknown" if pd.isna(score) else answer_of([score > null], [lead])
        text = (
            f"{name} on {row['device']}: correlation {score:.2f}, {null:.2f} with the codes of another "
            f"segment{but(answer)}; its spectrum is {row['spectral_db']:.1f} dB off, "
            f"{row['spectral_db_null']:.1f} dB with those."
        )
        yield Finding(
            section="tokenizers",
            question="Do tokens keep the waveform of new people?",
            answer=answer,
            what=str(name),
            where=str(row["device"]),
            measure="correlation",
            score=float(score),
            ci_low=float(low),
            ci_high=float(high),
            null_name="codes of another segment",
            null=float(null),
            n_participants=float(row["n_participants"]),
            table="tokenizers",
            verdict=text,
        )


def _models(tables: Tables) -> Iterator[Finding]:
    """Whether models learned more than needs no learning."""
    curves, models = tables["pretraining"], tables["models"]
    cards = last_losses(curves, models[models["role"] == "model"]).to_dict("records")
    for card, verdict in zip(cards, pretraining_verdicts(curves, models), strict=True):
        nulls = nulls_at_end(curve_of(curves, card))
        lowest = min(nulls, key=lambda name: nulls[name], default="")
        yield Finding(
            section="models",
            question="Did pretraining learn more than its nulls know?",
            answer=verdict.answer,
            what=str(card["model"]),
            where=f"fold {card['fold']}",
            measure="validation loss (lower is better)",
            score=float(card["last"]),
            null_name=NULLS.get(lowest, "").removeprefix("null: "),
            null=nulls.get(lowest, NONE),
            table="models",
            verdict=verdict.text,
        )


def _evaluation(tables: Tables) -> Iterator[Finding]:
    """The best pretrained model of each task beside the best baseline."""
    summary, differences = tables["evaluation_summary"], tables["evaluation_differences"]
    tasks = main_rows(summary).groupby("task", sort=True)
    for (task, means), verdict in zip(tasks, best_verdicts(summary, differences), strict=True):
        part = means[means["share"] == means["share"].max()]
        model, baseline = (_first(best_rows(part, baselines=wanted)) for wanted in (False, True))
        measure = str(model.get("metric") or baseline.get("metric") or "")
        yield Finding(
            section="evaluation",
            question="Does a pretrained model beat the best baseline?",
            answer=verdict.answer,
            what=_reader(model),
            where=str(task),
            measure=MEASURES.get(measure, measure),
            **_score(model),
            null_name="chance",
            null=float(model.get("chance", NONE)),
            baseline_name=_reader(baseline),
            baseline=float(baseline.get("score", NONE)),
            table="evaluation_summary",
            verdict=verdict.text,
        )


def _federation(tables: Tables) -> Iterator[Finding]:
    """The best federated arm of each network beside every site alone."""
    means, gains = main_scores(tables["federation_summary"]), main_scores(tables["federation_gains"])
    networks = dict.fromkeys(arm[2] for arm in arms_of(means)) if len(means) else {}
    verdicts = gain_verdicts(tables["federation_summary"], tables["federation_gains"])
    for network, verdict in zip(networks, verdicts, strict=True):
        pooled = only(means, network=network, site=POOLED)
        best = best_gain(only(gains, network=network)) if len(gains) else None
        row = _first(only(pooled, strategy=best["strategy"])) if best else {}
        alone = _first(only(pooled, kind=LOCAL))
        yield Finding(
            section="federation",
            question="Do sites gain from training together?",
            answer=verdict.answer,
            what=arm_name(arm_of(best)) if best else "",
            where=f"{network}, all sites",
            measure="balanced accuracy",
            **_score(row),
            null_name="chance",
            null=float(row.get("chance", NONE)),
            baseline_name="every site alone",
            baseline=float(alone.get("score", NONE)),
            table="federation_summary",
            verdict=verdict.text,
        )


def _synthesis(tables: Tables) -> Iterator[Finding]:
    """The best model of each split beside its nulls and the baseline."""
    summary, parcels, differences = (tables[f"synthesis_{kind}"] for kind in ("summary", "parcels", "differences"))
    for split in splits_of(summary):
        own, places = only(summary, split=split), only(parcels, split=split)
        gains = only(differences, split=split) if len(differences) else differences
        verdict, best, group = lead_verdict(own, places, gains, split), best_model(own, gains), main_group(own)
        row, nulls = rows_of_model(own, str(best["model"]), group) if best else ({}, {})
        highest = max(nulls, key=lambda name: nulls[name]["r"], default="")
        other: Row = rows_of_model(own, str(best["other"]), group)[0] if best else {}
        yield Finding(
            section="synthesis",
            question=f"Can BOLD of {split_name(split)} be told from EEG?",
            answer=verdict.answer,
            what=str(best["model"]) if best else "",
            where=WHERE.get(group, group),
            measure="r",
            **_score({**row, "score": row.get("r", NONE)}),
            null_name=highest,
            null=float(nulls[highest]["r"]) if highest else NONE,
            baseline_name=str(best["other"]) if best else "",
            baseline=float(other.get("r", NONE)),
            table="synthesis_summary",
            verdict=verdict.text,
        )


def _score(row: Row) -> dict[str, float]:
    return {name: float(row.get(name, NONE)) for name in ("score", "ci_low", "ci_high", "n_participants")}


def _first(table: pd.DataFrame) -> Row:
    rows = table.to_dict("records")
    return rows[0] if rows else {}


def _reader(row: Row) -> str:
    return full_name((str(row["model"]), str(row["regime"]))) if row else ""
