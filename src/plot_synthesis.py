"""Draw the synthesis of BOLD from EEG: tables -> figures."""

from pathlib import Path

import pandas as pd

from neuroloom.figures import synthesis_parcels, synthesis_plots
from neuroloom.figures.style import save_figure
from neuroloom.figures.synthesis_attribution import plot_synthesis_attribution
from neuroloom.figures.synthesis_connectivity import plot_synthesis_connectivity
from neuroloom.figures.synthesis_maps import plot_synthesis_maps
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem.removeprefix("synthesis_"): pd.read_parquet(path) for path in snakemake.input}
    runs, summary, parcels = tables["synthesis"], tables["summary"], tables["parcels"]
    figures = {
        "scores": synthesis_plots.plot_synthesis_scores(summary),
        "differences": synthesis_plots.plot_synthesis_differences(tables["differences"]),
        "maps": plot_synthesis_maps(parcels),
        "traces": synthesis_parcels.plot_synthesis_traces(tables["traces"], parcels, runs),
        "nulls": synthesis_parcels.plot_synthesis_nulls(runs, parcels),
        "connectivity": plot_synthesis_connectivity(tables["connectivity"], parcels, summary, tables["scans"]),
        "attribution": plot_synthesis_attribution(tables["attribution"], parcels),
        "calibration": synthesis_plots.plot_synthesis_calibration(summary),
    }
    for path in snakemake.output:
        save_figure(figures[Path(path).stem.removeprefix("synthesis_")], path)
