"""Judge one tokenizer: its tokens and the recordings -> tables of scores, probes, usage and examples."""

from pathlib import Path

from neuroloom.config import RecordingRow
from neuroloom.jobs import logged
from neuroloom.passes.mapping import Placement, corpus_map
from neuroloom.provenance import child_rng
from neuroloom.tokenizers.judging import judge_tokenizer
from neuroloom.training.processes import set_threads

with logged(snakemake), corpus_map(Placement(**snakemake.params.dask)) as over:
    set_threads(snakemake.threads)
    name, fold = snakemake.wildcards.tokenizer, int(snakemake.wildcards.fold)
    tables = judge_tokenizer(
        folder=Path(snakemake.input.model).parent,
        rows=[RecordingRow(**row) for row in snakemake.params.rows],
        manifests=[Path(path) for path in snakemake.input.manifests],
        tokens=[Path(path) for path in snakemake.input.tokens],
        split_file=Path(snakemake.input.split),
        max_segments=snakemake.params.max_segments,
        n_permutations=snakemake.params.n_permutations,
        rng=child_rng(snakemake.params.seed, f"score/{name}/{fold}"),
        over=over,
    )
    for table, path in zip(tables, snakemake.output, strict=True):
        table.assign(tokenizer=name, fold=fold).to_parquet(path)
