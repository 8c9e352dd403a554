"""Pretrain one model: training recordings, or their tokens -> weights, settings, curve and card."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.jobs import logged
from neuroloom.manifest import by_recording
from neuroloom.models.config import parse_model
from neuroloom.models.pretraining import pretrain_or_say_why
from neuroloom.passes.mapping import Placement, corpus_map
from neuroloom.provenance import child_rng

with logged(snakemake), corpus_map(Placement(**snakemake.params.dask)) as over:
    name, fold = snakemake.wildcards.model, snakemake.wildcards.fold
    pretrain_or_say_why(
        config=parse_model(snakemake.params.model),
        sfreq=snakemake.params.sfreq,
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        manifests=by_recording(snakemake.input.manifests),
        tokenizer=next((Path(path).parent for path in snakemake.input.tokenizer), None),
        tokens=[Path(path) for path in snakemake.input.tokens],
        split_file=Path(snakemake.input.split),
        folder=Path(snakemake.output.model).parent,
        salt=snakemake.params.study["name"],
        threads=snakemake.threads,
        rng=child_rng(snakemake.params.study["seed"], f"pretrain/{name}/{fold}"),
        over=over,
    )
