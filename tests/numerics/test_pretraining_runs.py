"""Both models in the one loop: killed by -9 and resumed to the bit, and two processes that equal one.

As a program it is one such run: `python test_pretraining_runs.py FOLDER reve|brainomni [--kill STEP]`.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

MODELS = ("reve", "brainomni")
STEPS = 6


def corpus(kind: str) -> tuple[Any, Any, Any]:
    """A small model with what it is trained and validated on."""
    from neuroloom.models.base import Corpus

    rng = np.random.default_rng(3)
    if kind == "brainomni":
        from tests.unit.models.test_brainomni_pretraining import brainomni, melodies, tokens

        training = {"steps": STEPS, "batch_tokens": 640, "checkpoint_every": 2, "log_every": 100}
        model = brainomni(training=training, dropout=0.0)
        made = tokens(melodies(1))
        parts = [Corpus(tokens=(made,), recordings=frozenset(name)) for name in ("a", "b")]
        return model, *parts
    from neuroloom.models.config import ReveConfig
    from neuroloom.models.reve import REVE
    from neuroloom.training.config import TrainingConfig

    loop = TrainingConfig(steps=STEPS, batch_tokens=256, checkpoint_every=2, log_every=100, workers=0)
    decoder = {"decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2, "decoder_head_dim": 8}
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2, "head_dim": 8, "n_frequencies": 2, "patch_size": 50}
    model = REVE.create(ReveConfig(**small, **decoder, patch_overlap=0, training=loop), sfreq=100.0, seed=1)
    parts = [Corpus(segments=[Noise(rng, name)], recordings=frozenset(name)) for name in ("a", "b")]
    return model, *parts


class Noise:
    """Segments of noise at eight places, as `Segments` gives them."""

    preparation, sfreq, n_times, n_channels = "reve", 100.0, 200, 8

    def __init__(self, rng: np.random.Generator, name: str) -> None:
        self.recording, self.ch_names = name, [f"E{at}" for at in range(8)]
        self._signal_NCT = rng.standard_normal((24, 8, 200)).astype(np.float32)
        self.positions_C6 = np.pad(0.09 * rng.standard_normal((8, 3)), ((0, 0), (0, 3))).astype(np.float32)
        self.sensor_type_C = np.zeros(8, np.int64)
        self.start_N = np.arange(24) * 200

    def __len__(self) -> int:
        return len(self._signal_NCT)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        return self._signal_NCT[first : first + count]


def program(folder: Path, kind: str, *more: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    command = [sys.executable, *launcher, __file__, str(folder), kind, *more]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)


def curve(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / "metrics.parquet")
    return table.drop(columns=["seconds", "waiting_seconds"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("alone")
    for kind in MODELS:
        done = program(folder / kind, kind)
        assert done.returncode == 0, done.stderr
    return {kind: folder / kind for kind in MODELS}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_killed_in_pretraining_goes_on_bit_for_bit(alone: dict[str, Path], tmp_path: Path, kind: str) -> None:
    killed = program(tmp_path, kind, "--kill", "5")
    assert killed.returncode == -signal.SIGKILL
    resumed = program(tmp_path, kind)
    assert resumed.returncode == 0, resumed.stderr
    assert "from step 4" in resumed.stderr
    pd.testing.assert_frame_equal(curve(tmp_path), curve(alone[kind]), check_exact=True)
    assert (tmp_path / "weights.npy").read_bytes() == (alone[kind] / "weights.npy").read_bytes()


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_pretrained_by_two_processes_equals_one(alone: dict[str, Path], tmp_path: Path, kind: str) -> None:
    two = program(tmp_path, kind, processes=2)
    assert two.returncode == 0, two.stderr
    left, right = curve(alone[kind]), curve(tmp_path)
    assert list(right["step"]) == list(left["step"])
    np.testing.assert_allclose(right["loss"], left["loss"], rtol=0, atol=1e-5)
    assert left["loss"].std() > 1e-4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", choices=MODELS)
    parser.add_argument("--kill", type=int, default=0)
    given = parser.parse_args()
    import logging

    logging.basicConfig(level=logging.INFO)
    from neuroloom.training.processes import set_threads

    set_threads(1)
    model, train, validation = corpus(given.kind)
    if given.kill:
        from neuroloom.training import task

        real, calls = task.Task.after_step, list[int]()

        def after_step(self: Any, network: Any) -> None:
            calls.append(1)
            if len(calls) == given.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, network)

        task.Task.after_step = after_step  # type: ignore[method-assign]
    model.pretrain(train, validation, rng=np.random.default_rng(1), folder=given.folder)
    if int(os.environ.get("RANK", "0")) == 0:
        state = model.state_dict()
        np.save(given.folder / "weights.npy", np.concatenate([state[name].double().numpy().ravel() for name in state]))


if __name__ == "__main__":
    main()
