import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result

from neuroloom.cli import app
from neuroloom.evaluation.contamination import check_contamination
from neuroloom.quarantine import QuarantineRow, write_quarantine
from neuroloom.tokenizers.base import load_tokenizer

GOLDEN = Path(__file__).parents[1] / "data" / "braintokenizer_eeg5.safetensors"  # weights under state/, settings inside


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_verify_says_ok_with_the_digest(store: Path) -> None:
    result = run("verify", store)
    assert result.exit_code == 0
    assert result.output.startswith("ok ")


def test_verify_walks_a_folder_and_fails_when_one_store_is_broken(store: Path) -> None:
    write_quarantine(
        store.parent / "b.manifest.json", QuarantineRow("b", "ingest_meeg", "b.edf", "truncated", "Bring it")
    )
    assert run("verify", store.parent).exit_code == 0
    next(store.glob("signal/c/0/*")).write_bytes(b"x")
    result = run("verify", store.parent)
    assert result.exit_code == 1
    assert "has changed" in result.output
    assert "quarantined  ingest_meeg: truncated" in result.output


def test_verify_of_a_folder_without_manifests_says_so(tmp_path: Path) -> None:
    result = run("verify", tmp_path)
    assert result.exit_code == 2
    assert "no manifest there" in result.output


def test_where_names_the_report_of_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("study: {name: demo}")
    mine = tmp_path / "mine.yaml"
    mine.write_text("study: {name: mine}")
    monkeypatch.chdir(tmp_path)
    assert "No report yet: results/mine/report.html" in run("where", "--config", mine).output
    (tmp_path / "results" / "demo").mkdir(parents=True)
    (tmp_path / "results" / "demo" / "report.html").touch()
    assert "Report: results/demo/report.html" in run("where").output


def test_every_command_has_an_example() -> None:
    for command in ("verify", "where", "import-weights"):
        assert f"Example: neuroloom {command}" in run(command, "--help").output


def published() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights as the authors name them, and their settings."""
    with safe_open(GOLDEN, "pt") as file:
        settings = json.loads(file.metadata()["config"])
    return {name[6:]: value for name, value in load_file(GOLDEN).items() if name.startswith("state/")}, settings


def import_weights(*arguments: object) -> Result:
    return run("import-weights", "braintokenizer", *arguments)


def check_codes(folder: Path) -> None:
    given = load_file(GOLDEN)
    tokens = load_tokenizer(folder).encode(given["in/x"], given["in/pos"], given["in/sensor_type"])
    assert torch.equal(tokens.codes, given["out/codes_overlap0"])


def test_weights_of_a_safetensors_file_are_imported(tmp_path: Path) -> None:
    result = import_weights(GOLDEN, tmp_path / "out")
    assert result.exit_code == 0
    n_parameters = sum(value.numel() for name, value in published()[0].items() if "quantizer" not in name)
    assert f"braintokenizer: {n_parameters:,} parameters" in result.output
    check_codes(tmp_path / "out")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["architecture"] == "braintokenizer"
    assert card["imported_from"] == hashlib.sha256(GOLDEN.read_bytes()).hexdigest()
    assert card["seen_subjects"] == [{"dataset": "*", "version": "", "subject_sha256": "*"}]
    assert check_contamination(card, [], allow_seen_subjects=False) == {}


@pytest.mark.parametrize("wrap", ["plain", "module.", "tokenizer.", "nested"])
def test_weights_of_a_checkpoint_are_imported(tmp_path: Path, wrap: str) -> None:
    state, settings = published()
    named = {f"{wrap}{name}": value for name, value in state.items()} if wrap.endswith(".") else state
    torch.save({"state_dict": named, "epoch": 3} if wrap == "nested" else named, tmp_path / "BrainTokenizer.pt")
    (tmp_path / "model_cfg.json").write_text(json.dumps(settings))
    result = import_weights(tmp_path / "BrainTokenizer.pt", tmp_path / "out")
    assert result.exit_code == 0, result.output
    check_codes(tmp_path / "out")


def test_settings_that_are_named_come_first(tmp_path: Path) -> None:
    _, settings = published()
    (tmp_path / "mine.json").write_text(json.dumps(settings | {"codebook_size": 32}))
    result = import_weights(GOLDEN, tmp_path / "out", "--config", tmp_path / "mine.json")
    assert result.exit_code == 1
    assert "embed_KD is (16, 16), not (32, 16)" in result.output


class Unsafe:
    """What is not read from a checkpoint."""


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "a.pt", "no such file"),
        (b"not a checkpoint", "a.pt", "no tensors can be read"),
        (b"not a checkpoint", "a.safetensors", "no tensors can be read"),
        ({"model": Unsafe()}, "a.pt", "holds more than named tensors"),
        ({"x": torch.zeros(3), "epoch": 3}, "a.pt", "holds more than named tensors"),
        ([torch.zeros(3)], "a.pt", "holds more than named tensors"),
        ({"encoder.x": torch.zeros(3), "decoder.y": torch.zeros(3)}, "a.pt", "missing"),
        ({"encoder.x": torch.zeros(3), "decoder.y": torch.zeros(3)}, "a.safetensors", "missing"),
    ],
)
def test_a_file_that_is_no_weights_is_named(tmp_path: Path, content: Any, name: str, message: str) -> None:
    _, settings = published()
    (tmp_path / "model_cfg.json").write_text(json.dumps(settings | {"num_quantizers": 1, "ratios": [2]}))
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None and name.endswith(".pt"):
        torch.save(content, tmp_path / name)
    elif content is not None:
        save_file(content, tmp_path / name)
    result = import_weights(tmp_path / name, tmp_path / "out")
    assert result.exit_code == 1
    assert result.output.startswith(f"FAILED       {tmp_path / name}: ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
    assert message in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "model_cfg.json: no settings there; name the authors' model_cfg.json with --config"),
        ("{", "model_cfg.json: no JSON"),
        ("[]", "model_cfg.json: no JSON object"),
        ("{}", "weights.pt: model_cfg of a BrainTokenizer: no codebook_size"),
    ],
)
def test_settings_that_are_none_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    torch.save(published()[0], tmp_path / "weights.pt")
    if text is not None:
        (tmp_path / "model_cfg.json").write_text(text)
    result = import_weights(tmp_path / "weights.pt", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output


def test_weights_of_one_tensor_less_are_not_imported(tmp_path: Path) -> None:
    state, settings = published()
    del state["encoder.neuros"]
    save_file(state, tmp_path / "weights.safetensors", {"config": json.dumps(settings)})
    result = import_weights(tmp_path / "weights.safetensors", tmp_path / "out")
    assert result.exit_code == 1
    assert (
        f"{tmp_path / 'weights.safetensors'}: published BrainTokenizer weights: missing gather.latents_LD"
        in result.output
    )


def test_other_architectures_are_not_known(tmp_path: Path) -> None:
    assert run("import-weights", "brainnet", GOLDEN, tmp_path).exit_code == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = import_weights(GOLDEN, tmp_path / "taken")
    assert result.exit_code == 1
    assert "taken" in result.output
