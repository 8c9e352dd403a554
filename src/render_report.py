"""Render the report: tables, their records, and figures -> one HTML file."""

from pathlib import Path

import pandas as pd

from neuroloom.config import Config
from neuroloom.figures.report import render_report
from neuroloom.figures.report_lineage import table_files
from neuroloom.jobs import logged
from neuroloom.journal import read_journal

with logged(snakemake):
    paths = [Path(path) for path in snakemake.input.tables]
    html = render_report(
        config=Config(**snakemake.params.config),
        tables={path.stem: pd.read_parquet(path) for path in paths},
        figures={Path(path).stem: Path(path) for path in snakemake.input.figures},
        drawn={Path(path).stem: Path(path) for path in snakemake.input.drawn},
        files=table_files(paths, read_journal(Path(snakemake.output[0]).parent)),
    )
    Path(snakemake.output[0]).write_text(html)
