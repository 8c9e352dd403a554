"""Share of a training step spent waiting for data: mixed recordings from stores on disk, read by threads of the loop.

    python benchmarks/training_data.py [--steps 60] [--threads 2]

Stores of 19, 32 and 64 channels (10 s windows at 256 Hz, ten mantissa bits) feed a small transformer over patches of
1 s through `neuroloom.training.loop.train`. `waste` is the part of the token budget that batches leave unused; `read`
is the rate of the reading alone. Also the step of StableAdamW against one tensor at a time with a copy to the host.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from measure import keep
from torch import Tensor, nn

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.signals.streams import round_mantissa
from neuroloom.training.config import TrainingConfig
from neuroloom.training.data import Batch, Batches
from neuroloom.training.loop import train
from neuroloom.training.optimizers import StableAdamW
from neuroloom.training.sampling import WindowSampler
from neuroloom.training.task import Task
from neuroloom.windows import WindowReader

T, PATCH, D = 2560, 256, 256
SHAPES = [(19, 120), (19, 60), (32, 80), (64, 40)]  # channels, windows


class StoredWindows(SimpleNamespace):
    """Windows of a store, scaled to unit SD."""

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        signal_BCT = self.reader.read(first, count)
        signal_BCT -= signal_BCT.mean(axis=1, keepdims=True)
        return signal_BCT / signal_BCT.std(axis=(1, 2), keepdims=True)


def make_store(path: Path, n_channels: int, n_windows: int, rng: np.random.Generator) -> StoredWindows:
    signal_CT = 2e-5 * rng.standard_normal((n_channels, n_windows * T), np.float32)
    signal_CT = round_mantissa(signal_CT, 10)
    facts = {name: [""] * n_channels for name in ("channel", "type", "unit", "status")}
    facts |= {"coil": np.ones(n_channels), "loc": np.zeros((n_channels, 12)), "event_label": []}
    facts |= {"position": np.zeros((n_channels, 3)), "orientation": np.zeros((n_channels, 3))}
    facts |= {"event_onset": np.zeros(0), "event_duration": np.zeros(0)}
    attrs = {"sfreq": T / 10, "line_freq": None, "reference": ""}
    write_artifact(path, "recording", arrays={"signal": signal_CT, **facts}, attrs=attrs, window=T)
    return StoredWindows(
        reader=WindowReader(open_artifact(path)),
        recording=path.stem,
        n_channels=n_channels,
        n_times=T,
        positions_C6=np.zeros((n_channels, 6)),
        sensor_type_C=np.zeros(n_channels),
    )


class PatchModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(D, 4, 4 * D, 0.0, batch_first=True)
        self.embed, self.mixing, self.out = nn.Linear(PATCH, D), nn.TransformerEncoder(layer, 3), nn.Linear(D, PATCH)

    def forward(self, patches_BND: Tensor) -> Tensor:
        return self.out(self.mixing(self.embed(patches_BND)))


class Reconstruction(Task[Batch]):
    def loss(self, model: Any, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        patches_BND = batch.signal_BCT.reshape(len(batch.signal_BCT), -1, PATCH)
        hidden_BN = torch.rand(patches_BND.shape[:2], generator=generator) < 0.5
        found_BND = model(patches_BND * ~hidden_BN[..., None])
        return (found_BND - patches_BND)[hidden_BN].abs().mean(), {}


def tokens_of(windows: StoredWindows) -> int:
    return windows.n_channels * (T // PATCH)


def waiting(corpus: list[StoredWindows], steps: int, threads: int) -> dict[str, float]:
    sampler = WindowSampler(corpus, tokens_of=tokens_of, batch_tokens=3840, seed=0)
    batches = Batches.of_signals(corpus, sampler)
    started = time.perf_counter()
    tokens = sum(draw.n_tokens for draw, _ in islice(batches.stream(threads=threads), steps))
    reading = time.perf_counter() - started
    config = TrainingConfig(steps=steps, batch_tokens=3840, workers=threads, log_every=steps)
    table = train(model=PatchModel(), task=Reconstruction(), batches=batches, config=config, seed=0).metrics[5:]
    return {
        "threads": threads,
        "step_seconds": table["seconds"].mean(),
        "waiting_share": table["waiting_seconds"].sum() / table["seconds"].sum(),
        "tokens_per_s": table["tokens"].sum() / table["seconds"].sum(),
        "read_tokens_per_s": tokens / reading,
        "waste": sampler.waste,
    }


def one_by_one(params: list[Tensor], state: dict[Tensor, Any], step: int) -> None:
    """The published algorithm as it is usually written: the RMS of each tensor goes to the host."""
    lr, first, second, eps, decay = 1e-3, 0.92, 0.999, 1e-9, 0.01
    for param in params:
        grad = param.grad
        mean, square = state.setdefault(param, (torch.zeros_like(param), torch.zeros_like(param)))
        keep_1 = first * (1 - first ** (step - 1)) / (1 - first**step)
        keep_2 = second * (1 - second ** (step - 1)) / (1 - second**step)
        mean.mul_(keep_1).add_(grad, alpha=1 - keep_1)
        square.mul_(keep_2).addcmul_(grad, grad, value=1 - keep_2)
        rate = lr / max(1.0, grad.pow(2).div_(square.clamp(min=eps**2)).mean().sqrt().item())
        param.mul_(1 - rate * decay).addcdiv_(mean, square.sqrt().add_(eps), value=-rate)


def optimizer_step(repeats: int = 15) -> dict[str, float]:
    """Seconds of a step over the 69 million parameters of REVE base; both sides in turn, the fastest of each."""
    shapes = [(512, 1536), (512, 512), (512, 2722), (1361, 512), (512,), (512,)] * 22
    sides = [[nn.Parameter(0.02 * torch.randn(shape)) for shape in shapes] for _ in range(2)]
    for param in sides[0] + sides[1]:
        param.grad = 1e-3 * torch.randn_like(param)
    ours, state, seconds = StableAdamW(sides[0]), {}, []
    for step in range(1, repeats + 1):
        times = [time.perf_counter()]
        ours.step()
        times.append(time.perf_counter())
        with torch.no_grad():
            one_by_one(sides[1], state, step)
        times.append(time.perf_counter())
        seconds.append(np.diff(times))
    fused, textbook = np.min(seconds[2:], axis=0)
    return {"stable_adamw_s": fused, "one_by_one_s": textbook, "ratio": textbook / fused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        corpus = [make_store(Path(folder, f"r{at}.zarr"), *shape, rng) for at, shape in enumerate(SHAPES)]
        keep([waiting(corpus, given.steps, threads) for threads in given.threads], "training_data")
    keep([optimizer_step()], "training_optimizer")


if __name__ == "__main__":
    main()
