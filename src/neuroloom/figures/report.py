"""The report of a study: one self-contained HTML page that works offline."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from neuroloom.config import Config
from neuroloom.figures.cleaning_plots import cleaning_reasons
from neuroloom.figures.report_evaluation import evaluation_section
from neuroloom.figures.report_federation import federation_section, privacy_settings
from neuroloom.figures.report_models import models_section
from neuroloom.figures.report_synthesis import synthesis_section
from neuroloom.figures.report_tables import embed_figures, embed_image, select, to_table
from neuroloom.provenance import config_digest, git_commit, versions
from neuroloom.tables import study_summary

TEMPLATE = Path(__file__).parents[3] / "resources" / "report.html.j2"
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


def render_report(
    *,
    config: Config,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Path],
    drawn: Mapping[str, Path] | None = None,
) -> str:
    """Render the page.

    Parameters
    ----------
    config : Config
        Printed, with its digest.
    tables : mapping
        `recordings`, `qc_meeg`, `qc_bold`, `quarantine`, `runtime`; `cleaning` and `cleaning_curves` of a simulated
        study; `tokenizers`, `tokenizer_probes` and `token_quarantine` where there are tokenizers; `pretraining` and
        `models` where models were trained; `evaluation` and its other tables where they were judged; `federation` and
        its other tables where sites were federated; `synthesis_summary` and its other tables where BOLD was predicted,
        `connectomes` where connectomes were.
    figures : mapping
        QC figure (PNG) by recording; at most `config.report.max_figures` go in, the worst first.
    drawn : mapping, optional
        Figures of the sections by name (`cleaning_…`, `tokens_…`, `models_…`, `evaluation_…`, `federation_…`,
        `synthesis_…`), with captions in resources/captions.

    Returns
    -------
    html : str
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text())
    recordings, quarantine = tables["recordings"], tables["quarantine"]
    lost = [tables[name] for name in ("quarantine", "token_quarantine", "pair_quarantine") if name in tables]
    shown, drawn = worst_first(tables)[: config.report.max_figures], drawn or {}
    privacy, simulated = privacy_settings(config.federate), config.study.recordings is None
    return template.render(
        name=config.study.name,
        headline=headline(recordings, quarantine),
        simulated=simulated,
        summary=to_table(study_summary(recordings)),
        meeg=to_table(select(tables["qc_meeg"], MEEG_COLUMNS)),
        bold=to_table(select(tables["qc_bold"], BOLD_COLUMNS)),
        quarantine=to_table(pd.concat(lost).drop_duplicates()),
        tokenizers=to_table(select(tables["tokenizers"], TOKENIZER_COLUMNS)) if "tokenizers" in tables else None,
        probes=to_table(_probes(tables["tokenizer_probes"])) if "tokenizers" in tables else None,
        token_figures=embed_figures(drawn, "tokens"),
        models=models_section(tables, drawn) if "models" in tables else None,
        evaluation=evaluation_section(tables, drawn) if "evaluation" in tables else None,
        federation=federation_section(tables, drawn, privacy=privacy) if "federation" in tables else None,
        synthesis=synthesis_section(tables, drawn, simulated=simulated) if "synthesis_summary" in tables else None,
        connectomes=to_table(tables["connectomes"]) if "connectomes" in tables else None,
        cleaning=to_table(tables["cleaning"].drop(columns="what")) if "cleaning" in tables else None,
        cleaning_reasons=_reasons(tables),
        cleaning_figures=embed_figures(drawn, "cleaning"),
        recordings=to_table(recordings.drop(columns=["n_rows", "n_columns"], errors="ignore")),
        runtime=to_table(tables["runtime"]),
        figures=[(name, embed_image(figures[name])) for name in shown if name in figures],
        n_figures=len(figures),
        versions=versions(),
        commit=git_commit() or "not in a git repository",
        config_digest=config_digest(config.model_dump()),
        config_json=json.dumps(config.model_dump(exclude_none=True), indent=1, ensure_ascii=False),
    )


def _reasons(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Of bounds that are not met, as far as there are curves."""
    known = tables.get("cleaning_curves")
    return [] if known is None or known.empty else cleaning_reasons(tables["cleaning"], known)


def _probes(table: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracies of the tokenizers' probes; the other metrics stay in the table file."""
    chosen = table[table["metric"] == "balanced_accuracy"] if len(table) else table
    return select(chosen, PROBE_COLUMNS)


def headline(recordings: pd.DataFrame, quarantine: pd.DataFrame) -> list[tuple[str, str]]:
    """The figures of the first screen: value and what it counts."""
    usable = recordings[recordings["status"] == "artifact"]
    people = recordings[["study", "site", "subject"]].drop_duplicates()
    hours = usable.groupby("modality")["duration"].sum() / 3600 if len(usable) else pd.Series(dtype=float)
    return [
        (f"{len(recordings)}", "recordings"),
        (f"{len(people)}", f"subjects at {recordings[['study', 'site']].drop_duplicates().shape[0]} sites"),
        *[(_span(value), f"usable {str(kind).upper()}") for kind, value in hours.items()],
        (f"{len(quarantine)}", "quarantined"),
        (f"{usable['bytes'].sum() / 1e6:.0f} MB" if len(usable) else "0 MB", "in checked artifacts"),
    ]


def _span(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


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
