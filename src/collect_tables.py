"""Gather the tables of the study: manifests and QC rows -> recordings, qc_meeg, qc_bold, quarantine."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.jobs import logged
from neuroloom.tables import concat_rows, recordings_table

with logged(snakemake):
    rows = [RecordingRow(**row) for row in snakemake.params.rows]
    recordings, quarantine = recordings_table(rows, [Path(path) for path in snakemake.input.manifests])
    recordings.to_parquet(snakemake.output.recordings)
    quarantine.to_parquet(snakemake.output.quarantine)
    qc = dict(zip((row.recording for row in rows), snakemake.input.qc, strict=True))
    for output, modalities in ((snakemake.output.qc_meeg, ("eeg", "meg")), (snakemake.output.qc_bold, ("bold",))):
        concat_rows([Path(qc[row.recording]) for row in rows if row.modality in modalities]).to_parquet(output)
