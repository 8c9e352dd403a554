"""Predict fMRI connectomes from EEG connectomes across people: files of the study -> table with nulls."""

from pathlib import Path

from neuroloom.jobs import logged
from neuroloom.provenance import child_rng
from neuroloom.study.connectome_files import read_connectomes
from neuroloom.synthesis.connectomes import predict_connectomes

with logged(snakemake):
    sets = read_connectomes(Path(snakemake.params.folder))
    rng = child_rng(snakemake.params.seed, "predict_connectomes")
    predict_connectomes(sets, n_draws=snakemake.params.n_draws, rng=rng).to_parquet(snakemake.output[0])
