"""What could be known of simulated BOLD: pairs and truths -> ceiling and visibility of each scan and parcel."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.jobs import logged
from neuroloom.synthesis.config import SynthesizeConfig
from neuroloom.synthesis.jobs import find_ceiling

with logged(snakemake):
    table = find_ceiling(
        config=SynthesizeConfig(**snakemake.params.synthesize),
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        aligned=[Path(path) for path in snakemake.input.aligned],
        eeg=[Path(path) for path in snakemake.input.eeg],
        simulated=Path(snakemake.input.sites[0]).parent,
    )
    table.to_parquet(snakemake.output.table)
