"""Slice timing: slices of one volume are measured one after the other; their series are brought to one moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.bold.companions import entities
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array

_AXES = {"i": 0, "j": 1, "k": 2}
# Entities of a name that say that the slices of the scanner are no longer the slices of the image.
_RESAMPLED = {"space", "desc", "res"}


def slice_timing(
    path: Path, sidecar: dict[str, Any], *, shape: tuple[int, ...], t_r: float
) -> tuple[Array | None, int, list[str]]:
    """When each slice was measured, from the sidecar.

    Parameters
    ----------
    path : Path
        Of the image; named in errors.
    sidecar : dict
        `SliceTiming` (s), `SliceEncodingDirection` (default k; `k-` counts from the other end) and
        `SliceTimingCorrected`.
    shape : tuple of int
        Of the image.
    t_r : float
        s.

    Returns
    -------
    slice_time_Z : array or None
        s from the start of a volume, by index along the axis; None where nobody says it or it no longer holds.
    axis : int
    notes : list of str
        Why times that are given are not used.

    Raises
    ------
    UnusableRecording
        If the times contradict the image or its repetition time.
    """
    if "SliceTiming" not in sidecar:
        return None, 2, []
    if sidecar.get("SliceTimingCorrected"):
        return None, 2, ["slice timing is corrected in the file already"]
    if found := sorted(_RESAMPLED & entities(path).keys()):
        return None, 2, [f"slice times ignored: the name ({', '.join(found)}) says that the image was resampled"]
    direction = str(sidecar.get("SliceEncodingDirection", "k"))
    axis = _AXES.get(direction[:1], -1)
    if axis < 0:
        reason = f"SliceEncodingDirection {direction!r} in the sidecar"
        raise UnusableRecording(path, reason, "Correct the sidecar: i, j or k, with - for the other end")
    times = np.array(sidecar["SliceTiming"], dtype=object).ravel()
    if not all(isinstance(time, int | float) for time in times) or len(times) != shape[axis]:
        reason = f"SliceTiming has {len(times)} entries, the image {shape[axis]} slices along {direction}"
        raise UnusableRecording(path, reason, "Correct SliceTiming or SliceEncodingDirection in the sidecar")
    slice_time_Z = times.astype(float)
    if not (slice_time_Z.min() >= 0 and slice_time_Z.max() <= t_r):
        reason = (
            f"SliceTiming from {slice_time_Z.min():g} to {slice_time_Z.max():g} s, the repetition time is {t_r:g} s"
        )
        raise UnusableRecording(path, reason, "Correct the sidecar: BIDS counts in s from the start of a volume")
    return (slice_time_Z[::-1] if direction.endswith("-") else slice_time_Z), axis, []


def correct_slice_timing(bold_XYZV: Array, *, slice_time_Z: Array, axis: int, t_r: float, moment: float) -> Array:
    """Series of each slice at one moment of every volume, by cubic splines over time.

    Parameters
    ----------
    bold_XYZV : array
    slice_time_Z : array
        s from the start of a volume, by index along `axis`.
    axis : int
    t_r : float
        s.
    moment : float
        s from the start of a volume. Where it lies before the first or after the last time that a slice was measured,
        the nearest measured value stands.

    Returns
    -------
    float32 array
    """
    from scipy.interpolate import CubicSpline

    corrected_XYZV = np.array(bold_XYZV, np.float32)
    start_V = np.arange(bold_XYZV.shape[3]) * t_r
    for time in np.unique(slice_time_Z[slice_time_Z != moment]):
        slab = [slice(None)] * 3
        at: list[Any] = [*slab]
        at[axis] = np.flatnonzero(slice_time_Z == time)
        series_XV = corrected_XYZV[tuple(at)].reshape(-1, len(start_V))
        finite = np.isfinite(series_XV).all(axis=1)
        wanted_V = np.clip(start_V + moment, start_V[0] + time, start_V[-1] + time)
        series_XV[finite] = CubicSpline(start_V + time, series_XV[finite], axis=1)(wanted_V)
        corrected_XYZV[tuple(at)] = series_XV.reshape(corrected_XYZV[tuple(at)].shape)
    return corrected_XYZV
