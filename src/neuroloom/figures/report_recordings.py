"""The report's pages on recordings and their quality: who was measured, what was lost, and what to look at first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neuroloom.figures.report_pictures import embed_figures, embed_image
from neuroloom.figures.report_tables import select, to_table
from neuroloom.tables import study_summary

LOST = ("quarantine", "token_quarantine", "pair_quarantine")
MEEG_COLUMNS = {
    "recording": "recording",
    "n_channels": "channels",
    "n_bads": "bad",
    "bads": "reasons",
    "n_ocular": "eye components out",
    "n_muscle": "muscle components out",
    "n_windows": "windows",
    "n_rejected": "rejected windows",
    "duration": "duration (s)",
    "sfreq_in": "sampled at (Hz)",
    "line_freq": "mains (Hz)",
    "line_db_before": "mains before (dB)",
    "line_db_after": "mains after (dB)",
    "edge_fraction": "edges (share)",
    "nan_fraction": "missing (share)",
    "n_events": "events",
    "notes": "notes",
}
BOLD_COLUMNS = {
    "recording": "recording",
    "n_volumes": "volumes",
    "t_r": "TR (s)",
    "n_parcels": "parcels",
    "n_empty_parcels": "empty parcels",
    "coverage_min": "smallest coverage",
    "n_censored": "censored volumes",
    "tsnr_median": "median tSNR",
    "fd_mean": "mean FD (mm)",
    "fd_max": "max FD (mm)",
    "dvars_mean": "mean DVARS",
    "space": "space",
    "atlas": "atlas",
    "notes": "notes",
}


def recordings_section(tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path]) -> dict[str, Any]:
    """What the page of the study needs: who was measured where, what was quarantined, and every row of the sheet."""
    recordings = tables["recordings"]
    lost = {name: tables[name] for name in LOST if name in tables}
    return {
        "summary": to_table(study_summary(recordings), "recordings"),
        "quarantine": [to_table(table, name) for name, table in lost.items() if len(table)],
        "figures": embed_figures(drawn, "study"),
        "recordings": to_table(recordings.drop(columns=["n_rows", "n_columns"], errors="ignore"), "recordings"),
    }


def quality_section(
    tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path], pictures: Mapping[str, Path], *, most: int
) -> dict[str, Any]:
    """What the page of the quality needs: its tables, and pictures of the recordings that most need a look.

    Parameters
    ----------
    tables, drawn : mapping
        As `render_report` takes them.
    pictures : mapping
        QC figure by recording.
    most : int
        Pictures that are shown.
    """
    shown = worst_first(tables)[:most]
    return {
        "meeg": to_table(select(tables["qc_meeg"], MEEG_COLUMNS), "qc_meeg"),
        "bold": to_table(select(tables["qc_bold"], BOLD_COLUMNS), "qc_bold"),
        "figures": embed_figures(drawn, "quality"),
        "pictures": [(name, *embed_image(pictures[name])) for name in shown if name in pictures],
        "n_pictures": len(pictures),
    }


def worst_first(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Recordings by how much a person should look at them.

    The quarantined come first; then the worst of each modality in turn: most bad channels, most head motion.
    """
    meeg, bold = tables["qc_meeg"], tables["qc_bold"]
    scores: dict[str, float] = {}
    if len(meeg):
        scores |= dict(zip(meeg["recording"], meeg["n_bads"] / meeg["n_channels"], strict=True))
    if len(bold):
        scores |= dict(zip(bold["recording"], bold["fd_mean"].fillna(0.0), strict=True))
    ranks: dict[str, tuple[int, str]] = {}
    seen: Counter[str] = Counter()
    for name in sorted(scores, key=lambda name: (-scores[name], name)):
        modality = name.rsplit("_", 1)[-1]
        ranks[name] = (seen[modality], modality)
        seen[modality] += 1
    return [*tables["quarantine"]["recording"], *sorted(ranks, key=lambda name: ranks[name])]
