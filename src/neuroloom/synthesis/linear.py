"""Ridge regression of all parcels at once, as a Bayesian would have it: with the uncertainty of what it says.

Noise of a parcel is what is left in people that the weights have not seen (validation), so that how people differ is in
it; the further the features of a volume are from those of training, the wider its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from neuroloom.records import Array

LEAST_GAIN = 0.1  # of a prediction that validation does not bear out


@dataclass(frozen=True)
class Linear:
    """Fitted weights.

    Attributes
    ----------
    weight_PK : array
        In units of the target over those of the scaled features.
    scale_PK : array
        What features are divided by, (1, K) where parcels share them.
    inverse_PKK : array
        (X'X + penalty)^-1 of each parcel; one for all where they read the same features.
    residue_PN : array
        What is left over in people that were not trained on.
    """

    weight_PK: Array
    scale_PK: Array
    inverse_PKK: Array
    residue_PN: Array

    @cached_property
    def noise_P(self) -> Array:
        """SD of the residue; that of the typical parcel where one was not measured, 1 where nothing is known yet."""
        known_PN = np.isfinite(self.residue_PN)
        if not known_PN.any():
            return np.ones(len(self.weight_PK))
        square_P = (np.where(known_PN, self.residue_PN, 0) ** 2).sum(axis=1) / np.maximum(known_PN.sum(axis=1), 1)
        return np.where(known_PN.any(axis=1), np.sqrt(square_P), np.sqrt(np.median(square_P)))

    def predict(self, feature_PKN: Array) -> tuple[Array, Array]:
        """Mean and SD of the target, (P, N) each; features are (P, K, N), or (1, K, N) where parcels share them."""
        scaled_PKN = feature_PKN / self.scale_PK[..., None]
        leverage_PN = np.einsum("pkn,pkj,pjn->pn", scaled_PKN, self.inverse_PKK, scaled_PKN, optimize=True)
        return self.mean(feature_PKN), self.noise_P[:, None] * np.sqrt(1 + leverage_PN)

    def mean(self, feature_PKN: Array) -> Array:
        """Mean of the target alone, (P, N)."""
        scaled_PKN = feature_PKN / self.scale_PK[..., None]
        shape = (len(self.weight_PK), *scaled_PKN.shape[1:])
        return np.einsum("pk,pkn->pn", self.weight_PK, np.broadcast_to(scaled_PKN, shape))


@dataclass(frozen=True)
class Sample:
    """Features and target of one piece: (P or 1, K, N) and (P, N), NaN in a parcel that was not measured."""

    feature_PKN: Array
    target_PN: Array


@dataclass(frozen=True)
class Sums:
    """What all penalties have in common: products of the scaled features with each other and with the target."""

    gram_PKK: Array
    moment_PK: Array
    scale_PK: Array

    def fit(self, penalty: float) -> Linear:
        """Weights by one penalty, which is added to the sum of squares of each feature; noise is not known yet."""
        n_parcels, n_features = self.moment_PK.shape
        inverse_PKK = np.linalg.inv(self.gram_PKK + penalty * np.eye(n_features))
        each_PKK = np.broadcast_to(inverse_PKK, (n_parcels, n_features, n_features))
        weight_PK = np.einsum("pkj,pj->pk", each_PKK, self.moment_PK)
        return Linear(weight_PK, self.scale_PK, inverse_PKK, np.full((n_parcels, 0), np.nan))


def sums_of(samples: Sequence[Sample]) -> Sums:
    """Over some pieces; features are in units of their SD there."""
    n_features = samples[0].feature_PKN.shape[1]
    # each parcel in units of its own, or the penalty would shrink those most whose power hardly changes
    count = sum(one.feature_PKN.shape[2] for one in samples)
    square_PK = np.asarray(sum((one.feature_PKN**2).sum(axis=2) for one in samples) / count)
    scale_PK = np.where(square_PK > 0, np.sqrt(square_PK), 1.0)
    n_parcels, n_designs = len(samples[0].target_PN), samples[0].feature_PKN.shape[0]
    gram_PKK = np.zeros((n_designs, n_features, n_features))
    moment_PK = np.zeros((n_parcels, n_features))
    for one in samples:
        scaled_PKN, target_PN = one.feature_PKN / scale_PK[..., None], np.nan_to_num(one.target_PN)
        measured_P11 = np.isfinite(one.target_PN).all(axis=1)[:, None, None]
        # where parcels share their features, one that a scan lacks counts as at its mean
        weighted_PKN = scaled_PKN * measured_P11 if n_designs == n_parcels else scaled_PKN
        gram_PKK += weighted_PKN @ weighted_PKN.transpose(0, 2, 1)
        moment_PK += np.einsum("pkn,pn->pk", np.broadcast_to(scaled_PKN, (n_parcels, *scaled_PKN.shape[1:])), target_PN)
    return Sums(gram_PKK, moment_PK, scale_PK)


def mean_correlation(model: Linear, samples: Sequence[Sample]) -> float:
    """Mean over samples and parcels of the correlation of prediction and target."""
    from neuroloom.synthesis.metrics import correlation

    found = [correlation(one.target_PN, model.mean(one.feature_PKN)) for one in samples]
    known = np.concatenate([r_P[np.isfinite(r_P)] for r_P in found])
    return float(known.mean()) if len(known) else -1.0


def choose_ridge(
    designs: Mapping[Any, Callable[[str], Sequence[Sample]]], penalties: Sequence[float]
) -> tuple[Any, Linear]:
    """The design and penalty by which validation is predicted best, fitted again to training and validation.

    Parameters
    ----------
    designs : mapping
        Name -> function from a part (`train`, `validation`) to its samples.
    penalties : sequence of float

    Returns
    -------
    name : key of `designs`
    model : Linear
        Brought to the size that explains most of validation, by one factor for all parcels. Its residue is that of
        validation, before it was fitted to it.
    """
    best: tuple[float, Any, float, Linear] | None = None
    for name, samples in designs.items():
        sums, validation = sums_of(samples("train")), samples("validation")
        for penalty in sorted(penalties, reverse=True):
            model = sums.fit(penalty)
            score = mean_correlation(model, validation)
            if best is None or score > best[0]:
                best = (score, name, penalty, model)
    if best is None:
        raise ValueError("no design, or no penalty, to choose from")
    _, name, penalty, before = best
    train, validation = designs[name]("train"), designs[name]("validation")
    said_PN = np.concatenate([before.mean(one.feature_PKN) for one in validation], axis=1)
    target_PN = np.concatenate([one.target_PN for one in validation], axis=1)
    # the penalty that ranks best shrinks more than the size of BOLD asks for
    gain = max(float(np.nansum(target_PN * said_PN) / max(float(np.sum(said_PN**2)), 1e-30)), LEAST_GAIN)
    both = sums_of([*train, *validation]).fit(penalty)
    return name, replace(both, weight_PK=gain * both.weight_PK, residue_PN=target_PN - gain * said_PN)
