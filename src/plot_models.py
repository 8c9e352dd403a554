"""Draw pretraining: curves and cards -> figures."""

from pathlib import Path

import pandas as pd

from neuroloom.figures.model_plots import plot_pretraining, plot_scaling
from neuroloom.figures.style import save_figure
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input}
    figures = {
        "pretraining": plot_pretraining(tables["pretraining"], tables["models"]),
        "scaling": plot_scaling(tables["pretraining"], tables["models"]),
    }
    for path in snakemake.output:
        save_figure(figures[Path(path).stem.removeprefix("models_")], path)
