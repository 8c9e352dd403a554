"""Draw the evaluation of models and baselines: tables -> figures."""

from pathlib import Path

import pandas as pd

from neuroloom.figures.evaluation_audits import plot_audits, plot_variance
from neuroloom.figures.evaluation_plots import plot_downstream, plot_few_shot
from neuroloom.figures.style import save_figure
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input}
    figures = {
        "downstream": plot_downstream(tables["evaluation"], tables["evaluation_summary"]),
        "few_shot": plot_few_shot(tables["evaluation_summary"]),
        "audits": plot_audits(tables["evaluation_audits"]),
        "variance": plot_variance(tables["evaluation_variance"]),
    }
    for path in snakemake.output:
        save_figure(figures[Path(path).stem.removeprefix("evaluation_")], path)
