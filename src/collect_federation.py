"""Gather the arms of the federation: tables of all jobs -> tables of the study."""

from pathlib import Path

from neuroloom.federated.tables import collect_federation
from neuroloom.jobs import logged

with logged(snakemake):
    tables = collect_federation([Path(path) for path in snakemake.input])
    for path in map(Path, snakemake.output):
        tables[path.stem].to_parquet(path)
