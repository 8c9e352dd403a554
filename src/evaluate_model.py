"""Judge one model in one task: weights and recordings -> scores, scores of participants, audits."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.evaluation.config import EvaluateConfig, TaskConfig
from neuroloom.evaluation.judging import judge_model
from neuroloom.jobs import logged
from neuroloom.manifest import by_recording
from neuroloom.training.processes import set_threads

with logged(snakemake):
    set_threads(snakemake.threads)
    tables = judge_model(
        folder=Path(snakemake.input.model).parent,
        task=TaskConfig(**snakemake.params.task),
        config=EvaluateConfig(**snakemake.params.evaluate),
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        manifests=by_recording(snakemake.input.manifests),
        split_file=Path(snakemake.input.split),
        seed=snakemake.params.seed,
        names=dict(snakemake.wildcards),
    )
    for table, path in zip(tables, snakemake.output, strict=True):
        table.to_parquet(path)
