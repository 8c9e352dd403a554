"""Describe the study for others: records of its jobs -> RO-Crate metadata."""

from pathlib import Path

from neuroloom.crate import make_crate
from neuroloom.jobs import logged
from neuroloom.journal import read_journal
from neuroloom.lineage import find_outputs
from neuroloom.tables import write_json

with logged(snakemake):
    out = Path(snakemake.output[0])
    journal = read_journal(out.parent)
    roots = [root for path in snakemake.input for root in find_outputs(journal, Path(path))]
    write_json(make_crate(journal, roots, name=snakemake.params.study), out)
