"""Gather the score tables of tokenizers: many small tables -> one of each kind."""

from pathlib import Path

from neuroloom.jobs import logged
from neuroloom.tables import concat_tables

with logged(snakemake):
    inputs = [Path(path) for path in snakemake.input]
    for path in map(Path, snakemake.output):
        suffix = ".lost.parquet" if path.stem == "token_quarantine" else f"/{path.stem}.parquet"
        table = concat_tables([one for one in inputs if str(one).endswith(suffix)])
        table.drop(columns="quarantined", errors="ignore").drop_duplicates().to_parquet(path)
