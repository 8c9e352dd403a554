"""Blinks and eye movements out of EEG, by independent components, as one matrix.

Components are found on a sample of the recording; leaving some of them out is linear in the channels, so the whole
recording, of any length, is cleaned by a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.records import Array, Recording
from neuroloom.signals.channels import to_info
from neuroloom.signals.filters import apply_kernel, design_kernel

FRONTAL = ("Fp1", "Fp2", "Fpz", "AF7", "AF8", "AF3", "AF4")
FIT_BAND = (1.0, 40.0)
FIT_SFREQ, FIT_SECONDS = 100.0, 120.0
MAX_COMPONENTS = 20
MIN_CHANNELS = 8
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
    """

    matrix_CC: Array
    correlations: list[float]
    note: str = ""


def fit_ocular(
    recording: Recording, pieces: Sequence[Array], bads: dict[str, str], *, config: MeegConfig, seed: int
) -> OcularFit:
    """Find the share of the eyes in the good EEG channels.

    A component is one of the eyes when it goes with an EOG channel or, without one, with the electrodes nearest to the
    eyes, and when it comes in rare large deflections (excess kurtosis of at least 3), which frontal rhythms do not.
    Where there are too few channels for components, EOG channels are regressed out.

    Parameters
    ----------
    recording : Recording
        Names, types, positions and sampling rate.
    pieces : sequence of array
        Filtered samples of all its channels.
    bads : dict
        Channels to leave out.
    config : MeegConfig
        `ocular` chooses the method, `ocular_correlation` is the correlation from which a component is taken out.
    seed : int
        Of the start of the decomposition (FastICA, Hyvärinen 1999, by MNE).
    """
    nothing_CC = np.eye(len(recording.ch_names))
    picks = np.array([at for at in recording.picks("eeg") if recording.ch_names[at] not in bads], int)
    if config.ocular == "none" or not len(picks):
        return OcularFit(nothing_CC, [])
    eog = list(recording.picks("eog"))
    eyes = eog or _frontal_channels(recording, bads)
    if config.ocular == "regression" or (eog and len(picks) < MIN_CHANNELS):
        return _regress(recording, pieces, picks, eog)
    sample_CT = _sample(pieces, recording.sfreq)
    if len(picks) < MIN_CHANNELS:
        return OcularFit(nothing_CC, [], f"no ocular cleaning: {len(picks)} good EEG channels, {MIN_CHANNELS} needed")
    if not eyes:
        return OcularFit(nothing_CC, [], "no ocular cleaning: neither EOG nor a good frontal channel")
    if sample_CT.shape[1] < 20 * len(picks):
        return OcularFit(nothing_CC, [], "no ocular cleaning: the recording is too short for its channels")
    ica, source_KT = _decompose(recording, sample_CT[picks], picks, seed)
    r_K = np.abs(np.corrcoef(source_KT, sample_CT[eyes]))[: len(source_KT), len(source_KT) :].max(axis=1)
    chosen = [
        at
        for at in range(len(r_K))
        if r_K[at] >= config.ocular_correlation and _kurtosis(source_KT[at]) >= MIN_KURTOSIS
    ]
    if chosen:
        nothing_CC[np.ix_(picks, picks)] = _removal_matrix(ica, recording, picks, chosen)
    return OcularFit(nothing_CC, [float(r_K[at]) for at in chosen])


def _regress(recording: Recording, pieces: Sequence[Array], picks: Array, eog: list[int]) -> OcularFit:
    """Each EEG channel less its least-squares share of the EOG channels (Gratton, Coles & Donchin 1983)."""
    matrix_CC = np.eye(len(recording.ch_names))
    if not eog:
        return OcularFit(matrix_CC, [], "no ocular cleaning: regression needs an EOG channel")
    sample_CT = _sample(pieces, recording.sfreq)
    share_EC = np.linalg.lstsq(sample_CT[eog].T, sample_CT[picks].T, rcond=None)[0]
    matrix_CC[np.ix_(picks, np.array(eog))] -= share_EC.T
    return OcularFit(matrix_CC, [], f"eyes by regression on {', '.join(recording.ch_names[at] for at in eog)}")


def _frontal_channels(recording: Recording, bads: dict[str, str]) -> list[int]:
    """The two good electrodes that are nearest to the eyes."""
    frontal = [name for name in FRONTAL if name in recording.ch_names and name not in bads]
    return [recording.ch_names.index(name) for name in frontal[:2]]


def _sample(pieces: Sequence[Array], sfreq: float) -> Array:
    """Up to two minutes in parts of ten seconds, band-passed and decimated."""
    part = max(int(10 * sfreq), 1)
    parts = [
        piece_CT[:, at : at + part] for piece_CT in pieces for at in range(0, max(piece_CT.shape[1] - part, 1), part)
    ]
    chosen = np.unique(np.linspace(0, len(parts) - 1, min(len(parts), int(FIT_SECONDS / 10))).astype(int))
    kernel = design_kernel(sfreq, l_freq=FIT_BAND[0], h_freq=min(FIT_BAND[1], 0.4 * sfreq))
    step = max(int(sfreq / FIT_SFREQ), 1)
    return np.concatenate([apply_kernel(parts[at], kernel)[:, ::step] for at in chosen], axis=1)


def _decompose(recording: Recording, sample_CT: Array, picks: Array, seed: int) -> tuple[Any, Array]:
    import warnings

    import mne
    from sklearn.exceptions import ConvergenceWarning

    raw = mne.io.RawArray(sample_CT.astype(float), to_info(recording, picks), verbose="error")
    # one dimension less than channels: an average reference before recording would have taken it
    n_components = min(MAX_COMPONENTS, len(picks) - 1)
    ica = mne.preprocessing.ICA(n_components, method="fastica", random_state=seed, max_iter=400, verbose="error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a blink stands apart long before the rest has settled
        ica.fit(raw, verbose="error")
    return ica, ica.get_sources(raw).get_data()


def _removal_matrix(ica: Any, recording: Recording, picks: Array, chosen: list[int]) -> Array:
    """MNE's own reconstruction of unit impulses, less that of silence."""
    import mne

    info = to_info(recording, picks)
    answers = []
    for given in (np.eye(len(picks)), np.zeros((len(picks), len(picks)))):
        raw = mne.io.RawArray(given, info, verbose="error")
        answers.append(ica.apply(raw, exclude=chosen, n_pca_components=len(picks), verbose="error").get_data())
    return (answers[0] - answers[1]).astype(np.float32)


def _kurtosis(source_T: Array) -> float:
    standard = (source_T - source_T.mean()) / source_T.std()
    return float((standard**4).mean() - 3)
