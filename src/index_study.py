"""List a BIDS dataset: its file names and participants.tsv -> the recordings sheet."""

from pathlib import Path

from neuroloom.config import ConfigError, StudyConfig
from neuroloom.jobs import logged
from neuroloom.study.bids import index_bids
from neuroloom.study.sheet import write_sheet

with logged(snakemake):
    study = StudyConfig(**snakemake.params.study)
    if study.bids_root is None:
        raise ConfigError("study.bids_root is not set: name the BIDS dataset to index in your config file")
    rows = index_bids(Path(study.bids_root), study=study.name, labels=study.labels, relative_to=Path(study.root_path))
    write_sheet(rows, Path(snakemake.output[0]), labels=study.labels)
