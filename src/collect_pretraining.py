"""Gather training curves and cards: one file of each model -> two tables."""

from pathlib import Path

from neuroloom.jobs import logged
from neuroloom.models.curves import pretraining_tables

with logged(snakemake):
    files = [Path(path) for path in snakemake.input]
    curves, models = pretraining_tables(
        [path for path in files if path.suffix == ".parquet"],
        [path for path in files if path.suffix == ".json"],
        sweep=snakemake.params.sweep,
    )
    curves.to_parquet(snakemake.output.curves)
    models.to_parquet(snakemake.output.models)
