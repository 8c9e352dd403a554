"""Say what the study found: its tables -> one row for each question."""

from pathlib import Path

import pandas as pd

from neuroloom.figures.headline import headline_table
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input}
    headline_table(tables).to_parquet(snakemake.output[0])
