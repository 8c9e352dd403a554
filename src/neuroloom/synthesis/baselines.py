"""What a model of BOLD has to beat, and the control that has to fail: mean, ridge on band power, artefact alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neuroloom.records import Array
from neuroloom.synthesis.base import Context, Parts
from neuroloom.synthesis.config import ArtefactConfig, MeanConfig, RidgeConfig
from neuroloom.synthesis.head_model import to_common
from neuroloom.synthesis.linear import Linear, Sample, choose_ridge
from neuroloom.synthesis.pieces import Piece
from neuroloom.synthesis.power import electrode_power, grid_rate, in_band, lagged_at, response_at

RESPONSE = "response"
RESIDUE_BAND = (20.0, 70.0)  # Hz, where scanners leave more than brains make
CARDIAC_BAND = (1.0, 15.0)  # Hz, of what the heartbeat leaves


@dataclass(frozen=True)
class Mean:
    """The mean of training in each parcel, and its SD there."""

    mean_P: Array
    sd_P: Array
    facts: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, piece: Piece) -> tuple[Array, Array]:
        """The same at all volumes."""
        shape = (len(self.mean_P), len(piece.volumes_N))
        return np.broadcast_to(self.mean_P[:, None], shape), np.broadcast_to(self.sd_P[:, None], shape)


def fit_mean(config: MeanConfig, parts: Parts, context: Context) -> Mean:
    """Mean and SD over training and validation."""
    target_PN = np.concatenate([piece.target_PN for part in ("train", "validation") for piece in parts[part]], axis=1)
    known_P = np.isfinite(target_PN).any(axis=1)
    mean_P, sd_P = np.zeros(len(target_PN)), np.ones(len(target_PN))
    mean_P[known_P], sd_P[known_P] = np.nanmean(target_PN[known_P], axis=1), np.nanstd(target_PN[known_P], axis=1)
    return Mean(mean_P, sd_P)


@dataclass(frozen=True)
class LinearPredictor:
    """Linear weights of features that a function takes from a piece."""

    model: Linear
    features: Callable[[Piece], Array]
    facts: Mapping[str, Any]

    def predict(self, piece: Piece) -> tuple[Array, Array]:
        """Mean and SD of the target, (P, N) each."""
        return self.model.predict(self.features(piece))


def fit_designs(designs: Mapping[Any, Callable[[Piece], Array]], parts: Parts, penalties: Sequence[float]) -> Any:
    """Ridge on the one of several designs that predicts validation best.

    Parameters
    ----------
    designs : mapping
        Name -> function from a piece to its features, (P or 1, K, N).
    parts : mapping
    penalties : sequence of float
    """

    def samples_of(features: Callable[[Piece], Array]) -> Callable[[str], Sequence[Sample]]:
        return lambda part: [Sample(features(piece), piece.target_PN) for piece in parts[part]]

    name, model = choose_ridge({name: samples_of(design) for name, design in designs.items()}, penalties)
    return LinearPredictor(model, designs[name], {"design": str(name), "n_weights": int(model.weight_PK.size)})


def fit_ridge_model(config: RidgeConfig, parts: Parts, context: Context) -> LinearPredictor:
    """Band power of 19 electrodes through the haemodynamic response, or at some lags: what validation prefers."""
    return fit_designs(ridge_designs(config, context), parts, config.penalties)


def ridge_designs(config: RidgeConfig, context: Context) -> dict[str, Callable[[Piece], Array]]:
    """Features that the ridge chooses from, by name."""

    def power(piece: Piece) -> Array:
        return context.once(("power", piece.scan.name), lambda: common_power(piece, config))

    def response(piece: Piece) -> Array:
        rate = grid_rate(piece.scan.sfreq)
        return piece.filtered(response_at(power(piece), rate=rate, time_V=piece.onset_N))[None]

    def lagged(piece: Piece) -> Array:
        rate = grid_rate(piece.scan.sfreq)
        return piece.filtered(lagged_at(power(piece), rate=rate, time_V=piece.onset_N, lags=config.lags))[None]

    designs: dict[str, Callable[[Piece], Array]] = {RESPONSE: response}
    return designs | ({"lags": lagged} if config.lags else {})


def common_signal(piece: Piece) -> Array:
    """EEG of a scan at the electrodes of the 10-20 system, (19, T), V."""
    scan = piece.scan
    return np.asarray(to_common(scan.position_C3, scan.centroid_P3) @ np.asarray(scan.signal_CT[:, :]))


def common_power(piece: Piece, config: RidgeConfig) -> Array:
    """Relative power of the common electrodes in each band, (F * 19, G)."""
    return electrode_power(common_signal(piece), sfreq=piece.scan.sfreq, bands=config.bands)


def fit_artefact(config: ArtefactConfig, parts: Parts, context: Context) -> LinearPredictor:
    """Ridge on what repeats with the volumes: it may say nothing of BOLD, or cleaning has left what should be gone."""

    def features(piece: Piece) -> Array:
        return context.once(("artefact", piece.scan.name, piece.first), lambda: piece.filtered(volume_residue(piece)))[
            None
        ]

    return fit_designs({"residue": features}, parts, config.penalties)


def volume_residue(piece: Piece) -> Array:
    """How much of the waveform that all volumes share each volume holds, (38, N): in the bands of scanner and heart.

    The mean over volumes is what repeats with the scanner; its share in one volume changes with the head's movement.
    """
    scan, signal_CT = piece.scan, common_signal(piece)
    n_times = int(scan.t_r * scan.sfreq)
    start_N = np.clip(scan.stops()[piece.volumes_N] - n_times, 0, signal_CT.shape[1] - n_times)
    shares = []
    for band in (RESIDUE_BAND, CARDIAC_BAND):
        filtered_CT = in_band(signal_CT, sfreq=scan.sfreq, band=band)
        volume_NCT = np.stack([filtered_CT[:, start : start + n_times] for start in start_N.tolist()])
        shared_CT = volume_NCT.mean(axis=0)
        size_C = np.sqrt((shared_CT**2).sum(axis=1))
        share_CN = np.einsum("nct,ct->cn", volume_NCT, shared_CT) / np.where(size_C > 0, size_C, 1)[:, None]
        shares.append(share_CN / np.maximum(share_CN.std(axis=1, keepdims=True), 1e-30))
    return np.concatenate(shares)
