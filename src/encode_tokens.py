"""Encode the recordings of one device: `recording` artifacts -> one `tokens` artifact."""

from pathlib import Path

from neuroloom.jobs import recording_job
from neuroloom.tokenizers.base import kind_of, load_tokenizer
from neuroloom.tokenizers.fitting import open_segments
from neuroloom.tokenizers.tokens import encode_device
from neuroloom.training.processes import set_threads

with recording_job(snakemake) as job:
    set_threads(snakemake.threads)
    folder = Path(snakemake.input.model).parent
    tokenizer = load_tokenizer(folder)
    corpus, lost = open_segments(map(Path, snakemake.input.manifests), sfreq=tokenizer.sfreq, stage="encode_tokens")
    tokens = encode_device(
        tokenizer,
        corpus,
        name=snakemake.wildcards.tokenizer,
        kind=kind_of(folder),
        fold=int(snakemake.wildcards.fold),
        device=snakemake.wildcards.device,
        overlap=snakemake.params.overlap,
    )
    job.write("tokens", tokens, upstream={segments.recording: segments.digest for segments in corpus}, window=1)
    lost.to_parquet(snakemake.output.lost)
