import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from neuroloom.manifest import ArtifactError
from neuroloom.schema import ConfigError
from neuroloom.training.config import TrainingConfig
from neuroloom.training.data import Batch, Batches
from neuroloom.training.loop import train
from neuroloom.training.sampling import WindowSampler
from neuroloom.training.task import Task, TrainingResult

T = 16
EXACT = ["step", "tokens", "lr", "loss", "error", "grad_norm"]


class FakeWindows(SimpleNamespace):
    def __len__(self) -> int:
        return 20

    def read(self, first: int, count: int = 1) -> np.ndarray:
        rng = np.random.default_rng([self.number, first])
        signal_BCT = rng.standard_normal((count, self.n_channels, T)).astype(np.float32)
        return signal_BCT * (np.nan if self.number == self.broken else 1.0)


def make_batches(broken: int = -1, seed: int = 0) -> Batches[Batch]:
    corpus = [
        FakeWindows(
            number=number,
            broken=broken,
            recording=f"recording{number}",
            n_channels=n_channels,
            n_times=T,
            positions_C6=np.zeros((n_channels, 6)),
            sensor_type_C=np.zeros(n_channels),
        )
        for number, n_channels in enumerate((4, 6, 4))
    ]
    sampler = WindowSampler(corpus, tokens_of=lambda windows: windows.n_channels, batch_tokens=24, seed=seed)
    return Batches.of_signals(corpus, sampler)


class Stop(Exception):
    pass


class Reconstruction(Task[Batch]):
    """Through a dropout layer, back to what went in."""

    def __init__(self, stop: int = -1) -> None:
        self.stop, self.modes = stop, list[bool]()

    def loss(self, model: Any, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        self.modes.append(model.training)
        noise_BCT = torch.randn(batch.signal_BCT.shape, generator=generator)
        loss = (model(batch.signal_BCT + noise_BCT) - batch.signal_BCT).square().mean()
        return loss, {"error": loss.detach().sqrt()}

    def after_step(self, model: Any) -> None:
        self.stop -= 1
        if self.stop == 0:
            raise Stop

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        return [{"params": [model[0].weight]}, {"params": [*model[2].parameters()], "lr": 0.5, "weight_decay": 0.0}]


def make_model() -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(T, 8), nn.Dropout(0.5), nn.Linear(8, T))
    model[0].bias.requires_grad_(False)
    return model


def run(folder: Path | None = None, *, stop: int = -1, model: nn.Module | None = None, **given: Any) -> TrainingResult:
    options = {name: given.pop(name) for name in ("validation", "keep") if name in given}
    batches = given.pop("batches", None) or make_batches()
    config = TrainingConfig(**{"steps": 12, "lr": 1e-2, "log_every": 5, "checkpoint_every": 4, **given})
    task = Reconstruction(stop)
    return train(
        model=model or make_model(), task=task, batches=batches, config=config, seed=1, folder=folder, **options
    )


def test_the_table_has_a_row_for_each_step() -> None:
    model = make_model()
    start = model[0].bias.clone()
    result = run(model=model, schedule="trapezoid", floor=0.5)
    table = result.metrics
    assert list(table["step"]) == list(range(1, 13))
    assert set(table.columns) == {*EXACT, "seconds", "waiting_seconds"}
    assert (result.step, result.tokens) == (12, 12 * 24)
    assert table["lr"].iloc[[0, 5, 11]].tolist() == pytest.approx([1e-3, 1e-2, 5e-3])
    np.testing.assert_allclose(table["error"] ** 2, table["loss"], rtol=1e-5)
    assert (table["waiting_seconds"] <= table["seconds"]).all()
    assert torch.equal(model[0].bias, start)
    assert all(torch.equal(result.weights[name], tensor) for name, tensor in model.state_dict().items())


def test_the_same_seed_gives_the_same_run_and_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(99)
    expected = torch.rand(3)
    torch.manual_seed(99)
    model = make_model()
    torch.manual_seed(99)
    first = run(model=model, workers=0).metrics
    assert torch.equal(torch.rand(3), expected)
    second = run(workers=3).metrics
    pd.testing.assert_frame_equal(first[EXACT], second[EXACT], check_exact=True)
    other = run(batches=make_batches(seed=1)).metrics
    assert not np.array_equal(first["loss"], other["loss"])


@pytest.mark.parametrize("settings", [{}, {"optimizer": "stable_adamw", "ema": 0.5, "validate_every": 3}])
@pytest.mark.parametrize("stop", [3, 6, 11])
def test_a_run_that_failed_goes_on(tmp_path: Path, settings: dict[str, Any], stop: int) -> None:
    validation = make_batches(seed=7).first(2)
    whole = run(tmp_path / "whole", validation=validation, **settings)
    with pytest.raises(Stop):
        run(tmp_path / "failed", stop=stop, validation=validation, **settings)
    resumed = run(tmp_path / "failed", validation=validation, **settings)
    names = [*EXACT, "validation_loss"]
    pd.testing.assert_frame_equal(resumed.metrics[names], whole.metrics[names], check_exact=True)
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    saved = pd.read_parquet(tmp_path / "failed" / "metrics.parquet")
    pd.testing.assert_frame_equal(saved, resumed.metrics)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    whole = run(tmp_path)
    again = run(tmp_path, stop=1, log_every=1, workers=0)
    pd.testing.assert_frame_equal(again.metrics, whole.metrics)
    assert all(torch.equal(again.weights[name], whole.weights[name]) for name in whole.weights)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000000008", "step-000000012"]


@pytest.mark.parametrize("other", [{"lr": 2e-2}, {"steps": 13}, {"batches": make_batches(seed=4)}])
def test_a_folder_of_another_run_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    run(tmp_path)
    with pytest.raises(ConfigError, match=r"step-000000012: the checkpoint of a run with other settings, seed or data"):
        run(tmp_path, **other)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    weights = tmp_path / "checkpoints" / "step-000000012" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: 100 bytes"):
        run(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"step \d+: loss is nan, on a batch of recording1\."):
        run(tmp_path, batches=make_batches(broken=1), checkpoint_every=1)
    for path in (tmp_path / "checkpoints").glob("step-*"):
        assert json.loads((path / "state.json").read_text())["step"] == int(path.name.removeprefix("step-"))
        from safetensors.torch import load_file

        assert all(tensor.isfinite().all() for tensor in load_file(path / "weights.safetensors").values())


def test_validation_is_repeatable_and_does_not_disturb_training() -> None:
    plain = run().metrics
    validation = make_batches(seed=7).first(3)
    model, task = make_model(), Reconstruction()
    config = TrainingConfig(steps=12, lr=1e-2, validate_every=4)
    table = train(model=model, task=task, batches=make_batches(), config=config, seed=1, validation=validation).metrics
    pd.testing.assert_frame_equal(table[EXACT], plain[EXACT], check_exact=True)
    assert table["step"][table["validation_loss"].notna()].tolist() == [4, 8, 12]
    np.testing.assert_allclose(table["validation_error"] ** 2, table["validation_loss"], rtol=0.05)
    assert task.modes == ([True] * 4 + [False] * 3) * 3
    assert model.training


def test_averaged_weights_are_the_moving_average() -> None:
    states: list[Tensor] = []

    class Watched(Reconstruction):
        def after_step(self, model: Any) -> None:
            states.append(model[0].weight.detach().clone())

    config = TrainingConfig(steps=6, lr=1e-2, ema=0.75)
    model = make_model()
    result = train(model=model, task=Watched(), batches=make_batches(), config=config, seed=1)
    expected = states[0]
    for state in states[1:]:
        expected = 0.75 * expected + 0.25 * state
    assert torch.allclose(result.weights["0.weight"], expected, atol=1e-6)
    assert torch.equal(model[0].weight, states[-1])


def test_groups_keep_their_own_peak_and_gradients_are_clipped() -> None:
    moved = {}
    for clip in (None, 1e-12):
        model = make_model()
        before = {name: param.detach().clone() for name, param in model.named_parameters()}
        config = {"schedule": "constant", "steps": 1, "weight_decay": 0.0, "eps": 1e-3, "clip_norm": clip}
        table = run(model=model, **config).metrics
        moved[clip] = {name: (param - before[name]).abs().max().item() for name, param in model.named_parameters()}
        assert table["grad_norm"][0] > 0.1
    assert moved[None]["0.weight"] == pytest.approx(1e-2, rel=0.1)
    assert moved[None]["2.weight"] == pytest.approx(0.5, rel=0.1)
    assert moved[1e-12]["2.weight"] < 1e-8


def test_progress_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="neuroloom"):
        run()
    assert any(message.startswith("step 12 of 12: loss ") for message in caplog.messages)
