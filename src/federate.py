"""Run one arm of the federation: recordings, split and weights -> scores, participants, rounds, attacks."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.evaluation.config import TaskConfig
from neuroloom.federated.comparing import compare
from neuroloom.federated.config import FederateConfig
from neuroloom.jobs import logged
from neuroloom.manifest import by_recording
from neuroloom.training.processes import set_threads

with logged(snakemake):
    set_threads(snakemake.threads)
    tables = compare(
        name=snakemake.wildcards.strategy,
        config=FederateConfig(**snakemake.params.federate),
        task=TaskConfig(**snakemake.params.task),
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        manifests=by_recording(snakemake.input.manifests),
        split_file=Path(snakemake.input.split),
        model=Path(snakemake.input.model[0]).parent if snakemake.input.model else None,
        folder=Path(snakemake.output.scores).parent,
        ledgers=Path(snakemake.params.ledgers),
        fold=int(snakemake.wildcards.fold),
        seed=snakemake.params.seed,
    )
    for kind, path in snakemake.output.items():
        tables[kind].to_parquet(path)
