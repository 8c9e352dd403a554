"""A small encoder and recordings in memory, for whatever reads an encoder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuroloom.evaluation.examples import Examples
from neuroloom.models.base import Encoder

SFREQ, PATCH = 100.0, 20


@dataclass(eq=False)
class ToyPieces:
    """Prepared signals of one recording, as `Segments` would give them."""

    recording: str
    signal_NCT: Any
    ch_names: list[str]
    positions_C6: Any
    sfreq: float = SFREQ
    reads: list[int] = field(default_factory=list)

    @property
    def n_times(self) -> int:
        return self.signal_NCT.shape[-1]

    @property
    def sensor_type_C(self) -> Any:
        return np.zeros(len(self.ch_names), np.int64)

    @property
    def start_N(self) -> Any:
        return np.arange(len(self)) * self.n_times

    def __len__(self) -> int:
        return len(self.signal_NCT)

    def read(self, first: int, count: int = 1) -> Any:
        self.reads.append(first)
        return self.signal_NCT[first : first + count]


class ToyEncoder(Encoder):
    """Patches of single channels, one attention layer, and two layers that tokens do not depend on."""

    preparation: ClassVar[Any] = "brainomni"
    lora_targets: ClassVar[tuple[str, ...]] = ("qkv", "out")

    def __init__(self, seed: int = 0, *, width: int = 12, dropout: float = 0.0) -> None:
        super().__init__()
        self.sfreq, self.embed_dim = SFREQ, width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.patch, self.place = nn.Linear(PATCH, width), nn.Linear(6, width)
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
            self.decoder = nn.Linear(width, PATCH)
            self.last = nn.ModuleDict({"qkv": nn.Linear(width, width)})
        self.dropout = nn.Dropout(dropout)
        self.calls = 0

    def inputs(self, signal_BCT: Tensor, positions_BC6: Tensor, sensor_type_BC: Tensor) -> tuple[Tensor, ...]:
        patches_BCNT = signal_BCT.unfold(-1, PATCH, PATCH)
        return patches_BCNT.contiguous(), positions_BC6

    def forward(self, *inputs: Tensor) -> Tensor:
        self.calls += 1
        patches_BCNT, positions_BC6 = inputs
        x_BND = (self.patch(patches_BCNT) + self.place(positions_BC6)[:, :, None]).flatten(1, 2)
        query, key, value = self.qkv(x_BND).chunk(3, dim=-1)
        mixed_BND = nn.functional.scaled_dot_product_attention(query, key, value)
        return nn.functional.gelu(x_BND + self.out(self.dropout(mixed_BND)))

    def pretrain(self, corpus: Any, validation: Any, *, rng: Any, folder: Any = None) -> dict[str, Any]:
        raise NotImplementedError

    def save(self, folder: Any) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def create(cls, config: Any, *, sfreq: float, tokenizer: Any = None, seed: int = 0) -> Any:
        return cls(seed)


@pytest.fixture(scope="session")
def toy_encoder() -> Callable[..., Any]:
    """Makes an encoder from a seed."""
    return ToyEncoder


@pytest.fixture(scope="session")
def toy_pieces() -> type[Any]:
    return ToyPieces


@pytest.fixture(scope="session")
def toy_examples() -> Callable[..., Examples]:
    """Makes windows of people, half of each class, told by the sign of a wave at C3; each third has a channel less."""

    def make(
        rng: np.random.Generator,
        *,
        n_people: int = 10,
        n: int = 12,
        effect: float = 1.2,
        n_channels: int = 5,
        labels: Any = None,
    ) -> Examples:
        wave_T = np.sin(2 * np.pi * 5 * np.arange(100) / SFREQ)
        names = ["Fp1", "Fp2", "C3", "C4", "Oz", "Cz", "Pz"][:n_channels]
        place_C6 = np.zeros((n_channels, 6), np.float32)
        place_C6[:, 1] = np.linspace(0.1, -0.1, n_channels)
        corpus, codes = [], []
        for person in range(n_people):
            code_N = rng.permutation(np.arange(n) % 2)
            count = n_channels - (person % 3 == 2)
            x_NCT = rng.standard_normal((n, count, 100)).astype(np.float32)
            x_NCT[:, 2] += effect * (2 * code_N - 1)[:, None] * wave_T
            corpus.append(ToyPieces(f"r{person}", x_NCT.astype(np.float32), names[:count], place_C6[:count]))
            codes.append(code_N)
        person_W = np.repeat(np.arange(n_people), n)
        code_W = np.concatenate(codes)
        return Examples(
            corpus=corpus,
            recording_W=person_W,
            segment_W=np.tile(np.arange(n), n_people),
            labels_W=np.where(code_W == 1, "right", "left") if labels is None else labels(code_W, rng),
            participants_W=np.array([f"s{person}" for person in person_W]),
            parts_W=np.array(["train", "train", "train", "validation", "test"])[person_W % 5],
        )

    return make
