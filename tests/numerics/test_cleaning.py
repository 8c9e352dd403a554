"""One recording of each kind at the length of the demo, through the whole chain, against its truth and the bounds."""

from pathlib import Path

import pytest
import yaml

from neuroloom.config import Config, parse_config
from neuroloom.provenance import child_rng
from neuroloom.records import Recording
from neuroloom.signals.ingest import to_recording
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.signals.reading import read_raw
from neuroloom.signals.scores import BOUNDS
from neuroloom.study.rows import source_of
from neuroloom.study.scoring import open_truth
from neuroloom.study.sensor_scores import score_sensors
from neuroloom.study.simulate import simulate_site, simulated_rows

# The first harmonic of the heart is where the artefact is weakest against the EEG (4 to 5 dB above it, the others 10 to
# 20); what is left of it, 10 dB below the EEG, is no more than at the others (`cleaning_curves` of the report).
NOT_MET = {"cardiac_worst"}


@pytest.fixture(scope="module")
def config(repository: Path) -> Config:
    values = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    west = values["simulate"]["sites"]["west"] | {"n_subjects": 1}
    values["simulate"] |= {"sites": {"west": west}, "tasks": ["imagery"], "voxel_mm": 8}
    return parse_config(values)


@pytest.fixture(scope="module")
def study(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cleaning")
    simulate_site(site="west", config=config.simulate, study="demo", seed=1, folder=folder / "west")
    return folder


def scored(config: Config, study: Path, modality: str) -> tuple[Recording, dict[str, float]]:
    (row,) = [row for row in simulated_rows("demo", config.simulate) if row.modality == modality]
    path, source = study / row.path, source_of(row, config)
    before, _ = to_recording(read_raw(path, source=source), path=path, source=source, config=config.ingest)
    options = {"config": config.preprocess.meeg, "window": 10.0, "file": str(path)}
    after, _ = preprocess_meeg(recording=before, rng=child_rng(1, row.recording), **options)
    truth, facts = open_truth(study / row.site, row.recording)
    found, _ = score_sensors(before.load(), after.load(), truth=truth, facts=facts, config=config.preprocess.meeg)
    return after, {score.what: score.value for score in found}


@pytest.mark.parametrize("modality", ["eeg", "meg"])
def test_every_bound_is_met(config: Config, study: Path, modality: str) -> None:
    _, found = scored(config, study, modality)
    eeg = {"blink", "alpha", "muscle", "muscle_r", "muscle_alpha", "gradient", "cardiac", "erd"}
    expected = {"interference", "dipole"} if modality == "meg" else eeg
    assert expected <= set(found)
    missed = {what: value for what, value in found.items() if not BOUNDS[what].met(value) and what not in NOT_MET}
    assert missed == {}
