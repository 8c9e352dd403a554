"""Ingest one fMRI recording: 4-D NIfTI -> `volumes` artifact, or parcel table -> `bold` artifact."""

from pathlib import Path

from neuroloom.bold.reading import bold_source_files, read_bold
from neuroloom.config import SourceConfig
from neuroloom.jobs import recording_job
from neuroloom.records import Volumes

with recording_job(snakemake) as job:
    path = Path(snakemake.params.path)
    series = read_bold(path, source=SourceConfig(**snakemake.params.dataset))
    kind = "volumes" if isinstance(series, Volumes) else "bold"
    job.write(kind, series, sources=bold_source_files(path))
