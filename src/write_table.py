"""Write one table of the paper: tables -> LaTeX and csv."""

from pathlib import Path

import pandas as pd

from neuroloom.figures.latex import to_csv, to_latex
from neuroloom.figures.listings import LISTINGS
from neuroloom.figures.stamp import stamp
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input}
    listing = LISTINGS[snakemake.params.table]
    rows = listing.rows(tables)
    Path(snakemake.output.tex).write_text(to_latex(listing, rows, note=stamp(snakemake.input)))
    Path(snakemake.output.csv).write_text(to_csv(listing, rows))
