"""Put EEG and BOLD of one scan on one clock: `recording` and `bold` artifacts -> `pair` artifact and QC row."""

from neuroloom.artifacts import open_artifact
from neuroloom.jobs import recording_job
from neuroloom.records import ParcelSeries, Recording
from neuroloom.synthesis.alignment import AlignedSeries, align

with recording_job(snakemake) as job:
    eeg = open_artifact(snakemake.input.eeg, kind="recording")
    bold = open_artifact(snakemake.input.bold, kind="bold")
    recording, series = Recording.from_artifact(eeg), ParcelSeries.from_artifact(bold)
    alignment = align(recording, series, file=f"{bold.path} with {eeg.path}", **snakemake.params.align)
    pair = AlignedSeries.of(series, alignment, file=str(bold.path))
    job.write("pair", pair, upstream={"eeg": eeg.digest, "bold": bold.digest}, notes=alignment.row())
    job.write_row(alignment.row(), snakemake.output.qc)
