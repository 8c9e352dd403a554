"""Write predicted BOLD as images that any fMRI tool opens: `predictions` artifact -> BIDS derivatives."""

from contextlib import suppress
from pathlib import Path

from neuroloom.artifacts import open_artifact
from neuroloom.config import RecordingRow
from neuroloom.jobs import logged
from neuroloom.quarantine import Quarantined
from neuroloom.synthesis.jobs import export_bold

with logged(snakemake), suppress(Quarantined):  # where nothing was predicted the folder stays empty
    Path(snakemake.output.folder).mkdir(parents=True)
    export_bold(
        open_artifact(snakemake.input.manifest, kind="predictions"),
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        bold=[Path(path) for path in snakemake.input.bold],
        folder=Path(snakemake.output.folder),
        voxel_mm=snakemake.params.voxel_mm,
    )
