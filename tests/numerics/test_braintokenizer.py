"""BrainTokenizer equals the authors' model, and has its parts, shapes and symmetries.

The numbers are held twice: by the authors' small models (../shared/reference, skipped where absent), and by small files
in tests/data that are written in the authors' names by `write_golden`, from code that equalled the former.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig
from neuroloom.tokenizers.reconstruction import reconstruction_terms, standardize, total_loss

GOLDEN = Path(__file__).parents[1] / "data"
FILES = {
    "eeg19": ("braintokenizer_eeg19", "braintokenizer_eeg19"),
    "meg12": ("braintokenizer_meg12", "braintokenizer_eeg19"),
    "golden eeg5": ("braintokenizer_eeg5", "braintokenizer_eeg5"),
    "golden meg6": ("braintokenizer_meg6", "braintokenizer_eeg5"),
}
MODEL_CFG = {
    **{"window_length": 64, "n_filters": 4, "ratios": [4, 2], "kernel_size": 5, "last_kernel_size": 5, "n_dim": 16},
    **{"n_neuro": 4, "n_head": 2, "dropout": 0.0, "codebook_dim": 16, "codebook_size": 16, "num_quantizers": 2},
    **{"rotation_trick": True, "quantize_optimize_method": "ema"},
}
TERMS = {"time": "time_loss", "correlation": "pcc", "amplitude": "amp_loss", "phase": "phase_loss"}
TO_AUTHORS = (
    (r"^sensors\.place", "sensor_embed.pos_embedding_layer"),
    (r"^sensors\.kind", "sensor_embed.sensor_embedding_layer"),
    (r"^sensors\.mix", "sensor_embed.aggregate_mlp.layer"),
    (r"^sensors\.norm", "sensor_embed.norm"),
    (r"^gather\.latents_LD", "encoder.neuros"),
    (r"^gather\.key\.", "encoder.k_proj."),
    (r"^gather\.value\.", "encoder.backwardsolution.v."),
    (r"^gather\.out\.", "encoder.backwardsolution.proj."),
    (r"^scatter\.key_value\.", "decoder.forwardsolution.kv."),
    (r"^scatter\.out\.", "decoder.forwardsolution.proj."),
    (r"^decoder\.layers\.(3|6)\.(weight_.|bias)", r"decoder.layers.\1.convtr.convtr.\2"),
    (r"^((?:en|de)coder\.layers\..*\d)\.(weight_.|bias)$", r"\1.conv.conv.\2"),
    (r"\.narrow\.(.*)", r".block.1.conv.conv.\1"),
    (r"\.widen\.(.*)", r".block.3.conv.conv.\1"),
    (r"\.shortcut\.(.*)", r".shortcut.conv.conv.\1"),
    (r"^(en|de)coder\.layers", r"\1coder.seanet_\1coder.model"),
    (r"^quantizer\.levels\.(\d)", r"quantizer.rvq.layers.\1._codebook"),
    (r"embed_KD$", "embed"),
    (r"sums_KD$", "embed_avg"),
    (r"counts_K$", "cluster_size"),
    (r"started$", "inited"),
)


@dataclass(frozen=True)
class Case:
    """A model, and what it is given and has to give back."""

    model: BrainTokenizer
    tensors: dict[str, Tensor]

    @property
    def given(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.tensors["in/x"], self.tensors["in/pos"], self.tensors["in/sensor_type"]

    def out(self, name: str) -> Tensor:
        return self.tensors[f"out/{name}"]


def write_golden() -> None:
    """Write the files in tests/data anew; only after the tests against the reference have passed."""
    generator = torch.Generator().manual_seed(2026)
    torch.manual_seed(2026)
    model = BrainTokenizer(BrainTokenizerConfig(**ours(MODEL_CFG)))
    for name, param in model.named_parameters():
        if name.endswith("bias"):
            param.data.normal_(0, 0.1)
    x_BCT, pos_BC6 = torch.randn(8, 5, 512, generator=generator), torch.randn(8, 5, 6, generator=generator)
    with torch.no_grad():
        sensors_BCD = model.sensors(pos_BC6, torch.zeros(8, 5, dtype=torch.long)).repeat_interleave(8, 0)
        latents_NLFD = model.to_latents(model.windows(x_BCT).transpose(1, 2).flatten(0, 1), sensors_BCD)
        model.train().quantizer(latents_NLFD, generator)
    model.eval()
    state = {f"state/{to_authors(name)}": value.contiguous() for name, value in model.state_dict().items()}
    for file, types, n_times in (("eeg5", [0] * 5, 150), ("meg6", [1, 2, 2, 1, 2, 2], 100)):
        x_BCT = torch.randn(2, len(types), n_times, generator=generator)
        pos_BC6 = torch.randn(2, len(types), 6, generator=generator)
        given = {"in/x": x_BCT, "in/pos": pos_BC6, "in/sensor_type": torch.tensor([types] * 2)}
        found = {f"out/{name}": value.contiguous() for name, value in outputs(model, given).items()}
        weights = state if file == "eeg5" else {}
        metadata = {"config": json.dumps(MODEL_CFG)}
        save_file({**weights, **given, **found}, GOLDEN / f"braintokenizer_{file}.safetensors", metadata)


def ours(model_cfg: dict[str, object]) -> dict[str, object]:
    names = {"n_dim": "embed_dim", "n_neuro": "n_latents", "n_head": "num_heads"}
    left_out = ("dropout", "codebook_dim", "quantize_optimize_method")
    return {names.get(name, name): value for name, value in model_cfg.items() if name not in left_out}


def to_authors(name: str) -> str:
    for pattern, theirs in TO_AUTHORS:
        name = re.sub(pattern, theirs, name)
    return name


def outputs(model: BrainTokenizer, given: dict[str, Tensor]) -> dict[str, Tensor]:
    sensors = given["in/pos"], given["in/sensor_type"]
    whole, overlapping = (model.encode(given["in/x"], *sensors, overlap) for overlap in (0.0, 0.25))
    made_BCWT, target_BCWT = model.decode(whole.features, *sensors), standardize(model.windows(given["in/x"]))
    terms = reconstruction_terms(made_BCWT, target_BCWT)
    return {
        "sensor_embedding": model.sensors(*sensors).detach(),
        "codes_overlap0": whole.codes,
        "features_overlap0": whole.features,
        "codes_overlap25": overlapping.codes,
        "features_overlap25": overlapping.features,
        "x_rec": made_BCWT,
        "x_target": target_BCWT,
        **{theirs: terms[name] for name, theirs in TERMS.items()},
    }


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest, repository: Path) -> Case:
    folder = Path(os.environ.get("NEUROLOOM_REFERENCE", repository / ".." / "shared" / "reference"))
    if "golden" in request.param:
        folder = GOLDEN
    elif not folder.is_dir():
        pytest.skip(f"no reference vectors in {folder}; set NEUROLOOM_REFERENCE")
    tensors, weights = (folder / f"{name}.safetensors" for name in FILES[request.param])
    with safe_open(weights, "pt") as file:
        model_cfg = json.loads(file.metadata()["config"])
    state = {name[6:]: value for name, value in load_file(weights).items() if name.startswith("state/")}
    return Case(BrainTokenizer.from_official(state, model_cfg), load_file(tensors))


@pytest.fixture(scope="module")
def published() -> BrainTokenizer:
    """Of the published size."""
    torch.manual_seed(1)
    return BrainTokenizer(BrainTokenizerConfig()).eval()


@pytest.fixture(scope="module")
def small() -> BrainTokenizer:
    """With random biases and codes, so that no symmetry comes from zeros."""
    torch.manual_seed(2)
    model = BrainTokenizer(BrainTokenizerConfig(n_filters=4, embed_dim=32, codebook_size=64)).eval()
    for name, param in model.named_parameters():
        if name.endswith("bias"):
            param.data.normal_(0, 0.1)
    return model


def sensors(n_eeg: int, n_mag: int = 0, n_grad: int = 0, *, samples: int = 1) -> tuple[Tensor, Tensor]:
    types = torch.tensor([0] * n_eeg + [1] * n_mag + [2] * n_grad)
    return torch.randn(samples, len(types), 6), types.expand(samples, -1)


def test_the_sensor_embedding_is_the_authors(case: Case) -> None:
    torch.testing.assert_close(case.model.sensors(*case.given[1:]), case.out("sensor_embedding"), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("overlap", "name"), [(0.0, "overlap0"), (0.25, "overlap25")])
def test_codes_and_features_are_the_authors(case: Case, overlap: float, name: str) -> None:
    tokens = case.model.encode(*case.given, overlap)
    assert torch.equal(tokens.codes, case.out(f"codes_{name}"))
    torch.testing.assert_close(tokens.features, case.out(f"features_{name}"), rtol=0, atol=1e-4)
    assert min(len(tokens.codes[..., level].unique()) for level in range(tokens.codes.shape[-1])) >= 8


def test_the_reconstruction_and_its_target_are_the_authors(case: Case) -> None:
    made_BCWT = case.model.decode(case.out("features_overlap0"), *case.given[1:])
    torch.testing.assert_close(made_BCWT, case.out("x_rec"), rtol=0, atol=1e-4)
    torch.testing.assert_close(standardize(case.model.windows(case.given[0])), case.out("x_target"), rtol=0, atol=1e-4)
    assert case.out("x_rec").std() > 0.005


def test_all_loss_terms_are_the_authors(case: Case) -> None:
    model, (x_BCT, *places) = case.model, case.given
    made_BCWT = model.decode(model.encode(x_BCT, *places).features, *places)
    terms = reconstruction_terms(made_BCWT, standardize(model.windows(x_BCT)))
    theirs = {name: case.out(out) for name, out in TERMS.items()}
    for name, value in theirs.items():
        torch.testing.assert_close(terms[name], value, rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    expected = theirs["time"] + torch.exp(-theirs["correlation"]) + theirs["amplitude"] + 0.5 * theirs["phase"]
    torch.testing.assert_close(total_loss(terms, torch.tensor(0.125)), expected + 0.125, rtol=0, atol=1e-4)


def test_the_path_with_gradients_gives_the_same_features(case: Case) -> None:
    model, (x_BCT, *places) = case.model, case.given
    windows_BCWT = model.windows(x_BCT)
    n_windows = windows_BCWT.shape[2]
    sensors_NCD = model.sensors(*places).repeat_interleave(n_windows, 0)
    latents_NLFD = model.to_latents(windows_BCWT.transpose(1, 2).flatten(0, 1), sensors_NCD)
    features_NLFD, codes_NLFQ, _ = model.quantizer(latents_NLFD)
    in_a_row = features_NLFD.unflatten(0, (-1, n_windows)).transpose(1, 2).flatten(2, 3)
    torch.testing.assert_close(in_a_row, case.out("features_overlap0"), rtol=0, atol=1e-4)
    made_NCT = model.to_windows(features_NLFD, sensors_NCD)
    torch.testing.assert_close(
        made_NCT.unflatten(0, (-1, n_windows)).transpose(1, 2), case.out("x_rec"), rtol=0, atol=1e-4
    )
    assert torch.equal(model.embed(codes_NLFQ), features_NLFD)


def test_parameters_of_the_published_size(published: BrainTokenizer) -> None:
    parts = {
        "all": (published, 5_050_338),
        "sensors": (published.sensors, 560_512),
        "SEANet encoder": (published.encoder, 2_045_632),
        "its LSTM": (published.encoder.layers[10], 1_052_672),
        "keys": (published.gather.key, 65_792),
        "SEANet decoder": (published.decoder, 2_045_346),
        "scatter": (published.scatter, 197_376),
        "quantizer": (published.quantizer, 0),
    }
    counts = {name: sum(param.numel() for param in part.parameters()) for name, (part, _) in parts.items()}
    assert counts == {name: expected for name, (_, expected) in parts.items()}
    gather = {name: param.numel() for name, param in published.gather.named_parameters()}
    assert gather["latents_LD"] == 4_096
    assert sum(n for name, n in gather.items() if name.startswith(("value", "out"))) == 131_584
    assert counts["SEANet encoder"] + sum(gather.values()) == 2_247_104
    assert counts["SEANet decoder"] + counts["scatter"] == 2_242_722
    assert sum(buffer.numel() for buffer in published.buffers()) == 1_050_628


@pytest.mark.parametrize(("seconds", "overlap", "steps"), [(10, 0.0, 40), (30, 0.25, 160)])
def test_shapes_of_the_published_size(published: BrainTokenizer, seconds: int, overlap: float, steps: int) -> None:
    tokens = published.encode(torch.randn(2, 2, seconds * 256), *sensors(2, samples=2), overlap)
    assert tokens.codes.shape == (2, 16, steps, 4)
    assert tokens.features.shape == (2, 16, steps, 256)
    assert (published.step, published.codebook_sizes) == (0.25, (512,) * 4)


def test_codes_do_not_depend_on_the_order_of_sensors(small: BrainTokenizer) -> None:
    torch.manual_seed(3)
    x_BCT, (pos_BC6, type_BC) = torch.randn(2, 9, 1024), sensors(3, 2, 4, samples=2)
    order = torch.randperm(9)
    tokens = small.encode(x_BCT, pos_BC6, type_BC)
    turned = small.encode(x_BCT[:, order], pos_BC6[:, order], type_BC[:, order])
    assert torch.equal(turned.codes, tokens.codes)
    assert len(tokens.codes.unique()) > 20
    made = small.decode(tokens.features, pos_BC6, type_BC)
    torch.testing.assert_close(
        small.decode(turned.features, pos_BC6[:, order], type_BC[:, order]), made[:, order], rtol=0, atol=1e-6
    )
    assert (made - made[:, order]).abs().max() > 0.01
    alone = small.encode(x_BCT[:, order], pos_BC6, type_BC)
    assert not torch.equal(alone.codes, tokens.codes)


@pytest.mark.parametrize("counts", [(4, 0, 0), (19, 0, 0), (64, 0, 0), (0, 102, 204), (64, 102, 204)])
def test_one_model_serves_any_number_of_sensors(small: BrainTokenizer, counts: tuple[int, int, int]) -> None:
    torch.manual_seed(4)
    places = sensors(*counts)
    tokens = small.encode(torch.randn(1, sum(counts), 1024), *places)
    made = small.decode(tokens.features, *places)
    assert tokens.codes.shape == (1, 16, 16, 4)
    assert made.shape == (1, sum(counts), 2, 512)
    assert torch.isfinite(made).all()


def test_encoding_draws_nothing_and_depends_on_no_neighbour(small: BrainTokenizer) -> None:
    torch.manual_seed(5)
    x_BCT, places = torch.randn(3, 7, 1536), sensors(7, samples=3)
    first, state = small.encode(x_BCT, *places), torch.get_rng_state()
    again = small.encode(x_BCT, *places)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again.features, first.features)
    for at in range(3):
        alone = small.encode(x_BCT[at : at + 1], *(part[at : at + 1] for part in places))
        assert torch.equal(alone.codes[0], first.codes[at])


def test_codes_depend_on_the_size_of_the_signal(small: BrainTokenizer) -> None:
    torch.manual_seed(6)
    x_BCT, places = torch.randn(1, 7, 1024), sensors(7)
    same = small.encode(x_BCT, *places).codes == small.encode(5 * x_BCT, *places).codes
    assert same.float().mean() < 0.9


def test_half_precision_changes_few_codes_of_an_untrained_model(case: Case) -> None:
    codes, half = (case.model.encode(*case.given, precision=kind).codes for kind in (torch.float32, torch.bfloat16))
    assert (codes[..., 0] == half[..., 0]).float().mean() > 0.95


def test_the_golden_files_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.glob("braintokenizer_*")) < 200_000


if __name__ == "__main__":
    write_golden()
