"""Divide the recordings of a study: sheet -> one checked split."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.evaluation.splits import split_subjects, to_json
from neuroloom.jobs import logged

with logged(snakemake):
    rows = [RecordingRow(**row) for row in snakemake.params.rows]
    split = split_subjects(rows, fold=int(snakemake.wildcards.fold), **snakemake.params.split)
    Path(snakemake.output[0]).write_text(to_json(split))
