"""The report's section on EEG-to-fMRI synthesis: whether it works, beside nulls, baselines, control and ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neuroloom.figures.report_brain import brain_view
from neuroloom.figures.report_pictures import embed_figures
from neuroloom.figures.report_tables import MOST_ROWS, select, to_table
from neuroloom.figures.synthesis_models import NULLS, OURS, group_name, groups_of, models_of, split_name, splits_of
from neuroloom.figures.synthesis_verdicts import connectivity_notes, people_notes, synthesis_verdicts
from neuroloom.synthesis.nulls import MEASURED, OTHER
from neuroloom.synthesis.scoring import LABELS

WHERE = ["model", "kind", "split", "group"]
ABOUT = {"split": "test", "group": "parcels", "model": "model"}
LIMITS = {"ci_low": "from", "ci_high": "to"}
SCORE_COLUMNS = {
    **ABOUT,
    "r": "mean r",
    **LIMITS,
    **{name: f"null: {name}" for name in NULLS},
    "of_ceiling": "of the ceiling",
    "significant": "parcels with q < 0.05 (share)",
    "r_partial": "r without global signal and motion",
    "coherence": "coherence",
    "mse": "MSE",
    "r2": "R²",
    "n_participants": "people",
    "n_scans": "scans",
    "n_volumes": "volumes",
    "n_parcels": "number of parcels",
    "note": "note",
}
DIFFERENCE_COLUMNS = {
    **ABOUT,
    "other": "beside",
    "difference": "r higher by",
    **LIMITS,
    "n_participants": "people",
}
CONNECTIVITY = {"fc_static": "static", "fc_dynamic": "in windows", "fc_fluctuation": "fluctuation"}
AGREEMENT_COLUMNS = {
    **ABOUT,
    **{
        key: words
        for name, said in CONNECTIVITY.items()
        for key, words in (
            (name, said),
            (f"{name} {OTHER}", f"{said}, null: {OTHER}"),
            (f"{name} {LABELS}", f"{said}, null: {LABELS}"),
        )
    },
    "n_participants": "people",
}
CALIBRATION_COLUMNS = {
    **ABOUT,
    **{f"coverage{level}": f"inside {level} %" for level in (50, 80, 95)},
    "nll": "negative log likelihood",
}
PARCEL_COLUMNS = {
    **ABOUT,
    "parcel": "parcel",
    "x": "x (mm)",
    "y": "y (mm)",
    "z": "z (mm)",
    "r": "mean r",
    **LIMITS,
    "q_phase": f"q, {NULLS[0]}",
    "q_shift": f"q, {NULLS[1]}",
    "q_other": f"q, {NULLS[2]}",
    "n_participants": "people",
}
SPHERE = (
    "Simulated people and the head model of our models share a sphere and the template's head: what that model knows "
    "of these heads, it does not know of real ones."
)
CLEAN = "Pairs of EEG and BOLD, and models, that could not be used are in the quarantine table, with the reason."
SEEN = "Some people of the test were seen in the training of a model: allow_seen_subjects is set."


def synthesis_section(
    tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path], *, simulated: bool
) -> dict[str, Any]:
    """What the template needs: verdicts, figures, tables, notes, and the brain that turns.

    Parameters
    ----------
    tables : mapping
        `synthesis`, `synthesis_summary`, `synthesis_parcels`, `synthesis_differences`.
    drawn : mapping
        Figures by name.
    simulated : bool
        Whether the truth is known.
    """
    summary, parcels, differences = (tables[f"synthesis_{name}"] for name in ("summary", "parcels", "differences"))
    wide, measured = _named(_wide(summary)), _of_measured(parcels)
    return {
        "verdicts": synthesis_verdicts(summary, parcels, differences),
        "figures": embed_figures(drawn, "synthesis"),
        "scores": to_table(select(wide, SCORE_COLUMNS), "synthesis_summary"),
        "differences": to_table(select(_named(differences), DIFFERENCE_COLUMNS), "synthesis_differences"),
        "agreement": to_table(select(wide, AGREEMENT_COLUMNS), "synthesis_summary"),
        "calibration": to_table(select(wide, CALIBRATION_COLUMNS), "synthesis_summary"),
        "parcels": to_table(select(_named(measured), PARCEL_COLUMNS), "synthesis_parcels", most=MOST_ROWS),
        "brain": brain_view(parcels),
        "notes": notes_of(tables, simulated=simulated),
    }


def notes_of(tables: Mapping[str, pd.DataFrame], *, simulated: bool) -> list[str]:
    """What has to be known beside the verdicts.

    Parameters
    ----------
    tables : mapping
        `synthesis`, `synthesis_summary` and `synthesis_differences`.
    simulated : bool
        Whether the truth is known.
    """
    runs, summary, differences = (tables[f"synthesis{name}"] for name in ("", "_summary", "_differences"))
    # only those who read through the head model gain from knowing the head
    sphere = simulated and len(summary) and OURS in set(summary["kind"])
    seen = "seen" in runs and bool(runs["seen"].any())
    told = [*people_notes(summary), *connectivity_notes(summary, differences)]
    return [*([SPHERE] if sphere else []), *told, *([SEEN] if seen else []), CLEAN]


def _of_measured(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["target"] == MEASURED] if len(table) else table


def _wide(summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each model, split and group, with its nulls in columns of their own."""
    wide = _of_measured(summary)
    for target in (*NULLS, LABELS) if len(summary) else ():
        # nulls are rows of the table; beside the score they are read
        nulls = summary.loc[summary["target"] == target, [*WHERE, "r", *CONNECTIVITY]]
        names = {"r": target, **{name: f"{name} {target}" for name in CONNECTIVITY}}
        wide = wide.merge(nulls.rename(columns=names), on=WHERE, how="left")
    return wide


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in words, in the order of the figures."""
    if table.empty:
        return table
    place = {
        "split": {name: at for at, name in enumerate(splits_of(table))},
        "group": {name: at for at, name in enumerate(groups_of(table))},
        "model": {name: at for at, (name, _) in enumerate(models_of(table))},
    }
    ordered = table.sort_values(list(place), key=lambda column: column.map(place[str(column.name)]), kind="stable")
    return ordered.assign(split=ordered["split"].map(split_name), group=ordered["group"].map(group_name))
