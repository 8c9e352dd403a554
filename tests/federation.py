"""A study of three sites with their own electrodes and rates, a small model, and runs of it in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroloom.artifacts import write_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.config import TaskConfig
from neuroloom.evaluation.contamination import seen_subjects
from neuroloom.evaluation.splits import Split, split_subjects, to_json
from neuroloom.federated.client import app, forget, site_training
from neuroloom.federated.comparing import Arm
from neuroloom.federated.config import FederateConfig, StrategyConfig
from neuroloom.federated.grid import InProcessGrid
from neuroloom.federated.server import ServerFile
from neuroloom.federated.site import Run, SiteFile, open_site
from neuroloom.federated.training import SiteTraining
from neuroloom.models.config import ReveConfig
from neuroloom.models.reve import REVE
from neuroloom.records import Events
from neuroloom.training.checkpoint import write_card

TASK = TaskConfig(classes={"idle": ("idle",), "busy": ("busy",)}, window=2.0)
SITES = {"north": (9, 100.0), "south": (13, 125.0), "west": (19, 100.0)}  # electrodes, Hz
SETTINGS = FederateConfig(rounds=2, n_seeds=1, min_sites=2, n_permutations=20, lr=1e-2, timeout=300.0)


@dataclass(frozen=True)
class Study:
    """Rows, stores, split and model."""

    rows: tuple[RecordingRow, ...]
    manifests: dict[str, Path]
    split: Split
    split_file: Path
    model: Path


@pytest.fixture(autouse=True)
def no_memory() -> Iterator[None]:
    """A federation forgets what sites of the last one have loaded."""
    yield
    forget()


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three sites, three people each: one trains, one validates, one is tested; a rhythm tells the classes apart."""
    from tests.conftest import make_recording

    folder, rng = tmp_path_factory.mktemp("federation"), np.random.default_rng(3)
    rows, manifests = [], {}
    for site, (n_channels, sfreq) in SITES.items():
        for person in range(3):
            facts = {"study": "s", "site": site, "task": "work", "modality": "eeg", "path": "x"}
            row = RecordingRow(**facts, subject=f"{site[0]}{person}")
            recording = make_recording(rng, n_channels=n_channels, sfreq=sfreq, seconds=24.0)
            busy_W, length = rng.permutation(np.arange(12) % 2), round(2 * sfreq)
            signal_CT = rng.normal(size=recording.signal_CT.shape) * 1e-5
            for at in np.flatnonzero(busy_W):
                time_T = np.arange(length) / sfreq
                signal_CT[:, length * at : length * (at + 1)] += 3e-5 * np.sin(2 * np.pi * (10 * time_T + rng.random()))
            events = Events(2.0 * np.arange(12), np.full(12, 2.0), [("idle", "busy")[busy] for busy in busy_W])
            recording = replace(recording, signal_CT=signal_CT.astype(np.float32), events=events)
            attrs = {**recording.attrs(), "recording": row.recording}
            store = folder / f"{row.recording}.zarr"
            write_artifact(store, "recording", arrays=recording.arrays(), attrs=attrs, window=2 * length)
            rows.append(row)
            manifests[row.recording] = folder / f"{row.recording}.manifest.json"
    split = split_subjects(rows, n_folds=3, fold=0)
    (folder / "split.json").write_text(to_json(split))
    config = ReveConfig(embed_dim=16, depth=1, num_heads=2, head_dim=8, n_frequencies=2, patch_size=50, patch_overlap=0)
    REVE.create(config, sfreq=100.0, seed=1).save(folder / "model")
    seen = seen_subjects([row for row in rows if row.recording in split.train], salt="s")
    write_card(folder / "model", {"architecture": "reve", "salt": "s", "seen_subjects": seen})
    return Study(tuple(rows), manifests, split, folder / "split.json", folder / "model")


def fresh(file: SiteFile) -> SiteTraining:
    """The training of a site that nothing was kept of."""
    return site_training(file, open_site(file))


@dataclass(frozen=True)
class Setup:
    """One run of a study in a folder."""

    run: Run
    files: list[SiteFile]
    server: ServerFile
    paths: list[Path]

    def grid(self, **given: Any) -> InProcessGrid:
        """To all sites; they are nodes 2, 3 and 4."""
        configs = {at + 2: {"site-file": str(path)} for at, path in enumerate(self.paths)}
        return InProcessGrid(app, configs, **given)


@pytest.fixture
def set_up(federation: Study, tmp_path: Path) -> Callable[..., Setup]:
    """Make the files of a run: kind of strategy, and changes of its settings."""

    def make(kind: str = "fedavg", *, name: str = "run", **changes: Any) -> Setup:
        of_strategy = {key: changes.pop(key) for key in list(changes) if key in StrategyConfig.model_fields}
        if kind == "fleeg" or of_strategy.get("network") == "fleeg":
            of_strategy["network"] = "fleeg"
        strategy = StrategyConfig(kind=kind, **of_strategy)  # type: ignore[arg-type]
        config = SETTINGS.model_copy(update={"strategies": {"arm": strategy}, "task": "work", **changes})
        model = None if strategy.network == "fleeg" else federation.model
        arm = Arm(
            "arm",
            config,
            TASK,
            federation.rows,
            federation.manifests,
            federation.split,
            model,
            tmp_path / name,
            tmp_path / "ledgers",
            0,
            7,
        )
        run = arm.run(0)
        files = arm.site_files(run)
        paths = []
        for file in files:
            path = tmp_path / name / f"{file.site.replace('/', '-')}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.model_dump_json())
            paths.append(path)
        state = str(tmp_path / name / "server")
        sites = tuple(file.site for file in files)
        return Setup(
            run, files, ServerFile(run=run, sites=sites, model=str(model) if model else None, state=state), paths
        )

    return make
