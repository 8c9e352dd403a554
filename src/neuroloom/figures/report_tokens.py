"""The report's pages on cleaning and on tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neuroloom.figures.cleaning_plots import cleaning_reasons
from neuroloom.figures.report_pictures import embed_figures
from neuroloom.figures.report_tables import select, to_table

TOKENIZER_COLUMNS = {
    "tokenizer": "tokenizer",
    "fold": "fold",
    "device": "device",
    "held_out": "never trained on",
    "n_participants": "people",
    "n_segments": "segments",
    "correlation": "correlation",
    "correlation_low": "from",
    "correlation_high": "to",
    "correlation_null": "by chance",
    "spectral_db": "spectrum off (dB)",
    "spectral_db_null": "by chance (dB)",
    "usage_1": "codes used (level 1)",
    "perplexity_1": "perplexity (level 1)",
    "bits_per_second": "bits/s",
    "entropy_bits_per_second": "entropy (bits/s)",
    "encode_speed": "encoding (x real time)",
}
PROBE_COLUMNS = {
    "tokenizer": "tokenizer",
    "fold": "fold",
    "features": "features",
    "target": "asked",
    "split": "split",
    "probe": "probe",
    "score": "balanced accuracy",
    "ci_low": "from",
    "ci_high": "to",
    "chance": "chance",
    "chance_high": "chance up to",
    "p": "p",
    "n_participants": "people",
    "n_classes": "classes",
    "note": "note",
}


def cleaning_section(tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path]) -> dict[str, Any]:
    """What the template needs: scores against the truth, why bounds are not met as far as curves tell, and figures."""
    table, curves = tables["cleaning"], tables.get("cleaning_curves")
    return {
        "scores": to_table(table.drop(columns="what"), "cleaning"),
        "reasons": [] if curves is None or curves.empty else cleaning_reasons(table, curves),
        "figures": embed_figures(drawn, "cleaning"),
    }


def tokens_section(tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path]) -> dict[str, Any]:
    """What the template needs: tokenizers by device, balanced accuracies of the probes, and figures."""
    probes = tables["tokenizer_probes"]
    chosen = probes[probes["metric"] == "balanced_accuracy"] if len(probes) else probes
    return {
        "scores": to_table(select(tables["tokenizers"], TOKENIZER_COLUMNS), "tokenizers"),
        "probes": to_table(select(chosen, PROBE_COLUMNS), "tokenizer_probes"),
        "figures": embed_figures(drawn, "tokens"),
    }
