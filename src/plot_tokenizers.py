"""Draw the comparison of the tokenizers: tables -> figures."""

from pathlib import Path

import pandas as pd

from neuroloom.figures.style import save_figure
from neuroloom.figures.token_plots import plot_code_usage, plot_rate_distortion, plot_reconstruction
from neuroloom.figures.token_probes import plot_token_probes
from neuroloom.figures.token_spectra import plot_token_atlas, plot_token_examples
from neuroloom.jobs import logged

with logged(snakemake):
    tables = {Path(path).stem: pd.read_parquet(path) for path in snakemake.input}
    figures = {
        "reconstruction": plot_reconstruction(tables["tokenizers"]),
        "rate_distortion": plot_rate_distortion(tables["tokenizers"]),
        "code_usage": plot_code_usage(tables["token_usage"]),
        "atlas": plot_token_atlas(tables["token_atlas"]),
        "examples": plot_token_examples(tables["token_examples"], tables["token_example_spectra"]),
        "probes": plot_token_probes(tables["tokenizer_probes"]),
    }
    for path in snakemake.output:
        save_figure(figures[Path(path).stem.removeprefix("tokens_")], path)
