"""Fit one tokenizer: training recordings -> weights, settings and card."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.jobs import logged
from neuroloom.provenance import child_rng
from neuroloom.tokenizers.config import parse_tokenizer
from neuroloom.tokenizers.fitting import fit_tokenizer

with logged(snakemake):
    rows = {Path(path).name.removesuffix(".manifest.json"): Path(path) for path in snakemake.input.manifests}
    fit_tokenizer(
        config=parse_tokenizer(snakemake.params.tokenizer),
        sfreq=snakemake.params.sfreq,
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        manifests=rows,
        split_file=Path(snakemake.input.split),
        folder=Path(snakemake.output.model).parent,
        salt=snakemake.params.salt,
        threads=snakemake.threads,
        rng=child_rng(snakemake.params.seed, f"fit/{snakemake.wildcards.tokenizer}/{snakemake.wildcards.fold}"),
    )
