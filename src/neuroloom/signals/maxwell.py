"""Signal space separation as a matrix, its temporal extension in pieces, and what it says about single channels.

Fields from inside the helmet and from outside of it are told apart by their expansions into spherical harmonics (Taulu
and Kajola 2005, J. Appl. Phys. 97:124905), which MNE computes. Without the temporal extension this is linear in the
channels, so that filtering unit impulses yields its matrix once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.channels import HEAD_CENTRE

INT_ORDERS, EXT_ORDER = (8, 7, 6, 5), 3
FEWEST_COILS = 75  # one and a half for each harmonic of the lowest order
COILS_PER_HARMONIC = 1.2  # of those that regularisation leaves
MAX_NOISE_GAIN = 3.0  # of the noise of coils of one type; separation that multiplies it by more does harm
LOW, FEWEST_LOW = 15, 12  # inner harmonics to order 3, and how many of them regularisation must leave
MIN_COIL_DISTANCE = 0.08  # m; brains reach this far from the origin of the expansion
MAX_COIL_DISTANCE = 0.25


@dataclass(frozen=True)
class Expansion:
    """How far the fields of an array are expanded, and what the coils see of the inner part.

    Attributes
    ----------
    picks : int array
        Coils of the helmet, bad ones included.
    is_good : bool array
        Which of them are good.
    origin : tuple of float
        m, in the frame of the coils.
    int_order, ext_order : int
        Of the fields from inside and outside.
    inner_CC, outer_CC : array
        Parts of the field from inside and outside at all coils, by signal of the good ones.
    note : str
        In words.
    """

    picks: Array
    is_good: Array
    origin: tuple[float, float, float]
    int_order: int
    inner_CC: Array
    outer_CC: Array
    note: str
    ext_order: int = EXT_ORDER

    @property
    def redundancy(self) -> float:
        """Good coils for each harmonic: the trace of what reproduces the harmonics is their number."""
        n_good = self.inner_CC.shape[1]
        places = np.flatnonzero(self.is_good)
        return float(n_good / np.trace((self.inner_CC + self.outer_CC)[places]))

    def options(self) -> dict[str, Any]:
        """For MNE's functions."""
        return expansion_options(self.origin, self.int_order)


def expansion_options(origin: tuple[float, float, float], int_order: int) -> dict[str, Any]:
    """For MNE's functions; regularisation depends on the geometry alone."""
    orders = {"int_order": int_order, "ext_order": EXT_ORDER}
    return {"origin": origin, **orders, "regularize": "in", "coord_frame": "head", "verbose": "error"}


def coil_info(recording: Recording, picks: Array, bads: Collection[str] = ()) -> Any:
    """`mne.Info` of MEG and reference coils.

    Locations are in the head frame already (an empty room's stay in that of the device), so the transform from device
    to head is the identity.
    """
    import mne
    from mne.io.constants import FIFF

    names = [recording.ch_names[at] for at in picks]
    info = mne.create_info(names, recording.sfreq, [recording.ch_types[at] for at in picks])
    for channel, at in zip(info["chs"], picks, strict=True):
        channel["loc"][:] = recording.loc_C12[at]
        channel["coil_type"], channel["coord_frame"] = int(recording.coil_C[at]), FIFF.FIFFV_COORD_DEVICE
    info["dev_head_t"] = mne.Transform("meg", "head", np.eye(4))
    info["bads"] = [name for name in names if name in bads]
    return info


def unknown_coils(recording: Recording, picks: Array) -> list[str]:
    """Channels without a place, axes or coil type."""
    lost = np.isnan(recording.loc_C12[picks]).any(axis=1) | (recording.coil_C[picks] == 0)
    lost |= ~np.any(recording.loc_C12[picks, 3:], axis=1)
    return [recording.ch_names[at] for at in picks[lost]]


def expansion_origin(position_C3: Array) -> tuple[float, float, float]:
    """Centre of the head, or, for coils that do not surround it (the frame of a device), of a sphere through them."""
    distance_C = np.linalg.norm(position_C3 - np.array(HEAD_CENTRE), axis=1)
    if distance_C.min() > MIN_COIL_DISTANCE and np.median(distance_C) < MAX_COIL_DISTANCE:
        return HEAD_CENTRE
    design = np.column_stack([2 * position_C3, np.ones(len(position_C3))])
    x, y, z = np.linalg.lstsq(design, (position_C3**2).sum(axis=1), rcond=None)[0][:3]
    return float(x), float(y), float(z)


def plan_expansion(
    recording: Recording, bads: Collection[str], *, origin: tuple[float, float, float] | None = None
) -> tuple[Expansion | None, str]:
    """The highest internal order that the good coils determine, or None and why there is none.

    There must be more coils than harmonics, and low inner harmonics must look unlike outer ones to the coils: axial
    gradiometers on a sphere see equal patterns of both, and what is then left of the inner ones is not the brain's.
    Magnetometers alone, at nearly one distance, tell them apart by small differences only, which costs noise.
    """
    picks = recording.picks("mag", "grad")
    is_good = np.array([recording.ch_names[at] not in bads for at in picks], bool)
    n_good = int(is_good.sum())
    if n_good < FEWEST_COILS:
        return None, f"no signal space separation: {n_good} good coils, {FEWEST_COILS} needed"
    if lost := unknown_coils(recording, picks):
        return None, f"no signal space separation: no geometry of {', '.join(lost[:5])}"
    info = coil_info(recording, picks, bads)
    centre = origin or expansion_origin(recording.position_C3[picks].astype(float))
    refusal = ""
    for int_order in INT_ORDERS:
        parts, refusal = _parts(info, centre, int_order, n_good)
        if parts is not None:
            shown = ", ".join(f"{1000 * at:.0f}" for at in centre)
            orders = f"internal order {int_order}, external {EXT_ORDER}"
            note = f"signal space separation with {n_good} good coils: {orders}, origin ({shown}) mm"
            return Expansion(picks, is_good, centre, int_order, *parts, note), note
    return None, f"no signal space separation: {refusal}"


def _parts(
    info: Any, origin: tuple[float, float, float], int_order: int, n_good: int
) -> tuple[tuple[Array, Array] | None, str]:
    """Matrices of the inner and outer part, or None and what speaks against this order.

    MNE refuses condition numbers of 1000.
    """
    import mne

    try:
        basis = mne.preprocessing.compute_maxwell_basis(info, **expansion_options(origin, int_order))
    except (RuntimeError, ValueError) as error:
        return None, str(error).splitlines()[0]
    seen_CH, inverse_HC, moments, n_inner = basis
    n_low = int((moments[:n_inner] < LOW).sum())
    if n_low < FEWEST_LOW:
        return None, f"{LOW - n_low} of {LOW} low inner fields look like outer ones to these coils"
    if n_good < COILS_PER_HARMONIC * seen_CH.shape[1]:
        return None, f"{n_good} good coils for {seen_CH.shape[1]} harmonics"
    inner_CC, outer_CC = seen_CH[:, :n_inner] @ inverse_HC[:n_inner], seen_CH[:, n_inner:] @ inverse_HC[n_inner:]
    gain = noise_gain(info, inner_CC)
    if gain > MAX_NOISE_GAIN:
        return None, f"the noise of the coils would be {gain:.1f} times as large"
    return (inner_CC, outer_CC), ""


def noise_gain(info: Any, inner_CC: Array) -> float:
    """Noise after separation over noise before, median coil of the type that suffers most."""
    kinds = np.array(info.get_channel_types())
    good_kinds = kinds[[name not in info["bads"] for name in info["ch_names"]]]
    return max(
        float(np.median(np.linalg.norm(inner_CC[kinds == kind][:, good_kinds == kind], axis=1)))
        for kind in set(good_kinds)
    )


def maxwell_matrix(
    recording: Recording,
    bads: Collection[str],
    *,
    origin: tuple[float, float, float] | None = None,
    calibration: Path | None = None,
    cross_talk: Path | None = None,
    plan: Expansion | None = None,
) -> tuple[Array | None, str]:
    """Signal space separation of the helmet's coils as a matrix over all channels.

    Parameters
    ----------
    recording : Recording
        For coils and names; its signal is not looked at.
    bads : collection of str
        Channels that are not used; they are given the values of the field that the others saw.
    origin : tuple of float, optional
        m in the frame of the coils; see `expansion_origin`.
    calibration, cross_talk : Path, optional
        Files of the site's fine calibration and cross-talk, of Neuromag systems.
    plan : Expansion, optional
        Where it is known already.

    Returns
    -------
    matrix_CC : float64 array or None
        None where the array does not allow it.
    note : str
        What was done, or why not.
    """
    note = plan.note if plan else ""
    if plan is None:
        plan, note = plan_expansion(recording, bads, origin=origin)
    if plan is None:
        return None, note
    files = {name: path for name, path in (("calibration", calibration), ("cross_talk", cross_talk)) if path}
    inner_CC = _filter_impulses(recording, plan, bads, files) if files else plan.inner_CC
    matrix_CC = np.eye(len(recording.ch_names))
    matrix_CC[np.ix_(plan.picks, plan.picks)] = 0.0
    matrix_CC[np.ix_(plan.picks, plan.picks[plan.is_good])] = inner_CC
    return matrix_CC, f"{note}{', with ' if files else ''}{' and '.join(files)}"


def _filter_impulses(recording: Recording, plan: Expansion, bads: Collection[str], files: dict[str, Path]) -> Array:
    """MNE's Maxwell filter of unit impulses in the good coils: a basis alone has no cross-talk."""
    import mne

    info = calibrated_info(recording, plan.picks, bads, files.get("calibration"))
    impulses = np.eye(len(plan.picks))[:, plan.is_good]
    raw = mne.io.RawArray(impulses, info, verbose="error")
    paths = {name: str(path) for name, path in files.items()}
    return np.asarray(mne.preprocessing.maxwell_filter(raw, **paths, **plan.options()).get_data())


def calibrated_info(recording: Recording, picks: Array, bads: Collection[str], calibration: Path | None) -> Any:
    """`coil_info`; with a calibration, whose coils are in the frame of the device, turned back into that frame.

    The rigid transform is the one that brings the calibration's coils onto ours (Kabsch 1976).
    """
    import mne

    info = coil_info(recording, picks, bads)
    if calibration is None:
        return info
    table = mne.preprocessing.read_fine_calibration(calibration)
    places = dict(zip(table["ch_names"], table["locs"], strict=True))
    key = {name: name if name in places else name.replace(" ", "") for name in info["ch_names"]}
    if lost := [name for name in info["ch_names"] if key[name] not in places]:
        raise ValueError(f"{calibration}: no coil {', '.join(lost[:5])}; give the file of the machine that recorded")
    device_C3 = np.array([places[key[name]][:3] for name in info["ch_names"]])
    trans = _rigid(device_C3, recording.position_C3[picks].astype(float))
    info["dev_head_t"] = mne.Transform("meg", "head", trans)
    for channel in info["chs"]:
        turned = channel["loc"][:12].reshape(4, 3) @ trans[:3, :3]
        turned[0] = (channel["loc"][:3] - trans[:3, 3]) @ trans[:3, :3]
        channel["loc"][:] = turned.ravel()
    return info


def _rigid(from_C3: Array, to_C3: Array) -> Array:
    """Rotation and shift, 4 x 4."""
    middle, target = from_C3.mean(axis=0), to_C3.mean(axis=0)
    left, _, right = np.linalg.svd((to_C3 - target).T @ (from_C3 - middle))
    trans = np.eye(4)
    trans[:3, :3] = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    trans[:3, 3] = target - trans[:3, :3] @ middle
    return trans


@dataclass(frozen=True)
class TsssCleaned:
    """Temporal signal space separation, computed where it is read: `cleaned[:, a:b]` equals that slice of the whole.

    What inner and outer fields have in common over time, in pieces that start at multiples of `st_duration`, is of
    neither (Taulu and Simola 2006, Phys. Med. Biol. 51:1759); it is projected out. The last piece is between one and
    two times as long. Head movement is not followed: that needs continuous head positions, which would be a transform
    for each piece.

    Attributes
    ----------
    source : array-like
        Sliced as `source[:, a:b]`, all channels of the recording.
    recording : Recording
        For the rate.
    plan : Expansion
    st_duration : float
        s.
    st_correlation : float
        From which a common component is taken out.
    rebuild : bool
        Whether coils are given the inner field; else the good ones only lose what is common.
    """

    source: Any
    recording: Recording
    plan: Expansion
    st_duration: float = 10.0
    st_correlation: float = 0.98
    rebuild: bool = True
    _kept: dict[int, Array] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and samples."""
        return int(self.source.shape[0]), int(self.source.shape[1])

    @property
    def dtype(self) -> np.dtype:
        """Of what a slice returns."""
        return np.dtype(np.float32)

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        """Channels and samples by two slices, the second without a step."""
        rows, columns = key
        start, stop, step = columns.indices(self.shape[1])
        if step != 1:
            raise IndexError("pieces are read without a step")
        if stop <= start:
            return np.zeros((self.shape[0], 0), np.float32)[rows]
        pieces = range(self._piece_of(start), self._piece_of(stop - 1) + 1)
        whole_CT = np.concatenate([self._piece(at) for at in pieces], axis=1)
        first = pieces[0] * self._length
        return whole_CT[rows, start - first : stop - first]

    @property
    def _length(self) -> int:
        return min(round(self.st_duration * self.recording.sfreq), self.shape[1])

    def _piece_of(self, sample: int) -> int:
        return min(sample // self._length, max(self.shape[1] // self._length, 1) - 1)

    def _piece(self, at: int) -> Array:
        """One cleaned piece; the latest one is kept, because readers go on where they stopped."""
        if at not in self._kept:
            start = at * self._length
            is_last = self._piece_of(self.shape[1] - 1) == at
            stop = self.shape[1] if is_last else start + self._length
            self._kept.clear()
            self._kept[at] = self._clean(np.asarray(self.source[:, start:stop], np.float32))
        return self._kept[at]

    def _clean(self, piece_CT: Array) -> Array:
        plan = self.plan
        good_CT = piece_CT[plan.picks[plan.is_good]].astype(np.float64)
        inner_CT = plan.inner_CC @ good_CT
        left_CT = good_CT - inner_CT[plan.is_good] - (plan.outer_CC @ good_CT)[plan.is_good]
        common_TH = common_courses(inner_CT[plan.is_good], left_CT, self.st_correlation)
        part_CT, picks = (inner_CT, plan.picks) if self.rebuild else (good_CT, plan.picks[plan.is_good])
        cleaned_CT = piece_CT.copy()
        cleaned_CT[picks] = part_CT - (part_CT @ common_TH) @ common_TH.T
        return cleaned_CT


def common_courses(inner_CT: Array, left_CT: Array, correlation: float) -> Array:
    """Orthonormal time courses (T, H) of what neither side explains that the inner part has too.

    They are the principal vectors of the two spaces of courses whose cosines reach the correlation (Björck and Golub
    1973, Math. Comp. 27:579). What is left over stands for the outer side: a field from nearby is partly of both.
    """
    from scipy.linalg import orth

    inner_TH, left_TH = (orth((part_CT / max(np.linalg.norm(part_CT), 1e-300)).T) for part_CT in (inner_CT, left_CT))
    _, cosine_H, turn_HH = np.linalg.svd(inner_TH.T @ left_TH, full_matrices=False)
    return left_TH @ turn_HH[cosine_H >= correlation].T


def tsss(
    signal: Any,
    recording: Recording,
    bads: Collection[str],
    *,
    st_duration: float = 10.0,
    st_correlation: float = 0.98,
    origin: tuple[float, float, float] | None = None,
) -> TsssCleaned:
    """Temporal signal space separation of a signal that is read in slices.

    Parameters
    ----------
    signal : array-like
        (C, T), sliced as `signal[:, a:b]`; all channels of the recording.
    recording : Recording
        For coils, names and rate.
    bads : collection of str
        Channels that are rebuilt.
    st_duration, st_correlation : float
        Length of the pieces, s, and from which correlation a component is of neither side.
    origin : tuple of float, optional
        m.

    Raises
    ------
    ValueError
        If the array does not allow signal space separation.
    """
    plan, note = plan_expansion(recording, bads, origin=origin)
    if plan is None:
        raise ValueError(note)
    return TsssCleaned(signal, recording, plan, st_duration, st_correlation)
