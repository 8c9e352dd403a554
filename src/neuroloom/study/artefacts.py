"""What goes wrong at the sensors: each artefact is added to the clean signal and written down as facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from neuroloom.config import ArtefactConfig
from neuroloom.dims import UNITS
from neuroloom.records import Array
from neuroloom.study.sensors import Sensors, head
from neuroloom.study.sources import coloured_noise
from neuroloom.study.truth import Fact

BLINK_S = 0.3
MICROVOLT = 1e-6
# What one µV at an electrode is worth in a coil of each type, so that one setting serves EEG and MEG.
PER_MICROVOLT = {"eeg": 1e-6, "mag": 50e-15, "grad": 1e-12}
# White noise of SQUIDs, 3 fT/√Hz and 3 fT/cm/√Hz.
SQUID = {"mag": 3e-15, "grad": 3e-13}
FLAT_RMS = {"eeg": 0.05e-6, "mag": 0.5e-15, "grad": 0.5e-13}
NOISY_FACTOR = 12.0
HARMONICS = ((1, 1.0), (2, 0.35), (3, 0.2))


@dataclass(frozen=True)
class Measured:
    """What a machine wrote, with the truth about it.

    Attributes
    ----------
    signal_CT : float32 array
        V, T or T/m.
    blink_T : float32 array
        Blinks at Fp1, V; zero for MEG.
    noise_C : array
        RMS of the sensors' own noise.
    typical_C : array
        RMS of what comes from the body.
    facts : list of Fact
    """

    signal_CT: Array
    blink_T: Array
    noise_C: Array
    typical_C: Array
    facts: list[Fact]


def plant_artefacts(
    clean_CT: Array,
    *,
    sensors: Sensors,
    artefacts: ArtefactConfig,
    noise: float,
    open_eyes: list[tuple[float, float]],
    rng: np.random.Generator,
) -> Measured:
    """Add noise and artefacts to a clean signal, in place.

    Blinks and muscle bursts are potentials on the scalp, seen through the reference; they are left out of MEG. Noise,
    drift and mains arise in the amplifier. Bad channels come last (`spoil_channels`).

    Parameters
    ----------
    clean_CT : float32 array
        Brain signal at the sensors; it becomes the measured one.
    sensors : Sensors
        Positions, types, sampling rate and mains.
    artefacts : ArtefactConfig
        How many and how large.
    noise : float
        Noise of the EEG, V RMS; MEG has the white noise of SQUIDs instead.
    open_eyes : list of tuple
        Onset and duration (s) of the times when the eyes are open; there are no blinks elsewhere.
    rng : np.random.Generator
        Of this recording.
    """
    sfreq, n_times = float(sensors.info["sfreq"]), clean_CT.shape[1]
    blink_T = np.zeros(n_times, np.float32)
    facts: list[Fact] = []
    if "eeg" in sensors.ch_types:
        blink_T, found = _blinks(open_eyes, artefacts, sfreq, n_times, rng)
        clean_CT += np.outer(_map_at(sensors, "Fp1", _between_eyes(), 0.05), blink_T).astype(np.float32)
        facts += found + _add_muscle(clean_CT, sensors, artefacts, sfreq, rng)
    # Before drift and mains, which a filter removes: a noisy channel must stand out afterwards.
    typical_C = np.sqrt(np.mean(clean_CT**2, axis=1, dtype=np.float64))
    noise_C = _noise_rms(sensors, noise, sfreq)
    clean_CT += noise_C[:, None] * rng.standard_normal(clean_CT.shape, dtype=np.float32)
    facts += _per_channel("noise", sensors, noise_C)
    facts += _add_drift(clean_CT, sensors, artefacts, sfreq, rng)
    facts += _add_line(clean_CT, sensors, artefacts, sfreq, rng)
    return Measured(clean_CT, blink_T, noise_C, typical_C, facts)


def _map_at(sensors: Sensors, name: str, centre: Array, width: float) -> Array:
    """Potential on the scalp as the channels see it, (C,), scaled to 1 at the named electrode."""
    map_C = sensors.scalp_map(centre=centre, width=width)
    return np.asarray(map_C / map_C[sensors.ch_names.index(name)])


def _between_eyes() -> Array:
    """Somewhat above the nasion, where the potentials of both eyelids add up; m in the head frame."""
    return np.asarray(head().montage.get_positions()["nasion"] + np.array([0.0, 0.01, 0.02]))


def _spread(rng: np.random.Generator, per_min: float, seconds: float, length: float) -> Array:
    """Onsets (s) of things that last `length` s: one at random in each equal share of the time, never overlapping."""
    n_onsets = round(per_min * seconds / 60)
    share = seconds / max(n_onsets, 1)
    return np.arange(n_onsets) * share + rng.uniform(0, max(share - length, 0.0), n_onsets)


def _blinks(
    open_eyes: list[tuple[float, float]],
    artefacts: ArtefactConfig,
    sfreq: float,
    n_times: int,
    rng: np.random.Generator,
) -> tuple[Array, list[Fact]]:
    """Time course at Fp1 (V) and one fact for each blink."""
    start_E, length_E = np.array(open_eyes, float).reshape(-1, 2).T
    end_E = np.cumsum(length_E)
    blink_T, facts = np.zeros(n_times, np.float32), []
    pulse = np.hanning(round(BLINK_S * sfreq) + 2)[1:-1]
    for at in _spread(rng, artefacts.blinks_per_min, float(length_E.sum()), BLINK_S):
        block = int(np.searchsorted(end_E, at, side="right"))
        first = int((start_E[block] + at - end_E[block] + length_E[block]) * sfreq)
        height = artefacts.blink_uv * MICROVOLT * float(rng.uniform(0.7, 1.0))
        stop = min(first + len(pulse), n_times)
        blink_T[first:stop] += np.float32(height) * pulse[: stop - first]
        facts.append(Fact("blink", "Fp1", first / sfreq, BLINK_S, height, "V"))
    return blink_T, facts


def _add_muscle(
    signal_CT: Array, sensors: Sensors, artefacts: ArtefactConfig, sfreq: float, rng: np.random.Generator
) -> list[Fact]:
    """Bursts of 20 to 100 Hz over one temporal side."""
    facts = []
    for onset in _spread(rng, artefacts.muscle_per_min, signal_CT.shape[1] / sfreq, 2.0):
        name, seconds = str(rng.choice(["T7", "T8"])), float(rng.uniform(0.5, 2.0))
        first, rms = int(onset * sfreq), artefacts.muscle_uv * MICROVOLT
        centre = sensors.position_A3[sensors.ch_names.index(name)]
        length = min(int(seconds * sfreq), signal_CT.shape[1] - first)
        burst = coloured_noise(rng, 1, length, sfreq, l_freq=20.0, h_freq=min(100.0, 0.45 * sfreq))[0]
        ramp = np.clip(np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.1 * sfreq), 0, 1)
        map_C = _map_at(sensors, name, centre, 0.04)
        signal_CT[:, first : first + length] += np.outer(map_C, rms * ramp * burst).astype(np.float32)
        facts.append(Fact("muscle", name, first / sfreq, length / sfreq, rms, "V"))
    return facts


def _noise_rms(sensors: Sensors, noise: float, sfreq: float) -> Array:
    rms = {"eeg": noise} | {kind: density * np.sqrt(sfreq / 2) for kind, density in SQUID.items()}
    return np.array([rms[kind] for kind in sensors.ch_types], np.float32)


def _add_drift(
    signal_CT: Array, sensors: Sensors, artefacts: ArtefactConfig, sfreq: float, rng: np.random.Generator
) -> list[Fact]:
    """Slow wandering below 0.1 Hz, of each channel by itself."""
    rms_C = artefacts.drift_uv * _worth(sensors) * np.exp(rng.normal(0, 0.3, len(sensors.ch_names)))
    drift_CT = coloured_noise(rng, len(signal_CT), signal_CT.shape[1], sfreq, exponent=2.0, h_freq=0.1)
    signal_CT += rms_C.astype(np.float32)[:, None] * drift_CT
    return _per_channel("drift", sensors, rms_C)


def _add_line(
    signal_CT: Array, sensors: Sensors, artefacts: ArtefactConfig, sfreq: float, rng: np.random.Generator
) -> list[Fact]:
    """Mains and harmonics below the Nyquist frequency; the antialiasing filter keeps out the others."""
    line_freq, n_channels = float(sensors.info["line_freq"]), len(sensors.ch_names)
    rms_C = artefacts.line_uv * _worth(sensors) * np.exp(rng.normal(0, 0.3, n_channels))
    time_T = np.arange(signal_CT.shape[1]) / sfreq
    # An alias of mains would be a line at a frequency that no notch looks for; real amplifiers filter it out first.
    heard = [(harmonic, share) for harmonic, share in HARMONICS if harmonic * line_freq < sfreq / 2]
    for harmonic, share in heard:
        phase_C = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.3, n_channels)
        angle_T = 2 * np.pi * harmonic * line_freq * time_T
        waves_2T = np.stack([np.sin(angle_T), np.cos(angle_T)]).astype(np.float32)
        weight_C2 = np.sqrt(2) * share * rms_C[:, None] * np.stack([np.cos(phase_C), np.sin(phase_C)], axis=1)
        signal_CT += weight_C2.astype(np.float32) @ waves_2T
    frequency = Fact("line_freq", value=line_freq, unit="Hz")
    return [frequency, *_per_channel("line", sensors, rms_C)] if heard else [frequency]


def spoil_channels(
    signal_CT: Array, *, sensors: Sensors, artefacts: ArtefactConfig, typical_C: Array, rng: np.random.Generator
) -> tuple[Array, list[Fact]]:
    """Replace the signal of some channels, in place.

    By zeros (dead), almost nothing (flat), or noise of usual size (loose: an electrode off the head); add broadband
    noise (noisy), or join neighbouring electrodes (bridged). Electrodes alone are loose or bridged.

    Returns
    -------
    contact_CC : array
        What came through: the spoilt signal is this matrix times the signal, and noise.
    facts : list of Fact
    """
    is_eeg = "eeg" in sensors.ch_types
    counts = (artefacts.dead_channels, artefacts.flat_channels, artefacts.noisy_channels, artefacts.loose_channels)
    counts = counts if is_eeg else (*counts[:3], 0)
    order = rng.permutation(len(signal_CT))
    dead, flat, noisy, loose, free = np.split(order, np.cumsum(counts))
    bridged = _nearest_pairs(sensors, free, artefacts.bridged_pairs if is_eeg else 0)
    contact_CC = np.eye(len(signal_CT))
    contact_CC[[*dead, *flat, *loose]] = 0.0
    for pair in bridged:
        contact_CC[np.ix_(pair, pair)] = 0.5
    value_C = _noise_sizes(sensors, typical_C, flat=flat, noisy=noisy, loose=loose)
    changed = [*dead, *flat, *loose, *(at for pair in bridged for at in pair)]
    signal_CT[changed] = (contact_CC[changed] @ signal_CT).astype(np.float32)
    white, sfreq = [*flat, *noisy], float(sensors.info["sfreq"])
    noise_CT = rng.standard_normal((len(white), signal_CT.shape[1]), dtype=np.float32)
    signal_CT[white] += value_C[white].astype(np.float32)[:, None] * noise_CT
    noise_CT = coloured_noise(rng, len(loose), signal_CT.shape[1], sfreq, exponent=1.0, l_freq=0.5)
    signal_CT[loose] += value_C[loose].astype(np.float32)[:, None] * noise_CT
    kinds = {"dead": dead, "flat": flat, "noisy": noisy, "loose": loose, "bridged": np.ravel(bridged).astype(int)}
    return contact_CC, [
        fact for kind, picks in kinds.items() for fact in _per_channel(kind, sensors, value_C, sorted(picks))
    ]


def _noise_sizes(sensors: Sensors, typical_C: Array, *, flat: Array, noisy: Array, loose: Array) -> Array:
    """RMS of the noise in spoilt channels, (C,)."""
    value_C, kinds = np.zeros(len(typical_C)), np.array(sensors.ch_types)
    value_C[flat] = [FLAT_RMS[sensors.ch_types[at]] for at in flat]
    usual_C = np.array([np.median(typical_C[kinds == kind]) for kind in kinds])
    value_C[noisy], value_C[loose] = NOISY_FACTOR * usual_C[noisy], usual_C[loose]
    return value_C


def _nearest_pairs(sensors: Sensors, free: Array, n_pairs: int) -> list[list[int]]:
    """Channels, in the order given, each with its nearest neighbour; none is in two pairs."""
    left, pairs = [int(at) for at in free], []
    for _ in range(min(n_pairs, len(left) // 2)):
        first = left.pop(0)
        distance = np.linalg.norm(sensors.position_A3[left] - sensors.position_A3[first], axis=1)
        pairs.append([first, left.pop(int(distance.argmin()))])
    return pairs


def _worth(sensors: Sensors) -> Array:
    return np.array([PER_MICROVOLT[kind] for kind in sensors.ch_types])


def _per_channel(kind: str, sensors: Sensors, value_C: Array, picks: Iterable[int] | None = None) -> list[Fact]:
    """One fact for each channel, or for each picked one."""
    return [
        Fact(kind, sensors.ch_names[at], value=float(value_C[at]), unit=UNITS[sensors.ch_types[at]])
        for at in (range(len(sensors.ch_names)) if picks is None else picks)
    ]
