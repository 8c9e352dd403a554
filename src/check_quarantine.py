"""Check the share of quarantined recordings: tables -> a small JSON, or an error that says what was lost."""

from pathlib import Path

import pandas as pd

from neuroloom.jobs import logged
from neuroloom.tables import check_quarantine, write_json

with logged(snakemake):
    quarantine = pd.read_parquet(snakemake.input.quarantine)
    n_recordings = len(pd.read_parquet(snakemake.input.recordings))
    limit = snakemake.params.max_fraction
    checked = check_quarantine(quarantine, n_recordings=n_recordings, max_fraction=limit)
    write_json(checked, Path(snakemake.output[0]))
