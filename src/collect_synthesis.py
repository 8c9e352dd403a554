"""Gather the scores of all models of synthesis: tables of the jobs -> tables of the study."""

from pathlib import Path

from neuroloom.jobs import logged
from neuroloom.provenance import child_rng
from neuroloom.synthesis.tables import collect_synthesis, pair_tables

with logged(snakemake):
    rng = child_rng(snakemake.params.seed, "collect_synthesis")
    found = [Path(path) for path in snakemake.input.scores]
    tables = collect_synthesis(found, rng=rng, baseline=snakemake.params.baseline)
    tables |= pair_tables(snakemake.input.qc, snakemake.input.manifests)
    for path in map(Path, snakemake.output):
        tables[path.stem].to_parquet(path)
