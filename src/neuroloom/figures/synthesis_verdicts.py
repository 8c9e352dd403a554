"""What the report says of EEG-to-fMRI synthesis in words: whether it beats its baseline, its nulls and its control."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from neuroloom.figures.drawing import score_of
from neuroloom.figures.synthesis_models import (
    CONTROL,
    LEVEL,
    NULLS,
    TESTS,
    baseline_of,
    compared,
    in_group,
    is_found,
    main_group,
    models_of,
    only,
    split_name,
    splits_of,
)
from neuroloom.figures.verdicts import Answer, Difference, Verdict, answer_of, but, listed
from neuroloom.synthesis.ceiling import INVISIBLE, VISIBLE
from neuroloom.synthesis.nulls import MEASURED, OTHER
from neuroloom.synthesis.scoring import POOLED

ATTAINABLE = 0.8  # of the ceiling, which the project asks for
WHERE = {VISIBLE: "in parcels that EEG can see", INVISIBLE: "in parcels that EEG cannot see", POOLED: "in all parcels"}
QUIET: tuple[tuple[Answer, str], ...] = (  # of two signs
    ("no", "is not at chance, as it should be"),
    ("in part", "is not clearly at chance, as it should be"),
    ("yes", "is at chance, as it should be"),
)
Row = Mapping[Any, Any]


def synthesis_verdicts(summary: pd.DataFrame, parcels: pd.DataFrame, differences: pd.DataFrame) -> list[Verdict]:
    """For each split: whether the best model beats the baseline, how near it is to the ceiling, and what must fail.

    The best by the difference that is told, with hindsight, of the models that were asked about most people.

    Parameters
    ----------
    summary, parcels, differences : DataFrame
        `synthesis_summary`, `synthesis_parcels` and `synthesis_differences`.
    """
    verdicts: list[Verdict] = []
    for split in splits_of(summary) if len(summary) else ():
        own, places = only(summary, split=split), only(parcels, split=split)
        gains = only(differences, split=split) if len(differences) else differences
        lead = lead_verdict(own, places, gains, split)
        best = best_model(own, gains)
        verdicts.append(lead)
        if best is not None:
            verdicts += ceiling_verdicts(own, best["model"], split)
            if INVISIBLE in set(own["group"]):
                verdicts.append(chance_verdict(own, places, str(best["model"]), INVISIBLE, split))
        controls = [name for name, kind in models_of(own) if kind == CONTROL]
        verdicts += [chance_verdict(own, places, name, POOLED, split) for name in controls]
    return verdicts


def best_model(summary: pd.DataFrame, differences: pd.DataFrame) -> Row | None:
    """Row of the largest difference to the baseline, in the group that matters; None where there is no difference."""
    rows = _of_candidates(summary, differences)
    # the best of a few people would be the luckiest
    most = [row for row in rows if row["n_participants"] == max(one["n_participants"] for one in rows)]
    return max(most, key=lambda row: float(row["difference"])) if most else None


def _of_candidates(summary: pd.DataFrame, differences: pd.DataFrame) -> list[Row]:
    if differences.empty:
        return []
    names = compared(models_of(summary), baseline_of(differences, summary))
    rows = differences[(differences["group"] == main_group(summary)) & differences["model"].isin(names)]
    return list(rows.dropna(subset=["difference"]).to_dict("records"))


def lead_verdict(summary: pd.DataFrame, parcels: pd.DataFrame, differences: pd.DataFrame, split: str) -> Verdict:
    """Whether the best model has a higher r than the baseline and than its nulls, on the same people.

    Parameters
    ----------
    summary, parcels, differences : DataFrame
        Rows of one split.
    split : str
    """
    best, group = best_model(summary, differences), main_group(summary)
    start = _start(split)
    if best is None:
        return Verdict("unknown", f"{start}: no model stands beside a baseline with an r.")
    name, gain = str(best["model"]), Difference.of(best)
    row, nulls = rows_of_model(summary, name, group)
    answer = answer_of([gain.mean > 0], [gain])
    words = {"yes": "beats", "open": "is ahead of", "no": "does not beat"}[answer]
    others = [one for one in _of_candidates(summary, differences) if one["model"] != name]
    compared_with = [one for one in others if one["n_participants"] == best["n_participants"]]
    which = f"the best of {len(compared_with) + 1} models, {name}," if compared_with else name
    text = (
        f"{start}: {which} {words} {best['other']} {WHERE[group]}{but(answer)}. r is higher by {gain} on the same "
        f"{_people(gain.n)}{_without_interval(gain)}. Its mean r is {_score(row)}; {_nulls(nulls)}. "
        f"{_found(parcels, name, group)}{_others(others)}"
    )
    # a lead over a baseline at chance is no finding
    if not _above(row, nulls):
        text += " It is not beyond its nulls, so none of this is a finding."
        answer = "open" if answer == "yes" else answer
    return Verdict(answer, text)


def _start(split: str) -> str:
    words = split_name(split)
    return words[0].upper() + words[1:]


def _people(n: float) -> str:
    return f"{n:.0f} {'person' if n == 1 else 'people'}"


def _without_interval(gain: Difference) -> str:
    return ", too few for an interval" if pd.isna(gain.low) else ""


def rows_of_model(summary: pd.DataFrame, model: str, group: str) -> tuple[Row, dict[str, Row]]:
    """Row of a model in a group, and those of its nulls that have an r."""
    rows = {str(row["target"]): row for row in only(summary, model=model, group=group).to_dict("records")}
    return rows[MEASURED], {name: rows[name] for name in NULLS if name in rows and pd.notna(rows[name]["r"])}


def _score(row: Row) -> str:
    if pd.isna(row["ci_low"]):
        return score_of(row["r"])
    return f"{score_of(row['r'])} (95 % {score_of(row['ci_low'])} to {score_of(row['ci_high'])})"


def _nulls(nulls: Mapping[str, Row]) -> str:
    if not nulls:
        return "no null could be drawn"
    return "its nulls reach " + listed([f"{score_of(row['r'])} ({name})" for name, row in nulls.items()])


def _above(row: Row, nulls: Mapping[str, Row]) -> bool:
    """Whether the interval over people lies above the means of all nulls."""
    return bool(nulls) and bool(row["ci_low"] > max(one["r"] for one in nulls.values()))


def _found(parcels: pd.DataFrame, model: str, group: str) -> str:
    rows = in_group(only(parcels, model=model, target=MEASURED), group)
    return f"Beyond chance are {is_found(rows).sum()} of {len(rows)} of these parcels, by all nulls."


def _others(others: list[Row]) -> str:
    told = [
        f"{row['model']} {Difference.of(row)}, {_people(row['n_participants'])}"
        for row in sorted(others, key=lambda row: -float(row["difference"]))
    ]
    return f" The others, beside the same baseline: {'; '.join(told)}." if told else ""


def ceiling_verdicts(summary: pd.DataFrame, model: str, split: str) -> list[Verdict]:
    """Which share of the attainable r a model reaches, where that is known.

    Parameters
    ----------
    summary : DataFrame
        Rows of one split.
    model, split : str
    """
    group = main_group(summary)
    row, _ = rows_of_model(summary, model, group)
    share = float(row["of_ceiling"])
    if not math.isfinite(share):
        return []
    reaches = f"reaches {100 * share:.1f} % of what true band power attains {WHERE[group]}"
    text = f"{_start(split)}: {model} {reaches} (r {row['r']:.2f} of {row['ceiling']:.2f})"
    return [Verdict("yes" if share >= ATTAINABLE else "no", f"{text}; {100 * ATTAINABLE:.0f} % were asked for.")]


def chance_verdict(summary: pd.DataFrame, parcels: pd.DataFrame, model: str, group: str, split: str) -> Verdict:
    """Whether a model finds nothing where nothing can be found: by its mean beside its nulls, and parcel by parcel.

    A parcel counts if it is beyond one null at least. Of all that are found, one in twenty may be false; in this group
    there may be as many, and no more.

    Parameters
    ----------
    summary, parcels : DataFrame
        Rows of one split.
    model, group, split : str
    """
    row, nulls = rows_of_model(summary, model, group)
    rows = only(parcels, model=model, target=MEASURED)
    start = f"{_start(split)}: {model} {WHERE[group]}"
    if group == POOLED:
        start = f"{_start(split)}: {model}, which knows only what scanner and heart left in the EEG,"
    if pd.isna(row["r"]):
        return Verdict("yes", f"{start} finds nothing: its prediction is constant.")
    part = in_group(rows, group)
    n_found, n_all = int(is_found(part, by_any=True).sum()), int(is_found(rows, by_any=True).sum())
    # false discoveries of a model fall on parcels that have nothing to find
    allowed = math.ceil(LEVEL * n_all)
    counted = f"beyond one null at least are {n_found} of {len(part)} parcels"
    false = f" (of the {n_all} in all, {allowed} may be false)" if n_found else ""
    told = f"mean r {_score(row)}; {_nulls(nulls)}; {counted}{false}"
    if pd.isna(row["ci_low"]) or not nulls or not _tested(part):
        return Verdict("unknown", f"{start} cannot be told from chance, or as chance, with so few people: {told}.")
    quiet = [not _above(row, nulls), n_found <= allowed]
    answer, words = QUIET[sum(quiet)]
    return Verdict(answer, f"{start} {words}: {told}.")


def _tested(parcels: pd.DataFrame) -> bool:
    return bool(parcels[TESTS].notna().to_numpy().any())


def connectivity_notes(summary: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """How much of the agreement of connectivity any person's connectivity would give, too.

    Parameters
    ----------
    summary, differences : DataFrame
        `synthesis_summary` and `synthesis_differences`.
    """
    notes = []
    for split in splits_of(summary) if len(summary) else ():
        own = only(summary, split=split, group=POOLED)
        best = best_model(
            only(summary, split=split), only(differences, split=split) if len(differences) else differences
        )
        if best is None:
            continue
        # the control shows how much agreement needs no EEG of a brain
        chosen = [str(best["model"]), *(name for name, kind in models_of(own) if kind == CONTROL)]
        told = [_agreement(only(own, model=name).set_index("target")["fc_static"], name) for name in chosen]
        notes.append(
            f"{_start(split)}: agreement of predicted connectivity with that of the same scan, and with that of other "
            f"people (what all people share is not found in anybody's EEG): {'; '.join(told)}."
        )
    return notes


def _agreement(found: pd.Series, name: str) -> str:
    own, other = (float(found.get(target, float("nan"))) for target in (MEASURED, OTHER))
    return f"{name} {score_of(own)} and {score_of(other)}"


def people_notes(summary: pd.DataFrame) -> list[str]:
    """Models that were asked about fewer people than others of a split, and nulls that are missing."""
    notes = []
    for split in splits_of(summary) if len(summary) else ():
        rows = only(summary, split=split, target=MEASURED, group=POOLED)
        counts = rows.set_index("model")["n_participants"]
        # tables do not say which folds were asked, people do
        fewer = counts[counts < counts.max()]
        told = listed([f"{name} ({n:.0f})" for name, n in fewer.items()])
        if told:
            notes.append(
                f"{_start(split)}: {told} were asked about fewer people than the others ({counts.max():.0f}), in the "
                "folds that their settings name; to an encoder, only the people of its own test fold are new."
            )
    missing = [] if summary.empty or "note" not in summary else [str(note) for note in summary["note"].dropna() if note]
    return notes + [f"A null is missing: {note}." for note in dict.fromkeys(missing)]
