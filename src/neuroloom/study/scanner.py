"""What an MRI scanner does to EEG that is recorded in it: gradients, heartbeats in the field, and a clock of its own.

Gradients are switched the same way for each slice and each volume, so their artefact repeats on the scanner's clock; it
is made at a high rate, passed through the amplifier's low-pass and read at the samples of the EEG, which drift against
it (Allen, Josephs & Turner 2000, NeuroImage 12:230). Heartbeats rock the head and the cap in the static field (Debener
et al. 2008, Int J Psychophysiol 67:189).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuroloom.records import Array, Events
from neuroloom.study.artefacts import MICROVOLT
from neuroloom.study.sensors import Sensors
from neuroloom.study.sources import coloured_noise
from neuroloom.study.truth import Fact

FINE_RATE = 12_000.0  # Hz at which gradients are switched
LOW_PASS = (0.4, 0.48)  # of the sampling rate: where the amplifier's low-pass begins and where nothing is left
SLICE_SPREAD = 0.02  # slices differ by their place, as a share of the artefact
VOLUME_SHARE = 0.3  # of the pulses that come once a volume, against those of each slice
RING_S = 0.25  # how long the low-pass rings
GOES_ON = 8  # samples before the end of the recording; a scan that ends later than that is cut off by it
MOTION_SHARE = 0.02  # slow change of the artefact by the head's position, RMS
MOTION_HZ = 0.05
ECG_UV, ECG_NOISE_UV, ECG_SHARE = 1000.0, 10.0, 0.15  # R wave, noise, and the share of the gradients it gets
BREATHING_HZ = 0.25
HEART_RUNS_S = 3.0  # before the recording and after it
BEAT_LASTS_S = 0.8  # from an R peak to the end of what it does to the EEG
BEAT_SPREAD, BEAT_JITTER = 0.15, 0.008  # amplitude from beat to beat, and delay in s
# Centre and width (s) of the waves after an R peak, with signs: rocking, nodding, and pulsating vessels.
BALLISTIC = (
    ((0.17, 0.035, 0.6), (0.25, 0.040, -1.0), (0.36, 0.055, 0.5)),
    ((0.20, 0.045, -0.7), (0.31, 0.050, 1.0), (0.43, 0.060, -0.4)),
    ((0.27, 0.070, 1.0), (0.46, 0.060, -0.6)),
)
BALLISTIC_SIZE = (1.0, 0.7, 0.35)
# P, Q, R, S and T: centre and width in s, height against R; T is large because blood flows through the field.
ECG_WAVES = ((-0.17, 0.025, 0.12), (-0.03, 0.010, -0.1), (0.0, 0.011, 1.0), (0.03, 0.011, -0.2), (0.28, 0.05, 0.45))


@dataclass(frozen=True)
class ScannerTruth:
    """What was planted.

    Attributes
    ----------
    gradient_CT, cardiac_CT : float32 array
        V.
    volume_onset : array
        True beginnings of the volumes, s on the clock of the EEG.
    triggers : Events
        The same as the amplifier noted them, on its samples; label `volume`.
    slice_rate : float
        Hz on the clock of the EEG.
    r_peaks : array
        s on the clock of the EEG.
    ecg_T : float32 array
        ECG with its share of the gradients, V.
    facts : list of Fact
        `gradient` and `cardiac` (V RMS of each channel), `heartbeat`, `volume`, `clock_drift`.
    """

    gradient_CT: Array
    cardiac_CT: Array
    volume_onset: Array
    triggers: Events
    slice_rate: float
    r_peaks: Array
    ecg_T: Array
    facts: list[Fact]


def plant_scanner(
    signal_CT: Array,
    *,
    sensors: Sensors,
    t_r: float,
    n_volumes: int,
    n_slices: int,
    gradient_uv: float,
    cardiac_uv: float,
    clock_ppm: float,
    heart_bpm: float = 66.0,
    start: float = 0.0,
    rng: np.random.Generator,
) -> ScannerTruth:
    """Add the artefacts of a scanner to EEG, in place.

    Parameters
    ----------
    signal_CT : float32 array
        EEG, V.
    sensors : Sensors
        Positions and sampling rate.
    t_r : float
        Of the scanner's own clock, s.
    n_volumes, n_slices : int
        Volumes, and slices of each (or groups of slices that are excited together).
    gradient_uv : float
        Peak of the gradient artefact over time and channels, µV.
    cardiac_uv : float
        Peak of an average heartbeat over time and channels, µV.
    clock_ppm : float
        By how much the scanner's second is longer than that of the EEG, in millionths.
    heart_bpm : float
        Mean heart rate.
    start : float
        When the scanner begins on the clock of the EEG, but for a part of a sample, s.
    rng : np.random.Generator
        Of this recording.
    """
    sfreq, n_times = float(sensors.info["sfreq"]), signal_CT.shape[1]
    stretch = 1 + clock_ppm * 1e-6
    onset_V = start + rng.uniform(0.05, 0.95) / sfreq + np.arange(n_volumes) * t_r * stretch
    volume_T = (np.arange(n_times) / sfreq - onset_V[0]) / (t_r * stretch)
    wave_KT = _gradient_waves(volume_T, t_r=t_r, n_volumes=n_volumes, n_slices=n_slices, sfreq=sfreq, rng=rng)
    gradient_CT = _gradients(wave_KT, sensors, gradient_uv * MICROVOLT, rng)
    beats = beat_times(n_times / sfreq, heart_bpm, rng)
    cardiac_CT = _ballistics(beats, sensors, n_times, cardiac_uv * MICROVOLT, rng)
    signal_CT += gradient_CT
    signal_CT += cardiac_CT
    noted, r_peaks = np.round(onset_V * sfreq) / sfreq, beats[beats >= 0]
    return ScannerTruth(
        gradient_CT=gradient_CT,
        cardiac_CT=cardiac_CT,
        volume_onset=onset_V,
        triggers=Events(noted, np.zeros(n_volumes), ["volume"] * n_volumes),
        slice_rate=n_slices / (t_r * stretch),
        r_peaks=r_peaks,
        ecg_T=_ecg(beats, wave_KT, sfreq, gradient_uv * MICROVOLT, rng),
        facts=[
            *_channel_facts("gradient", sensors, gradient_CT),
            *_channel_facts("cardiac", sensors, cardiac_CT),
            *(Fact("heartbeat", onset=float(at)) for at in r_peaks),
            *(Fact("volume", onset=float(at), duration=t_r * stretch) for at in onset_V),
            Fact("clock_drift", value=clock_ppm * 1e-6),
        ],
    )


def _channel_facts(kind: str, sensors: Sensors, signal_CT: Array) -> list[Fact]:
    rms_C = np.sqrt(np.mean(signal_CT**2, axis=1, dtype=np.float64))
    return [Fact(kind, name, value=float(rms), unit="V") for name, rms in zip(sensors.ch_names, rms_C, strict=True)]


def _gradient_waves(
    volume_T: Array, *, t_r: float, n_volumes: int, n_slices: int, sfreq: float, rng: np.random.Generator
) -> Array:
    """What each of the three gradients induces, at the samples of the EEG, (3, T).

    `volume_T` is the time in volumes on the scanner's clock. The low-pass rings before and after each volume. Where the
    recording begins or ends with the scan, a volume without trigger runs before the first, or after the last one.
    """
    from scipy.interpolate import CubicSpline

    n_fine = n_slices * int(np.ceil(t_r / n_slices * FINE_RATE))
    n_ring = int(RING_S / t_r * n_fine)
    place_J = np.arange(-n_ring, n_fine + n_ring) / n_fine
    earliest = -1 if volume_T[0] > -RING_S / t_r else 0
    goes_on = volume_T[-1] < n_volumes + GOES_ON / sfreq / t_r
    wave_KT = np.zeros((3, len(volume_T)))
    for wave_T in wave_KT:
        wave_J = np.pad(_switching(n_fine, n_slices, t_r, rng), n_ring)
        wave_J = _low_pass(wave_J, n_fine / t_r, sfreq)
        spline = CubicSpline(place_J, wave_J / np.abs(wave_J).max(), extrapolate=False)
        for side in (-1, 0, 1):
            volume = np.floor(volume_T) + side
            heard = (volume >= earliest) & (volume < n_volumes + goes_on)
            wave_T[heard] += np.nan_to_num(spline(volume_T[heard] - volume[heard]))
    return wave_KT


def _switching(n_fine: int, n_slices: int, t_r: float, rng: np.random.Generator) -> Array:
    """Voltage that one gradient induces during a volume: slice after slice, and some pulses at the volume's beginning.

    Each pulse of a gradient induces a peak as it rises and the opposite one as it falls.
    """
    length, rate = n_fine // n_slices, n_fine / t_r
    spread_S = 1 + SLICE_SPREAD * rng.standard_normal(n_slices)
    wave_J = np.outer(spread_S, _pulses(length, rate, 6, rng)).ravel()
    wave_J[:length] += VOLUME_SHARE * _pulses(length, rate, 3, rng)
    return wave_J


def _pulses(length: int, rate: float, n_pulses: int, rng: np.random.Generator) -> Array:
    """Pulses of random size within the first 85 % of a slice, with the readout's fast alternation in the middle."""
    time = np.arange(length) / rate
    busy = 0.85 * length / rate
    voltage = np.zeros(length)
    for _ in range(n_pulses):
        rise = rng.uniform(0.03, 0.6) * busy
        fall = rise + rng.uniform(0.1, 0.35) * busy
        size, ramp = rng.uniform(0.4, 1.0) * rng.choice([-1, 1]), rng.uniform(0.2e-3, 1e-3)
        for at, sign in ((rise, 1.0), (fall, -1.0)):
            voltage += sign * size * np.exp(-(((time - at) / ramp) ** 2) / 2)
    readout = (time > 0.3 * busy) & (time < 0.9 * busy)
    return voltage + 0.3 * readout * np.sign(np.sin(2 * np.pi * 900.0 * time))


def _low_pass(wave_J: Array, rate: float, sfreq: float) -> Array:
    """A wave through the amplifier's low-pass, which has no phase and ends below the Nyquist frequency."""
    freqs_F = np.fft.rfftfreq(len(wave_J), 1 / rate)
    start, stop = LOW_PASS[0] * sfreq, LOW_PASS[1] * sfreq
    gain_F = np.cos(np.clip((freqs_F - start) / (stop - start), 0, 1) * np.pi / 2) ** 2
    gain_F[0] = 0.0
    return np.fft.irfft(np.fft.rfft(wave_J) * gain_F, n=len(wave_J))


def _gradients(wave_KT: Array, sensors: Sensors, peak: float, rng: np.random.Generator) -> Array:
    """Gradient artefact of all channels, (C, T): three smooth maps that change a little as the head moves."""
    n_times, sfreq = wave_KT.shape[1], float(sensors.info["sfreq"])
    map_KC = np.stack([_smooth_map(sensors, rng) for _ in wave_KT])
    map_KC *= np.exp(rng.normal(0, 0.15, len(sensors.ch_names)))  # loops of the cables
    motion_KT = MOTION_SHARE * coloured_noise(rng, 3, n_times, sfreq, exponent=2.0, h_freq=MOTION_HZ)
    gradient_CT = (map_KC.T @ wave_KT).astype(np.float32)
    for map_C, wave_T in zip(map_KC, wave_KT, strict=True):
        for motion_T in motion_KT:
            moved_C = np.abs(map_C).mean() * _smooth_map(sensors, rng)
            gradient_CT += np.outer(moved_C, motion_T * wave_T).astype(np.float32)
    return np.asarray(gradient_CT * np.float32(peak / max(float(np.abs(gradient_CT).max()), 1e-30)))


def _smooth_map(sensors: Sensors, rng: np.random.Generator) -> Array:
    """A random quadratic function of the electrode's place as the referenced channels see it, (C,), RMS 1."""
    place_A3 = _places(sensors)
    x, y, z = place_A3.T
    terms_AN = np.stack([x, y, z, x * y, y * z, x * z, x**2 - y**2], axis=1)
    map_C = sensors.reference_CA @ (terms_AN @ (rng.standard_normal(7) * [1, 1, 1, 0.5, 0.5, 0.5, 0.5]))
    return np.asarray(map_C / np.sqrt(np.mean(map_C**2)))


def _places(sensors: Sensors) -> Array:
    """Electrodes (A, 3) around their mean, in units of their mean distance from it."""
    place_A3 = sensors.position_A3 - sensors.position_A3.mean(axis=0)
    return place_A3 / np.linalg.norm(place_A3, axis=1).mean()


def beat_times(duration: float, heart_bpm: float, rng: np.random.Generator) -> Array:
    """R peaks (s) of a heart that follows the breath (5 %), wanders slowly (5 %) and is not a clock (1 %).

    The heart beat before the recording began: its last beats before 0 are among them, for what they still do after it.
    """
    rate = 100.0
    time = np.arange(int((duration + 2 * HEART_RUNS_S) * rate)) / rate - HEART_RUNS_S
    breath = 0.05 * np.sin(2 * np.pi * BREATHING_HZ * time + rng.uniform(0, 2 * np.pi))
    slow = 0.05 * np.sin(2 * np.pi * rng.uniform(0.01, 0.03) * time + rng.uniform(0, 2 * np.pi))
    beats = np.cumsum(heart_bpm / 60 * (1 + breath + slow)) / rate
    wanted = rng.uniform(0, 1) + np.arange(int(beats[-1]))
    wanted += rng.normal(0, 0.01, len(wanted))
    peaks = np.interp(wanted, beats, time)
    return np.asarray(peaks[(peaks > -BEAT_LASTS_S) & (peaks < duration)])


def _ballistics(r_peaks: Array, sensors: Sensors, n_times: int, peak: float, rng: np.random.Generator) -> Array:
    """Artefact of the heartbeats in all channels, (C, T)."""
    sfreq = float(sensors.info["sfreq"])
    x, y, z = _places(sensors).T
    # left against right, front against back, and the vessels of both temples, as the head rocks and nods
    turn = rng.normal(0, 0.25, 3)
    maps = (x + turn[0] * y, y * z + turn[1] * x, np.exp(-((np.abs(x) - 0.9) ** 2 + y**2 + z**2) / 0.3) + turn[2] * y)
    cardiac_CT = np.zeros((len(sensors.ch_names), n_times), np.float32)
    shared_E = BEAT_SPREAD * rng.standard_normal(len(r_peaks))
    delay_E = BEAT_JITTER * rng.standard_normal(len(r_peaks))
    for waves, size, map_A in zip(BALLISTIC, BALLISTIC_SIZE, maps, strict=True):
        amplitude_E = np.exp(shared_E + BEAT_SPREAD / 2 * rng.standard_normal(len(r_peaks)))
        map_C = sensors.reference_CA @ map_A
        course_T = _beats(r_peaks + delay_E, waves, amplitude_E, n_times, sfreq)
        cardiac_CT += np.outer(size * map_C / np.abs(map_C).max(), course_T).astype(np.float32)
    loudest = float(np.abs(cardiac_CT).max(axis=0)[_near(r_peaks, n_times, sfreq)].mean())
    return np.asarray(cardiac_CT * np.float32(peak / max(loudest, 1e-30)))


def _near(r_peaks: Array, n_times: int, sfreq: float) -> Array:
    """Samples a quarter of a second after each R peak, where the artefact is about largest."""
    at_E = np.round((r_peaks + 0.25) * sfreq).astype(int)
    return at_E[(at_E >= 0) & (at_E < n_times)]


def _beats(
    r_peaks: Array, waves: tuple[tuple[float, float, float], ...], amplitude_E: Array, n_times: int, sfreq: float
) -> Array:
    """Sum of Gaussian waves after (or before) each R peak, (T,)."""
    course_T = np.zeros(n_times)
    for peak, amplitude in zip(r_peaks, amplitude_E, strict=True):
        first, stop = (np.clip(int((peak + at) * sfreq), 0, n_times) for at in (-0.4, BEAT_LASTS_S))
        time = np.arange(first, stop) / sfreq - peak
        for centre, width, height in waves:
            course_T[first:stop] += amplitude * height * np.exp(-(((time - centre) / width) ** 2) / 2)
    return course_T


def _ecg(r_peaks: Array, wave_KT: Array, sfreq: float, gradient: float, rng: np.random.Generator) -> Array:
    """ECG with noise and its share of the gradients, V."""
    n_times = wave_KT.shape[1]
    ecg_T = ECG_UV * MICROVOLT * _beats(r_peaks, ECG_WAVES, np.ones(len(r_peaks)), n_times, sfreq)
    ecg_T += ECG_SHARE * gradient * (rng.uniform(0.3, 0.6, 3) @ wave_KT)
    return (ecg_T + ECG_NOISE_UV * MICROVOLT * rng.standard_normal(n_times)).astype(np.float32)
