"""Ingest one EEG or MEG recording: any file that MNE reads -> `recording` artifact."""

from pathlib import Path

from neuroloom.config import IngestConfig, SourceConfig
from neuroloom.jobs import recording_job
from neuroloom.signals.ingest import to_recording
from neuroloom.signals.reading import read_raw, source_files

with recording_job(snakemake) as job:
    path = Path(snakemake.params.path)
    dataset, config = SourceConfig(**snakemake.params.dataset), IngestConfig(**snakemake.params.ingest)
    raw = read_raw(path, source=dataset)
    recording, notes = to_recording(raw, path=path, source=dataset, config=config)
    window = min(round(config.window * recording.sfreq), recording.signal_CT.shape[1])
    job.write("recording", recording, sources=source_files(path), notes=notes, window=window)
