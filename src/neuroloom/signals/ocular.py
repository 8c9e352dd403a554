"""Blinks and eye movements out of EEG, by independent components or regression, as one matrix.

Components are found on a sample of the recording; leaving some of them out is linear in the channels, so the whole
recording, of any length, is cleaned by a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.records import Array, Recording
from neuroloom.signals.components import Components, slow_sample

FRONTAL = ("Fp1", "Fp2", "Fpz", "AF7", "AF8", "AF3", "AF4")
MIN_KURTOSIS = 3.0


@dataclass(frozen=True)
class OcularFit:
    """What was found.

    Attributes
    ----------
    matrix_CC : array
        Multiplies all channels of the recording; identity where nothing is to be removed.
    correlations : list of float
        Of each removed component with its eye channel.
    note : str
        What was done in place of components, or why nothing was.
    chosen : list of int
        The removed components.
    """

    matrix_CC: Array
    correlations: list[float]
    note: str = ""
    chosen: list[int] = field(default_factory=list)


def fit_ocular(
    recording: Recording,
    pieces: Sequence[Array],
    bads: dict[str, str],
    components: Components,
    *,
    config: MeegConfig,
) -> OcularFit:
    """Find the share of the eyes in the good EEG channels.

    A component is one of the eyes when it goes with an EOG channel or, without one, with the electrodes nearest to the
    eyes, and when it comes in rare large deflections (excess kurtosis of at least 3), which frontal rhythms do not.
    Where there are no components, EOG channels are regressed out.

    Parameters
    ----------
    recording : Recording
        Names, types, positions and sampling rate.
    pieces : sequence of array
        Filtered samples of all its channels.
    bads : dict
        Channels to leave out.
    components : Components
        Of its good EEG channels.
    config : MeegConfig
        `ocular` chooses the method, `ocular_correlation` is the correlation from which a component is taken out.
    """
    matrix_CC, picks = np.eye(len(recording.ch_names)), components.picks
    if config.ocular == "none" or not len(picks):
        return OcularFit(matrix_CC, [])
    eog = list(recording.picks("eog"))
    if config.ocular == "regression" or (eog and not len(components)):
        return _regress(recording, pieces, picks, eog)
    if not len(components):
        return OcularFit(matrix_CC, [])
    eyes = eog or _frontal_channels(recording, bads)
    if not eyes:
        return OcularFit(matrix_CC, [], "no ocular cleaning: neither EOG nor a good frontal channel")
    sample_CT = slow_sample(pieces, recording.sfreq)
    source_KT = components.filters_KC @ sample_CT[picks]
    r_K = np.abs(np.corrcoef(source_KT, sample_CT[eyes]))[: len(source_KT), len(source_KT) :].max(axis=1)
    near = np.flatnonzero(r_K >= config.ocular_correlation)
    chosen = [int(at) for at in near if _kurtosis(source_KT[at]) >= MIN_KURTOSIS]
    matrix_CC[np.ix_(picks, picks)] = components.without(chosen)
    return OcularFit(matrix_CC, [float(r_K[at]) for at in chosen], chosen=chosen)


def _regress(recording: Recording, pieces: Sequence[Array], picks: Array, eog: list[int]) -> OcularFit:
    """Each EEG channel less its least-squares share of the EOG channels (Gratton, Coles & Donchin 1983)."""
    matrix_CC = np.eye(len(recording.ch_names))
    if not eog:
        return OcularFit(matrix_CC, [], "no ocular cleaning: regression needs an EOG channel")
    sample_CT = slow_sample(pieces, recording.sfreq)
    share_EC = np.linalg.lstsq(sample_CT[eog].T, sample_CT[picks].T, rcond=None)[0]
    matrix_CC[np.ix_(picks, np.array(eog))] -= share_EC.T
    return OcularFit(matrix_CC, [], f"eyes by regression on {', '.join(recording.ch_names[at] for at in eog)}")


def _frontal_channels(recording: Recording, bads: dict[str, str]) -> list[int]:
    """The two good electrodes that are nearest to the eyes."""
    frontal = [name for name in FRONTAL if name in recording.ch_names and name not in bads]
    return [recording.ch_names.index(name) for name in frontal[:2]]


def _kurtosis(source_T: Array) -> float:
    standard = (source_T - source_T.mean()) / source_T.std()
    return float((standard**4).mean() - 3)
