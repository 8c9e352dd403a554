"""From stores to a model with its card: on whom it is trained, what is said of it, and what a killed run leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.conftest import make_recording

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import ContaminationError, check_contamination
from neuroloom.evaluation.splits import split_subjects, to_json
from neuroloom.manifest import ArtifactError
from neuroloom.models.base import load_model
from neuroloom.models.config import ReveConfig
from neuroloom.models.curves import pretraining_tables
from neuroloom.models.pretraining import pretrain_model, pretrain_or_say_why
from neuroloom.models.reve import REVE
from neuroloom.quarantine import QuarantineRow, UnusableRecording, write_quarantine
from neuroloom.schema import ConfigError
from neuroloom.training.config import TrainingConfig

TRAINING = TrainingConfig(steps=4, batch_tokens=400, checkpoint_every=2, validate_every=2, workers=0)
CONFIG = ReveConfig(
    embed_dim=16,
    depth=1,
    num_heads=2,
    head_dim=8,
    n_frequencies=2,
    patch_size=100,
    patch_overlap=0,
    decoder_embed_dim=16,
    decoder_depth=1,
    decoder_num_heads=2,
    decoder_head_dim=8,
    training=TRAINING,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Six people with one EEG and one MEG recording each; the MEG is not asked for."""
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(3)
    facts = {"study": "s", "site": "a", "task": "rest", "path": "x"}
    rows = [RecordingRow(**facts, subject=f"{k:02d}", modality=kind) for k in range(6) for kind in ("eeg", "meg")]
    manifests = {}
    for row in rows[::2]:
        recording = make_recording(rng)
        attrs = {**recording.attrs(), "recording": row.recording}
        write_artifact(
            folder / f"{row.recording}.zarr", "recording", arrays=recording.arrays(), attrs=attrs, window=500
        )
        manifests[row.recording] = folder / f"{row.recording}.manifest.json"
    (folder / "split.json").write_text(to_json(split_subjects(rows, n_folds=3, fold=0)))
    return {"rows": rows, "manifests": manifests, "split_file": folder / "split.json"}


def pretrained(study: dict[str, Any], folder: Path, config: ReveConfig = CONFIG, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    asked = {**study, "sfreq": 250.0, "tokenizer": None, "tokens": [], "salt": "s", "threads": 1, **changes}
    pretrain_model(config=config, folder=folder, rng=np.random.default_rng(1), **asked)
    return folder


@pytest.fixture(scope="module")
def model(study: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(study, tmp_path_factory.mktemp("pretrain") / "mine" / "fold-0")


def test_it_is_trained_on_its_part_and_says_so(study: dict[str, Any], model: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    assert card["recordings"] == {"train": 2, "validation": 2}
    assert card["data"] == {name: open_artifact(study["manifests"][name]).digest for name in card["data"]}
    tested = [row for row in study["rows"] if row.subject in ("00", "03")]
    assert not any(check_contamination(card, tested, allow_seen_subjects=False).values())
    for row in study["rows"]:
        if row not in tested:
            with pytest.raises(ContaminationError):
                check_contamination(card, [row], allow_seen_subjects=False)
    assert sorted(path.name for path in model.iterdir()) == [
        "card.json",
        "config.json",
        "metrics.parquet",
        "model.safetensors",
    ]


def test_the_model_comes_back_and_is_not_the_untrained_one(study: dict[str, Any], model: Path) -> None:
    loaded = load_model(model)
    assert isinstance(loaded, REVE)
    assert loaded.sfreq == 250.0
    again = loaded.restarted(5)
    assert (again.patch.weight != loaded.patch.weight).all()
    assert (loaded.restarted(5).patch.weight == again.patch.weight).all()
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="have changed"):
        load_model(model)
    weights.write_bytes(whole)


def test_a_killed_run_goes_on_to_the_same_weights(
    study: dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = REVE.save
    monkeypatch.setattr(REVE, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pretrained(study, tmp_path)
    (run,) = tmp_path.glob("run-*")
    assert list((run / "checkpoints").glob("step-*"))
    monkeypatch.setattr(REVE, "save", real)
    pretrained(study, tmp_path)
    assert not list(tmp_path.glob("run-*"))
    assert (tmp_path / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_a_share_of_the_recordings_is_a_part_of_more(study: dict[str, Any], model: Path, tmp_path: Path) -> None:
    card = json.loads((pretrained(study, tmp_path, CONFIG.model_copy(update={"share": 0.5})) / "card.json").read_text())
    assert card["recordings"] == {"train": 1, "validation": 2}
    assert set(card["data"]) < set(json.loads((model / "card.json").read_text())["data"])


def test_segments_can_be_shorter_than_windows_and_of_another_rate(study: dict[str, Any], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"sfreq": 200.0, "segment": 1.0})
    loaded = load_model(pretrained(study, tmp_path, config))
    assert loaded.sfreq == 200.0
    with pytest.raises(ConfigError, match="hold no patch of 100"):
        pretrained(study, tmp_path, CONFIG.model_copy(update={"segment": 0.3}))


def test_a_model_without_recordings_says_why(study: dict[str, Any], tmp_path: Path) -> None:
    lost = {}
    for name in study["manifests"]:
        lost[name] = tmp_path / f"{name}.manifest.json"
        write_quarantine(lost[name], QuarantineRow(name, "ingest_meeg", "a.edf", "truncated", "Bring it"))
    folder = tmp_path / "lost" / "fold-0"
    folder.mkdir(parents=True)
    asked = {**study, "manifests": lost, "sfreq": 250.0, "tokenizer": None, "tokens": [], "salt": "s", "threads": 1}
    pretrain_or_say_why(config=CONFIG, folder=folder, rng=np.random.default_rng(1), **asked)
    with pytest.raises(UnusableRecording, match="all were quarantined before"):
        load_model(folder)
    curves, models = pretraining_tables([folder / "metrics.parquet"], [folder / "card.json"], sweep=())
    assert not len(curves)
    assert "all were quarantined before" in models["unusable"].item()


def test_imported_weights_are_taken_as_they_are(study: dict[str, Any], model: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"weights": str(model)})
    folder = pretrained(study, tmp_path / "fold-0", config)
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert not len(pd.read_parquet(folder / "metrics.parquet"))


def test_curves_and_cards_become_tables(model: Path) -> None:
    curves, models = pretraining_tables([model / "metrics.parquet"], [model / "card.json"], sweep=["mine"])
    assert curves["step"].tolist() == [1, 2, 3, 4]
    assert curves["tokens"].is_monotonic_increasing
    assert curves["tokens"].iloc[-1] == models["tokens"].item()
    assert curves["validation_loss"].notna().tolist() == [False, True, False, True]
    assert (models["model"].item(), models["fold"].item(), models["role"].item()) == ("mine", 0, "sweep")
    assert models["parameters"].item() > 1000
