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
    config, window = MeegConfig(**snakemake.params.meeg), snakemake.params.window
    rng = child_rng(snakemake.params.seed, f"preprocess/{job.recording}")
    clean, qc = preprocess_meeg(recording=before, config=config, window=window, file=str(ingested.path), rng=rng)
    upstream = {"ingest": ingested.digest}
    job.write("recording", clean, upstream=upstream, notes=qc.row(), window=round(window * clean.sfreq))
    after = Recording.from_artifact(open_artifact(snakemake.output.manifest))
    qc = qc.with_windows(after)
    job.write_row(qc.row(), snakemake.output.qc)
    save_figure(plot_meeg_qc(before, after, qc, title=job.recording), snakemake.output.figure)
