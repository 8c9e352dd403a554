"""Divide the recordings of a study: sheet -> one checked split, and the one in which no device is held out."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.evaluation.splits import split_subjects, to_json
from neuroloom.jobs import logged

with logged(snakemake):
    rows = [RecordingRow(**row) for row in snakemake.params.rows]
    fold, asked = int(snakemake.wildcards.fold), snakemake.params.split
    Path(snakemake.output.study).write_text(to_json(split_subjects(rows, fold=fold, **asked)))
    # every site of a federation trains on its own people, on whatever device
    Path(snakemake.output.sites).write_text(to_json(split_subjects(rows, fold=fold, n_folds=asked["n_folds"])))
