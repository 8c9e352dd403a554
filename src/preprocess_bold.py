"""Preprocess one fMRI recording: `volumes` or `bold` artifact -> `bold` artifact, QC row and figure."""

from neuroloom.artifacts import open_artifact
from neuroloom.bold.parcels import load_atlas
from neuroloom.bold.preprocess import preprocess_bold, preprocess_parcels
from neuroloom.config import BoldConfig, SourceConfig
from neuroloom.figures.bold_qc import plot_bold_qc
from neuroloom.figures.style import save_figure
from neuroloom.jobs import recording_job
from neuroloom.records import ParcelSeries, Volumes

with recording_job(snakemake) as job:
    ingested = open_artifact(snakemake.input.manifest)
    config, dataset = BoldConfig(**snakemake.params.bold), SourceConfig(**snakemake.params.dataset)
    if ingested.spec.kind == "volumes":
        volumes = Volumes.from_artifact(ingested)
        parcellation = load_atlas(dataset.atlas or config.atlas, reference=volumes)
        series, qc = preprocess_bold(volumes=volumes, parcellation=parcellation, config=config, file=str(ingested.path))
    else:
        table = ParcelSeries.from_artifact(ingested)
        series, qc = preprocess_parcels(series=table, config=config, file=str(ingested.path))
    job.write("bold", series, upstream={"ingest": ingested.digest}, notes=qc.row())
    job.write_row(qc.row(), snakemake.output.qc)
    save_figure(plot_bold_qc(qc, series, title=job.recording), snakemake.output.figure)
