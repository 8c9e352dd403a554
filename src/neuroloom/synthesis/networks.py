"""Networks that read the EEG before a volume: a small one of envelopes, and NeuroBOLT.

Envelopes: spatial filters, a temporal filter each, and the log of the power that comes through in each second, after
BEIRA (Kovalev et al. 2022, arXiv 2211.02024), of the electrodes of the 10-20 system, to which every cap is brought.
NeuroBOLT (arXiv 2410.05341) reads the electrodes that it knows by name. Both are trained alike: squared error of all
parcels, the epoch with the lowest error in validation (as published for NeuroBOLT).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.labram import LaBraM
from neuroloom.models.neurobolt import NeuroBOLT, ParcelModels, parameter_groups
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.signals.names import normalise_name
from neuroloom.synthesis.base import Context, Parts
from neuroloom.synthesis.baselines import common_signal
from neuroloom.synthesis.config import BoltConfig, CnnConfig, FitConfig
from neuroloom.synthesis.head_model import COMMON
from neuroloom.synthesis.pieces import Piece
from neuroloom.synthesis.scans import windows_at
from neuroloom.training.checkpoint import SETTINGS

CNN_SFREQ = 64.0  # Hz, enough for beta
TO_BOLT = 1e4  # from V to 100 µV
WARM_UP = 0.25  # of the epochs
AT_ONCE = 64  # windows that are predicted together
MAX_NORM = 1.0  # of a gradient
Read = Callable[[Piece, Array], tuple[Any, ...]]  # a piece and which of its volumes -> inputs of the network


class Envelopes(nn.Module):
    """Log power of what comes through spatial and temporal filters, second by second, to parcels.

    Parameters
    ----------
    n_channels, n_filters, kernel : int
        Electrodes, spatial filters, samples of a temporal filter.
    n_bins : int
        Pieces of the window that power is taken in.
    n_outputs : int
        Parcels.
    """

    def __init__(self, *, n_channels: int, n_filters: int, kernel: int, n_bins: int, n_outputs: int) -> None:
        super().__init__()
        self.spatial = nn.Conv1d(n_channels, n_filters, 1, bias=False)
        self.temporal = nn.Conv1d(n_filters, n_filters, kernel, groups=n_filters, padding="same", bias=False)
        self.pool = nn.AdaptiveAvgPool1d(n_bins)
        self.norm = nn.BatchNorm1d(n_filters)
        self.read = nn.Linear(n_filters * n_bins, n_outputs)

    def forward(self, eeg_BCT: Tensor) -> Tensor:
        """BOLD (B, P)."""
        seen_BTF = F.linear(eeg_BCT.mT, self.spatial.weight[..., 0])  # channels last in memory: twice as fast on a CPU
        weight_F11K = self.temporal.weight[:, :, None]
        wave_BF1T = F.conv2d(seen_BTF.mT[:, :, None], weight_F11K, padding="same", groups=len(weight_F11K))
        power_BFN = self.pool(wave_BF1T.squeeze(2) ** 2)
        return self.read(self.norm(torch.log(power_BFN + 1e-3)).flatten(1))


@dataclass(frozen=True)
class NetworkPredictor:
    """A trained network.

    Attributes
    ----------
    network : nn.Module
    read : callable
        A piece and which of its volumes -> inputs of the network.
    noise_P : array
        SD of what it leaves over in validation.
    facts : mapping
    """

    network: nn.Module
    read: Read
    noise_P: Array
    facts: Mapping[str, Any]

    def predict(self, piece: Piece) -> tuple[Array, Array]:
        """Mean and SD of the target, (P, N) each."""
        mean_PN = said(self.network, self.read, piece)
        return mean_PN, np.broadcast_to(self.noise_P[:, None], mean_PN.shape)


def fit_cnn(config: CnnConfig, parts: Parts, context: Context) -> NetworkPredictor:
    """Train the network of envelopes."""
    _seed(context)
    window = context.config.window
    network = Envelopes(
        n_channels=len(COMMON),
        n_filters=config.n_filters,
        kernel=round(config.kernel * CNN_SFREQ),
        n_bins=max(round(window), 1),
        n_outputs=len(parts["train"][0].target_PN),
    )

    def read(piece: Piece, at_N: Array) -> tuple[Any, ...]:
        signal_CT = context.once(("slow", piece.scan.name), lambda: _slow(piece))
        stop_N, n_times = np.rint(piece.onset_N[at_N] * CNN_SFREQ).astype(int), round(window * CNN_SFREQ)
        stop_N = np.clip(stop_N, n_times, signal_CT.shape[1])
        return (torch.from_numpy(np.stack([signal_CT[:, stop - n_times : stop] for stop in stop_N.tolist()])),)

    return trained(network, read, parts, config.training, groups=[{"params": list(network.parameters())}])


def _slow(piece: Piece) -> Array:
    """Common electrodes at `CNN_SFREQ`, each at unit SD, float32."""
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(CNN_SFREQ / piece.scan.sfreq).limit_denominator(1000)
    slow_CT = resample_poly(common_signal(piece), ratio.numerator, ratio.denominator, axis=1)
    return np.asarray(slow_CT / slow_CT.std(axis=1, keepdims=True), np.float32)


def fit_neurobolt(config: BoltConfig, parts: Parts, context: Context) -> NetworkPredictor:
    """Train NeuroBOLT: one model for all parcels, or, as published, one for each."""
    _seed(context)
    known = {normalise_name(name).upper() for name in config.network.electrodes or ()}
    settings = {**config.network.model_dump(), "window": context.config.window, "sfreq": parts["train"][0].scan.sfreq}
    network = start_neurobolt(config, {**settings, "n_outputs": len(parts["train"][0].target_PN)}, context)

    def read(piece: Piece, at_N: Array) -> tuple[Any, ...]:
        names = [name for name in piece.scan.ch_names if not known or normalise_name(name).upper() in known]
        if not names:
            raise ConfigError(f"{piece.scan.name}: none of its electrodes is one that NeuroBOLT knows")
        picks = [piece.scan.ch_names.index(name) for name in names]
        eeg_BCT = TO_BOLT * windows_at(piece.scan, piece.volumes_N[at_N], context.config.window)[:, picks]
        return torch.from_numpy(eeg_BCT - eeg_BCT.mean(axis=2, keepdims=True)), names

    models: list[Any] = list(network.models) if isinstance(network, ParcelModels) else [network]
    rates = {"lr": config.training.lr, "weight_decay": config.training.weight_decay}
    groups = [group for model in models for group in parameter_groups(model, **rates, layer_decay=config.layer_decay)]
    return trained(network, read, parts, config.training, groups=groups)


def start_neurobolt(config: BoltConfig, settings: Mapping[str, Any], context: Context) -> Any:
    """A network as training starts with it: imported weights of the same sizes, or random ones."""
    from neuroloom.models.config import NeuroBOLTConfig

    sizes, seed = NeuroBOLTConfig(**settings), int(context.rng.integers(2**31))
    if config.weights is not None:
        folder = Path(config.weights)
        if json.loads((folder / SETTINGS).read_text())["kind"] == "labram":
            return NeuroBOLT.from_labram(LaBraM.load(folder), sizes, seed=seed)
        loaded = NeuroBOLT.load(folder)
        if loaded.config.n_outputs != sizes.n_outputs:
            raise ConfigError(
                f"{config.weights}: predicts {loaded.config.n_outputs} parcels, the atlas has {sizes.n_outputs}; take "
                "weights of the same atlas, or start without"
            )
        return loaded
    if sizes.mode == "published":
        return ParcelModels(sizes, seed=seed)
    return NeuroBOLT.create(sizes, seed=seed)


def trained(
    network: nn.Module, read: Read, parts: Parts, training: FitConfig, *, groups: Sequence[dict[str, Any]]
) -> NetworkPredictor:
    """Train a network, and keep the epoch with the lowest error in validation.

    Parameters
    ----------
    network : nn.Module
    read : callable
        A piece and which of its volumes -> inputs of the network.
    parts : mapping
        `train` and `validation` -> pieces.
    training : FitConfig
    groups : sequence of dict
        Of parameters; a rate of its own counts relative to `training.lr`.
    """
    filled = [{"lr": training.lr, "weight_decay": training.weight_decay, **group} for group in groups]
    optimizer = torch.optim.AdamW([{k: v for k, v in group.items() if k != "layer"} for group in filled])
    n_steps = training.epochs * sum(-(-len(piece.volumes_N) // training.batch_size) for piece in parts["train"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / max(n_steps, 1)))
    best, best_state, best_epoch = math.inf, deepcopy(network.state_dict()), 0
    for epoch in range(1, training.epochs + 1):
        network.train()
        for piece, at_N in _batches(parts["train"], training.batch_size):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=training.precision == "bf16-mixed"):
                said_BP = network(*read(piece, at_N))
            loss = _error(said_BP.float(), piece.target_PN[:, at_N])
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
        error = validation_error(network, read, parts["validation"])
        if error < best:
            best, best_state, best_epoch = error, deepcopy(network.state_dict()), epoch
    network.load_state_dict(best_state)
    facts = {"epoch": best_epoch, "n_weights": sum(one.numel() for one in network.parameters())}
    return NetworkPredictor(network.eval(), read, _noise(network, read, parts["validation"]), facts)


def said(network: nn.Module, read: Read, piece: Piece) -> Array:
    """What a network says of all volumes of a piece, (P, N), in evaluation mode."""
    network.eval()
    at_N = np.arange(len(piece.volumes_N))
    with torch.no_grad():
        found = [network(*read(piece, at_N[at : at + AT_ONCE])) for at in range(0, len(at_N), AT_ONCE)]
    return np.asarray(torch.cat(found).T.double().numpy())


def validation_error(network: nn.Module, read: Read, pieces: Sequence[Piece]) -> float:
    """Mean squared error over pieces; infinite where it is not finite."""
    error = float(np.mean([np.nanmean((said(network, read, piece) - piece.target_PN) ** 2) for piece in pieces]))
    return error if math.isfinite(error) else math.inf


def _noise(network: nn.Module, read: Read, pieces: Sequence[Piece]) -> Array:
    residue_PN = np.concatenate([piece.target_PN - said(network, read, piece) for piece in pieces], axis=1)
    known_P = np.isfinite(residue_PN).any(axis=1)
    sd_P = np.ones(len(residue_PN))
    sd_P[known_P] = np.sqrt(np.nanmean(residue_PN[known_P] ** 2, axis=1))
    return sd_P


def _batches(pieces: Sequence[Piece], size: int) -> Iterator[tuple[Piece, Array]]:
    """Batches of single scans, as caps differ, in an order that torch's generator draws."""
    batches = []
    for piece in pieces:
        order_N = torch.randperm(len(piece.volumes_N)).numpy()
        batches += [(piece, order_N[at : at + size]) for at in range(0, len(order_N), size)]
    for at in torch.randperm(len(batches)).tolist():
        yield batches[at]


def _error(said_BP: Tensor, target_PB: Array) -> Tensor:
    wanted_BP = torch.from_numpy(np.ascontiguousarray(target_PB.T)).float()
    known_BP = torch.isfinite(wanted_BP)
    return ((said_BP - wanted_BP)[known_BP] ** 2).mean()


def _rate(done: float) -> float:
    """Of the peak: a straight rise, then a cosine to nothing."""
    return done / WARM_UP if done < WARM_UP else 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _seed(context: Context) -> None:
    torch.manual_seed(int(context.rng.integers(2**31)))
