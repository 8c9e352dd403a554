"""Score the cleaning of a simulated study against its truth: stores -> scores with bounds, and curves."""

from contextlib import suppress
from pathlib import Path

from neuroloom.artifacts import open_artifact
from neuroloom.config import BoldConfig, MeegConfig, RecordingRow
from neuroloom.jobs import logged
from neuroloom.provenance import child_rng
from neuroloom.quarantine import Quarantined
from neuroloom.study.scoring import open_truth, score_recording, tabulate_curves, tabulate_scores

with logged(snakemake):
    simulated = Path(snakemake.input.sites[0]).parent
    rows = [RecordingRow(**row) for row in snakemake.params.rows]
    scores, curves = [], []
    configs = {"meeg": MeegConfig(**snakemake.params.meeg), "bold": BoldConfig(**snakemake.params.bold)}
    for row, *manifests in zip(rows, snakemake.input.ingested, snakemake.input.cleaned, strict=True):
        truth, facts = open_truth(simulated / row.site, row.recording)
        rng = child_rng(snakemake.params.seed, f"score/{row.recording}")
        with suppress(Quarantined):  # there is nothing to score, and the report says why
            ingested, cleaned = map(open_artifact, manifests)
            stores = {"ingested": ingested, "cleaned": cleaned, "truth": truth}
            found = score_recording(row, **stores, facts=facts, **configs, rng=rng)
            scores.append((row, found[0]))
            curves.append((row, found[1]))
    tabulate_scores(scores).to_parquet(snakemake.output.scores)
    tabulate_curves(curves).to_parquet(snakemake.output.curves)
