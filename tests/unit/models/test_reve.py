"""REVE as a model: what it reads and refuses, how it is kept, and that pretraining learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from neuroloom.models.base import Corpus, load_model
from neuroloom.models.config import ReveConfig
from neuroloom.models.reve import REVE, distinct, to_official
from neuroloom.models.reve_pretraining import MaskedPatches, REVEPretraining, null_errors
from neuroloom.schema import ConfigError
from neuroloom.training.data import Batch

SFREQ = 40.0


class Waves:
    """Segments of two slow rhythms, of random phase, at two places; seen by sensors between these."""

    def __init__(self, seed: int, n_segments: int = 32, n_channels: int = 6, name: str = "sub-01") -> None:
        rng = np.random.default_rng(seed)
        angle_C = np.linspace(0, np.pi, n_channels)
        self.positions_C6 = np.zeros((n_channels, 6), np.float32)
        self.positions_C6[:, 0], self.positions_C6[:, 1] = 0.09 * np.cos(angle_C), 0.09 * np.sin(angle_C)
        self.sensor_type_C = np.zeros(n_channels, np.int64)
        self.recording, self.n_channels, self.n_times, self.sfreq = name, n_channels, 200, SFREQ
        time_T = np.arange(self.n_times) / SFREQ
        phase_N21 = rng.uniform(0, 2 * np.pi, (n_segments, 2, 1))
        rhythms_N2T = np.sin(2 * np.pi * np.array([[1.0], [2.5]]) * time_T + phase_N21)
        weight_2C = np.stack([np.cos(angle_C / 2) ** 2, np.sin(angle_C / 2) ** 2])
        signal_NCT = np.einsum("nit,ic->nct", rhythms_N2T, weight_2C)
        self.signal_NCT = (signal_NCT / signal_NCT.std(axis=(0, 2), keepdims=True)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.signal_NCT)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        return self.signal_NCT[first : first + count]


def config(*, steps: int = 4, training: dict[str, Any] | None = None, **changes: Any) -> ReveConfig:
    encoder = {"embed_dim": 48, "depth": 2, "num_heads": 2, "head_dim": 16, "n_frequencies": 3}
    decoder = {"decoder_embed_dim": 48, "decoder_depth": 1, "decoder_num_heads": 2, "decoder_head_dim": 16}
    loop = {"steps": steps, "batch_tokens": 480, "log_every": 1000, "workers": 0, "optimizer": "stable_adamw"}
    rates = {"lr": 1e-2, "betas": (0.9, 0.99), "schedule": "trapezoid", "cooldown": 0.4, "clip_norm": 5.0}
    return ReveConfig(
        **{**encoder, **decoder, "patch_size": 20, "patch_overlap": 0, **changes},
        training={**loop, **rates, **(training or {})},
    )


def pretrained(folder: Path | None = None, *, seed: int = 1, **changes: Any) -> tuple[REVE, dict[str, Any]]:
    model = REVE.create(config(**changes), sfreq=SFREQ, seed=seed)
    parts = Corpus([Waves(1)]), Corpus([Waves(2, 8, name="sub-02")])
    return model, model.pretrain(*parts, rng=np.random.default_rng(seed), folder=folder)


def batch(n_samples: int = 4, n_channels: int = 6, rows: tuple[int, int, int] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(51)
    first, last, total = rows or (0, n_samples, n_samples)
    signal_BCT = torch.randn(total, n_channels, 200, generator=generator)
    positions_BC6 = 0.1 * torch.randn(n_channels, 6, generator=generator).expand(total, -1, -1)
    count = last - first
    return Batch(
        signal_BCT=signal_BCT[first:last],
        positions_BC6=positions_BC6[first:last],
        sensor_type_BC=torch.zeros(count, n_channels, dtype=torch.long),
        recordings=("sub-01",) * count,
        windows=tuple(range(count)),
        rows=(first, last, total),
    )


@pytest.fixture(scope="module")
def model() -> REVE:
    return REVE.create(config(), sfreq=SFREQ, seed=3).eval()


def oriented() -> REVE:
    """With random weights where training starts from zero."""
    model = REVE.create(config(orientation=True), sfreq=SFREQ, seed=3).eval()
    for part in (model.place.turn, model.place.kind):
        assert part is not None
        assert not part.weight.any()
        torch.nn.init.normal_(part.weight)
    return model


def given(n_channels: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(52)
    return torch.randn(2, n_channels, 90, generator=generator), 0.1 * torch.randn(2, n_channels, 3, generator=generator)


def test_forward_reads_what_inputs_gives(model: REVE) -> None:
    one = batch()
    inputs = model.inputs(one.signal_BCT, one.positions_BC6, one.sensor_type_BC)
    tokens_BND = model(*inputs)
    assert tokens_BND.shape == (4, 60, model.embed_dim)
    expected = model.encode(one.signal_BCT.numpy(), one.positions_BC6[..., :3].numpy())
    torch.testing.assert_close(tokens_BND.detach(), expected.flatten(1, 2))
    assert not expected.requires_grad
    names = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    assert set(model.lora_targets) <= names


def test_what_cannot_be_read_is_refused_by_name(model: REVE) -> None:
    eeg_BCT, pos_BC3 = given()
    with pytest.raises(ValueError, match=r"19 samples hold no patch of 20; give segments of 0\.5 s"):
        model.encode(eeg_BCT[..., :19], pos_BC3)
    with pytest.raises(ValueError, match=r"\(2, 4, 90\) and \(2, 3, 3\)"):
        model.encode(eeg_BCT, pos_BC3[:, :3])
    eeg_BCT[1, 2, 5] = torch.nan
    with pytest.raises(ValueError, match="missing values in segment 1, channel 2"):
        model.encode(eeg_BCT, pos_BC3)
    pos_BC3[0, 3] = torch.nan
    with pytest.raises(ValueError, match="missing position of segment 0, channel 3"):
        model.encode(given()[0], pos_BC3)


def test_equal_positions_are_coded_once(model: REVE, monkeypatch: pytest.MonkeyPatch) -> None:
    eeg_BCT, pos_BC3 = given()
    coded: list[int] = []
    monkeypatch.setattr(model.place, "periodic", lambda p, t, of=model.place.periodic: coded.append(len(p)) or of(p, t))
    for row_B, n_sets in (([0, 0, 0], 1), ([1, 0, 1], 2), ([0, 1], 2)):
        tokens = model.encode(eeg_BCT[row_B], pos_BC3[row_B])
        assert coded.pop() == n_sets
        for row, at in enumerate(row_B):
            alone = model.encode(eeg_BCT[at : at + 1], pos_BC3[at : at + 1])
            torch.testing.assert_close(tokens[row], alone[0], rtol=0, atol=1e-5)
            coded.clear()
    sets_UC3, row_B = distinct(pos_BC3[[1, 0, 1]])
    assert torch.equal(sets_UC3[row_B], pos_BC3[[1, 0, 1]])


def test_a_saved_model_comes_back(model: REVE, tmp_path: Path) -> None:
    model.save(tmp_path)
    back = load_model(tmp_path)
    assert isinstance(back, REVE)
    assert (back.config, back.sfreq, back.training) == (model.config, SFREQ, False)
    assert torch.equal(back.encode(*given()), model.encode(*given()))
    other = REVE(config(embed_dim=50), SFREQ)
    other.save(tmp_path / "other")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"place\.linear\.weight is"):
        load_model(tmp_path)


def test_equal_seeds_make_equal_models_and_leave_the_callers_numbers_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (REVE.create(config(), sfreq=SFREQ, seed=seed).patch.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    pretrained(steps=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_pretraining_beats_predictors_that_learn_nothing(tmp_path: Path) -> None:
    model, facts = pretrained(tmp_path, steps=150)
    losses = pd.read_parquet(tmp_path / "metrics.parquet")["loss"]
    assert losses[-10:].mean() < 0.7 * losses[:5].mean()
    nulls = [facts[f"validation_{name}"] for name in ("mean_patch", "mean_value", "last_value")]
    assert facts["validation_reconstruction"] < 0.7 * min(nulls)
    assert (facts["steps"], facts["tokens"]) == (150, 150 * 480)
    assert facts["parameters"] == sum(param.numel() for param in model.parameters())
    assert facts["parameters_in_training"] > facts["parameters"]
    assert not model.training
    assert all(param.requires_grad for param in model.parameters())


def test_equal_seeds_train_equal_weights() -> None:
    first, again, other = (pretrained(seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["patch.weight"], other["patch.weight"])


@pytest.mark.parametrize("mask", ["block", "released", "random"])
def test_losses_of_two_processes_are_those_of_one(mask: str) -> None:
    torch.manual_seed(4)
    whole = REVEPretraining(REVE(config(mask=mask), SFREQ)).train()
    losses = []
    for rows in ((0, 4, 4), (0, 3, 4), (3, 4, 4)):
        part = batch(rows=rows)
        loss, _ = MaskedPatches().loss(whole, part, torch.Generator().manual_seed(9))
        losses.append(loss.item() * len(part.signal_BCT) / 4)
    assert losses[1] + losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_positions_are_moved_a_little_in_training_and_not_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    model = REVEPretraining(REVE(config(position_noise=0.0025), SFREQ))
    seen: list[Tensor] = []
    place = model.encoder.place.forward
    monkeypatch.setattr(model.encoder.place, "forward", lambda p, n: seen.append(p) or place(p, n))
    one = batch(n_channels=200)
    before = one.positions_BC6.clone()
    for training in (True, False):
        MaskedPatches().loss(model.train(training), one, torch.Generator().manual_seed(1))
    assert torch.equal(one.positions_BC6, before)
    moved = seen[0][0] - before[0, :, :3]
    assert moved.std().item() == pytest.approx(0.0025, rel=0.1)
    assert torch.equal(seen[1][0], before[0, :, :3])
    assert len(seen[0]) == 1  # one draw for the batch, so equal positions stay equal


def test_validation_hides_single_patches_whatever_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for mask in ("block", "random"):
        torch.manual_seed(5)
        model = REVEPretraining(REVE(config(mask=mask), SFREQ)).eval()
        loss, metrics = MaskedPatches().loss(model, batch(), torch.Generator().manual_seed(2))
        found.append(loss.item())
    assert found[0] == found[1]
    assert set(metrics) == {"reconstruction", "token_average", "mean_patch", "mean_value", "last_value"}
    total = metrics["reconstruction"] + 0.1 * metrics["token_average"]
    assert total.item() == pytest.approx(found[0], rel=1e-6)


def nulls_one_by_one(patches_BCNT: np.ndarray, hidden_BCN: np.ndarray) -> dict[str, float]:
    errors: dict[str, list[float]] = {"mean_patch": [], "mean_value": [], "last_value": []}
    for row, channel, at in np.argwhere(hidden_BCN):
        own, seen = patches_BCNT[row, channel], np.flatnonzero(~hidden_BCN[row, channel])
        mean = own[seen].mean(axis=0) if len(seen) else 0.0
        before, after = seen[seen < at], seen[seen > at]
        value = own[before[-1], -1] if len(before) else own[after[0], 0] if len(after) else 0.0
        errors["mean_patch"].append(np.abs(own[at] - mean).mean())
        errors["mean_value"].append(np.abs(own[at] - np.mean(mean)).mean())
        errors["last_value"].append(np.abs(own[at] - value).mean())
    return {name: float(np.mean(values)) for name, values in errors.items()}


@pytest.mark.parametrize("n_hidden", [1, 10, 16, 19])
def test_null_predictors_are_those_of_their_definition(n_hidden: int) -> None:
    generator = torch.Generator().manual_seed(n_hidden)
    patches_BCNT = torch.randn(3, 4, 5, 7, generator=generator)
    masked_BM = torch.rand(3, 20, generator=generator).argsort(1)[:, :n_hidden]
    hidden_BN = np.zeros((3, 20), bool)
    np.put_along_axis(hidden_BN, masked_BM.numpy(), True, axis=1)
    expected = nulls_one_by_one(patches_BCNT.numpy(), hidden_BN.reshape(3, 4, 5))
    found = {name: value.item() for name, value in null_errors(patches_BCNT, masked_BM).items()}
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("widths", [{"decoder_embed_dim": 48}, {"decoder_embed_dim": 40}])
def test_every_weight_gets_a_gradient(widths: dict[str, int]) -> None:
    torch.manual_seed(6)
    model = REVEPretraining(REVE(config(**widths), SFREQ)).train()
    MaskedPatches().loss(model, batch(), torch.Generator().manual_seed(1))[0].backward()
    assert [name for name, param in model.named_parameters() if param.grad is None] == []
    (group,) = MaskedPatches().parameter_groups(model)
    assert len(group["params"]) == len(list(model.parameters()))


def test_without_the_second_loss_the_query_stays_as_it_is() -> None:
    untrained = REVE.create(config(token_average=0.0), sfreq=SFREQ, seed=1)
    model, facts = pretrained(token_average=0.0)
    assert torch.equal(model.query_D, untrained.query_D)
    assert not torch.equal(model.patch.weight, untrained.patch.weight)
    assert model.query_D.requires_grad
    assert "token_average" not in facts
    assert facts["loss"] == facts["reconstruction"]


def test_half_precision_learns_the_same() -> None:
    losses = {name: pretrained(steps=20, training={"precision": name})[1] for name in ("32-true", "bf16-mixed")}
    one, other = (facts["validation_reconstruction"] for facts in losses.values())
    assert one != other
    assert other == pytest.approx(one, rel=0.01)


def test_segments_shorter_than_a_patch_stop_before_training() -> None:
    model = REVE(config(patch_size=300, embed_dim=48), SFREQ)
    with pytest.raises(ConfigError, match="sub-01: segments of 200 samples hold no patch of 300"):
        model.pretrain(Corpus([Waves(1)]), Corpus(), rng=np.random.default_rng(1))


def test_recordings_of_different_montages_train_one_model() -> None:
    model = REVE.create(config(steps=6), sfreq=SFREQ, seed=1)
    corpus = Corpus([Waves(1), Waves(2, n_channels=4, name="sub-02")])
    facts = model.pretrain(corpus, Corpus(), rng=np.random.default_rng(1))
    assert np.isfinite(facts["loss"])
    assert "validation_loss" not in facts


def test_orientation_and_type_start_without_effect() -> None:
    one = batch()
    without, model = (REVE.create(config(orientation=known), sfreq=SFREQ, seed=3).eval() for known in (False, True))
    model.load_state_dict(without.state_dict(), strict=False)
    sensors = one.positions_BC6, torch.full((4, 6), 2)
    tokens = [each(*each.inputs(one.signal_BCT, *sensors)) for each in (without, model)]
    assert torch.equal(*tokens)
    assert without.place.turn is None
    extra = set(model.state_dict()) - set(without.state_dict())
    assert extra == {"place.turn.weight", "place.kind.weight"}
    with pytest.raises(ConfigError, match="no published counterpart"):
        to_official(model)


def test_a_model_may_know_orientation_and_type() -> None:
    model, one, order = oriented(), batch(), torch.randperm(6, generator=torch.Generator().manual_seed(1))
    type_BC = torch.tensor([0, 1, 2, 2, 1, 0]).expand(4, -1)
    sensors_BCF = model.sensors(one.positions_BC6, type_BC)
    tokens = model.encode(one.signal_BCT, sensors_BCF)
    turned = model.encode(one.signal_BCT[:, order], sensors_BCF[:, order])
    torch.testing.assert_close(turned, tokens[:, order], rtol=0, atol=1e-5)
    for changed in (3, 6):  # an orientation, the type
        other = sensors_BCF.clone()
        other[..., changed] = (other[..., changed] + 1) % 3
        assert (model.encode(one.signal_BCT, other) - tokens).abs().max() > 0.01
    with pytest.raises(ValueError, match=r"\(B, C, 7\) are needed"):
        model.encode(one.signal_BCT, one.positions_BC6[..., :3])


def test_noise_moves_positions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, one, seen = REVEPretraining(oriented()).train(), batch(), []
    place = model.encoder.place.forward
    monkeypatch.setattr(model.encoder.place, "forward", lambda x, n: seen.append(x) or place(x, n))
    MaskedPatches().loss(model, one, torch.Generator().manual_seed(1))
    sensors_BCF = model.encoder.sensors(one.positions_BC6, one.sensor_type_BC)
    assert torch.equal(seen[0][0, :, 3:], sensors_BCF[0, :, 3:])
    assert not torch.equal(seen[0][0, :, :3], sensors_BCF[0, :, :3])
