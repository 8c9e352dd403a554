"""What simulated brains do: one source for each parcel, with 1/f background and rhythms whose power follows the task.

Amplitude envelopes and instantaneous frequencies live on a slow grid (`GRID_RATE`), so the true band power of each
parcel is known exactly; it is what the haemodynamic response is later convolved with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neuroloom.records import Array, Events

GRID_RATE = 10.0
RAMP = 0.5
TRIAL = 4.0
BANDS = ("theta", "alpha", "beta")
_WANDER_HZ = {"theta": 0.4, "alpha": 0.5, "beta": 1.5}
# Moments that give about 15 µV of closed-eyes alpha at O1 and some hundred fT, with 64 parcels.
_MOMENT = 20e-9
_BACKGROUND = 0.45
_OCCIPITAL = ((-18.0, -88.0, 5.0), (18.0, -88.0, 5.0))
_HAND_LEFT, _HAND_RIGHT = (-38.0, -25.0, 55.0), (38.0, -25.0, 55.0)
_MIDFRONTAL = ((-8.0, 30.0, 40.0), (8.0, 30.0, 40.0))


@dataclass(frozen=True)
class Traits:
    """How one simulated person differs from the others.

    Attributes
    ----------
    alpha_hz : float
        Peak of the alpha rhythm, Hz.
    gain : float
        Factor on all source amplitudes.
    closed_gain : float
        Amplitude of occipital alpha with eyes closed over open.
    erd : float
        Fraction of mu and beta power that imagery of the other hand takes away.
    bold_weights : tuple of float
        Weight of the relative power of each of `BANDS` in the drive of the BOLD signal.
    age : int
        Years.
    sex, hand : str
        `F` or `M`, `R` or `L`.
    """

    alpha_hz: float
    gain: float
    closed_gain: float
    erd: float
    bold_weights: tuple[float, ...]
    age: int
    sex: str
    hand: str


@dataclass(frozen=True)
class Brain:
    """What a brain did during one recording.

    Attributes
    ----------
    source_PT : float32 array
        Dipole moment of each parcel, A·m.
    power_BPG : array
        Power of each of `BANDS` over its mean, less 1, at `GRID_RATE`.
    drive_PG : array
        Weighted sum of `power_BPG`, on which the haemodynamic response acts.
    events : Events
        The task.
    """

    source_PT: Array
    power_BPG: Array
    drive_PG: Array
    events: Events


def draw_traits(rng: np.random.Generator) -> Traits:
    """A person at random."""
    return Traits(
        alpha_hz=float(rng.uniform(8.8, 11.2)),
        gain=float(np.exp(rng.normal(0, 0.15))),
        closed_gain=float(rng.uniform(2, 3)),
        erd=float(rng.uniform(0.4, 0.6)),
        bold_weights=(float(rng.uniform(0.1, 0.3)), float(-rng.uniform(0.8, 1.2)), float(rng.uniform(0.3, 0.5))),
        age=int(rng.integers(20, 70)),
        sex=str(rng.choice(["F", "M"])),
        hand=str(rng.choice(["R", "L"], p=[0.9, 0.1])),
    )


def coloured_noise(
    rng: np.random.Generator,
    n_series: int,
    n_times: int,
    sfreq: float,
    *,
    exponent: float = 0.0,
    l_freq: float = 0.0,
    h_freq: float = np.inf,
) -> Array:
    """Gaussian noise with power ~ 1/f**exponent inside a band and none outside, RMS 1.

    Parameters
    ----------
    n_series, n_times : int
        Shape of the result.
    sfreq, l_freq, h_freq : float
        Hz.

    Returns
    -------
    float32 array, (n_series, n_times)
    """
    import scipy.fft

    # Longer than asked for, so that the end does not run on into the beginning.
    n_fft = scipy.fft.next_fast_len(n_times + min(n_times, int(sfreq)), real=True)
    freqs_F = np.fft.rfftfreq(n_fft, 1 / sfreq)
    inside_F = (freqs_F > 0) & (freqs_F >= l_freq) & (freqs_F <= h_freq)
    amplitude_F = np.zeros(len(freqs_F), np.float32)
    amplitude_F[inside_F] = freqs_F[inside_F] ** (-exponent / 2)
    spectrum = rng.standard_normal((n_series, len(freqs_F), 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise = scipy.fft.irfft(spectrum * amplitude_F, n=n_fft, axis=-1)[:, :n_times]
    return np.asarray(noise / np.sqrt(np.mean(noise**2, axis=-1, keepdims=True)), np.float32)


def task_events(task: Literal["rest", "imagery"], duration: float, rng: np.random.Generator) -> Events:
    """Blocks of eyes open and closed, or trials of imagined movements of the left and right hand.

    Parameters
    ----------
    task : str
        `rest` or `imagery`.
    duration : float
        Length of the recording, s.
    """
    if task == "rest":
        length = min(30.0, duration / 4)
        onset = np.arange(0, duration - 1e-6, length)
        labels = [("eyes_open", "eyes_closed")[block % 2] for block in range(len(onset))]
        return Events(onset, np.minimum(length, duration - onset), labels)
    starts = 3.0 + np.cumsum(TRIAL + rng.uniform(3.5, 4.5, int(duration // TRIAL))) - TRIAL - 3.5
    onset = np.round(starts[starts + TRIAL + 1 < duration], 1)
    # Shuffled halves rather than coin tosses: short recordings stay balanced.
    hands = np.array(["left_hand", "right_hand"])[np.arange(len(onset)) % 2]
    return Events(onset, np.full(len(onset), TRIAL), [str(hand) for hand in rng.permutation(hands)])


def near(centroid_P3: Array, *centres: tuple[float, float, float], width: float = 25.0) -> Array:
    """How close parcels are to places of the brain, (P,): Gaussian in mm, 1 at the closest parcel."""
    distance_PE = np.linalg.norm(centroid_P3[:, None] - np.array(centres), axis=2)
    weight_P = np.exp(-((distance_PE.min(axis=1) / width) ** 2) / 2)
    return weight_P / weight_P.max()


def band_amplitudes(centroid_P3: Array) -> Array:
    """Resting amplitude of each of `BANDS` in each parcel, (3, P), relative to the unit moment."""
    hand_P = near(centroid_P3, _HAND_LEFT, _HAND_RIGHT)
    theta_P = 0.25 + 0.45 * near(centroid_P3, *_MIDFRONTAL)
    alpha_P = 0.15 + 0.9 * near(centroid_P3, *_OCCIPITAL) + 0.75 * hand_P
    return np.stack([theta_P, alpha_P, 0.12 + 0.45 * hand_P])


def simulate_brain(
    *,
    centroid_P3: Array,
    task: Literal["rest", "imagery"],
    duration: float,
    sfreq: float,
    traits: Traits,
    rng: np.random.Generator,
    invisible: Sequence[int] = (),
) -> Brain:
    """Source time series of all parcels during a task.

    Parameters
    ----------
    centroid_P3 : array
        Parcel centroids, mm MNI.
    task : str
        `rest` or `imagery`.
    duration, sfreq : float
        s, Hz.
    traits : Traits
        The person.
    rng : np.random.Generator
        Of this recording.
    invisible : sequence of int
        Parcels whose BOLD follows nothing that makes a field: a slow course of its own, as strong as the others'.
    """
    events = task_events(task, duration, rng)
    grid_G = np.arange(int(np.ceil(duration * GRID_RATE)) + 2) / GRID_RATE
    time_T = np.arange(round(duration * sfreq)) / sfreq
    power_BPG = _band_power(centroid_P3, grid_G, events, traits, rng)
    hand_P = near(centroid_P3, _HAND_LEFT, _HAND_RIGHT)
    centre_BP = np.stack([np.full(len(hand_P), 6.0), traits.alpha_hz + 0.8 * hand_P, rng.uniform(18, 22, len(hand_P))])
    source_PT = _BACKGROUND * coloured_noise(
        rng, len(hand_P), len(time_T), sfreq, exponent=1.1, l_freq=0.3, h_freq=0.45 * sfreq
    )
    amplitude_BPG = np.sqrt(2 * power_BPG) * band_amplitudes(centroid_P3)[..., None]
    for band, amplitude_PG, centre_P in zip(BANDS, amplitude_BPG, centre_BP, strict=True):
        _add_rhythm(source_PT, amplitude_PG, centre_P, _WANDER_HZ[band], grid_G, time_T, rng)
    source_PT *= np.float32(traits.gain * _MOMENT * np.sqrt(64 / len(hand_P)))
    relative_BPG = power_BPG / power_BPG.mean(axis=2, keepdims=True) - 1
    drive_PG = np.tensordot(traits.bold_weights, relative_BPG, axes=1)
    if len(invisible):
        hidden_PG = coloured_noise(rng, len(invisible), len(grid_G), GRID_RATE, exponent=0.5, h_freq=0.1)
        drive_PG[list(invisible)] = np.median(drive_PG.std(axis=1)) * hidden_PG
    return Brain(source_PT, relative_BPG, drive_PG, events)


def _add_rhythm(
    source_PT: Array,
    amplitude_PG: Array,
    centre_P: Array,
    wander: float,
    grid_G: Array,
    time_T: Array,
    rng: np.random.Generator,
) -> None:
    """Add, in place, an oscillation of known amplitude and of a frequency that wanders around its centre (SD in Hz).

    It wanders slowly, too, so that the oscillation forgets its phase within a second or two, as rhythms of brains do.
    """
    noise_PG = coloured_noise(rng, len(centre_P), len(grid_G), GRID_RATE, h_freq=1.5)
    phase_PG = 2 * np.pi * np.cumsum(centre_P[:, None] + wander * noise_PG, axis=1) / GRID_RATE
    phase_PG += rng.uniform(0, 2 * np.pi, (len(centre_P), 1))
    # One parcel at a time: the phase needs double precision, and all parcels at once would need gigabytes.
    for source_T, amplitude_G, phase_G in zip(source_PT, amplitude_PG, phase_PG, strict=True):
        source_T += np.interp(time_T, grid_G, amplitude_G) * np.cos(np.interp(time_T, grid_G, phase_G))


def _band_power(centroid_P3: Array, grid_G: Array, events: Events, traits: Traits, rng: np.random.Generator) -> Array:
    """Relative power (B, P, G): slow fluctuations that neighbours and mirrored parcels share, times the task."""
    mixing_PP = _shared(centroid_P3)
    slow_BPG = np.stack(
        [
            mixing_PP @ coloured_noise(rng, len(mixing_PP), len(grid_G), GRID_RATE, exponent=0.5, h_freq=0.1)
            for _ in BANDS
        ]
    )
    power_BPG = np.exp(0.5 * slow_BPG)
    closed_G = _gate(events, "eyes_closed", grid_G)
    occipital_P = near(centroid_P3, *_OCCIPITAL)
    power_BPG[1] *= 1 + (traits.closed_gain**2 - 1) * np.outer(occipital_P, closed_G)
    for label, opposite in (("left_hand", _HAND_RIGHT), ("right_hand", _HAND_LEFT)):
        loss_PG = traits.erd * np.outer(near(centroid_P3, opposite, width=20.0), _gate(events, label, grid_G))
        power_BPG[1:] *= 1 - loss_PG
    return power_BPG


def _shared(centroid_P3: Array) -> Array:
    """Matrix (P, P) that gives independent series a covariance that falls with distance and links both hemispheres."""
    apart_PP = np.linalg.norm(centroid_P3[:, None] - centroid_P3, axis=2)
    across_PP = np.linalg.norm(centroid_P3[:, None] - centroid_P3 * [-1, 1, 1], axis=2)
    covariance_PP = np.exp(-((apart_PP / 35) ** 2) / 2) + 0.6 * np.exp(-((across_PP / 35) ** 2) / 2)
    # Parcels in the middle are almost their own mirror images; the ridge keeps the matrix positive definite.
    covariance_PP += 1e-6 * np.eye(len(covariance_PP))
    scale_P = np.sqrt(np.diag(covariance_PP))
    return np.linalg.cholesky(covariance_PP / np.outer(scale_P, scale_P))


def _gate(events: Events, label: str, grid_G: Array) -> Array:
    """1 during events of a label, 0 outside, with ramps of `RAMP` s inside them."""
    gate_G = np.zeros(len(grid_G))
    for onset, duration, found in zip(events.onset, events.duration, events.label, strict=True):
        if found == label:
            edge_G = np.minimum(grid_G - onset, onset + duration - grid_G) / RAMP
            gate_G = np.maximum(gate_G, np.clip(edge_G, 0, 1))
    return gate_G
