"""Encode the recordings of one device: `recording` artifacts -> one `tokens` artifact."""

from pathlib import Path

from neuroloom.jobs import recording_job
from neuroloom.passes.mapping import Placement, corpus_map
from neuroloom.tokenizers.base import TokenizerFolder, kind_of
from neuroloom.tokenizers.fitting import open_segments
from neuroloom.tokenizers.tokens import encode_device
from neuroloom.training.processes import set_threads

with recording_job(snakemake) as job, corpus_map(Placement(**snakemake.params.dask)) as over:
    set_threads(snakemake.threads)
    folder = Path(snakemake.input.model).parent
    kind, load = kind_of(folder), TokenizerFolder.at(folder).load
    manifests = map(Path, snakemake.input.manifests)
    corpus, lost = open_segments(manifests, sfreq=load().sfreq, stage="encode_tokens", over=over)
    tokens = encode_device(
        load(),
        corpus,
        name=snakemake.wildcards.tokenizer,
        kind=kind,
        fold=int(snakemake.wildcards.fold),
        device=snakemake.wildcards.device,
        overlap=snakemake.params.overlap,
        load=load,
        over=over,
    )
    job.write("tokens", tokens, upstream={segments.recording: segments.digest for segments in corpus}, window=1)
    lost.to_parquet(snakemake.output.lost)
