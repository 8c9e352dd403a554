"""What a new model must bring, and how one is found."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from neuroloom.models.base import Encoder, load_model, model_class
from neuroloom.models.config import BrainOmniConfig, ModelConfig, PretrainConfig, ReveConfig, SweepConfig, parse_model
from neuroloom.schema import ConfigError

KINDS = [config.model_fields["kind"].default for config in get_args(get_args(ModelConfig)[0])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_its_module_its_block_and_its_test(kind: str, repository: Path) -> None:
    found = model_class(kind)
    assert issubclass(found, Encoder)
    assert found.lora_targets
    assert found.preparation in ("brainomni", "reve")
    blocks = yaml.safe_load((repository / "config/config.yaml").read_text())["pretrain"]["models"]
    assert kind in {block["kind"] for block in blocks.values()}
    assert (repository / f"tests/unit/models/test_{kind}.py").exists()
    assert (repository / f"tests/numerics/test_{kind}.py").exists()
    assert parse_model({"kind": kind}).kind == kind


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model there"):
        load_model(tmp_path)


def test_sizes_of_a_sweep_differ_in_what_is_said() -> None:
    sweep = SweepConfig(of="mine", sizes={"wide": {"embed_dim": 96}, "half": {"share": 0.5}})
    config = PretrainConfig(use=("mine",), models={"mine": ReveConfig(embed_dim=32)}, sweep=sweep)
    assert config.sizes == ("minewide", "minehalf")
    assert config.model_copy(update={"use": ()}).sizes == ()
    assert config.model("minewide") == ReveConfig(embed_dim=96)
    assert config.model("minehalf") == ReveConfig(embed_dim=32, share=0.5)


def test_what_cannot_be_is_found_in_the_config() -> None:
    models = {"mine": ReveConfig()}
    with pytest.raises(ValueError, match="names other; described under models are: mine"):
        PretrainConfig(use=("other",), models=models)
    with pytest.raises(ValueError, match="embed_width"):
        PretrainConfig(use=("mine",), models=models, sweep=SweepConfig(of="mine", sizes={"wide": {"embed_width": 96}}))
    with pytest.raises(ValueError, match="no model may be called baselines"):
        PretrainConfig(models={"baselines": ReveConfig()})
    with pytest.raises(ValueError, match="give an even num_heads"):
        BrainOmniConfig(embed_dim=64, num_heads=3)
