"""Render the report: tables, QC figures and benchmark files -> one HTML page."""

from pathlib import Path

import pandas as pd

from neuroloom.config import Config
from neuroloom.figures.report import render_report
from neuroloom.jobs import logged
from neuroloom.tables import runtime_table

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input.tables}
    tables["runtime"] = runtime_table([Path(path) for path in snakemake.input.benchmarks])
    figures = {Path(path).stem: Path(path) for path in snakemake.input.figures}
    drawn = {Path(path).stem: Path(path) for path in snakemake.input.drawn}
    config = Config(**snakemake.params.config)
    html = render_report(config=config, tables=tables, figures=figures, drawn=drawn)
    Path(snakemake.output[0]).write_text(html)
