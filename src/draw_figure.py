"""Draw one figure of the gallery: tables -> figure."""

from pathlib import Path

import pandas as pd

from neuroloom.figures.gallery import FIGURES
from neuroloom.figures.style import save_figure
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input}
    figure = FIGURES[snakemake.params.figure].draw(tables)
    save_figure(figure, *snakemake.output, tables=snakemake.input)
