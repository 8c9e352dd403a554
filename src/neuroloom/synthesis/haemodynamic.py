"""BOLD of all parcels from where their activity is seen: sources through a model of the head, tokens of an encoder.

Both are features of places and not of electrodes, so that one set of weights serves every cap and site: the covariance
of the three directions of a parcel's source (`power.source_covariance`), and the tokens of a pretrained encoder, pooled
around the parcel. They go through the haemodynamic response, whose lag validation chooses, and a Bayesian ridge turns
them into mean and uncertainty. All that is learned after the encoder is linear, which a few people suffice for.

Connectivity is a second output: that of the prediction, completed by what predictions leave over in validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroloom.bold.hrf import hrf_response, read_at
from neuroloom.records import Array
from neuroloom.synthesis.base import Context, Parts
from neuroloom.synthesis.baselines import LinearPredictor, fit_designs
from neuroloom.synthesis.config import HaemodynamicConfig
from neuroloom.synthesis.head_model import leadfield
from neuroloom.synthesis.pieces import Piece
from neuroloom.synthesis.power import grid_rate, source_covariance
from neuroloom.synthesis.tokens import Components, fit_components, pooled_tokens, scan_tokens


@dataclass(frozen=True)
class Haemodynamic:
    """The fitted head.

    Attributes
    ----------
    linear : LinearPredictor
    residue_PP : array
        Covariance of what predictions leave over in validation, for the connectivity.
    facts : mapping
    components : Components or None
        What tokens were reduced to.
    """

    linear: LinearPredictor
    residue_PP: Array
    facts: Mapping[str, Any]
    components: Components | None = None

    def predict(self, piece: Piece) -> tuple[Array, Array]:
        """Mean and SD of the target, (P, N) each."""
        return self.linear.predict(piece)

    def connectivity(self, piece: Piece) -> Array:
        """Correlation matrix (P, P) that is expected of the BOLD, which is more than that of its prediction."""
        mean_PN, _ = self.predict(piece)
        covariance_PP = np.cov(mean_PN) + self.residue_PP
        sd_P = np.sqrt(np.diag(covariance_PP))
        return np.asarray(covariance_PP / np.outer(sd_P, sd_P))


def fit(config: HaemodynamicConfig, parts: Parts, context: Context) -> Haemodynamic:
    """Choose lag and penalty by validation, and fit the weights.

    Parameters
    ----------
    config : HaemodynamicConfig
    parts : mapping
        `train` and `validation` -> pieces.
    context : Context
        With the folder of the encoder, where the config names one.
    """
    components = _components(config, parts, context) if config.encoder else None

    def at_lag(lag: float) -> Any:
        return lambda piece: features(piece, config, context, components, lag)

    linear = fit_designs({lag: at_lag(lag) for lag in config.lags}, parts, config.penalties)
    facts = {"lag": float(linear.facts["design"]), "n_weights": linear.facts["n_weights"]}
    return Haemodynamic(linear, np.cov(np.nan_to_num(linear.model.residue_PN)), facts, components)


def features(
    piece: Piece, config: HaemodynamicConfig, context: Context, components: Components | None, lag: float
) -> Array:
    """Features of each parcel at the volumes of a piece, (P, K, N)."""
    found = []
    if config.sources:
        key = ("read", piece.scan.name, piece.first, lag)
        found.append(context.once(key, lambda: _source_features(piece, config, context, lag)))
    if components is not None:
        found.append(_token_features(piece, config, context, components, lag))
    return np.concatenate(found, axis=1)


def _source_features(piece: Piece, config: HaemodynamicConfig, context: Context, lag: float) -> Array:
    name, rate = piece.scan.name, grid_rate(piece.scan.sfreq)
    response_PKG = context.once(("sources", name), lambda: _responses(_covariance(piece, config), rate=rate))
    return _at_volumes(piece, response_PKG, rate=rate, start=lag)


def _covariance(piece: Piece, config: HaemodynamicConfig) -> Array:
    scan = piece.scan
    signal_CT = np.asarray(scan.signal_CT[:, :], float)
    signal_CT -= signal_CT.mean(axis=0)
    gain_CP3 = leadfield(scan.position_C3, scan.centroid_P3)
    return source_covariance(signal_CT, sfreq=scan.sfreq, bands=config.bands, gain_CP3=gain_CP3)


def _responses(series_PKG: Array, *, rate: float) -> Array:
    return hrf_response(series_PKG.reshape(-1, series_PKG.shape[2]), rate=rate).reshape(series_PKG.shape)


def _at_volumes(piece: Piece, response_PKG: Array, *, rate: float, start: float) -> Array:
    """Read at the volumes, in the band of the target; a response that comes later begins later."""
    flat_KG = response_PKG.reshape(-1, response_PKG.shape[2])
    read_KN = read_at(flat_KG, rate=rate, time_V=piece.onset_N, start=start)
    return piece.filtered(read_KN).reshape(*response_PKG.shape[:2], -1)


def _components(config: HaemodynamicConfig, parts: Parts, context: Context) -> Components:
    tokens = [_tokens(piece, context).tokens_LSD for piece in parts["train"]]
    return fit_components(tokens, width=config.width)


def _tokens(piece: Piece, context: Context) -> Any:
    if context.encoder is None:
        raise ValueError("the settings name an encoder, and no folder of one was given")
    folder, manifest = context.encoder, context.eeg[piece.scan.name]
    return context.once(("tokens", piece.scan.name), lambda: scan_tokens(folder, manifest))


def _token_features(
    piece: Piece, config: HaemodynamicConfig, context: Context, components: Components, lag: float
) -> Array:
    tokens = _tokens(piece, context)
    pooled_PKS = pooled_tokens(tokens, components, centroid_P3=piece.scan.centroid_P3, radius=config.radius)
    return _at_volumes(piece, _responses(pooled_PKS, rate=tokens.rate), rate=tokens.rate, start=tokens.start + lag)
