"""Preprocess one EEG or MEG recording: `recording` artifact -> `recording` artifact, QC row and figure."""

from neuroloom.artifacts import open_artifact
from neuroloom.config import MeegConfig
from neuroloom.figures.meeg_qc import plot_meeg_qc
from neuroloom.figures.style import save_figure
from neuroloom.jobs import recording_job
from neuroloom.provenance import child_rng
from neuroloom.records import Recording
from neuroloom.signals.preprocess import preprocess_meeg

with recording_job(snakemake) as job:
    ingested = open_artifact(snakemake.input.manifest, kind="recording")
    before = Recording.from_artifact(ingested)
    config = MeegConfig(**snakemake.params.meeg)
    rng = child_rng(snakemake.params.seed, f"preprocess/{job.recording}")
    after, qc = preprocess_meeg(recording=before, config=config, file=str(ingested.path), rng=rng)
    window = round(snakemake.params.window * after.sfreq)
    job.write("recording", after, upstream={"ingest": ingested.digest}, notes=qc.row(), window=window)
    job.write_row(qc.row(), snakemake.output.qc)
    save_figure(plot_meeg_qc(before, after, qc, title=job.recording), snakemake.output.figure)
