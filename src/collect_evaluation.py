"""Gather scores of models and baselines: tables of all jobs -> tables of the study."""

from pathlib import Path

from neuroloom.evaluation.tables import collect_evaluation
from neuroloom.jobs import logged

with logged(snakemake):
    tables = collect_evaluation([Path(path) for path in snakemake.input])
    for path in map(Path, snakemake.output):
        tables[path.stem].to_parquet(path)
