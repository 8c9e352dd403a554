"""Blinks and eye movements out of EEG, by independent components, as one matrix.

Components are found on a sample of the recording; leaving some of them out is linear in the channels, so the whole
recording, of any length, is cleaned by a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.channels import to_info
from neuroloom.signals.filters import apply_kernel, design_kernel, window_starts

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
    matrix_CC : array or None
        Multiplies the picked channels; None where nothing is to be removed.
    picks : int array
        The good EEG channels.
    correlations : list of float
        Of each removed component with its eye channel.
    note : str
        Why nothing could be looked for; empty where it was.
    """

    matrix_CC: Array | None
    picks: Array
    correlations: list[float]
    note: str = ""


def fit_ocular(
    recording: Recording, signal_CT: Array, bads: dict[str, str], *, threshold: float, seed: int
) -> OcularFit:
    """Find the components of the eyes.

    A component is one of the eyes when it goes with an EOG channel or, without one, with the electrodes nearest to the
    eyes, and when it comes in rare large deflections (excess kurtosis of at least 3), which frontal rhythms do not.

    Parameters
    ----------
    recording : Recording
        Names, types and positions.
    signal_CT : array
        Filtered signal of all its channels.
    bads : dict
        Channels to leave out.
    threshold : float
        Absolute correlation from which a component is taken out.
    seed : int
        Of the start of the decomposition (FastICA, Hyvärinen 1999, by MNE).
    """
    picks = np.array([at for at in recording.picks("eeg") if recording.ch_names[at] not in bads], int)
    eyes = _eye_channels(recording, bads)
    if len(picks) < MIN_CHANNELS:
        return OcularFit(None, picks, [], f"no ocular cleaning: {len(picks)} good EEG channels, {MIN_CHANNELS} needed")
    if not eyes:
        return OcularFit(None, picks, [], "no ocular cleaning: neither EOG nor a good frontal channel")
    sample_CT = _sample(signal_CT, recording.sfreq)
    if sample_CT.shape[1] < 20 * len(picks):
        return OcularFit(None, picks, [], "no ocular cleaning: the recording is too short for its channels")
    ica, source_KT = _decompose(recording, sample_CT[picks], picks, seed)
    r_K = np.abs(np.corrcoef(source_KT, sample_CT[eyes]))[: len(source_KT), len(source_KT) :].max(axis=1)
    chosen = [at for at in range(len(r_K)) if r_K[at] >= threshold and _kurtosis(source_KT[at]) >= MIN_KURTOSIS]
    matrix_CC = _removal_matrix(ica, recording, picks, chosen) if chosen else None
    return OcularFit(matrix_CC, picks, [float(r_K[at]) for at in chosen])


def _eye_channels(recording: Recording, bads: dict[str, str]) -> list[int]:
    """EOG channels; without any, the two good electrodes that are nearest to the eyes."""
    eog = list(recording.picks("eog"))
    if eog:
        return eog
    frontal = [name for name in FRONTAL if name in recording.ch_names and name not in bads]
    return [recording.ch_names.index(name) for name in frontal[:2]]


def _sample(signal_CT: Array, sfreq: float) -> Array:
    """Up to two minutes in pieces of ten seconds from the whole recording, band-passed and decimated."""
    piece = min(int(10 * sfreq), signal_CT.shape[1])
    starts = window_starts(signal_CT.shape[1], piece, int(FIT_SECONDS / 10))
    h_freq = min(FIT_BAND[1], 0.4 * sfreq)
    kernel = design_kernel(sfreq, l_freq=FIT_BAND[0], h_freq=h_freq)
    step = max(int(sfreq / FIT_SFREQ), 1)
    pieces = [apply_kernel(signal_CT[:, at : at + piece], kernel)[:, ::step] for at in starts]
    return np.concatenate(pieces, axis=1)


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
