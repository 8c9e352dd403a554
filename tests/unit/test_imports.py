"""Imports stay cheap: what Snakemake and the command line load at each start, and what any module loads by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "braindecode", "sklearn", "matplotlib.pyplot", "nilearn.maskers", "nilearn.image", "scipy.signal"}
# a network is a class of torch's: its module cannot do without
NETWORKS = {
    *(f"neuroloom.tokenizers.{name}" for name in ("braintokenizer", "official", "quantize", "reconstruction")),
    *(f"neuroloom.tokenizers.{name}" for name in ("seanet", "sources", "starting")),
    *(f"neuroloom.models.{name}" for name in ("base", "layers", "masking", "pretraining", "crisscross")),
    *(f"neuroloom.models.{name}" for name in ("reve", "reve_pretraining", "brainomni", "brainomni_pretraining")),
    *(f"neuroloom.evaluation.{name}" for name in ("adaptation", "filters", "regimes", "judging")),
    *(f"neuroloom.federated.{name}" for name in ("attacking", "client", "comparing", "fleeg", "network", "server")),
    *(f"neuroloom.federated.{name}" for name in ("site", "training")),
    *(f"neuroloom.models.{name}" for name in ("labram", "neurobolt", "spectral")),
    "neuroloom.synthesis.networks",
    *(f"neuroloom.training.{name}" for name in ("loop", "optimizers", "runs")),
}
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    for path in (ROOT / "src/neuroloom").rglob("[a-z]*.py")
)


def loaded(code: str) -> set[str]:
    run = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())


def test_no_module_loads_a_heavy_library_by_being_imported() -> None:
    assert len(MODULES) > 25
    light = [name for name in MODULES if name not in NETWORKS]
    assert loaded(f"import {', '.join(light)}") & HEAVY == set()


@pytest.mark.parametrize(
    "entry",
    [
        "neuroloom.cli",
        "neuroloom.study.rows, neuroloom.bold.parcels, neuroloom.provenance, neuroloom.evaluation.splits",
    ],
)
def test_the_command_line_and_the_snakefile_load_no_reader(entry: str) -> None:
    assert loaded(f"import {entry}") & (HEAVY | {"mne", "nilearn", "zarr", "xarray", "dask.array"}) == set()
