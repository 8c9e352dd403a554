"""Simulate one site: config -> BIDS dataset + truth, listed in a manifest."""

from pathlib import Path

from neuroloom.config import SimulateConfig
from neuroloom.jobs import logged
from neuroloom.manifest import write_manifest
from neuroloom.study.simulate import simulate_site

with logged(snakemake):
    folder = Path(snakemake.output.store)
    simulate_site(
        site=snakemake.wildcards.site,
        config=SimulateConfig(**snakemake.params.simulate),
        study=snakemake.params.study,
        seed=snakemake.params.seed,
        folder=folder,
    )
    write_manifest(folder, "neuroloom/simulated@1")
