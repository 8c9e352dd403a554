"""Gather time and memory of the jobs: benchmark files -> jobs, runtime, schedule."""

from pathlib import Path

from neuroloom.jobs import logged
from neuroloom.runtime import jobs_table, runtime_table, schedule_table

with logged(snakemake):
    jobs = jobs_table([Path(path) for path in snakemake.input])
    jobs.to_parquet(snakemake.output.jobs)
    runtime_table(jobs).to_parquet(snakemake.output.runtime)
    schedule_table(jobs).to_parquet(snakemake.output.schedule)
