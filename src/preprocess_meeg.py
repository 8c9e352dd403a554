"""Preprocess one EEG or MEG recording: `recording` artifact -> `recording` artifact, QC row and figure."""

from neuroloom.artifacts import open_artifact
from neuroloom.config import MeegConfig
from neuroloom.figures.meeg_qc import plot_meeg_qc
from neuroloom.figures.style import save_figure
from neuroloom.jobs import recording_job
from neuroloom.provenance import child_rng
from neuroloom.records import Recording
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.signals.site import read_site

with recording_job(snakemake) as job:
    ingested = open_artifact(snakemake.input.manifest, kind="recording")
    before = Recording.from_artifact(ingested)
    config, window = MeegConfig(**snakemake.params.meeg), snakemake.params.window
    rng = child_rng(snakemake.params.seed, f"preprocess/{job.recording}")
    site = read_site(snakemake.input.empty_room, snakemake.input.head)
    measured = {"file": str(ingested.path), "empty_room": site.empty_room, "head": site.head}
    clean, qc = preprocess_meeg(recording=before, config=config, window=window, rng=rng, **measured)
    made = {"upstream": {"ingest": ingested.digest}, "sources": site.files, "notes": qc.row()}
    job.write("recording", clean, window=round(window * clean.sfreq), **made)
    after = Recording.from_artifact(open_artifact(snakemake.output.manifest))
    qc = qc.with_windows(after)
    job.write_row(qc.row(), snakemake.output.qc)
    save_figure(plot_meeg_qc(before, after, qc, title=job.recording), snakemake.output.figure)
