"""List a BIDS dataset: its file names and participants.tsv -> the recordings sheet."""

from pathlib import Path

from neuroloom.config import StudyConfig
from neuroloom.jobs import logged
from neuroloom.study.bids import index_study

with logged(snakemake):
    index_study(StudyConfig(**snakemake.params.study), Path(snakemake.output[0]))
