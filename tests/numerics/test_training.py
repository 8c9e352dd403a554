"""The training loop: a killed run, two processes, bf16 and the optimizers against what they should equal.

As a program, this file trains a toy model: `python test_training.py FOLDER [--kill STEP] [--set KEY=VALUE ...]`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neuroloom.training.config import TrainingConfig
from neuroloom.training.data import Batch, Batches
from neuroloom.training.loop import train
from neuroloom.training.optimizers import StableAdamW, build_optimizer
from neuroloom.training.sampling import WindowSampler
from neuroloom.training.task import Task, TrainingResult

T, D = 64, 32
BASE = {"steps": 30, "batch_tokens": 64, "lr": 1e-2, "checkpoint_every": 7, "log_every": 4, "validate_every": 10}
SAME = ["step", "tokens", "lr", "loss", "hidden_share", "grad_norm", "validation_loss"]


def make_windows(number: int, n_channels: int, count: int) -> SimpleNamespace:
    rng = np.random.default_rng(number)
    phase_NC = rng.uniform(0, 2 * np.pi, (count, n_channels))
    signal_NCT = np.sin(phase_NC[..., None] + np.arange(T) / 5) + 0.1 * rng.standard_normal((count, n_channels, T))

    class FakeWindows(SimpleNamespace):
        def __len__(self) -> int:
            return count

        def read(self, first: int, count: int = 1) -> np.ndarray:
            return signal_NCT[first : first + count].astype(np.float32)

    return FakeWindows(
        recording=f"toy{number}",
        positions_C6=rng.standard_normal((n_channels, 6)).astype(np.float32),
        sensor_type_C=np.zeros(n_channels, np.int64),
        n_channels=n_channels,
        n_times=T,
    )


class ToyModel(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.signal, self.position = nn.Linear(T, D), nn.Linear(6, D)
        self.mixing = nn.TransformerEncoderLayer(D, 4, 2 * D, dropout, batch_first=True)
        self.out = nn.Linear(D, T)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, signal_BCT: Tensor, positions_BC6: Tensor) -> Tensor:
        return self.out(self.mixing(self.signal(signal_BCT) + self.position(positions_BC6)))


class ToyTask(Task[Batch]):
    """Hidden channels are filled in; each row hides its own."""

    def __init__(self, kill: int = -1) -> None:
        self.kill, self.done = kill, 0

    def loss(self, model: Any, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        first, last, rows = batch.rows
        n_channels = batch.signal_BCT.shape[1]
        hidden_BC = torch.rand(rows, n_channels, generator=generator)[first:last].argsort(dim=1) < n_channels // 2
        found_BCT = model(batch.signal_BCT * ~hidden_BC[..., None], batch.positions_BC6)
        error = (found_BCT - batch.signal_BCT).abs().mean(dim=2)[hidden_BC].mean()
        return error, {"hidden_share": hidden_BC.float().mean()}

    def after_step(self, model: Any) -> None:
        model.count += 1
        if int(model.count) == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        flat = [param for param in model.parameters() if param.ndim < 2]
        return [
            {"params": [param for param in model.parameters() if param.ndim >= 2]},
            {"params": flat, "weight_decay": 0.0, "lr": 2e-2},
        ]


def run_toy(folder: Path | None, *, kill: int = -1, dropout: float = 0.2, **settings: Any) -> TrainingResult:
    torch.manual_seed(11)
    model = ToyModel(dropout)
    corpus = [make_windows(number, 4 + 2 * (number % 3), 20 + number) for number in range(6)]
    config = TrainingConfig(**{**BASE, **settings})
    budget = config.batch_tokens // config.accumulate
    sampler = WindowSampler(corpus, tokens_of=lambda windows: windows.n_channels, batch_tokens=budget, seed=5)
    batches = Batches.of_signals(corpus, sampler)
    return train(
        model=model,
        task=ToyTask(kill),
        batches=batches,
        config=config,
        seed=5,
        folder=folder,
        validation=batches.first(3),
    )


def program(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, __file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "weights.safetensors")


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = ["--set", 'optimizer="stable_adamw"', "ema=0.9", "accumulate=2", "workers=2"]
    alone = program(str(tmp_path / "alone"), *settings)
    assert alone.returncode == 0, alone.stderr
    killed = program(str(tmp_path / "killed"), *settings, "--kill", "17")
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "metrics.parquet").exists()
    resumed = program(str(tmp_path / "killed"), *settings)
    assert resumed.returncode == 0, resumed.stderr
    assert "from step 14" in resumed.stderr
    left, right = (pd.read_parquet(tmp_path / name / "metrics.parquet") for name in ("alone", "killed"))
    assert list(left["step"]) == list(range(1, 31))
    pd.testing.assert_frame_equal(left[SAME], right[SAME], check_exact=True)
    first, second = weights_of(tmp_path / "alone"), weights_of(tmp_path / "killed")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    settings = ["--set", "dropout=0.0", "accumulate=2", "ema=0.9"]
    one, two = program(str(tmp_path / "one"), *settings), program(str(tmp_path / "two"), *settings, processes=2)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    left, right = (pd.read_parquet(tmp_path / name / "metrics.parquet") for name in ("one", "two"))
    np.testing.assert_allclose(right[SAME], left[SAME], rtol=0, atol=1e-5)
    assert left["loss"].std() > 0.01
    first, second = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for state in (first, second):  # softmax takes no notice of a bias of the keys: its gradient is rounding alone
        state["mixing.self_attn.in_proj_bias"][D : 2 * D] = 0
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5


def test_bf16_follows_fp32() -> None:
    settings = {"steps": 40, "dropout": 0.0, "lr": 1e-3}
    exact, mixed = (run_toy(None, precision=name, **settings).metrics for name in ("32-true", "bf16-mixed"))
    assert not np.array_equal(exact["loss"], mixed["loss"])
    np.testing.assert_allclose(mixed["loss"], exact["loss"], rtol=0.01)


def test_accumulated_batches_equal_one_batch() -> None:
    """Four channels only, so that two halves of a batch have the rows of a whole one."""
    corpus = [make_windows(0, 4, 16)]
    losses = []
    for accumulate in (1, 2):
        torch.manual_seed(11)
        config = TrainingConfig(**{**BASE, "steps": 1, "accumulate": accumulate, "batch_tokens": 64})
        sampler = WindowSampler(corpus, tokens_of=lambda _: 4, batch_tokens=64 // accumulate, seed=5)
        task = SimpleNamespace(
            loss=lambda model, batch, _: (model(batch.signal_BCT, batch.positions_BC6).square().mean(), {}),
            after_step=lambda model: None,
            parameter_groups=lambda model: [{"params": list(model.parameters())}],
        )
        batches = Batches.of_signals(corpus, sampler)
        result = train(model=ToyModel(0.0), task=task, batches=batches, config=config, seed=1)
        losses.append(result.metrics[["loss", "grad_norm"]].iloc[0])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def textbook_stable_adamw(
    params: list[Tensor], grads: list[list[Tensor]], *, lr: float, betas: tuple[float, float], eps: float, decay: float
) -> list[Tensor]:
    """Wortsman et al. 2023, algorithm 2, in its own notation and one tensor at a time."""
    done = []
    for at, param in enumerate(params):
        theta = param.double().clone()
        v, u = torch.zeros_like(theta), torch.zeros_like(theta)
        for t, step_grads in enumerate(grads, start=1):
            g = step_grads[at].double()
            beta_1 = betas[0] * (1 - betas[0] ** (t - 1)) / (1 - betas[0] ** t)
            beta_2 = betas[1] * (1 - betas[1] ** (t - 1)) / (1 - betas[1] ** t)
            v = beta_1 * v + (1 - beta_1) * g
            u = beta_2 * u + (1 - beta_2) * g**2
            rms = (g**2 / torch.clamp(u, min=eps**2)).mean().sqrt()
            eta = lr / max(1.0, float(rms))
            theta = theta - eta * decay * theta - eta * v / (u.sqrt() + eps)
        done.append(theta)
    return done


def test_stable_adamw_equals_the_published_algorithm(rng: np.random.Generator) -> None:
    shapes = [(300, 700), (5,), (), (4, 3, 2), (200, 3)]
    params = [nn.Parameter(torch.tensor(0.02 * rng.standard_normal(shape), dtype=torch.float32)) for shape in shapes]
    params.append(nn.Parameter(params[0].detach().clone().t()))  # not contiguous
    sizes = [1.0, 1.0, 50.0, 0.01, 20.0, 1.0, 1.0, 1.0]  # a sudden gradient is what is clipped
    grads = [
        [torch.tensor(size * rng.standard_normal(param.shape), dtype=torch.float32) for param in params]
        for size in sizes
    ]
    options = {"lr": 1e-2, "betas": (0.92, 0.999), "eps": 1e-9}

    def now() -> list[Tensor]:
        return [param.detach() for param in params]

    expected = textbook_stable_adamw(now(), grads, decay=0.01, **options)
    plain = textbook_stable_adamw(now(), grads[:1], decay=0.01, **options)
    optimizer = StableAdamW(params, weight_decay=0.01, **options)
    for step, step_grads in enumerate(grads):
        for param, grad in zip(params, step_grads, strict=True):
            param.grad = grad.clone()
        optimizer.step()
        if step == 0:
            assert max(float((a - b).abs().max()) for a, b in zip(now(), plain, strict=True)) < 1e-6
    assert max(float((a - b).abs().max()) for a, b in zip(now(), expected, strict=True)) < 1e-6


def test_stable_adamw_clips_only_where_the_update_is_large() -> None:
    """With equal gradients the update has RMS 1 and nothing is clipped: then it is AdamW."""
    torch.manual_seed(0)
    start, grad = torch.randn(50, 20), torch.randn(50, 20)
    ends = []
    for name in ("adamw", "stable_adamw"):
        config = TrainingConfig(optimizer=name, lr=1e-2, betas=(0.9, 0.99), eps=1e-9, weight_decay=0.1)
        param = nn.Parameter(start.clone())
        optimizer = build_optimizer([{"params": [param]}], config)
        for scale in (1.0, 1.0, 100.0):
            before = param.detach().clone()
            param.grad = grad * scale
            optimizer.step()
            ends.append(param.detach() - before)
    assert torch.allclose(ends[1], ends[4], atol=1e-7)
    expected = (0.99**2 + 0.99 + 100**2) * 0.01 / (1 - 0.99**3)  # debiased average of the squares, over g ** 2
    assert float(ends[5].norm() / ends[2].norm()) == pytest.approx(np.sqrt(expected) / 100, rel=1e-4)


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", type=int, default=-1)
    parser.add_argument("--set", nargs="*", default=[])
    given = parser.parse_args()
    settings = {key: json.loads(value) for key, value in (word.split("=") for word in given.set)}
    result = run_toy(given.folder, kill=given.kill, **settings)
    if os.environ.get("RANK", "0") == "0":
        save_file(
            {name: tensor.contiguous() for name, tensor in result.weights.items()}, given.folder / "weights.safetensors"
        )
