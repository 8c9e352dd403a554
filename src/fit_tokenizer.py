"""Fit one tokenizer: training recordings -> weights, settings and card."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.jobs import logged
from neuroloom.manifest import by_recording
from neuroloom.passes.mapping import Placement, corpus_map
from neuroloom.provenance import child_rng
from neuroloom.quarantine import UnusableRecording
from neuroloom.tokenizers.config import parse_tokenizer
from neuroloom.tokenizers.fitting import fit_tokenizer, write_unfitted

with logged(snakemake), corpus_map(Placement(**snakemake.params.dask)) as over:
    folder, wildcards = Path(snakemake.output.model).parent, snakemake.wildcards
    try:
        fit_tokenizer(
            config=parse_tokenizer(snakemake.params.tokenizer),
            sfreq=snakemake.params.sfreq,
            rows=[RecordingRow(**row) for row in snakemake.params.rows],
            manifests=by_recording(snakemake.input.manifests),
            split_file=Path(snakemake.input.split),
            folder=folder,
            salt=snakemake.params.study["name"],
            threads=snakemake.threads,
            rng=child_rng(snakemake.params.study["seed"], f"fit/{wildcards.tokenizer}/{wildcards.fold}"),
            over=over,
        )
    except UnusableRecording as error:
        write_unfitted(folder, error)
