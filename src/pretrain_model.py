"""Pretrain one model: training recordings, or their tokens -> weights, settings, curve and card."""

from pathlib import Path

from neuroloom.cluster import run_tasks
from neuroloom.jobs import logged
from neuroloom.models.pretraining import pretrain_from

with logged(snakemake):
    settings = {
        "config": snakemake.params.model,
        "sfreq": snakemake.params.sfreq,
        "rows": snakemake.params.rows,
        "manifests": list(snakemake.input.manifests),
        "tokenizer": list(snakemake.input.tokenizer),
        "tokens": list(snakemake.input.tokens),
        "split_file": snakemake.input.split,
        "folder": str(Path(snakemake.output.model).parent),
        "salt": snakemake.params.study["name"],
        "threads": snakemake.threads,
        "dask": snakemake.params.dask,
        "seed": snakemake.params.study["seed"],
        "entity": f"pretrain/{snakemake.wildcards.model}/{snakemake.wildcards.fold}",
    }
    job = Path(snakemake.log[0]).with_suffix(".json")
    asked = {"resources": snakemake.resources, "threads": snakemake.threads}
    run_tasks("neuroloom.models.pretraining", settings, pretrain_from, file=job, **asked)
