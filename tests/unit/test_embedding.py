"""Features of one recording, from a store and from the raw file, and BOLD of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from tests.datasets import make_bids
from typer.testing import CliRunner, Result

from neuroloom.cli import app
from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import seen_subjects

pytest.importorskip("torch")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS dataset with its config, a model that has met the first person, and one without a card."""
    from neuroloom.models.config import ReveConfig
    from neuroloom.models.reve import REVE
    from neuroloom.training.checkpoint import write_card

    folder = tmp_path_factory.mktemp("study")
    make_bids(folder / "bids", people=2, tasks=("rest",))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("init", "bids", "--name", "tiny").exit_code == 0
    sizes: dict[str, Any] = {"embed_dim": 16, "depth": 1, "num_heads": 2, "head_dim": 8, "n_frequencies": 2}
    model = REVE.create(ReveConfig(**sizes), sfreq=200.0, seed=1)
    for name in ("model", "bare"):
        model.save(folder / name)
    row = RecordingRow(study="tiny", site="tiny", subject="00", task="rest", modality="eeg", path="x")
    write_card(folder / "model", {"architecture": "reve", "salt": "s", "seen_subjects": seen_subjects([row], salt="s")})
    return folder


@pytest.mark.parametrize(
    ("model", "subject", "seen"), [("model", "00", "yes"), ("model", "01", "no"), ("bare", "01", "unknown")]
)
def test_a_raw_file_is_cleaned_and_read(
    study: Path, monkeypatch: pytest.MonkeyPatch, model: str, subject: str, seen: str
) -> None:
    monkeypatch.chdir(study)
    file = f"bids/sub-{subject}/eeg/sub-{subject}_task-rest_eeg.edf"
    result = run("embed", file, "--model", model, "--config", "config/tiny.yaml", "--out", "features.parquet")
    assert result.exit_code == 0, result.output
    table = pd.read_parquet("features.parquet")
    assert table.shape == (3, 2 + 16)
    assert list(table["start"]) == [0.0, 10.0, 20.0]
    assert np.ptp(table["feature0"]) > 0
    facts = json.loads(pyarrow.parquet.read_schema("features.parquet").metadata[b"neuroloom"])
    assert facts == {"model": model, "seen_in_training": seen}


def test_what_cannot_be_read_is_one_paragraph(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    (study / "half.edf").write_bytes(b"0" * 100)
    for arguments, message in (
        (("half.edf", "--model", "model"), "half.edf: "),
        (("bids/sub-00/eeg/sub-00_task-rest_eeg.edf", "--model", "bids"), "no model there"),
    ):
        result = run("embed", *arguments, "--config", "config/tiny.yaml")
        assert result.exit_code == 1
        assert result.output.startswith("FAILED       ")
        assert message in result.output
        assert "Traceback" not in result.output
    wrong = run("predict-bold", "half.edf", "--model", "model", "--config", "config/tiny.yaml")
    assert wrong.exit_code == 1
    assert "no model of synthesis" in wrong.output
