"""The report of a study: one self-contained HTML file that works offline, a page for each stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuroloom.config import Config
from neuroloom.figures.report_evaluation import evaluation_section
from neuroloom.figures.report_federation import federation_section, privacy_settings
from neuroloom.figures.report_lineage import TableFile
from neuroloom.figures.report_models import models_section
from neuroloom.figures.report_overview import facts, findings, findings_table, losses
from neuroloom.figures.report_pictures import embed_figures
from neuroloom.figures.report_recordings import quality_section, recordings_section
from neuroloom.figures.report_synthesis import synthesis_section
from neuroloom.figures.report_tables import select, to_table
from neuroloom.figures.report_tokens import cleaning_section, tokens_section
from neuroloom.provenance import config_digest, git_commit, versions

TEMPLATES = Path(__file__).parents[3] / "resources" / "report"
RUNTIME_COLUMNS = {
    "rule": "rule",
    "jobs": "jobs",
    "seconds": "by the clock (s)",
    "median_seconds": "median job (s)",
    "cpu_seconds": "CPU time (s)",
    "peak_mb": "peak memory (MB)",
}
Section = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Page:
    """One page of the report: its address, name, and what its template reads."""

    anchor: str
    title: str
    content: dict[str, Any]


def render_report(
    *,
    config: Config,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Path],
    drawn: Mapping[str, Path] | None = None,
    files: Mapping[str, TableFile] | None = None,
) -> str:
    """Render the report.

    Parameters
    ----------
    config : Config
        Printed, with its digest.
    tables : mapping
        `recordings`, `qc_meeg`, `qc_bold`, `quarantine`, `runtime`; `headline`, the findings; `cleaning` and
        `cleaning_curves` of a simulated study; `tokenizers`, `tokenizer_probes` and `token_quarantine` where there are
        tokenizers; `pretraining` and `models` where models were trained; `evaluation` and its other tables where they
        were judged; `federation` and its other tables where sites were federated; `synthesis_summary` and its other
        tables where BOLD was predicted, `connectomes` where connectomes were.
    figures : mapping
        QC figure (PNG) by recording; at most `config.report.max_figures` go in, the worst first.
    drawn : mapping, optional
        Figures of the gallery by name.
    files : mapping, optional
        Files of the tables, with their records, by name.

    Returns
    -------
    html : str
    """
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        name=config.study.name,
        simulated=config.study.recordings is None,
        facts=facts(tables),
        pages=list(pages(config, tables, figures, drawn or {})),
        files=files or {},
        styles=(TEMPLATES / "report.css").read_text(),
        scripts=[(TEMPLATES / name).read_text() for name in ("report.js", "brain.js")],
        versions=versions(),
        commit=git_commit() or "not in a git repository",
        config_digest=config_digest(config.model_dump()),
        config_json=json.dumps(config.model_dump(exclude_none=True), indent=1, ensure_ascii=False),
    )


def pages(
    config: Config, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Path], drawn: Mapping[str, Path]
) -> Iterator[Page]:
    """The pages that the study has, in the order of its stages."""
    privacy, simulated = privacy_settings(config.federate), config.study.recordings is None
    most = config.report.max_figures
    sections: list[tuple[str, str, str, Section]] = [  # the table without which there is no such page
        ("overview", "Overview", "recordings", lambda: _overview(tables)),
        ("study", "Recordings", "recordings", lambda: recordings_section(tables, drawn)),
        ("quality", "Quality", "recordings", lambda: quality_section(tables, drawn, figures, most=most)),
        ("cleaning", "Cleaning", "cleaning", lambda: cleaning_section(tables, drawn)),
        ("tokenizers", "Tokenizers", "tokenizers", lambda: tokens_section(tables, drawn)),
        ("models", "Foundation models", "models", lambda: models_section(tables, drawn)),
        ("evaluation", "Evaluation", "evaluation", lambda: evaluation_section(tables, drawn)),
        ("federation", "Federation", "federation", lambda: federation_section(tables, drawn, privacy=privacy)),
        (
            "synthesis",
            "EEG to fMRI",
            "synthesis_summary",
            lambda: synthesis_section(tables, drawn, simulated=simulated),
        ),
        ("connectomes", "Connectomes", "connectomes", lambda: _connectomes(tables)),
        ("runtime", "Run time", "runtime", lambda: _computing(tables, drawn)),
        ("lineage", "Lineage", "recordings", dict),
    ]
    for anchor, title, table, section in sections:
        if table in tables:
            yield Page(anchor, title, section())


def _overview(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    headline = tables.get("headline")
    lost, n_more = losses(tables)
    return {
        "findings": findings(headline),
        "table": findings_table(headline),
        "lost": lost,
        "n_more": n_more,
    }


def _computing(tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Path]) -> dict[str, Any]:
    runtime = to_table(select(tables["runtime"], RUNTIME_COLUMNS), "runtime")
    return {"runtime": runtime, "figures": embed_figures(drawn, "computing")}


def _connectomes(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    return {"scores": to_table(tables["connectomes"], "connectomes")}
