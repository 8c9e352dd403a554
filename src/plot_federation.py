"""Draw the federation: tables -> figures."""

from pathlib import Path

import pandas as pd

from neuroloom.figures.federation_audits import plot_federation_attacks, plot_federation_cost
from neuroloom.figures.federation_plots import plot_federation_gains, plot_federation_rounds, plot_federation_scores
from neuroloom.figures.style import save_figure
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input}
    figures = {
        "scores": plot_federation_scores(tables["federation"], tables["federation_summary"]),
        "rounds": plot_federation_rounds(tables["federation_rounds"], tables["federation"]),
        "gains": plot_federation_gains(tables["federation_gains"]),
        "cost": plot_federation_cost(tables["federation_cost"]),
        "attacks": plot_federation_attacks(tables["federation_attacks"]),
    }
    for path in snakemake.output:
        save_figure(figures[Path(path).stem.removeprefix("federation_")], path)
