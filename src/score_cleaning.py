"""Score the cleaning of a simulated study against its truth: stores -> one table with bounds."""

from pathlib import Path

from neuroloom.artifacts import open_artifact
from neuroloom.config import BoldConfig, RecordingRow
from neuroloom.jobs import logged
from neuroloom.provenance import child_rng
from neuroloom.study.scoring import open_truth, score_recording, tabulate_scores

with logged(snakemake):
    simulated = Path(snakemake.input.sites[0]).parent
    rows = [RecordingRow(**row) for row in snakemake.params.rows]
    scores = []
    for row, ingested, cleaned in zip(rows, snakemake.input.ingested, snakemake.input.cleaned, strict=True):
        truth, facts = open_truth(simulated / row.site, row.recording)
        found = score_recording(
            row,
            ingested=open_artifact(ingested),
            cleaned=open_artifact(cleaned),
            truth=truth,
            facts=facts,
            bold=BoldConfig(**snakemake.params.bold),
            rng=child_rng(snakemake.params.seed, f"score/{row.recording}"),
        )
        scores.append((row, found))
    tabulate_scores(scores).to_parquet(snakemake.output[0])
