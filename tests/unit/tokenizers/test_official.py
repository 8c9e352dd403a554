"""Published weights come in whole or not at all, in the authors' writing and in braindecode's."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from neuroloom.schema import ConfigError
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.official import config_of, to_ours

GOLDEN = Path(__file__).parents[2] / "data" / "braintokenizer_eeg5.safetensors"
WEIGHT = "encoder.seanet_encoder.model.0.conv.conv.weight_v"
CODES = "quantizer.rvq.layers.1._codebook.embed"


@pytest.fixture
def model_cfg() -> dict[str, Any]:
    with safe_open(GOLDEN, "pt") as file:
        return json.loads(file.metadata()["config"])


@pytest.fixture
def state() -> dict[str, Tensor]:
    """In the authors' writing."""
    return {name[6:]: value for name, value in load_file(GOLDEN).items() if name.startswith("state/")}


def braindecode_names(name: str) -> str:
    for pattern, theirs in (
        (r"^quantizer\.rvq\.layers\.", "quantizer.layers."),
        (r"^decoder\.", "final_layer."),
        (r"\.(conv|convtr)\.\1\.", r".\1."),
        (r"\.weight_g$", ".parametrizations.weight.original0"),
        (r"\.weight_v$", ".parametrizations.weight.original1"),
    ):
        name = re.sub(pattern, theirs, name)
    return name


def codes_of(model: BrainTokenizer) -> Tensor:
    given = load_file(GOLDEN)
    return model.encode(given["in/x"], given["in/pos"], given["in/sensor_type"]).codes


def test_every_tensor_is_used(state: dict[str, Tensor], model_cfg: dict[str, Any]) -> None:
    model = BrainTokenizer.from_official(state, model_cfg)
    loaded = model.state_dict()
    assert len(loaded) == len(state)
    assert sorted(value.double().sum().item() for value in loaded.values()) == sorted(
        value.double().sum().item() for value in state.values()
    )
    assert not model.training
    assert model.sfreq == 256.0


def test_braindecodes_writing_gives_the_same_codes(state: dict[str, Tensor], model_cfg: dict[str, Any]) -> None:
    renamed = {braindecode_names(name): value for name, value in state.items()}
    assert "final_layer.seanet_decoder.model.3.convtr.parametrizations.weight.original0" in renamed
    assert "encoder.seanet_encoder.model.1.block.1.conv.bias" in renamed
    assert "quantizer.layers.0._codebook.embed" in renamed
    renamed |= {"pos": torch.zeros(5, 6), "sensor_type": torch.zeros(5, dtype=torch.long)}
    codes = codes_of(BrainTokenizer.from_official(renamed, model_cfg))
    assert torch.equal(codes, load_file(GOLDEN)["out/codes_overlap0"])


def test_the_tokenizer_within_a_larger_model(state: dict[str, Tensor], model_cfg: dict[str, Any]) -> None:
    prefixed = {f"tokenizer.{name}": value for name, value in state.items()}
    codes = codes_of(BrainTokenizer.from_official(prefixed, model_cfg))
    assert torch.equal(codes, load_file(GOLDEN)["out/codes_overlap0"])


def test_half_precision_weights_are_read(state: dict[str, Tensor], model_cfg: dict[str, Any]) -> None:
    model = BrainTokenizer.from_official({name: value.bfloat16() for name, value in state.items()}, model_cfg)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


def drop(state: dict[str, Tensor]) -> None:
    del state[WEIGHT]


def add(state: dict[str, Tensor]) -> None:
    state["encoder.extra.weight"] = torch.zeros(3)


def reshape(state: dict[str, Tensor]) -> None:
    state[WEIGHT] = state[WEIGHT][:, :, :3]


def other_codebook(state: dict[str, Tensor]) -> None:
    state[CODES] = torch.zeros(99, 16)


def write_twice(state: dict[str, Tensor]) -> None:
    state[braindecode_names(CODES)] = state[CODES]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"missing encoder\.layers\.0\.weight_v"),
        (add, r"unknown encoder\.extra\.weight"),
        (reshape, r"encoder\.layers\.0\.weight_v is \(4, 1, 3\), not \(4, 1, 5\)"),
        (other_codebook, r"quantizer\.levels\.1\.embed_KD is \(99, 16\), not \(16, 16\)"),
        (write_twice, r"_codebook\.embed and quantizer\.layers\.1.* are both quantizer\.levels\.1\.embed_KD"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    state: dict[str, Tensor],
    model_cfg: dict[str, Any],
    change: Callable[[dict[str, Tensor]], None],
    message: str,
) -> None:
    change(state)
    with pytest.raises(ConfigError, match=message):
        BrainTokenizer.from_official(state, model_cfg)


def test_many_problems_are_counted(state: dict[str, Tensor], model_cfg: dict[str, Any]) -> None:
    lost = {name: value for name, value in state.items() if not name.startswith("decoder.")}
    problems = len(state) - len(lost)
    with pytest.raises(ConfigError, match=rf"and {problems - 8} more\. The weights are of another model"):
        BrainTokenizer.from_official(lost, model_cfg)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 0.1}, "dropout = 0.1"),
        ({"codebook_dim": 8}, "codebook_dim = 8 beside n_dim = 16"),
        ({"quantize_optimize_method": "simvq"}, "quantize_optimize_method = simvq"),
        ({"n_head": 3}, "embed_dim 16 is no multiple of num_heads 3"),
        ({"window_length": 100}, "window_length 100 is no multiple"),
        ({"codebook_size": "many"}, "codebook_size"),
    ],
)
def test_settings_that_are_not_offered_are_named(
    model_cfg: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(model_cfg | changes)


def test_missing_settings_are_named(model_cfg: dict[str, Any]) -> None:
    del model_cfg["n_neuro"], model_cfg["ratios"]
    with pytest.raises(ConfigError, match="no n_neuro, ratios"):
        config_of(model_cfg)


def test_settings_of_another_model_do_not_take_the_weights(state: dict[str, Tensor], model_cfg: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"missing quantizer\.levels\.2\.embed_KD"):
        BrainTokenizer.from_official(state, model_cfg | {"num_quantizers": 3})
    with pytest.raises(ConfigError, match=r"gather\.latents_LD is \(4, 16\), not \(5, 16\)"):
        BrainTokenizer.from_official(state, model_cfg | {"n_neuro": 5})


def test_settings_are_translated(model_cfg: dict[str, Any]) -> None:
    config = config_of(model_cfg)
    assert (config.embed_dim, config.n_latents, config.num_heads, config.hop) == (16, 4, 2, 8)
    assert (config.codebook_size, config.num_quantizers, config.window_length) == (16, 2, 64)


def test_names_are_ours_after_translation_and_only_once(state: dict[str, Tensor]) -> None:
    assert to_ours(to_ours(state)).keys() == to_ours(state).keys()
    assert not any("model." in name or "_codebook" in name for name in to_ours(state))
