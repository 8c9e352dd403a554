"""NeuroBOLT equals the authors' model, has the published sizes, and its short cuts change no number.

The authors' numbers lie in ../shared/reference (skipped where absent). `Published` is their way of computing, in our
own words and by their names: maps of attention, and a loop over channels and lengths of windows.
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
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.config import NEUROBOLT_ELECTRODES, NeuroBOLTConfig
from neuroloom.models.labram import ELECTRODES, LaBraM
from neuroloom.models.neurobolt import NeuroBOLT
from neuroloom.models.spectral import LinearAttention, code_of_time, magnitudes
from neuroloom.schema import ConfigError

DEPTH, HEADS, SPECTRAL_HEADS = 2, 10, 8


@dataclass(frozen=True)
class Case:
    """Weights and settings of the authors' model, what it was given, and what it gave back."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]

    @property
    def state(self) -> dict[str, Tensor]:
        return {name[6:]: value for name, value in self.tensors.items() if name.startswith("state/")}

    @property
    def eeg_BCT(self) -> Tensor:
        return self.tensors["in/eeg"].flatten(2)


@pytest.fixture(scope="module")
def case(repository: Path) -> Case:
    folder = Path(os.environ.get("NEUROLOOM_REFERENCE", repository / ".." / "shared" / "reference"))
    path = folder / "neurobolt.safetensors"
    if not path.is_file():
        pytest.skip(f"no reference vectors in {folder}; set NEUROLOOM_REFERENCE")
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    return Case(load_file(path), config)


@dataclass(frozen=True)
class Published:
    """The authors' computation, by their names."""

    state: dict[str, Tensor]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, x: Tensor, name: str, eps: float = 1e-6) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.state[f"{name}.bias"], eps)

    def mlp(self, x: Tensor, first: str, second: str) -> Tensor:
        return self.linear(F.gelu(self.linear(x, first)), second)

    def spatial(self, eeg: Tensor, input_chans: list[int]) -> Tensor:
        x = eeg.unflatten(-1, (-1, 200))
        n_samples, n_channels, n_patches, _ = x.shape
        x = x.flatten(1, 2)[:, None]
        for at, (stride, padding) in enumerate([(8, 7), (1, 1), (1, 1)], start=1):
            weight, bias = (self.state[f"patch_embed.conv{at}.{part}"] for part in ("weight", "bias"))
            x = F.conv2d(x, weight, bias, stride=(1, stride), padding=(0, padding))
            weight, bias = (self.state[f"patch_embed.norm{at}.{part}"] for part in ("weight", "bias"))
            x = F.gelu(F.group_norm(x, 4, weight, bias))
        x = x.permute(0, 2, 3, 1).reshape(n_samples, n_channels * n_patches, -1)
        used = self.state["pos_embed"][:, input_chans]
        place = used[:, 1:, None].expand(n_samples, -1, n_patches, -1).flatten(1, 2)
        times = self.state["time_embed"][:, None, :n_patches].expand(n_samples, n_channels, -1, -1).flatten(1, 2)
        first = (self.state["cls_token"] + used[:, :1]).expand(n_samples, -1, -1)
        x = torch.cat([first, x + place + times], dim=1)
        for block in (f"blocks.{at}" for at in range(DEPTH)):
            made = self.linear(self.norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
            queries, keys, values = made.reshape(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            queries = self.norm(queries, f"{block}.attn.q_norm") * queries.shape[-1] ** -0.5
            weights = (queries @ self.norm(keys, f"{block}.attn.k_norm").mT).softmax(dim=-1)
            y = self.linear((weights @ values).transpose(1, 2).reshape(x.shape), f"{block}.attn.proj")
            x = x + self.state[f"{block}.gamma_1"] * y
            y = self.mlp(self.norm(x, f"{block}.norm2"), f"{block}.mlp.fc1", f"{block}.mlp.fc2")
            x = x + self.state[f"{block}.gamma_2"] * y
        return self.norm(x[:, 1:].mean(dim=1), "fc_norm")

    def spectral(self, eeg: Tensor, input_chans: list[int]) -> Tensor:
        found, name = [], "mss_module"
        for at, electrode in enumerate(input_chans):
            made = []
            for level in range(4):
                one = looped_spectrum(eeg[:, at], 100 * 2**level)
                y = self.linear(one.mT, f"{name}.patch_embedding.{level}.projection")
                made.append(self.linear(y.mT, f"{name}.ts_embedding.{level}.projection").mT)
            token = self.state[f"{name}.channel_tokens.weight"][self.state[f"{name}.index"][electrode]]
            found.append(sum(made) + token + self.state[f"{name}.positional_encoding.pe"][:, :32])
        x = torch.cat(found, dim=1)
        for layer in (f"{name}.transformer.layers.layers.{at}" for at in range(4)):
            x = x + self.linear(self.linear_attention(x, layer), f"{layer}.0.fn.to_out")
            normed = self.norm(x, f"{layer}.1.norm", 1e-5)
            x = x + self.mlp(normed, f"{layer}.1.fn.fn.w1", f"{layer}.1.fn.fn.w2")
        return x.mean(dim=1)

    def linear_attention(self, x: Tensor, layer: str) -> Tensor:
        normed = self.norm(x, f"{layer}.0.norm", 1e-5)
        queries, keys, values = (
            self.linear(normed, f"{layer}.0.fn.to_{part}").unflatten(-1, (SPECTRAL_HEADS, -1)).transpose(1, 2)
            for part in "qkv"
        )
        gathered = keys.softmax(dim=-2).mT @ values
        return (queries.softmax(dim=-1) * queries.shape[-1] ** -0.5 @ gathered).transpose(1, 2).flatten(2)

    def bold(self, eeg: Tensor, input_chans: list[int], input_chans_spect: list[int]) -> Tensor:
        both = self.spatial(eeg, input_chans) + self.spectral(eeg, input_chans_spect)
        return self.linear(F.gelu(both), "head")


def looped_spectrum(eeg_BT: Tensor, n_fft: int) -> Tensor:
    window = torch.ones(n_fft)
    return torch.stft(eeg_BT, n_fft, n_fft, window=window, center=False, return_complex=True).abs()


def chans(names: list[str]) -> list[int]:
    return [0, *(1 + ELECTRODES.index(name) for name in names)]


@torch.no_grad()
def test_bold_and_spectral_branch_are_the_authors(case: Case) -> None:
    model = NeuroBOLT.from_official(case.state, case.config)
    names = [ELECTRODES[row - 1] for row in case.tensors["in/input_chans"][1:].tolist()]
    torch.testing.assert_close(model(case.eeg_BCT, names), case.tensors["out/bold"], rtol=0, atol=1e-5)
    spectral_BD = model.spectral(case.eeg_BCT, torch.arange(26))
    torch.testing.assert_close(spectral_BD, case.tensors["out/spectral"], rtol=0, atol=1e-5)
    theirs = Published(case.state).bold(case.eeg_BCT, list(range(27)), list(range(26)))
    torch.testing.assert_close(theirs, case.tensors["out/bold"], rtol=0, atol=1e-5)
    assert not model.training


@torch.no_grad()
def test_some_channels_in_any_order_are_the_authors_input_chans(case: Case) -> None:
    model = NeuroBOLT.from_official(case.state, case.config)
    order = [9, 0, 25, 13, 4, 17, 21]
    names, eeg_BCT = [NEUROBOLT_ELECTRODES[at] for at in order], case.eeg_BCT[:, order]
    theirs = Published(case.state).bold(eeg_BCT, chans(names), order)
    torch.testing.assert_close(model(eeg_BCT, names), theirs, rtol=0, atol=1e-5)
    back = list(reversed(range(len(order))))
    turned = model(eeg_BCT[:, back], [names[at] for at in back])
    torch.testing.assert_close(turned, theirs, rtol=0, atol=1e-5)
    spelt = [name.title() if name != "T7" else "EEG T3-REF" for name in names]
    torch.testing.assert_close(model(eeg_BCT, spelt), theirs, rtol=0, atol=1e-5)
    moved = model(eeg_BCT, [names[at] for at in back])
    assert (moved - theirs).abs().max() > 1e-4  # ten times what counts as equal


@torch.no_grad()
def test_electrodes_may_be_named_with_the_weights(case: Case) -> None:
    names = list(ELECTRODES[30:56])
    named = NeuroBOLT.from_official(case.state, {**case.config, "ch_names": names})
    order = [3, 11, 7]
    theirs = Published(case.state).bold(case.eeg_BCT[:, order], chans([names[at] for at in order]), order)
    found = named(case.eeg_BCT[:, order], [names[at] for at in order])
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-5)


def test_gradients_are_the_authors(case: Case) -> None:
    model = NeuroBOLT.from_official(case.state, case.config)
    state = {name: value.clone().requires_grad_(value.is_floating_point()) for name, value in case.state.items()}
    eeg_BCT = case.eeg_BCT[:, :5]
    names = list(NEUROBOLT_ELECTRODES[:5])
    model(eeg_BCT, names).square().sum().backward()
    Published(state).bold(eeg_BCT, chans(names), list(range(5))).square().sum().backward()
    grads = {name: value.grad if value.grad is not None else torch.zeros_like(value) for name, value in state.items()}
    grads.pop("mss_module.positional_encoding.pe")
    expected = model.to_ours(grads)
    compared = 0
    for name, param in model.named_parameters():
        scale = max(float(expected[name].abs().max()), 1e-3)
        assert param.grad is not None
        torch.testing.assert_close(param.grad / scale, expected[name] / scale, rtol=0, atol=2e-4, msg=name)
        compared += bool(expected[name].abs().max() > 0)
    assert compared == len(list(model.parameters()))


def test_sizes_are_the_published() -> None:
    with torch.device("meta"):
        model = NeuroBOLT(NeuroBOLTConfig())
    spatial, spectral = (sum(param.numel() for param in part.parameters()) for part in (model.spatial, model.spectral))
    head, index = sum(param.numel() for param in model.head.parameters()), model.spectral.index_C.numel()
    assert spatial + head == 5_820_137
    assert spectral + index == 2_086_874  # the published index of electrodes is a parameter, ours a buffer
    assert sum(param.numel() for param in model.spectral.layers.parameters()) == 1_928_000
    assert spatial + spectral + head == 7_906_985
    assert spatial + spectral + head + index == 7_907_011
    assert sum(value.numel() for value in model.state_dict().values()) == 7_907_011


def test_tokens_are_as_many_as_published() -> None:
    model = NeuroBOLT.create(NeuroBOLTConfig(depth=1, spectral_depth=1)).eval()
    eeg_BCT, rows = torch.zeros(1, 26, 3200), model.rows(NEUROBOLT_ELECTRODES)
    assert model.spatial.tokens(eeg_BCT, rows[0]).shape == (1, 417, 200)
    assert model.spectral.tokens(eeg_BCT, rows[1]).shape == (1, 832, 200)


@pytest.mark.parametrize("n_fft", [100, 200, 400, 800])
def test_spectra_of_all_channels_are_those_of_the_loop(n_fft: int) -> None:
    eeg_BCT = torch.randn(3, 26, 3200, generator=torch.Generator().manual_seed(n_fft))
    looped = torch.stack([looped_spectrum(eeg_BCT[:, channel], n_fft).mT for channel in range(26)], dim=1)
    found_BCWF = magnitudes(eeg_BCT, n_fft)
    assert found_BCWF.shape == (3, 26, 3200 // n_fft, n_fft // 2 + 1)
    torch.testing.assert_close(found_BCWF, looped, rtol=1e-5, atol=1e-5)
    sine_T = torch.sin(2 * torch.pi * 20 * torch.arange(3200) / 200)
    assert magnitudes(sine_T[None, None], n_fft)[0, 0, 0].argmax() == n_fft // 10  # 20 Hz at 200 Hz


def test_spectral_tokens_are_those_of_single_mixes() -> None:
    config = NeuroBOLTConfig(embed_dim=40, depth=1, num_heads=4, spectral_heads=4, electrodes=("Cz", "Pz"), window=4)
    model = NeuroBOLT.create(config).eval().spectral
    eeg_BCT = torch.randn(2, 2, 800)
    expected = []
    for channel, row in ((0, 1), (1, 0)):
        made = sum(
            mix(layer(looped_spectrum(eeg_BCT[:, channel], size).mT).mT).mT
            for size, layer, mix in zip(config.scales, model.frequencies, model.mixes, strict=True)
        )
        expected.append(made + model.electrode.weight[row] + code_of_time(8, 40))
    found = model.tokens(eeg_BCT, torch.tensor([1, 0]))
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=0, atol=1e-5)


def test_linear_attention_is_its_formula_and_its_average() -> None:
    torch.manual_seed(3)
    layer = LinearAttention(NeuroBOLTConfig(embed_dim=24, num_heads=4, spectral_heads=3)).eval()
    x_BND = torch.randn(2, 11, 24)
    normed = layer.norm(x_BND)
    heads = []
    for head in range(3):
        rows = [slice(24 * part + 8 * head, 24 * part + 8 * head + 8) for part in range(3)]
        queries, keys, values = (normed @ layer.qkv.weight[row].T for row in rows)
        shares = queries.exp() / queries.exp().sum(dim=-1, keepdim=True) / 8**0.5
        weights_BNN = shares @ (keys.exp() / keys.exp().sum(dim=1, keepdim=True)).mT
        heads.append(weights_BNN @ values)
    expected = x_BND + layer.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer.attend(x_BND), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.average(x_BND), layer(x_BND).mean(dim=1), rtol=0, atol=1e-5)


def test_electrodes_are_the_published_order() -> None:
    labram = pytest.importorskip("braindecode.models.labram")
    assert [name.upper() for name in labram.LABRAM_CHANNEL_ORDER] == list(ELECTRODES)
    assert len(ELECTRODES) == len(set(ELECTRODES)) == 128


def pretraining(case: Case) -> dict[str, Tensor]:
    """A state as of LaBraM's pretraining: its encoder in the student, and what it is trained with."""
    apart = ("mss_module.", "head.", "fc_norm.")
    state = {f"student.{name}": value for name, value in case.state.items() if not name.startswith(apart)}
    more = {"student.mask_token": (1, 1, 200), "student.norm.weight": (200,), "student.norm.bias": (200,)}
    heads = {"student.lm_head.weight": (64, 200), "lm_head.weight": (64, 200), "projection_head.0.weight": (200, 200)}
    return state | {name: torch.ones(shape) for name, shape in (more | heads).items()}


@torch.no_grad()
def test_a_pretrained_labram_is_read_and_starts_a_neurobolt(case: Case, tmp_path: Path) -> None:
    state = pretraining(case)
    LaBraM.from_official(state).save(tmp_path)
    encoder = LaBraM.load(tmp_path)
    bare = {name.removeprefix("student."): value for name, value in state.items() if name.startswith("student.")}
    assert torch.equal(LaBraM.from_official(bare).place_CD, encoder.place_CD)
    fresh = {**case.state, "fc_norm.weight": torch.ones(200), "fc_norm.bias": torch.zeros(200)}
    expected = Published(fresh).spatial(case.eeg_BCT, chans(list(NEUROBOLT_ELECTRODES)))
    model = NeuroBOLT.from_labram(state, NeuroBOLTConfig(depth=DEPTH, n_outputs=3), seed=4).eval()
    place_C, _ = model.rows(NEUROBOLT_ELECTRODES)
    again = NeuroBOLT.from_labram(encoder, model.config, seed=4).eval()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    for found in (encoder, model.spatial):
        torch.testing.assert_close(found(case.eeg_BCT, place_C), expected, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match=r"missing blocks\.2\."):
        NeuroBOLT.from_labram(state, NeuroBOLTConfig(depth=3))
    with pytest.raises(ConfigError, match=r"unknown adapter"):
        LaBraM.from_official({**state, "student.adapter": torch.ones(1)})
    with pytest.raises(ConfigError, match=r"unknown mss_module\.index"):
        LaBraM.from_official(case.state)


def test_a_tensor_too_many_too_few_or_of_another_shape_is_named(case: Case) -> None:
    state, config = case.state, case.config
    with pytest.raises(ConfigError, match=r"unknown spatial\.lm_head\.weight"):
        NeuroBOLT.from_official({**state, "lm_head.weight": torch.ones(1)}, config)
    for lost, named in (("time_embed", "spatial.time_ND"), ("head.bias", "head.bias")):
        with pytest.raises(ConfigError, match=f"missing {named}"):
            NeuroBOLT.from_official({name: value for name, value in state.items() if name != lost}, config)
    lost_query = "mss_module.transformer.layers.layers.1.0.fn.to_q.weight"
    with pytest.raises(ConfigError, match=r"missing spectral\.layers\.1\.qkv\.weight"):
        NeuroBOLT.from_official({name: value for name, value in state.items() if name != lost_query}, config)
    with pytest.raises(ConfigError, match=r"head\.weight is \(1, 200\), not \(7, 200\)"):
        NeuroBOLT.from_official(state, {**config, "num_roi": 7})
    with pytest.raises(ConfigError, match="use_rel_pos_bias = True, which is not offered"):
        NeuroBOLT.from_official(state, {**config, "use_rel_pos_bias": True})
    positions = "mss_module.positional_encoding.pe"
    with pytest.raises(ConfigError, match=r"positional_encoding\.pe: no sines"):
        NeuroBOLT.from_official({**state, positions: state[positions] + 0.1}, config)
    numpy_state = {name: value.numpy() for name, value in state.items()}
    assert torch.equal(NeuroBOLT.from_official(numpy_state, config).head.weight, state["head.weight"])
