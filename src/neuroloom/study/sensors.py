"""Electrodes and MEG helmets around a spherical head, and what they see of dipoles in the parcels.

MNE's `colin27_1005` electrodes are given in the MNI space of the Colin27 head, so one rigid transform (from that head's
fiducials) brings electrodes and MNI coordinates into the head frame without any scaling. The sphere is the one that
fits all those electrodes; parcels that lie beyond 90 % of its innermost shell are drawn in along the radius.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from neuroloom.records import Array

MONTAGE = "colin27_1005"
ELECTRODES: dict[int, str] = {
    19: "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2",
    32: "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 TP9 CP5 CP1 CP2 CP6 TP10 P7 P3 Pz P4 P8 PO9 O1 Oz O2 "
    "PO10",
    64: "Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 T7 C5 C3 C1 Cz "
    "C2 C4 C6 T8 TP9 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 TP10 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2 "
    "Iz",
}
REFERENCES: dict[str, tuple[str, ...]] = {"average": (), "Cz": ("Cz",), "ears": ("A1", "A2")}
# Wide enough for the sphere of 98 mm and the gap of a dewar.
HELMET_RADIUS = 0.118
# Second names of electrodes, which would count twice in the fit.
_ALIASES = {"T3", "T4", "T5", "T6", "M1", "M2"}


@dataclass(frozen=True)
class Sensors:
    """The channels of one machine.

    Attributes
    ----------
    info : mne.Info
        Channels in the head frame (device and head frame are the same), with digitised points.
    ch_names, ch_types : list of str
    position_A3 : array
        All electrodes or coils, reference electrodes included, m in the head frame.
    reference_CA : array
        What the channels are of the potentials at all electrodes; identity for MEG.
    leadfield_CP3 : array
        V, T or T/m per A·m along x, y, z.
    """

    info: Any
    ch_names: list[str]
    ch_types: list[str]
    position_A3: Array
    reference_CA: Array
    leadfield_CP3: Array

    def scalp_map(self, *, centre: Array, width: float) -> Array:
        """A Gaussian patch of potential on the scalp (m) as the referenced channels see it, (C,)."""
        distance_A = np.linalg.norm(self.position_A3 - centre, axis=1)
        return self.reference_CA @ np.exp(-((distance_A / width) ** 2) / 2)


@dataclass(frozen=True)
class Head:
    """Sphere model, montage in the head frame and the rigid transform from MNI to the head frame (m)."""

    sphere: Any
    montage: Any
    mni_to_head_44: Array


@cache
def head() -> Head:
    """The head of all simulated people."""
    import mne

    montage = mne.channels.make_standard_montage(MONTAGE)
    to_head = mne.channels.compute_native_head_t(montage)
    info = mne.create_info([name for name in montage.ch_names if name not in _ALIASES], 1.0, "eeg")
    info.set_montage(montage)
    sphere = mne.make_sphere_model("auto", "auto", info, verbose="error")
    in_head = montage.copy()
    in_head.apply_trans(to_head)
    return Head(sphere, in_head, np.asarray(to_head["trans"]))


def source_positions(centroid_P3: Array) -> Array:
    """Centroids (P, 3) from mm MNI to m in the head frame, inside the innermost shell."""
    model = head()
    position_P3 = centroid_P3 / 1000 @ model.mni_to_head_44[:3, :3].T + model.mni_to_head_44[:3, 3]
    from_centre_P3 = position_P3 - model.sphere["r0"]
    radius_P = np.linalg.norm(from_centre_P3, axis=1)
    limit = 0.9 * model.sphere["layers"][0]["rad"]
    return model.sphere["r0"] + from_centre_P3 * np.minimum(1, limit / radius_P)[:, None]


def orientations(position_P3: Array, rng: np.random.Generator) -> Array:
    """Fixed unit orientations (P, 3), tilted 15 to 60 degrees away from the radius, so that MEG sees all of them."""
    radial_P3 = position_P3 - head().sphere["r0"]
    radial_P3 /= np.linalg.norm(radial_P3, axis=1, keepdims=True)
    random_P3 = rng.standard_normal(radial_P3.shape)
    tangent_P3 = random_P3 - (random_P3 * radial_P3).sum(axis=1, keepdims=True) * radial_P3
    tangent_P3 /= np.linalg.norm(tangent_P3, axis=1, keepdims=True)
    tilt_P1 = np.deg2rad(rng.uniform(15, 60, (len(radial_P3), 1)))
    return np.cos(tilt_P1) * radial_P3 + np.sin(tilt_P1) * tangent_P3


def eeg_sensors(
    *, n_eeg: int, reference: Literal["average", "Cz", "ears"], sfreq: float, line_freq: float, position_P3: Array
) -> Sensors:
    """An EEG cap recorded against a reference; an electrode that is the reference is not a channel.

    Parameters
    ----------
    n_eeg : int
        Key of `ELECTRODES`.
    reference : str
        Key of `REFERENCES`.
    sfreq, line_freq : float
        Hz.
    position_P3 : array
        Sources, m in the head frame.
    """
    import mne

    against = REFERENCES[reference]
    names = [name for name in ELECTRODES[n_eeg].split() if name not in against]
    everything = [*names, *against]
    full = mne.create_info(everything, sfreq, "eeg")
    full.set_montage(head().montage)
    info = mne.create_info(names, sfreq, "eeg")
    info.set_montage(_cap(everything))
    info["line_freq"] = line_freq
    electrodes = head().montage.get_positions()["ch_pos"]
    reference_CA = _rereference(len(names), len(against))
    return Sensors(
        info=info,
        ch_names=names,
        ch_types=["eeg"] * len(names),
        position_A3=np.array([electrodes[name] for name in everything]),
        reference_CA=reference_CA,
        leadfield_CP3=np.tensordot(reference_CA, free_leadfield(full, position_P3), axes=1),
    )


def with_ecg(sensors: Sensors) -> Sensors:
    """The same machine with an ECG channel, which comes last; the fields about electrodes stay as they are."""
    import mne

    names, types = [*sensors.ch_names, "ECG"], [*sensors.ch_types, "ecg"]
    info = mne.create_info(names, sensors.info["sfreq"], types)
    info.set_montage(sensors.info.get_montage())
    info["line_freq"] = sensors.info["line_freq"]
    return replace(sensors, info=info, ch_names=names, ch_types=types)


def meg_sensors(
    *, system: Literal["neuromag", "ctf"], n_places: int, sfreq: float, line_freq: float, position_P3: Array
) -> Sensors:
    """A MEG helmet: a magnetometer and two planar gradiometers, or one axial gradiometer, at each place.

    Parameters
    ----------
    system : str
        `neuromag` or `ctf`.
    n_places : int
        Places on the helmet.
    sfreq, line_freq : float
        Hz.
    position_P3 : array
        Sources, m in the head frame.
    """
    import mne
    from mne.io.constants import FIFF

    if system == "neuromag":
        kinds = [("mag", FIFF.FIFFV_COIL_VV_MAG_T3), ("grad", FIFF.FIFFV_COIL_VV_PLANAR_T1)]
        kinds.append(kinds[1])
    else:
        kinds = [("mag", FIFF.FIFFV_COIL_CTF_GRAD)]
    names = [f"MEG{place:03d}{part}" for place in range(1, n_places + 1) for part in range(1, len(kinds) + 1)]
    info = mne.create_info(names, sfreq, [kind for kind, _ in kinds] * n_places)
    locations = [location for place in _helmet(n_places) for location in _coils(*place, n_coils=len(kinds))]
    for channel, location, (_, coil) in zip(info["chs"], locations, kinds * n_places, strict=True):
        channel["loc"][:] = location
        channel["coil_type"] = coil
    info["dev_head_t"] = mne.Transform("meg", "head", np.eye(4))
    info["line_freq"] = line_freq
    _digitise(info)
    return Sensors(
        info=info,
        ch_names=names,
        ch_types=info.get_channel_types(),
        position_A3=np.array(locations)[:, :3],
        reference_CA=np.eye(len(names)),
        leadfield_CP3=free_leadfield(info, position_P3),
    )


def free_leadfield(info: Any, position_P3: Array) -> Array:
    """What each channel sees of unit dipoles along x, y and z at each position, (C, P, 3), in SI units."""
    import mne

    upwards_P3 = np.tile([0.0, 0.0, 1.0], (len(position_P3), 1))
    space = mne.setup_volume_source_space(pos={"rr": position_P3, "nn": upwards_P3}, sphere_units="m", verbose="error")
    # Sources are already in the head frame; MNE insists on a transform.
    same = mne.Transform("head", "mri", np.eye(4))
    solution = mne.make_forward_solution(info, trans=same, src=space, bem=head().sphere, mindist=0.0, verbose="error")
    if solution["nsource"] != len(position_P3):
        raise ValueError(f"{len(position_P3) - solution['nsource']} sources lie outside the innermost shell")
    return solution["sol"]["data"].reshape(solution["nchan"], -1, 3)


def _rereference(n_channels: int, n_references: int) -> Array:
    """Channels less the mean of the reference electrodes, which come last; of all channels where there are none."""
    mean_A = np.full(n_channels, 1 / n_channels)
    if n_references:
        mean_A = np.repeat([0.0, 1 / n_references], [n_channels, n_references])
    return np.eye(n_channels, len(mean_A)) - mean_A


def _cap(names: list[str]) -> Any:
    """Montage of some electrodes of the head, with its fiducials."""
    import mne

    places = head().montage.get_positions()
    chosen = {name: places["ch_pos"][name] for name in names}
    fiducials = {key: places[key] for key in ("nasion", "lpa", "rpa")}
    return mne.channels.make_dig_montage(chosen, **fiducials, coord_frame="head")


def _digitise(info: Any) -> None:
    """Fiducials and head shape points, as a digitiser gives them before a MEG recording."""
    import mne

    places = head().montage.get_positions()
    shape = np.array([places["ch_pos"][name] for name in ELECTRODES[64].split()])
    fiducials = {key: places[key] for key in ("nasion", "lpa", "rpa")}
    montage = mne.channels.make_dig_montage(hsp=shape, **fiducials, coord_frame="head")
    info.set_montage(montage)


def _helmet(n_places: int) -> list[tuple[Array, Array, Array, Array]]:
    """Places on a cap around the head's centre: position and right-handed axes, the last one pointing outwards.

    The cap is a Fibonacci spiral that leaves the face free because it is tilted backwards.
    """
    height = 1 - (np.arange(n_places) + 0.5) / n_places * 1.25
    turn = np.arange(n_places) * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    normal = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
    tilt = np.deg2rad(25)
    normal = normal @ np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    first = np.cross([0.0, 1.0, 0.0], normal)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normal, first)
    position = head().sphere["r0"] + HELMET_RADIUS * normal
    return list(zip(position, first, second, normal, strict=True))


def _coils(position: Array, first: Array, second: Array, normal: Array, *, n_coils: int) -> list[Array]:
    """MNE's 12 numbers of each coil of a place; the second planar gradiometer is turned by 90 degrees."""
    plain = np.concatenate([position, first, second, normal])
    turned = np.concatenate([position, second, -first, normal])
    return [plain, plain, turned][:n_coils]
