"""NeuroBOLT as a model: caps that differ, what is drawn in training, rates of its layers, and that it learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuroloom.models.config import NEUROBOLT_ELECTRODES, NeuroBOLTConfig
from neuroloom.models.labram import ELECTRODES, draw_lost, dropped, electrode_rows
from neuroloom.models.neurobolt import NeuroBOLT, ParcelModels, layer_of, parameter_groups
from neuroloom.schema import ConfigError

CAP = (
    "Fp1",
    "Fp2",
    "F3",
    "F4",
    "C3",
    "C4",
    "P3",
    "P4",
    "O1",
    "O2",
    "F7",
    "F8",
    "T7",
    "T8",
    "P7",
    "P8",
    "Fz",
    "Cz",
    "Pz",
)
NONE = {"dropout": 0.0, "drop_path": 0.0, "spectral_dropout": 0.0, "position_dropout": 0.0}


def tiny(seed: int = 0, **changes: Any) -> NeuroBOLT:
    small = {"embed_dim": 40, "depth": 2, "num_heads": 4, "spectral_heads": 4, "spectral_depth": 2, "window": 4.0}
    return NeuroBOLT.create(NeuroBOLTConfig(**{**small, "electrodes": CAP, **changes}), seed=seed)


def eeg(n_channels: int, n_times: int = 800, n_samples: int = 2) -> Tensor:
    return torch.randn(n_samples, n_channels, n_times, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("n_channels", [19, 32, 64])
def test_a_tiny_one_reads_caps_of_all_sizes_with_one_set_of_weights(n_channels: int) -> None:
    everything = tuple(name for name in ELECTRODES[:80] if name not in ("AF9", "AF10"))
    model = tiny(electrodes=everything, n_outputs=7).eval()
    found = model(eeg(n_channels), everything[:n_channels])
    assert found.shape == (2, 7)
    assert torch.isfinite(found).all()
    assert model.config.n_electrodes == len(everything)


def test_unknown_and_repeated_names_are_told() -> None:
    model = tiny()
    with pytest.raises(ConfigError, match="no code for Iz, X9; known electrodes are Fp1"):
        model(eeg(3), ("Cz", "Iz", "X9"))
    with pytest.raises(ConfigError, match="no code for X9; known electrodes are FP1"):
        tiny(electrodes=("Cz", "X9"))(eeg(2), ("Cz", "X9"))
    with pytest.raises(ConfigError, match="channels CZ, Cz are at one electrode"):
        model(eeg(3), ("CZ", "Pz", "Cz"))
    with pytest.raises(ConfigError, match="2 channels for weights of 19 electrodes that are not named, among them AF7"):
        tiny(electrodes=None, n_electrodes=19)(eeg(2), ("AF7", "Pz"))
    assert electrode_rows(["EEG FP1-REF", "pz", "T3"], CAP) == [0, 18, 12]
    assert electrode_rows(["T3", "T7"], ELECTRODES) == [ELECTRODES.index("T3"), ELECTRODES.index("T7")]


@pytest.mark.parametrize("shape", [(2, 18, 800), (2, 19, 799), (19, 800)])
def test_a_shape_that_does_not_fit_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="19 named channels, 800"):
        tiny()(torch.zeros(shape), CAP)


def test_what_cannot_be_is_found_in_the_config() -> None:
    with pytest.raises(ValueError, match="no multiple of num_heads 7"):
        NeuroBOLTConfig(num_heads=7)
    with pytest.raises(ValueError, match="multiple of spectral_heads"):
        NeuroBOLTConfig(spectral_heads=7)
    with pytest.raises(ValueError, match="3100 samples is no multiple of 200"):
        NeuroBOLTConfig(window=15.5)
    with pytest.raises(ValueError, match="window holds 20 patches"):
        NeuroBOLTConfig(window=20.0, scales=(100,))
    with pytest.raises(ValueError, match="names one twice"):
        NeuroBOLTConfig(electrodes=("Cz", "CZ"))
    assert NeuroBOLTConfig().electrodes == NEUROBOLT_ELECTRODES


def test_evaluation_draws_nothing_and_training_drops() -> None:
    model = tiny()
    with torch.no_grad():
        model.head.weight.normal_()
    model.eval()
    state = torch.get_rng_state()
    first = model(eeg(19), CAP)
    assert torch.equal(model(eeg(19), CAP), first)
    assert torch.equal(torch.get_rng_state(), state)
    model.train()
    assert not torch.allclose(model(eeg(19), CAP), first, atol=1e-3)
    torch.manual_seed(1)
    one = model(eeg(19), CAP)
    torch.manual_seed(1)
    assert torch.equal(model(eeg(19), CAP), one)
    still = tiny(**NONE)
    still.load_state_dict(model.state_dict())
    torch.testing.assert_close(still.train()(eeg(19), CAP), first)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_takes_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(2)
    lost = draw_lost((101, 333, 7), rate, torch.device("cpu"))
    spread = 5 * (rate * (1 - rate) / lost.numel()) ** 0.5
    assert abs(lost.float().mean().item() - rate) < spread
    by_lane = torch.stack([lost.flatten()[lane:235_428:4] for lane in range(4)]).float().mean(dim=1)
    assert (by_lane - rate).abs().max() < 2 * spread
    kept = dropped(torch.ones(400, 400), rate, training=True)
    assert abs(kept.mean().item() - 1) < 5 * (rate / (1 - rate) / kept.numel()) ** 0.5
    torch.testing.assert_close(kept.max().item(), 1 / (1 - rate), rtol=1e-5, atol=0)
    assert torch.equal(dropped(kept, rate, training=False), kept)


def test_training_has_the_mean_of_evaluation_in_a_block() -> None:
    torch.manual_seed(3)
    block = tiny(dropout=0.3, drop_path=0.4).spatial.blocks[1]
    found_BNF = torch.randn(1, 5, 40)
    given = torch.zeros(4000, 5, 40), found_BNF.expand(4000, -1, -1), block.out, block.attention_scale_D
    expected = block.eval()._added(*given)[0]
    drawn = block.train()._added(*given).detach()
    torch.testing.assert_close(drawn.mean(dim=0), expected, rtol=0, atol=6 * float(drawn.std(dim=0).max()) / 4000**0.5)
    skipped = (drawn == 0).flatten(1).all(dim=1).float().mean().item()
    assert abs(skipped - 0.4) < 5 * (0.24 / 4000) ** 0.5


def test_rates_fall_from_layer_to_layer_and_norms_do_not_decay() -> None:
    with torch.device("meta"):
        model = NeuroBOLT(NeuroBOLTConfig())
    groups = parameter_groups(model)
    assert sorted({group["layer"] for group in groups}) == list(range(14))
    for group in groups:
        torch.testing.assert_close(group["lr"], 3e-4 * 0.65 ** (13 - group["layer"]))
        assert group["weight_decay"] in (0.0, 0.05)
        assert all(param.ndim > 1 for param in group["params"]) or group["weight_decay"] == 0
    grouped = [id(param) for group in groups for param in group["params"]]
    assert sorted(grouped) == sorted(id(param) for param in model.parameters())
    undecayed = {id(param) for group in groups if not group["weight_decay"] for param in group["params"]}
    codes = [model.spatial.cls_D, model.spatial.place_CD, model.spatial.time_ND]
    assert undecayed == {id(param) for param in (*codes, *(p for p in model.parameters() if p.ndim == 1))}
    names = ("spatial.place_CD", "spatial.patch.conv1.weight", "spatial.blocks.11.out.bias", "spatial.time_ND")
    assert [layer_of(name, 12) for name in names] == [0, 0, 12, 13]
    assert {layer_of(name, 12) for name, _ in model.named_parameters() if "spectral" in name or "head" in name} == {13}


def test_it_is_kept_and_comes_back(tmp_path: Path) -> None:
    model = tiny(n_outputs=3).eval()
    model.save(tmp_path)
    back = NeuroBOLT.load(tmp_path)
    assert back.config == model.config
    assert torch.equal(back(eeg(19), CAP), model(eeg(19), CAP))
    assert torch.equal(tiny(seed=1).head.weight, tiny(seed=1).head.weight)
    assert not torch.equal(tiny(seed=1).head.weight, tiny(seed=2).head.weight)


def test_predictions_start_at_zero() -> None:
    assert tiny().eval()(eeg(19), CAP).abs().max() < 0.05


def test_models_of_single_parcels_share_nothing() -> None:
    models = ParcelModels(tiny(n_outputs=3).config, seed=1)
    found = models.eval()(eeg(19), CAP)
    assert found.shape == (2, 3)
    found[:, 1].sum().backward()
    reached = [any(p.grad.any() for p in model.parameters()) for model in models.models]
    assert reached == [False, True, False]


def rhythms(n_samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """EEG whose power at 5 and 20 Hz is what is to be predicted."""
    generator = torch.Generator().manual_seed(seed)
    power_BP = torch.rand(n_samples, 2, generator=generator)
    time_T, phase_BP1 = torch.arange(800) / 200, 6.28 * torch.rand(n_samples, 2, 1, generator=generator)
    waves_BPT = torch.sin(2 * torch.pi * torch.tensor([[5.0], [20.0]]) * time_T + phase_BP1)
    mixing_BCP = torch.eye(4, 2).expand(n_samples, -1, -1) * power_BP[:, None]
    noise_BCT = 0.1 * torch.randn(n_samples, 4, 800, generator=generator)
    return mixing_BCP @ waves_BPT + noise_BCT, 2 * power_BP - 1


def trained(precision: torch.dtype) -> tuple[NeuroBOLT, list[float]]:
    model = tiny(electrodes=CAP[:4], n_outputs=2, **NONE).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=3e-3))
    losses = []
    for step in range(60):
        eeg_BCT, bold_BP = rhythms(16, step)
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            found_BP = model(eeg_BCT, CAP[:4])
        loss = (found_BP.float() - bold_BP).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


def test_it_learns_and_half_precision_learns_alike() -> None:
    eeg_BCT, bold_BP = rhythms(64, 1000)
    errors = {}
    for precision in (torch.float32, torch.bfloat16):
        model, losses = trained(precision)
        with torch.no_grad():
            errors[precision] = (model(eeg_BCT, CAP[:4]) - bold_BP).square().mean().item()
        assert errors[precision] < 0.15 * bold_BP.var().item()
        assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert abs(errors[torch.float32] - errors[torch.bfloat16]) < 0.05 * bold_BP.var().item()
