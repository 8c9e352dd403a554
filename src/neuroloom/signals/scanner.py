"""EEG recorded in a scanner: which of its artefacts are removed, and where in the chain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.records import Array, Recording, Signal
from neuroloom.signals.cardiac import (
    CardiacArtefact,
    CardiacCleaned,
    Heartbeats,
    find_heartbeats,
    fit_cardiac,
    heartbeats_of_eeg,
)
from neuroloom.signals.gradient import GradientCleaned, fit_gradient
from neuroloom.signals.streams import Patched, Picked
from neuroloom.signals.triggers import volume_onsets

IN_MEMORY = 50_000_000  # values; 200 MB


def without_gradients(
    recording: Recording, *, config: MeegConfig, file: str, rng: np.random.Generator
) -> tuple[Recording, list[str]]:
    """The recording without the gradients of a scanner, and notes about it.

    Parameters
    ----------
    recording : Recording
        As ingested, with the scanner's triggers among its events.
    config : MeegConfig
    file : str
        Named in errors.
    rng : np.random.Generator

    Raises
    ------
    UnusableRecording
        If no event repeats with the repetition time.
    """
    t_r = recording.scanner_t_r
    if t_r is None or config.gradient == "none":
        return recording, []
    onset_V, note = volume_onsets(recording.events, t_r=t_r, file=file)
    measured_CT = _in_memory(recording.signal_CT)
    model = fit_gradient(measured_CT, sfreq=recording.sfreq, onset_V=onset_V, t_r=t_r, rng=rng)
    first = replace(recording, signal_CT=_in_memory(GradientCleaned(measured_CT, model)))
    beats = _heartbeats(first)
    if not len(beats.onset_E) or config.cardiac == "none":
        return first, [note, model.note]
    # an average of some dozen volumes still holds some of the heartbeats, which are larger than the EEG: so they are
    # found in what the first pass leaves, and kept out of the averages of a second one
    picks = recording.picks("eeg")
    heart = fit_cardiac(first.signal_CT, sfreq=recording.sfreq, beats=beats, picks=picks, rng=rng)
    other = _in_memory(CardiacArtefact(first.signal_CT, heart))
    second = _in_memory(GradientCleaned(measured_CT, model, other=other))
    return replace(recording, signal_CT=second), [note, model.note]


def _in_memory(signal: Signal) -> Signal:
    """A small signal is read or computed once; a large one where it is asked for."""
    return np.asarray(signal[:, :]) if signal.shape[0] * signal.shape[1] <= IN_MEMORY else signal


def without_heartbeats(
    recording: Recording, *, config: MeegConfig, rng: np.random.Generator
) -> tuple[Recording, list[str]]:
    """The recording without the heartbeats that move head and blood in the field, and notes about it.

    Parameters
    ----------
    recording : Recording
        Without gradients, band-passed.
    config : MeegConfig
    rng : np.random.Generator
    """
    if config.cardiac == "none":
        return recording, []
    signal_CT, sfreq = recording.signal_CT, recording.sfreq
    beats = _heartbeats(recording)
    picks = recording.picks("eeg")  # the ECG keeps its beats
    eeg_CT = Picked(signal_CT, picks)
    model = fit_cardiac(eeg_CT, sfreq=sfreq, beats=beats, rng=rng)
    cleaned_CT = Patched(signal_CT, CardiacCleaned(eeg_CT, model), picks)
    return replace(recording, signal_CT=cleaned_CT), [model.note]


def _heartbeats(recording: Recording) -> Heartbeats:
    """From the ECG; where there is none, or none that can be believed, from the EEG."""
    signal_CT, sfreq = recording.signal_CT, recording.sfreq
    ecg = recording.picks("ecg")
    if len(ecg):
        beats = find_heartbeats(_course(recording, int(ecg[0])), sfreq=sfreq)
        if len(beats.onset_E):
            return beats
    return heartbeats_of_eeg(signal_CT, sfreq=sfreq, picks=recording.picks("eeg"))


def _course(recording: Recording, pick: int) -> Array:
    """One channel of the whole recording."""
    step, n_times = int(600 * recording.sfreq), recording.signal_CT.shape[1]
    starts = range(0, n_times, step)
    return np.concatenate([np.asarray(recording.signal_CT[:, at : at + step])[pick] for at in starts])
