"""BrainOmni as an encoder: what is trained of it, what is drawn, what is saved, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuroloom.models.base import load_model, model_class
from neuroloom.models.brainomni import BrainOmni
from neuroloom.models.config import BRAINOMNI_SIZES, BrainOmniConfig
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig, LipcotConfig
from neuroloom.tokenizers.lipcot import Lipcot

SFREQ = 64.0
MODEL_CFG = {
    **{"window_length": 64, "n_filters": 4, "ratios": [4, 2], "kernel_size": 5, "last_kernel_size": 5, "n_dim": 16},
    **{"n_neuro": 4, "n_head": 2, "dropout": 0.0, "codebook_dim": 16, "codebook_size": 16, "num_quantizers": 2},
    **{"rotation_trick": True, "quantize_optimize_method": "ema", "overlap_ratio": 0.25, "mask_ratio": 0.5},
    **{"lm_dim": 32, "lm_head": 4, "lm_depth": 3, "lm_dropout": 0.1, "num_quantizers_used": 2},
}
TO_AUTHORS = (
    (r"^mask_D$", "mask_token"),
    (r"^project\.", "projection."),
    (r"^head\.", "predict_head."),
    (r"\.time\.", ".time_attn."),
    (r"\.space\.", ".spatial_attn."),
    (r"_attn\.out\.", "_attn.proj."),
    (r"\.mix_norm\.", ".pre_attn_norm."),
    (r"\.feed_norm\.", ".pre_ff_norm."),
    (r"\.widen\.", ".ff.layer.0."),
    (r"\.narrow\.", ".ff.layer.2."),
)


def tokenizer(seed: int = 0, **changes: Any) -> BrainTokenizer:
    small = {"window_length": 64, "n_filters": 4, "ratios": (4, 2), "embed_dim": 16, "num_heads": 2, "n_latents": 4}
    torch.manual_seed(seed)
    return BrainTokenizer(BrainTokenizerConfig(**{**small, "codebook_size": 16, "num_quantizers": 2, **changes}), SFREQ)


def brainomni(seed: int = 0, **changes: Any) -> BrainOmni:
    config = BrainOmniConfig(**{"embed_dim": 32, "depth": 3, "num_heads": 4, "dropout": 0.1, **changes})
    return BrainOmni.create(config, sfreq=SFREQ, tokenizer=tokenizer(overlap=0.25), seed=seed)


def segments(n_channels: int = 6, n_times: int = 256) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    signal_BCT = torch.randn(2, n_channels, n_times, generator=generator)
    types_BC = torch.tensor([0, 1, 2, 0, 1, 2] * 20)[:n_channels].expand(2, -1)
    return signal_BCT, torch.randn(2, n_channels, 6, generator=generator), types_BC


def published(model: BrainOmni) -> dict[str, Tensor]:
    """Weights in the authors' names, with the tables that their rotation keeps; those of the tokenizer as they are."""
    state = {}
    for name, value in model.state_dict().items():
        if not name.startswith("tokenizer."):
            for pattern, theirs in TO_AUTHORS:
                name = re.sub(pattern, theirs, name)
        state[name] = value
    for block in range(3):
        table = f"blocks.{block}.time_attn.rope_embedding_layer"
        state |= {f"{table}.freqs": torch.ones(8), f"{table}.rotate": torch.ones(300, 8, dtype=torch.complex64)}
    return state


def test_it_is_found_by_its_kind() -> None:
    assert model_class("brainomni") is BrainOmni
    assert BrainOmni.preparation == "brainomni"
    for size in BRAINOMNI_SIZES.values():
        BrainOmniConfig(**size)


def test_evaluation_draws_nothing_and_training_drops() -> None:
    model, given = brainomni(dropout=0.3).eval(), segments()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again = model.encode(*given), model.encode(*given)
    assert torch.equal(first, again)
    assert torch.equal(model.logits(*given), model.logits(*given))
    assert torch.equal(torch.get_rng_state(), state)
    model.train()
    assert not torch.allclose(model.encode(*given), first, atol=1e-3)
    assert not torch.equal(model.encode(*given), model.encode(*given))


def test_tokens_are_of_unit_length_and_the_same_in_both_ways() -> None:
    model, given = brainomni().eval(), segments()
    tokens = model.encode(*given)
    assert tokens.shape == (2, 4, 40, 32)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(2, 4, 40))
    inputs = model.inputs(*given)
    assert [one.shape for one in inputs] == [(2, 4, 40, 16)]
    assert torch.equal(model(*inputs), tokens.flatten(1, 2))
    assert model.logits(*given).shape == (2, 4, 40, 32)
    alone = model.encode(*(part[1:] for part in given))
    torch.testing.assert_close(alone, tokens[1:], rtol=0, atol=1e-5)


def test_tokens_do_not_depend_on_the_order_of_sensors() -> None:
    model, given = brainomni().eval(), segments()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    turned = model.encode(*(part[:, order] for part in given))
    torch.testing.assert_close(turned, model.encode(*given), rtol=0, atol=1e-5)
    others = model.encode(given[0][:, order], *given[1:])
    assert not torch.allclose(others, turned, atol=1e-3)


def test_the_tokenizer_is_frozen_and_stays_in_evaluation() -> None:
    given = tokenizer()
    model = BrainOmni.create(BrainOmniConfig(embed_dim=32, depth=2, num_heads=4), sfreq=SFREQ, tokenizer=given)
    assert model.train() is model
    assert model.training
    assert model.blocks[0].training
    assert not any(part.training for part in model.tokenizer.modules())
    trained = [name for name, param in model.named_parameters() if param.requires_grad]
    assert trained
    assert not any(name.startswith("tokenizer.") for name in trained)
    assert all(param.requires_grad for param in given.parameters())  # the caller's own is left alone
    assert given.training


def test_tokens_have_gradients_of_all_blocks_but_the_last() -> None:
    model = brainomni().train()
    model(*model.inputs(*segments())).square().mul(torch.linspace(0, 1, 32)).sum().backward()
    reached = {name for name, param in model.named_parameters() if param.grad is not None}
    expected = {name for name, _ in model.named_parameters() if name.startswith(("project", "blocks.0", "blocks.1"))}
    assert reached == expected
    layers = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and "blocks.0" in name}
    assert {name.rsplit(".", 1)[1] for name in layers} == set(BrainOmni.lora_targets)


def test_equal_seeds_start_equal_weights_and_draw_nothing_from_others() -> None:
    own = tokenizer()
    config = BrainOmniConfig(embed_dim=32, depth=2, num_heads=4)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (BrainOmni.create(config, sfreq=SFREQ, tokenizer=own, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.head.weight, other.head.weight)
    assert first.blocks[0].time.qkv.weight.std().item() == pytest.approx(16**-0.5, rel=0.1)
    restarted = other.restarted(1)
    assert torch.equal(restarted.head.weight, first.head.weight)
    assert torch.equal(restarted.tokenizer.gather.latents_LD, own.gather.latents_LD)


def test_a_saved_model_needs_nothing_else(tmp_path: Path) -> None:
    model, given = brainomni().eval(), segments(n_times=64 * 90)
    expected = model.encode(*given)
    assert expected.shape[2] > 240
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = load_model(tmp_path)
    assert isinstance(loaded, BrainOmni)
    assert torch.equal(loaded.encode(*given), expected)
    assert (loaded.sfreq, loaded.overlap, loaded.embed_dim) == (SFREQ, 0.25, 32)
    assert loaded.config == model.config
    assert not loaded.training


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    brainomni().save(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["config"]["embed_dim"] = 64
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"model\.safetensors: .*blocks\.0\.mix_norm\.weight is \(32,\), not \(64,\)"):
        BrainOmni.load(tmp_path)


def test_published_weights_are_read_by_name() -> None:
    model = brainomni().eval()
    read = BrainOmni.from_official(published(model), MODEL_CFG)
    assert (read.overlap, read.config.dropout, read.config.depth) == (0.25, 0.1, 3)
    for name, value in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name
    assert not read.training
    published_rate = brainomni().eval()
    published_rate.sfreq = read.sfreq
    assert torch.equal(read.encode(*segments()), published_rate.encode(*segments()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.1.time_attn.qkv.bias"), r"missing blocks\.1\.time\.qkv\.bias"),
        (lambda state: state.pop("tokenizer.gather.latents_LD"), r"missing tokenizer\.gather\.latents_LD"),
        (lambda state: state.update(extra=torch.ones(1)), "unknown extra"),
        (lambda state: state.update(mask_token=torch.ones(3)), r"mask_D is \(3,\), not \(16,\)"),
    ],
)
def test_published_weights_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    state = published(brainomni())
    change(state)
    with pytest.raises(ConfigError, match=message):
        BrainOmni.from_official(state, MODEL_CFG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lm_depth": None}, "no lm_depth"),
        ({"num_quantizers_used": 1}, "predicts 1 of 2 levels"),
        ({"lm_head": 3}, "even num_heads"),
        ({"quantize_optimize_method": "sim_vq"}, "sim_vq"),
    ],
)
def test_settings_that_are_not_offered_are_refused(changes: dict[str, Any], message: str) -> None:
    cfg = {name: value for name, value in {**MODEL_CFG, **changes}.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        BrainOmni.from_official(published(brainomni()), cfg)


def test_it_is_made_with_a_brain_tokenizer_of_its_rate() -> None:
    config = BrainOmniConfig(embed_dim=32, depth=2, num_heads=4)
    with pytest.raises(ConfigError, match="not of NoneType"):
        BrainOmni.create(config, sfreq=SFREQ)
    with pytest.raises(ConfigError, match="not of Lipcot"):
        BrainOmni.create(config, sfreq=SFREQ, tokenizer=Lipcot(LipcotConfig(), SFREQ))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="128 Hz: its tokenizer is of 64 Hz"):
        BrainOmni.create(config, sfreq=128.0, tokenizer=tokenizer())


def test_compiled_blocks_give_the_same_tokens() -> None:
    model, given = brainomni().eval(), segments()
    with torch.no_grad():
        expected = model.encode(*given)
        names = list(model.state_dict())
        model.compile(backend="eager")
        torch.testing.assert_close(model.encode(*given), expected, rtol=0, atol=1e-6)
    assert list(model.state_dict()) == names
