"""Fit one model of synthesis in one kind of split: pairs and EEG -> `predictions` artifact, scores with nulls."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.jobs import Job, logged
from neuroloom.synthesis.config import SynthesizeConfig
from neuroloom.synthesis.jobs import left_out, predict_scans, score_scans
from neuroloom.training.processes import set_threads

with logged(snakemake), left_out(snakemake.output, snakemake.wildcards.synthesizer):
    set_threads(snakemake.threads)
    names, config = snakemake.wildcards, SynthesizeConfig(**snakemake.params.synthesize)
    predictions, attribution = predict_scans(
        model=names.synthesizer,
        division=names.division,
        config=config,
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        aligned=[Path(path) for path in snakemake.input.aligned],
        eeg=[Path(path) for path in snakemake.input.eeg],
        encoder=Path(snakemake.input.model[0]).parent if snakemake.input.model else None,
        folds=snakemake.params.folds,
        seed=snakemake.params.seed,
        keep=Path(snakemake.output.fitted),
    )
    Job(snakemake, snakemake.rule, names.synthesizer).write("predictions", predictions)
    tables = score_scans(predictions, config=config, ceiling=snakemake.input.ceiling, seed=snakemake.params.seed)
    for kind, table in {**tables, "attribution": attribution}.items():
        table.to_parquet(snakemake.output[kind])
