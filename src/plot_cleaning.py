"""Draw where cleaning loses what its bounds ask for: table -> figure."""

import pandas as pd

from neuroloom.figures.cleaning_plots import plot_cleaning_curves
from neuroloom.figures.style import save_figure
from neuroloom.jobs import logged

with logged(snakemake):
    save_figure(plot_cleaning_curves(pd.read_parquet(snakemake.input[0])), snakemake.output[0])
