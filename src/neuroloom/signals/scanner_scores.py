"""How well the artefacts of a scanner were removed, against EEG that never was in one."""

from __future__ import annotations

import numpy as np

from neuroloom.records import Array, Events
from neuroloom.signals.filters import apply_kernel, design_kernel

BAND = (1.0, 40.0)
MU = (8.0, 13.0)


def harmonic_drop(
    before_CT: Array,
    after_CT: Array,
    *,
    truth_CT: Array,
    sfreq: float,
    freqs: Array,
    width: float = 0.25,
    together: bool = False,
) -> float:
    """By how much an artefact got smaller around its harmonics, dB: the worst harmonic of the median channel.

    What is compared is before less truth, and after less truth. So what cleaning took from the brain counts as much as
    what it left of the artefact.

    Parameters
    ----------
    before_CT, after_CT, truth_CT : array
        The same samples with the artefact, cleaned, and without it.
    sfreq : float
        Hz.
    freqs : array
        Harmonics, Hz.
    width : float
        Reach on either side of each, Hz.
    together : bool
        Add up the power of all harmonics instead of looking for the worst one.
    """
    freq_F = np.fft.rfftfreq(before_CT.shape[1], 1 / sfreq)
    taper_T = np.hanning(before_CT.shape[1])
    drops = []
    near_NF = np.abs(freq_F - np.asarray(freqs)[:, None]) <= width
    for near_F in near_NF.any(axis=0, keepdims=True) if together else near_NF:
        power = [_power(error_CT, taper_T, near_F) for error_CT in (before_CT - truth_CT, after_CT - truth_CT)]
        drops.append(np.median(10 * np.log10(np.maximum(power[0], 1e-300) / np.maximum(power[1], 1e-300))))
    return float(min(drops))


def _power(signal_CT: Array, taper_T: Array, near_F: Array) -> Array:
    return np.array([(np.abs(np.fft.rfft(signal_T * taper_T)[near_F]) ** 2).sum() for signal_T in signal_CT])


def kept_r(after_CT: Array, truth_CT: Array, *, sfreq: float) -> float:
    """Correlation with the truth in 1 to 40 Hz, median channel."""
    kernel = design_kernel(sfreq, l_freq=BAND[0], h_freq=BAND[1])
    after_CT, truth_CT = (apply_kernel(np.asarray(part, np.float32), kernel) for part in (after_CT, truth_CT))
    pairs = zip(after_CT, truth_CT, strict=True)
    return float(np.nanmedian([np.corrcoef(after_T, truth_T)[0, 1] for after_T, truth_T in pairs if truth_T.any()]))


def erd_change(
    after_CT: Array, truth_CT: Array, *, sfreq: float, events: Events, task: str, rest: str | None = None
) -> float:
    """Change of the contrast of power in 8 to 13 Hz, task over rest, against the truth: a share, median channel.

    Parameters
    ----------
    events : Events
        The task's.
    task, rest : str
        Labels of events; without `rest`, all times outside any event.
    """
    in_task_T = _during(events, task, truth_CT.shape[1], sfreq)
    labels = set(events.label)
    in_rest_T = (
        ~np.any([_during(events, label, truth_CT.shape[1], sfreq) for label in labels], axis=0)
        if rest is None
        else _during(events, rest, truth_CT.shape[1], sfreq)
    )
    kernel = design_kernel(sfreq, l_freq=MU[0], h_freq=MU[1])
    power = [apply_kernel(np.asarray(part, np.float32), kernel) ** 2 for part in (after_CT, truth_CT)]
    contrast_2C = np.array([part[:, in_task_T].mean(axis=1) / part[:, in_rest_T].mean(axis=1) for part in power])
    return float(np.median(np.abs(contrast_2C[0] / contrast_2C[1] - 1)))


def _during(events: Events, label: str, n_times: int, sfreq: float) -> Array:
    inside_T = np.zeros(n_times, bool)
    for onset, duration, found in zip(events.onset, events.duration, events.label, strict=True):
        if found == label:
            inside_T[int(onset * sfreq) : int((onset + duration) * sfreq)] = True
    return inside_T
