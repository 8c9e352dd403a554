"""REVE equals the authors' model and its pretraining, and has the published sizes, names and symmetries.

The authors' numbers lie in ../shared/reference (skipped where absent).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from neuroloom.models.config import REVE_SIZES, ReveConfig
from neuroloom.models.reve import REVE, PositionCode, to_official
from neuroloom.models.reve_pretraining import REVEPretraining
from neuroloom.schema import ConfigError


@dataclass(frozen=True)
class Case:
    """Weights and settings of the authors' model, what it was given, and what it gave back."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]

    @property
    def state(self) -> dict[str, Tensor]:
        return {name[6:]: value for name, value in self.tensors.items() if name.startswith("state/")}

    def given(self, *names: str) -> list[Tensor]:
        return [self.tensors[f"in/{name}"] for name in names]

    def out(self, name: str) -> Tensor:
        return self.tensors[f"out/{name}"]


def reference(repository: Path, name: str) -> Case:
    folder = Path(os.environ.get("NEUROLOOM_REFERENCE", repository / ".." / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"no reference vectors in {folder}; set NEUROLOOM_REFERENCE")
    with safe_open(folder / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
    return Case(load_file(folder / f"{name}.safetensors"), config)


@pytest.fixture(scope="module")
def exported(repository: Path) -> Case:
    return reference(repository, "reve")


@pytest.fixture(scope="module")
def mae(repository: Path) -> Case:
    return reference(repository, "reve_mae")


def small(**changes: Any) -> REVE:
    """With random norms, so that no symmetry comes from ones."""
    settings = {"embed_dim": 64, "depth": 2, "num_heads": 2, "head_dim": 32, "n_frequencies": 3, **changes}
    torch.manual_seed(2)
    model = REVE(ReveConfig(**settings)).eval()
    for name, param in model.named_parameters():
        if "norm" in name or name == "query_D":
            nn.init.normal_(param)
    return model


def count(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def test_tokens_code_and_pooling_are_the_authors(exported: Case) -> None:
    model = REVE.from_official(exported.state, exported.config)
    eeg_BCT, pos_BC3 = exported.given("eeg", "pos")
    tokens = model.encode(eeg_BCT, pos_BC3)
    torch.testing.assert_close(tokens, exported.out("tokens"), rtol=0, atol=1e-4)
    torch.testing.assert_close(model.place(pos_BC3, 11), exported.out("position_embedding"), rtol=0, atol=1e-4)
    torch.testing.assert_close(model.pool(tokens), exported.out("attention_pooling"), rtol=0, atol=1e-4)
    assert not model.training
    assert exported.out("tokens").std() > 0.3


def test_the_loss_and_its_gradient_are_the_authors(mae: Case) -> None:
    model = REVEPretraining.from_official(mae.state, mae.config)
    given = mae.given("eeg", "pos", "masked", "visible")
    loss = model.loss(*given)
    loss.backward()
    torch.testing.assert_close(loss.detach(), mae.out("loss"), rtol=0, atol=1e-4)
    grads = [param.grad for param in model.parameters() if param.grad is not None]
    assert len(grads) == len(list(model.parameters()))
    norm = torch.stack([grad.norm() for grad in grads]).norm()
    torch.testing.assert_close(norm, mae.out("grad_norm"), rtol=1e-4, atol=0)
    made_BMT, from_query_BMT, target_BMT = model(*given)
    torch.testing.assert_close(made_BMT.detach(), mae.out("predicted_patches"), rtol=0, atol=1e-4)
    torch.testing.assert_close(target_BMT, mae.out("target_patches"), rtol=0, atol=0)
    assert from_query_BMT is not None
    first, second = ((made - target_BMT).abs().mean() for made in (made_BMT, from_query_BMT))
    torch.testing.assert_close(first + 0.1 * second, mae.out("loss"), rtol=0, atol=1e-4)


def test_the_order_of_visible_and_hidden_patches_is_no_matter(mae: Case) -> None:
    model = REVEPretraining.from_official(mae.state, mae.config)
    eeg, pos, masked, visible = mae.given("eeg", "pos", "masked", "visible")
    turned = [x[:, torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))] for x in (masked, visible)]
    loss = model.loss(eeg, pos, *turned)
    torch.testing.assert_close(loss.detach(), mae.out("loss"), rtol=0, atol=1e-5)


def test_a_model_without_the_second_loss_is_read(mae: Case) -> None:
    second = ("cls_query_token", "cls_to_pixels.0.weight", "cls_to_pixels.2.weight", "cls_to_pixels.2.bias")
    state = {name: value for name, value in mae.state.items() if name not in second}
    model = REVEPretraining.from_official(state, {**mae.config, "token_avg": False})
    given = mae.given("eeg", "pos", "masked", "visible")
    expected = (mae.out("predicted_patches") - mae.out("target_patches")).abs().mean()
    torch.testing.assert_close(model.loss(*given).detach(), expected, rtol=0, atol=1e-4)


def test_an_encoder_is_read_from_a_checkpoint_of_the_pretraining(mae: Case) -> None:
    eeg, pos = mae.given("eeg", "pos")
    alone = REVE.from_official(mae.state, mae.config)
    whole = REVEPretraining.from_official(mae.state, mae.config).encoder
    torch.testing.assert_close(alone.encode(eeg, pos), whole.encode(eeg, pos))
    assert torch.equal(alone.query_D, mae.state["cls_query_token"].flatten())


def test_a_tensor_too_many_too_few_or_of_another_shape_is_named(exported: Case, mae: Case) -> None:
    extra = {**exported.state, "transformer.layers.2.0.to_qkv.weight": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"unknown transformer\.layers\.2\.0\.to_qkv"):
        REVE.from_official(extra, exported.config)
    fewer = {name: value for name, value in exported.state.items() if name != "ln.weight"}
    with pytest.raises(ConfigError, match=r"missing place\.norm\.weight"):
        REVE.from_official(fewer, exported.config)
    with pytest.raises(ConfigError, match=r"missing query_D"):
        REVE.from_official({k: v for k, v in exported.state.items() if k != "cls_query_token"}, exported.config)
    with pytest.raises(ConfigError, match=r"place\.linear\.weight is \(64, 4\), not \(32, 4\)"):
        REVE.from_official(exported.state, {**exported.config, "embed_dim": 32})
    with pytest.raises(ConfigError, match="missing mask_token_D"):
        REVEPretraining.from_official({k: v for k, v in mae.state.items() if k != "mask_token"}, mae.config)
    with pytest.raises(ConfigError, match=r"missing encoder\.query_D"):
        REVEPretraining.from_official({k: v for k, v in mae.state.items() if k != "cls_query_token"}, mae.config)
    with pytest.raises(ConfigError, match="no freqs"):
        REVE.from_official(exported.state, {k: v for k, v in exported.config.items() if k != "freqs"})
    with pytest.raises(ConfigError, match="use_geglu"):
        REVE.from_official(exported.state, {**exported.config, "use_geglu": False})


SIZES = {  # encoder, transformer, all with decoder
    "tiny": (2_139_400, 2_097_600, 15_329_120),
    "small": (12_667_392, 12_560_384, 26_789_776),
    "base": (69_189_120, 69_082_112, 83_311_504),
    "large": (389_977_280, 389_723_136, 410_775_824),
}


@pytest.mark.parametrize("size", SIZES)
def test_parameters_of_the_published_sizes(size: str) -> None:
    with torch.device("meta"):
        whole = REVEPretraining(REVE(REVE_SIZES[size]))
    encoder = whole.encoder
    assert (count(encoder) - encoder.embed_dim, count(encoder.transformer), count(whole)) == SIZES[size]
    assert count(whole.decoder) == 12_560_384


def test_parameters_without_the_second_loss() -> None:
    with torch.device("meta"):
        whole = REVEPretraining(REVE(REVE_SIZES["tiny"].model_copy(update={"token_average": 0.0})))
    assert count(whole) - 200 == 15_008_720  # the query is part of the encoder


def test_names_are_those_of_the_export(exported: Case) -> None:
    state = to_official(REVE.from_official(exported.state, exported.config))
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        name: tuple(value.shape) for name, value in exported.state.items()
    }
    assert all(torch.equal(value, exported.state[name]) for name, value in state.items())


class NoBank(nn.Module):
    """In place of braindecode's bank of positions, which it downloads."""


@pytest.fixture
def braindecode_reve(monkeypatch: pytest.MonkeyPatch) -> Any:
    reve = pytest.importorskip("braindecode.models.reve")
    monkeypatch.setattr(reve, "RevePositionBank", NoBank)
    return reve.REVE


@pytest.mark.parametrize("attention_pooling", [True, False])
def test_braindecode_reads_our_weights_and_we_read_its(braindecode_reve: Any, attention_pooling: bool) -> None:
    ours = small()
    settings = {"embed_dim": 64, "depth": 2, "heads": 2, "head_dim": 32, "freqs": 3}
    theirs = braindecode_reve(
        n_outputs=2, n_chans=5, n_times=600, sfreq=200, **settings, attention_pooling=attention_pooling
    ).eval()
    missed = theirs.load_state_dict(to_official(ours), strict=False)
    assert all(name.startswith("final_layer.") for name in missed.missing_keys)
    assert missed.unexpected_keys == ([] if attention_pooling else ["cls_query_token"])
    eeg_BCT, pos_BC3 = torch.randn(2, 5, 600), 0.1 * torch.randn(2, 5, 3)
    with torch.no_grad():
        tokens_BND = theirs(eeg_BCT, pos_BC3, return_output=True)[-1]
    torch.testing.assert_close(ours.encode(eeg_BCT, pos_BC3).flatten(1, 2), tokens_BND, rtol=0, atol=1e-5)
    back = REVE.from_official(theirs.state_dict(), settings)
    torch.testing.assert_close(back.encode(eeg_BCT, pos_BC3).flatten(1, 2), tokens_BND, rtol=0, atol=1e-5)
    assert torch.equal(back.query_D, ours.query_D) == attention_pooling


def code_of_the_formula(model: PositionCode, place: list[float], at: int) -> Tensor:
    """Frequency by frequency, in double precision."""
    phases = []
    turns = [2 * torch.pi * (p + 0.4) / 1.8 for p in (*place, 0.1 * at)]
    for x in range(model.n_frequencies):
        for y in range(model.n_frequencies):
            for z in range(model.n_frequencies):
                phases += [
                    x * turns[0] + y * turns[1] + z * turns[2] + t * turns[3] for t in range(model.n_frequencies)
                ]
    kept = torch.tensor(phases[: model.dim // 2], dtype=torch.float64)
    periodic_D = torch.cat([kept.cos(), kept.sin()])
    drawn_D = nn.functional.gelu(model.linear.weight.double() @ torch.tensor([*place, at], dtype=torch.float64))
    for norm in (model.inner, model.norm):
        drawn_D = (drawn_D - drawn_D.mean()) / (drawn_D.var(unbiased=False) + 1e-5).sqrt()
        drawn_D = drawn_D * norm.weight.double() + norm.bias.double()
        if norm is model.inner:
            drawn_D = drawn_D + periodic_D
    return drawn_D


@pytest.mark.parametrize(("dim", "n_frequencies"), [(512, 4), (200, 4), (64, 3), (162, 3)])
def test_the_code_of_a_place_is_that_of_the_formula(dim: int, n_frequencies: int) -> None:
    torch.manual_seed(5)
    model = PositionCode(dim, n_frequencies)
    for norm in (model.inner, model.norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    places = [[0.03, -0.08, 0.05], [-0.07, 0.01, 0.11]]
    found_BND = model(torch.tensor([places]), 3)
    expected = torch.stack([code_of_the_formula(model, place, at) for place in places for at in range(3)])
    torch.testing.assert_close(found_BND[0].double(), expected, rtol=0, atol=2e-5)


def test_the_code_of_a_place_is_not_rounded_in_half_precision() -> None:
    torch.manual_seed(6)
    model, places = PositionCode(64, 3), 0.1 * torch.randn(1, 5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(places, 11)
    assert torch.equal(half, model(places, 11))


def test_too_few_frequencies_say_how_many_would_do() -> None:
    with pytest.raises(ValueError, match=r"n_frequencies 3 gives 162 .* embed_dim 200; give 4 or more"):
        ReveConfig(embed_dim=200, n_frequencies=3)
    with pytest.raises(ConfigError, match="give 4 or more"):
        REVE.from_official({}, {"embed_dim": 200, "depth": 1, "heads": 1, "head_dim": 8, "freqs": 3})


@pytest.mark.parametrize(
    ("n_channels", "n_times", "n_patches"), [(1, 200, 1), (3, 379, 1), (5, 380, 2), (19, 2000, 11)]
)
def test_any_montage_and_length_with_one_set_of_weights(n_channels: int, n_times: int, n_patches: int) -> None:
    model = small()
    eeg_BCT, pos_BC3 = torch.randn(2, n_channels, n_times), 0.1 * torch.randn(2, n_channels, 3)
    assert model.n_patches(n_times) == n_patches
    assert model.encode(eeg_BCT, pos_BC3).shape == (2, n_channels, n_patches, 64)
    assert model(eeg_BCT, pos_BC3).shape == (2, n_channels * n_patches, 64)
    # the rest that fills no patch is left out
    short = eeg_BCT[..., : 180 * (n_patches - 1) + 200]
    assert torch.equal(model.encode(short, pos_BC3), model.encode(eeg_BCT, pos_BC3))


def test_tokens_follow_the_order_of_channels_and_pooling_does_not() -> None:
    model = small()
    eeg_BCT, pos_BC3 = torch.randn(2, 7, 600), 0.1 * torch.randn(2, 7, 3)
    order = torch.randperm(7)
    tokens, turned = model.encode(eeg_BCT, pos_BC3), model.encode(eeg_BCT[:, order], pos_BC3[:, order])
    torch.testing.assert_close(turned, tokens[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.pool(turned), model.pool(tokens), rtol=0, atol=1e-5)
    moved = model.encode(eeg_BCT, pos_BC3[:, order])
    assert (moved - tokens).abs().max() > 0.01
    assert (model.pool(tokens)[0] - model.pool(tokens)[1]).abs().max() > 0.001
