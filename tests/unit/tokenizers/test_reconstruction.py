"""Training of BrainTokenizer: the terms of its loss, the sensors it hides, and that it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig
from neuroloom.tokenizers.reconstruction import (
    Reconstruction,
    correlation,
    reconstruction_terms,
    standardize,
    total_loss,
    train_tokenizer,
    visible_channels,
)
from neuroloom.training.data import Batch

SFREQ, WINDOW = 64.0, 64


class Sinusoids:
    """Segments of two rhythms at two places, seen by sensors around them."""

    def __init__(self, seed: int, n_segments: int = 24, n_channels: int = 8, name: str = "sub-01") -> None:
        rng = np.random.default_rng(seed)
        angle_C = 2 * np.pi * np.arange(n_channels) / n_channels
        self.positions_C6 = np.zeros((n_channels, 6), np.float32)
        self.positions_C6[:, 0], self.positions_C6[:, 1] = np.cos(angle_C), np.sin(angle_C)
        self.sensor_type_C = np.zeros(n_channels, np.int64)
        self.recording, self.n_channels, self.n_times, self.sfreq = name, n_channels, 2 * WINDOW, SFREQ
        time_T = np.arange(self.n_times) / SFREQ
        phase_N2 = rng.choice(4, (n_segments, 2)) * np.pi / 2
        weight_2C = np.stack([1 + np.cos(angle_C), 1 - np.cos(angle_C)])
        rhythms_N2T = np.sin(2 * np.pi * np.array([4, 9])[:, None] * time_T + phase_N2[..., None])
        signal_NCT = np.einsum("nit,ic->nct", rhythms_N2T, weight_2C)
        self.signal_NCT = (signal_NCT / signal_NCT.std()).astype(np.float32)

    def __len__(self) -> int:
        return len(self.signal_NCT)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        return self.signal_NCT[first : first + count]


def config(*, steps: int = 10, training: dict[str, Any] | None = None, **changes: Any) -> BrainTokenizerConfig:
    small = {"window_length": WINDOW, "n_filters": 8, "ratios": (4, 2), "embed_dim": 32, "num_heads": 2}
    loop = {"steps": steps, "batch_tokens": 128, "lr": 3e-3, "betas": (0.5, 0.9), "log_every": 100, "workers": 0}
    return BrainTokenizerConfig(
        **{**small, "n_latents": 4, "codebook_size": 32, "num_quantizers": 2, "decay": 0.9, **changes},
        training={**loop, **(training or {})},
    )


def trained(folder: Path | None = None, *, seed: int = 1, **changes: Any) -> tuple[BrainTokenizer, dict[str, Any]]:
    model = BrainTokenizer(config(**changes), SFREQ)
    rng = np.random.default_rng(seed)
    facts = model.fit([Sinusoids(1)], rng=rng, validation=[Sinusoids(2, name="sub-02")], folder=folder)
    return model, facts


def batch(n_samples: int = 2, n_channels: int = 6, n_times: int = 2 * WINDOW) -> Batch:
    generator = torch.Generator().manual_seed(51)
    return Batch(
        signal_BCT=torch.randn(n_samples, n_channels, n_times, generator=generator),
        positions_BC6=torch.randn(n_samples, n_channels, 6, generator=generator),
        sensor_type_BC=torch.zeros(n_samples, n_channels, dtype=torch.long),
        recordings=("sub-01",) * n_samples,
        windows=tuple(range(n_samples)),
        rows=(0, n_samples, n_samples),
    )


@pytest.fixture
def windows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(52)
    made, target = (torch.randn(2, 3, 4, 50, generator=generator) for _ in range(2))
    return made, standardize(target)


def test_the_target_has_zero_mean_and_unit_size(windows: tuple[Tensor, Tensor]) -> None:
    target = windows[1]
    torch.testing.assert_close(target.mean(-1), torch.zeros(2, 3, 4), rtol=0, atol=1e-6)
    torch.testing.assert_close(target.std(-1), torch.ones(2, 3, 4), rtol=0, atol=1e-5)
    assert torch.equal(standardize(torch.full((1, 1, 1, 9), 4.0)), torch.zeros(1, 1, 1, 9))


def test_terms_are_those_of_the_formulas(windows: tuple[Tensor, Tensor]) -> None:
    made, target = (part.double().numpy() for part in windows)
    terms = reconstruction_terms(*windows)
    pairs = zip(made.reshape(-1, 50), target.reshape(-1, 50), strict=True)
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(50) / 50)  # periodic, as torch's
    spectra = [np.fft.rfft(part * hamming, norm="ortho") for part in (made, target)]
    expected = {
        "time": np.abs(made - target).mean(),
        "correlation": np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]),
        "amplitude": np.abs(np.abs(spectra[0]) - np.abs(spectra[1])).mean(),
        "phase": np.abs(np.angle(spectra[0]) - np.angle(spectra[1])).mean(),
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_the_correlation_is_averaged_before_the_exponential(windows: tuple[Tensor, Tensor]) -> None:
    made, target = windows
    half = torch.cat([target[:1], -target[1:]])  # r = 1 and r = -1
    terms = reconstruction_terms(half, target)
    assert terms["correlation"].item() == pytest.approx(0, abs=1e-5)
    total = total_loss(terms, torch.tensor(0.25))
    assert total.item() == pytest.approx(
        terms["time"].item() + 1 + 0.25 + terms["amplitude"].item() + 0.5 * terms["phase"].item(), abs=1e-5
    )
    assert total_loss(reconstruction_terms(target, target), torch.tensor(0.0)).item() == pytest.approx(np.exp(-1), 1e-4)
    assert correlation(made, made).min() > 0.999


def test_a_wrapped_phase_does_not_jump() -> None:
    generator = torch.Generator().manual_seed(61)
    spectrum_F = torch.fft.rfft(torch.randn(64, generator=generator))
    target_T = torch.fft.irfft(spectrum_F)

    def jumps(how: Any) -> list[float]:
        """Changes of the phase term while all phases turn by little."""
        turned = [torch.fft.irfft(spectrum_F * np.exp(1j * angle)) for angle in np.arange(0, 1, 0.005)]
        phases = torch.stack([reconstruction_terms(made_T, target_T, phase=how)["phase"] for made_T in turned])
        return phases.diff().abs().tolist()

    one_bin = 2 * np.pi / 33
    assert max(jumps("raw")) > 0.9 * one_bin
    assert max(jumps("wrapped")) < 0.6 * one_bin  # half of it where the sign of a real bin changes
    generator = torch.Generator().manual_seed(53)
    made, target = (torch.randn(200, 64, generator=generator) for _ in range(2))
    jumping, smooth = (reconstruction_terms(made, target, phase=how)["phase"] for how in ("raw", "wrapped"))
    assert smooth.item() == pytest.approx(np.pi / 2, rel=0.05)  # of two uniform angles
    assert jumping.item() == pytest.approx(2 * np.pi / 3, rel=0.05)


def test_gradients_are_finite_where_a_spectrum_is_zero() -> None:
    made = torch.zeros(1, 1, 1, 64, requires_grad=True)
    terms = reconstruction_terms(made, torch.zeros(1, 1, 1, 64), phase="wrapped")
    total_loss(terms, torch.tensor(0.0)).backward()
    assert made.grad is not None
    assert torch.isfinite(made.grad).all()


@pytest.mark.parametrize(
    ("n_channels", "ratio", "hidden"),
    [(1, 0.25, 0), (2, 0.25, 1), (3, 0.9, 2), (8, 0.25, 2), (19, 0.25, 4), (8, 0.0, 0)],
)
def test_some_sensors_are_hidden_and_one_is_always_seen(n_channels: int, ratio: float, hidden: int) -> None:
    generator = torch.Generator().manual_seed(54)
    seen = torch.zeros(n_channels)
    for _ in range(200):
        visible_C = visible_channels(n_channels, ratio, generator)
        assert visible_C.tolist() == sorted(set(visible_C.tolist()))
        assert len(visible_C) == n_channels - hidden
        seen[visible_C] += 1
    assert (seen > 0).all()


def test_hidden_sensors_do_not_reach_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(55)
    model, given = BrainTokenizer(config(noise=0.0), SFREQ), []
    encode = model.to_latents
    monkeypatch.setattr(model, "to_latents", lambda *parts: given.append(parts) or encode(*parts))
    model.train()
    example = batch()
    Reconstruction().loss(model, example, torch.Generator().manual_seed(3))
    hidden = visible_channels(6, 0.25, torch.Generator().manual_seed(3))
    windows_NCT, sensors_NCD = given[0]
    assert windows_NCT.shape == (4, 5, WINDOW)
    expected = model.windows(example.signal_BCT)[:, hidden].transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(windows_NCT, expected)
    torch.testing.assert_close(
        sensors_NCD[::2], model.sensors(example.positions_BC6, example.sensor_type_BC)[:, hidden]
    )


def test_validation_sees_everything_and_draws_nothing() -> None:
    torch.manual_seed(56)
    model = BrainTokenizer(config(), SFREQ).eval()
    losses = {Reconstruction().loss(model, batch(), torch.Generator().manual_seed(seed))[0].item() for seed in (1, 2)}
    assert len(losses) == 1
    codes = model.encode(batch().signal_BCT, batch().positions_BC6, batch().sensor_type_BC)
    made_BCWT = model.decode(codes.features, batch().positions_BC6, batch().sensor_type_BC)
    terms = reconstruction_terms(made_BCWT, standardize(model.windows(batch().signal_BCT)))
    _, found = Reconstruction().loss(model, batch(), torch.Generator())
    for name, value in terms.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


def test_noise_of_a_row_does_not_depend_on_the_rows_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(57)
    model, given = BrainTokenizer(config(), SFREQ).train(), []
    encode = model.to_latents
    monkeypatch.setattr(model, "to_latents", lambda *parts: given.append(parts[0]) or encode(*parts))
    whole = batch(n_samples=4)
    for rows in (slice(0, 4), slice(0, 2), slice(2, 4)):
        part = Batch(
            whole.signal_BCT[rows],
            whole.positions_BC6[rows],
            whole.sensor_type_BC[rows],
            whole.recordings[rows],
            whole.windows[rows],
            (rows.start, rows.stop, 4),
        )
        Reconstruction().loss(model, part, torch.Generator().manual_seed(7))
    torch.testing.assert_close(torch.cat(given[1:]), given[0])


def test_a_step_may_look_at_fewer_sensors() -> None:
    torch.manual_seed(58)
    model = BrainTokenizer(config(max_channels=3), SFREQ).train()
    loss, _ = Reconstruction().loss(model, batch(), torch.Generator().manual_seed(1))
    loss.backward()
    assert torch.isfinite(loss)
    one = batch(n_channels=1)
    assert torch.isfinite(Reconstruction().loss(model, one, torch.Generator().manual_seed(1))[0])


def test_every_weight_gets_a_gradient_and_two_are_not_decayed() -> None:
    torch.manual_seed(59)
    model = BrainTokenizer(config(), SFREQ).train()
    Reconstruction().loss(model, batch(), torch.Generator().manual_seed(1))[0].backward()
    assert [name for name, param in model.named_parameters() if param.grad is None] == []
    decayed, kept = Reconstruction().parameter_groups(model)
    assert kept["weight_decay"] == 0.0
    assert {id(param) for param in kept["params"]} == {id(model.sensors.norm.weight), id(model.sensors.kind.weight)}
    assert len(decayed["params"]) + 2 == len(list(model.parameters()))


def test_training_learns_two_rhythms(tmp_path: Path) -> None:
    model, facts = trained(tmp_path, steps=120)
    losses = pd.read_parquet(tmp_path / "metrics.parquet")["loss"]
    assert losses[-10:].mean() < 0.5 * losses[:5].mean()
    assert facts["validation_correlation"] > 0.8
    assert facts["steps"] == 120
    assert facts["tokens"] == 120 * 128
    assert facts["parameters"] == sum(param.numel() for param in model.parameters())
    assert not model.training
    held = Sinusoids(2)
    places = np.stack([held.positions_C6] * 8), np.stack([held.sensor_type_C] * 8)
    codes = model.encode(held.read(0, 8), *places).codes
    made = model.decode(model.embed(codes), *places).flatten(2)
    assert correlation(made, torch.from_numpy(held.read(0, 8))).mean() > 0.8
    assert len(codes[..., 0].unique()) > 4


def test_equal_seeds_train_equal_weights() -> None:
    first, again, other = (trained(seed=seed, steps=4)[0].state_dict() for seed in (1, 1, 2))
    assert {name: torch.equal(value, again[name]) for name, value in first.items()} == dict.fromkeys(first, True)
    assert not torch.equal(first["encoder.layers.0.weight_v"], other["encoder.layers.0.weight_v"])


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(60)
    state = torch.get_rng_state()
    model = BrainTokenizer(config(steps=2), SFREQ)
    torch.set_rng_state(state)
    model.fit([Sinusoids(1)], rng=np.random.default_rng(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_recordings_of_different_sensors_train_one_model() -> None:
    model = BrainTokenizer(config(steps=6), SFREQ)
    corpus = [Sinusoids(1, n_channels=8), Sinusoids(2, n_channels=4, name="sub-02")]
    facts = train_tokenizer(model, corpus, rng=np.random.default_rng(1))
    assert np.isfinite(facts["loss"])


def test_trained_weights_are_trained_further() -> None:
    model, _ = trained(steps=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.config = config(steps=1, training={"lr": 1e-6})
    model.fit([Sinusoids(1)], rng=np.random.default_rng(9))
    name = "encoder.layers.0.weight_v"
    torch.testing.assert_close(model.state_dict()[name], before[name], rtol=0, atol=1e-5)
