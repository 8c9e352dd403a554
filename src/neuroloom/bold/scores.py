"""How well BOLD preprocessing did, against the true parcel signal of the simulated study."""

from __future__ import annotations

import numpy as np

from neuroloom.bold.cleaning import clean_parcels
from neuroloom.bold.scrubbing import kept_volumes
from neuroloom.config import BoldConfig
from neuroloom.records import Array, Confounds, ParcelSeries
from neuroloom.signals.scores import Score


def score_bold(
    series: ParcelSeries, truth_PV: Array, *, snr: float, config: BoldConfig, rng: np.random.Generator
) -> list[Score]:
    """Correlation with the truth, over the correlation that is left when noise is all that went wrong.

    The ceiling is the truth with the noise that averaging over a parcel's voxels leaves (SD 1 / (snr sqrt(voxels))),
    through the same trend and band-pass, against the truth through them. Censored volumes do not count.

    Parameters
    ----------
    series : ParcelSeries
        Preprocessed.
    truth_PV : array
        True BOLD, standardised.
    snr : float
        SD of the parcel signal over the SD of a voxel's noise.
    config : BoldConfig
        Trend and band that `series` went through; confounds are left out, because noise alone has none.
    rng : np.random.Generator
        Of the noise.
    """
    plain = config.model_copy(update={"confounds": ()})

    def cleaned(signal_PV: Array) -> Array:
        none = Confounds.none(signal_PV.shape[1])
        return clean_parcels(signal_PV, t_r=series.t_r, confounds=none, config=plain).bold_PV

    noise_P1 = 1 / (snr * np.sqrt(np.maximum(series.n_voxels_P, 1)))[:, None]
    noisy_PV = truth_PV + noise_P1 * rng.standard_normal(truth_PV.shape)
    true_PV = cleaned(truth_PV)
    scored = np.ix_(~np.isnan(series.bold_PV).any(axis=1), kept_volumes(series.confounds))
    reached_P = _row_correlations(series.bold_PV[scored], true_PV[scored])
    ceiling_P = _row_correlations(cleaned(noisy_PV)[scored], true_PV[scored])
    return [Score("bold", float(np.median(reached_P / ceiling_P)))]


def _row_correlations(a_PV: Array, b_PV: Array) -> Array:
    a_PV = a_PV - a_PV.mean(axis=1, keepdims=True)
    b_PV = b_PV - b_PV.mean(axis=1, keepdims=True)
    return (a_PV * b_PV).sum(axis=1) / (np.linalg.norm(a_PV, axis=1) * np.linalg.norm(b_PV, axis=1))
