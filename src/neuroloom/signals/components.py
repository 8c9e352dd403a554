"""Independent components of EEG, found once for eyes and muscle.

Each kind of artefact is learnt from where it is: eyes from slow activity of the whole recording, muscle from the fast
activity of its loudest seconds. Both samples go side by side into one decomposition. Slow activity alone, in which
muscle is weaker than brain, does not show where a muscle is, and fast activity alone does not show the eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.filters import apply_kernel, design_kernel

SLOW_BAND, FAST_BAND = (1.0, 40.0), (20.0, 70.0)
SLOW_SFREQ, SLOW_SECONDS, PART_S = 100.0, 120.0, 10.0
FAST_SECONDS = 30
FAST_SHARE = 0.25  # of the power of the slow sample, so that blinks stay what stands out most
MAX_COMPONENTS = 20
MIN_CHANNELS = 8
MIN_SAMPLES_PER_CHANNEL = 20


@dataclass(frozen=True)
class Components:
    """Sources that are each seen by all channels, and how each is heard from them.

    Attributes
    ----------
    picks : int array
        Channels that were decomposed.
    filters_KC : array
        Times these channels: the sources.
    maps_CK : array
        Times the sources: their share of the channels.
    note : str
        Why there is no component.
    """

    picks: Array
    filters_KC: Array
    maps_CK: Array
    note: str = ""

    def __len__(self) -> int:
        return len(self.filters_KC)

    @classmethod
    def none(cls, picks: Array, note: str = "") -> Components:
        """Nothing was decomposed."""
        return cls(picks, np.zeros((0, len(picks))), np.zeros((len(picks), 0)), note)

    def only(self, chosen: Sequence[int]) -> Components:
        """Some of them."""
        at = np.array(chosen, int)
        return Components(self.picks, self.filters_KC[at], self.maps_CK[:, at])

    def without(self, chosen: Sequence[int]) -> Array:
        """Matrix (C, C) that takes some of the sources out of the decomposed channels."""
        gone = self.only(chosen)
        return np.eye(len(self.picks)) - gone.maps_CK @ gone.filters_KC


def find_components(
    recording: Recording, pieces: Sequence[Array], bads: dict[str, str], *, fast: bool, seed: int
) -> Components:
    """Decompose the good EEG channels.

    Parameters
    ----------
    recording : Recording
        Names, types and sampling rate.
    pieces : sequence of array
        Filtered samples of all its channels.
    bads : dict
        Channels to leave out.
    fast : bool
        Whether muscle is looked for, too.
    seed : int
        Of the start of the decomposition (FastICA, Hyvärinen 1999, IEEE Trans. Neural Netw. 10:626).
    """
    picks = np.array([at for at in recording.picks("eeg") if recording.ch_names[at] not in bads], int)
    if not len(picks):
        return Components.none(picks)
    if len(picks) < MIN_CHANNELS:
        return Components.none(picks, f"no components: {len(picks)} good EEG channels, {MIN_CHANNELS} needed")
    sample_CT = slow_sample(pieces, recording.sfreq)[picks]
    if sample_CT.shape[1] < MIN_SAMPLES_PER_CHANNEL * len(picks):
        return Components.none(picks, "no components: the recording is too short for its channels")
    if fast:
        fast_CT = _fast_sample(pieces, picks, recording.sfreq)
        usual = np.median((seconds(sample_CT, SLOW_SFREQ) ** 2).mean(axis=(0, 2)))
        gain = np.sqrt(FAST_SHARE * usual * sample_CT.shape[1] / fast_CT.shape[1])
        sample_CT = np.concatenate([sample_CT, gain * fast_CT], axis=1)
    return Components(picks, *_decompose(sample_CT, seed))


def slow_sample(pieces: Sequence[Array], sfreq: float) -> Array:
    """Up to two minutes of all channels, in parts of ten seconds, band-passed and decimated."""
    part = max(int(PART_S * sfreq), 1)
    parts = [
        piece_CT[:, at : at + part] for piece_CT in pieces for at in range(0, max(piece_CT.shape[1] - part, 1), part)
    ]
    chosen = np.unique(np.linspace(0, len(parts) - 1, min(len(parts), int(SLOW_SECONDS / PART_S))).astype(int))
    kernel = design_kernel(sfreq, l_freq=SLOW_BAND[0], h_freq=min(SLOW_BAND[1], 0.4 * sfreq))
    step = max(int(sfreq / SLOW_SFREQ), 1)
    return np.concatenate([apply_kernel(parts[at], kernel)[:, ::step] for at in chosen], axis=1)


def _fast_sample(pieces: Sequence[Array], picks: Array, sfreq: float) -> Array:
    """The seconds in which the fast activity of some channel is furthest above its usual, (C, T)."""
    kernel = design_kernel(sfreq, l_freq=FAST_BAND[0], h_freq=min(FAST_BAND[1], 0.4 * sfreq))
    fast_CSJ = np.concatenate([seconds(apply_kernel(piece_CT[picks], kernel), sfreq) for piece_CT in pieces], axis=1)
    sd_CS = fast_CSJ.std(axis=2)
    usual_C1 = np.maximum(np.median(sd_CS, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    loudest = np.sort(np.argsort((sd_CS / usual_C1).max(axis=0))[-FAST_SECONDS:])
    fast_CSJ = fast_CSJ[:, loudest]
    # alike in size, so that no single glitch is all there is to decompose
    return (fast_CSJ / np.sqrt((fast_CSJ**2).mean(axis=(0, 2)))[None, :, None]).reshape(len(picks), -1)


def seconds(signal_CT: Array, sfreq: float) -> Array:
    """Whole seconds side by side, (C, seconds, samples); a rest at the end is left out."""
    length = max(min(int(sfreq), signal_CT.shape[1]), 1)
    n_seconds = signal_CT.shape[1] // length
    return signal_CT[:, : n_seconds * length].reshape(len(signal_CT), n_seconds, length)


def _decompose(sample_CT: Array, seed: int) -> tuple[Array, Array]:
    """Filters (K, C) and maps (C, K)."""
    import warnings

    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    # one dimension less than channels: an average reference before recording would have taken it
    n_components = min(MAX_COMPONENTS, len(sample_CT) - 1)
    ica = FastICA(n_components, whiten="unit-variance", whiten_solver="eigh", random_state=seed, max_iter=400)
    size = float(sample_CT.std())  # volts are too small for the solver's limits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # artefacts stand apart long before the rest has settled
        ica.fit(sample_CT.T.astype(float) / size)
    return ica.components_ / size, ica.mixing_ * size
