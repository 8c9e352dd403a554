"""External interference in simulated MEG: distant magnets seen by real coils, reference coils, and a known dipole.

Each source is a magnetic dipole some metres away (a lift, traffic, a machine, switching), whose field at the helmet is
almost homogeneous, with gradients of a few per cent per coil. Coils are integrated over four points of each loop, which
is exact for fields that change this little across two centimetres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuroloom.records import Array
from neuroloom.study.artefacts import SQUID
from neuroloom.study.sensors import HELMET_RADIUS, Sensors, free_leadfield, head
from neuroloom.study.sources import coloured_noise
from neuroloom.study.truth import Fact

MU0_4PI = 1e-7
# Of each FIFF coil type: side of the square of its four points, and loops (centre in the axes of the coil, weight).
LOOPS: dict[int, tuple[float, tuple[tuple[tuple[float, float, float], float], ...]]] = {
    3024: (0.0105, (((0, 0, 0.0003), 1.0),)),  # Neuromag magnetometer T3
    3012: (
        0.0131,
        (((0.0084, 0, 0.0003), 1 / 0.0168), ((-0.0084, 0, 0.0003), -1 / 0.0168)),
    ),  # Neuromag planar gradiometer T1
    5001: (0.0090, (((0, 0, 0), 1.0), ((0, 0, 0.05), -1.0))),  # CTF axial gradiometer
    5002: (0.0080, (((0, 0, 0), 1.0),)),  # CTF reference magnetometer
    5003: (0.0172, (((0, 0, 0), 1.0), ((0, 0, 0.0786), -1.0))),  # CTF reference gradiometer, diagonal
    5004: (0.0170, (((0.0393, 0, 0), 1.0), ((-0.0393, 0, 0), -1.0))),  # CTF reference gradiometer, off-diagonal
}
DISTANCE_M = {"lift": (4.0, 8.0), "traffic": (6.0, 10.0), "machine": (2.0, 4.0), "switching": (2.0, 5.0)}
BURSTS_PER_MIN = 6.0
REFERENCE_HEIGHTS = (0.22, 0.30)  # m from the top of the helmet
DIPOLE_HZ = 31.0


@dataclass(frozen=True)
class Interference:
    """What distant sources added.

    Attributes
    ----------
    signal_CT : float32 array
        Added to the channels, T or T/m.
    position_S3, moment_S3 : array
        Of each source: m in the head frame, and unit direction of its moment.
    course_ST : array
        Moments, A·m².
    facts : list of Fact
        `interference_<kind>`: RMS of the field that a magnetometer at the middle of the helmet would see, T.
    """

    signal_CT: Array
    position_S3: Array
    moment_S3: Array
    course_ST: Array
    facts: list[Fact]

    def at(self, info: Any) -> Array:
        """What the coils of an `mne.Info` see of it, (C, T)."""
        map_CS = np.einsum("cpk,pk->cp", far_field(info, self.position_S3), self.moment_S3)
        return (map_CS @ self.course_ST).astype(np.float32)


def plant_interference(signal_CT: Array, *, sensors: Sensors, size: float, rng: np.random.Generator) -> Interference:
    """Fields of a lift, traffic, a machine and switching, each as strong as the others at the head.

    Parameters
    ----------
    signal_CT : array
        Brain signal at the channels, T or T/m; it is not changed.
    sensors : Sensors
        Of `meg_sensors`.
    size : float
        dB of the interference above the brain signal in the median magnetometer. Axial gradiometers count as the
        magnetometers that their inner loops are, so that one room has one field whatever stands in it.
    rng : np.random.Generator
        Of this recording; draws places, directions and time courses.

    Raises
    ------
    ValueError
        If there is no coil whose field is known.
    """
    sfreq, n_times = float(sensors.info["sfreq"]), signal_CT.shape[1]
    position_S3, moment_S3 = _places(rng)
    courses, bursts = _courses(sfreq, n_times, rng)
    at_head_S3 = np.einsum("pjk,pk->pj", dipole_field(head().sphere["r0"][None], position_S3)[0], moment_S3)
    course_ST = courses / np.linalg.norm(at_head_S3, axis=1, keepdims=True)
    picks = [at for at, kind in enumerate(sensors.ch_types) if kind == "mag"]
    loops_CS = np.einsum("cpk,pk->cp", far_field(_inner_loops(sensors.info, picks), position_S3), moment_S3)
    brain = np.median(np.sqrt(np.mean(signal_CT[picks] ** 2, axis=1, dtype=np.float64)))
    seen = np.median(np.sqrt(np.mean((loops_CS @ course_ST) ** 2, axis=1)))
    course_ST *= brain / seen * 10 ** (size / 20)
    found = Interference(np.zeros(0, np.float32), position_S3, moment_S3, course_ST, [])
    rms_S = np.linalg.norm(at_head_S3, axis=1) * course_ST.std(axis=1)
    facts = [
        Fact(f"interference_{kind}", value=float(rms), unit="T") for kind, rms in zip(DISTANCE_M, rms_S, strict=True)
    ]
    facts += [Fact("interference_burst", onset=onset, duration=length) for onset, length in bursts]
    return replace(found, signal_CT=found.at(sensors.info), facts=facts)


def dipole_field(at_C3: Array, position_S3: Array) -> Array:
    """Field (T per A·m²) at some points of magnetic dipoles along x, y and z, (C, S, field, moment).

    Source: Jackson, Classical Electrodynamics, eq. 5.56.
    """
    apart_CS3 = at_C3[:, None] - position_S3
    distance_CS = np.linalg.norm(apart_CS3, axis=2)
    unit_CS3 = apart_CS3 / distance_CS[..., None]
    pattern = 3 * unit_CS3[..., :, None] * unit_CS3[..., None, :] - np.eye(3)
    return MU0_4PI * pattern / distance_CS[..., None, None] ** 3


def far_field(info: Any, position_S3: Array) -> Array:
    """What coils see of distant magnetic dipoles along x, y and z, (C, S, 3), in T or T/m per A·m².

    Raises
    ------
    ValueError
        If a channel has a coil that is not in `LOOPS`.
    """
    return np.stack([_coil(channel, position_S3) for channel in info["chs"]])


def _coil(channel: Any, position_S3: Array) -> Array:
    """One coil: the weighted mean of the normal field over the points of its loops, (S, 3)."""
    kind = int(channel["coil_type"]) & 0xFFFF
    if kind not in LOOPS:
        raise ValueError(f"{channel['ch_name']}: coil type {kind} has no loops in neuroloom.study.interference.LOOPS")
    side, loops = LOOPS[kind]
    axes_33, normal = channel["loc"][3:12].reshape(3, 3), channel["loc"][9:12]
    corner = side / 2 * np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]])
    points = np.concatenate([np.array(centre) + corner for centre, _ in loops]) @ axes_33 + channel["loc"][:3]
    weights = np.repeat([weight / 4 for _, weight in loops], 4)
    return np.einsum("n,npjk,j->pk", weights, dipole_field(points, position_S3), normal)


def _inner_loops(info: Any, picks: list[int]) -> Any:
    """The channels as magnetometers at their inner loops."""
    chosen = [{**info["chs"][at], "coil_type": 5002} for at in picks]
    return {"chs": chosen}


def _places(rng: np.random.Generator) -> tuple[Array, Array]:
    """Where the sources are, all around, and where their moments point."""
    around = rng.standard_normal((2, len(DISTANCE_M), 3))
    around /= np.linalg.norm(around, axis=2, keepdims=True)
    distance_S = [rng.uniform(*between) for between in DISTANCE_M.values()]
    return head().sphere["r0"] + np.array(distance_S)[:, None] * around[0], around[1]


def _courses(sfreq: float, n_times: int, rng: np.random.Generator) -> tuple[Array, list[tuple[float, float]]]:
    """RMS 1 each, in the order of `DISTANCE_M`, and when (s) it was switched, for how long."""
    slow_ST = [coloured_noise(rng, 1, n_times, sfreq, exponent=1.0, l_freq=0.1, h_freq=edge)[0] for edge in (1.0, 2.0)]
    switching_T, bursts = _switching(sfreq, n_times, rng)
    course_ST = np.stack([*slow_ST, _machine(sfreq, n_times, rng), switching_T]).astype(float)
    return course_ST / np.sqrt(np.mean(course_ST**2, axis=1, keepdims=True)), bursts


def _machine(sfreq: float, n_times: int, rng: np.random.Generator) -> Array:
    """An engine between 17 and 23 Hz whose load and speed wander slowly."""
    load_T, speed_T = coloured_noise(rng, 2, n_times, sfreq, l_freq=0.02, h_freq=0.2)
    hertz_T = np.clip(rng.uniform(18.5, 21.5) + 0.5 * speed_T, 17.0, 23.0)
    phase_T = 2 * np.pi * np.cumsum(hertz_T.astype(float)) / sfreq
    return (1 + 0.4 * np.tanh(load_T)) * np.sin(phase_T)


def _switching(sfreq: float, n_times: int, rng: np.random.Generator) -> tuple[Array, list[tuple[float, float]]]:
    """Broadband bursts of half a second to two, one in each equal share of the time."""
    seconds = n_times / sfreq
    n_bursts = max(round(BURSTS_PER_MIN * seconds / 60), 1)
    share = seconds / n_bursts
    lengths = rng.uniform(0.5, 2.0, n_bursts).clip(max=share)
    onsets = np.arange(n_bursts) * share + rng.uniform(0, share - lengths)
    noise_T = coloured_noise(rng, 1, n_times, sfreq, l_freq=3.0, h_freq=0.45 * sfreq)[0]
    gate_T = np.zeros(n_times)
    time_T = np.arange(n_times) / sfreq
    for onset, length in zip(onsets, lengths, strict=True):
        gate_T = np.maximum(gate_T, np.clip(np.minimum(time_T - onset, onset + length - time_T) / 0.1, 0, 1))
    return gate_T * noise_T, list(zip(onsets.tolist(), lengths.tolist(), strict=True))


def reference_sensors(*, sfreq: float, line_freq: float, position_P3: Array) -> Sensors:
    """Reference coils of a CTF-like system: three magnetometers and five gradiometers at each of two heights.

    The eight of one height see the homogeneous field and its five independent first derivatives; the other height adds
    second derivatives and halves the power of the noise. The CTF-275 has 29.

    Parameters
    ----------
    sfreq, line_freq : float
        Hz.
    position_P3 : array
        Sources in the brain, m in the head frame, for `leadfield_CP3`.
    """
    import mne

    names, coils, locations = _reference_coils()
    info = mne.create_info(names, sfreq, "mag")
    for channel, location, coil in zip(info["chs"], locations, coils, strict=True):
        channel["loc"][:], channel["coil_type"] = location, coil
    info["dev_head_t"] = mne.Transform("meg", "head", np.eye(4))
    info["line_freq"] = line_freq
    leadfield_CP3 = free_leadfield(info, position_P3)  # MNE computes none for channels that are called references
    info.set_channel_types(dict.fromkeys(names, "ref_meg"), on_unit_change="ignore", verbose="error")
    for channel, location, coil in zip(info["chs"], locations, coils, strict=True):
        channel["loc"][:], channel["coil_type"] = location, coil
    return Sensors(info, names, ["ref_meg"] * len(names), np.array(locations)[:, :3], np.eye(len(names)), leadfield_CP3)


def _reference_coils() -> tuple[list[str], list[int], list[Array]]:
    """Names, coil types and places: at each height three magnetometers and five gradiometers, 3 cm apart."""
    x, y, z = np.eye(3)
    magnetometers = [("B1", 5002, (y, z, x)), ("B2", 5002, (z, x, y)), ("B3", 5002, (x, y, z))]
    diagonal = [("G11", 5003, (y, z, x)), ("G22", 5003, (z, x, y))]
    # the first axis is that of the difference, the last one the component that is measured
    mixed = [("G12", 5004, (y, -z, x)), ("G13", 5004, (z, y, -x)), ("G23", 5004, (z, -x, -y))]
    coils = [*magnetometers, *diagonal, *mixed]
    top = head().sphere["r0"] + [0.0, 0.0, HELMET_RADIUS]
    names, kinds, places = [], [], []
    for level, height in zip("PQ", REFERENCE_HEIGHTS, strict=True):
        for at, (name, coil, axes) in enumerate(coils):
            names.append(f"{level}{name}")
            kinds.append(coil)
            shift = np.array([(at % 3 - 1) * 0.03, (at // 3 - 1) * 0.03, height])
            places.append(np.concatenate([top + shift, *axes]))
    return names, kinds, places


def measure_references(
    references: Sensors, *, interference: Interference, source_PT: Array, direction_P3: Array, rng: np.random.Generator
) -> Array:
    """What reference coils write down: interference, their own white noise and the little they see of the brain.

    Parameters
    ----------
    references : Sensors
        Of `reference_sensors`.
    interference : Interference
        Of the recording.
    source_PT, direction_P3 : array
        Moments (A·m) and directions of the sources in the brain.

    Returns
    -------
    float32 array, (C, T)
    """
    leadfield_CP = np.einsum("cpk,pk->cp", references.leadfield_CP3, direction_P3).astype(np.float32)
    signal_CT = interference.at(references.info) + leadfield_CP @ source_PT.astype(np.float32)
    noise = SQUID["mag"] * np.sqrt(references.info["sfreq"] / 2)
    signal_CT += np.float32(noise) * rng.standard_normal(signal_CT.shape, dtype=np.float32)
    return np.asarray(signal_CT, np.float32)


def join_sensors(sensors: Sensors, references: Sensors) -> Sensors:
    """One machine of a helmet and its reference coils, which come last."""
    import mne

    n_channels = len(sensors.ch_names) + len(references.ch_names)
    blank_CT = [np.zeros((len(part.ch_names), 1)) for part in (sensors, references)]
    helmet, more = (
        mne.io.RawArray(blank, part.info.copy(), verbose="error")
        for blank, part in zip(blank_CT, (sensors, references), strict=True)
    )
    helmet.add_channels([more], force_update_info=True)
    return Sensors(
        info=helmet.info,
        ch_names=[*sensors.ch_names, *references.ch_names],
        ch_types=[*sensors.ch_types, *references.ch_types],
        position_A3=np.concatenate([sensors.position_A3, references.position_A3]),
        reference_CA=np.eye(n_channels),
        leadfield_CP3=np.concatenate([sensors.leadfield_CP3, references.leadfield_CP3]),
    )


def dipole_topography(sensors: Sensors, *, parcel: int) -> Array:
    """What the channels see of a unit dipole (1 A·m) in a parcel, in the tangential direction that they see best, (C,).

    A radial dipole is silent in a sphere, so the direction is the first right singular vector of the leadfield, of the
    magnetometers, which all systems have.
    """
    leadfield_C3 = sensors.leadfield_CP3[:, parcel]
    seen = leadfield_C3[np.isin(sensors.ch_types, "mag")]
    direction = np.linalg.svd(seen, full_matrices=False)[2][0]
    return np.asarray(leadfield_C3 @ (direction * np.sign(direction[np.abs(direction).argmax()])))


def dipole_course(n_times: int, sfreq: float, *, moment: float = 20e-9) -> Array:
    """Amplitude course of the planted dipole (A·m): a burst of a second every two seconds.

    At 31 Hz brains are quiet, so that what chance leaves of them in the fitted amplitude is small, and the score of
    alpha power does not see the dipole.

    Parameters
    ----------
    n_times : int
    sfreq : float
        Hz.
    moment : float
        Peak, A·m.
    """
    time_T = np.arange(n_times) / sfreq
    envelope_T = np.maximum(np.sin(np.pi * time_T), 0.0) ** 2
    return np.asarray(moment * envelope_T * np.sin(2 * np.pi * DIPOLE_HZ * time_T))


def strongest_parcel(sensors: Sensors) -> int:
    """The parcel whose dipole the magnetometers see best: where the planted dipole is put."""
    picks = np.isin(sensors.ch_types, "mag")
    seen_P = [
        np.linalg.svd(sensors.leadfield_CP3[picks, at], compute_uv=False)[0]
        for at in range(sensors.leadfield_CP3.shape[1])
    ]
    return int(np.argmax(seen_P))
