"""What is done to volumes before parcels: slice timing, rigid realignment, smoothing; each by itself, each optional."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from neuroloom.bold.confounds import MOTION, framewise_displacement, has_motion, with_columns
from neuroloom.bold.realign import estimate_motion, hindrance, resample_moved
from neuroloom.bold.slice_timing import correct_slice_timing
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Volumes


@dataclass(frozen=True)
class Prepared:
    """Volumes after the steps, and what was done.

    Attributes
    ----------
    volumes : Volumes
        With the motion parameters that were found, and notes.
    motion : str
        `given`, `estimated` (and realigned) or `unknown`.
    slice_timing : str
        `start`, `middle` or `none`.
    smooth_mm : float
        FWHM; NaN where not smoothed.
    start_time : float
        s from the start of a volume to the moment that its value stands for.
    """

    volumes: Volumes
    motion: str
    slice_timing: str
    smooth_mm: float
    start_time: float


def prepare_volumes(volumes: Volumes, *, config: BoldConfig, file: str = "BOLD volumes") -> Prepared:
    """Correct slice timing, realign and smooth a series, as far as the config wants and the series allows.

    Motion is estimated on the series as it was measured; then slice timing is corrected over time, and last the volumes
    are moved, once. The order is fMRIPrep's (Esteban et al. 2019, Nature Methods 16, 111).

    Raises
    ------
    UnusableRecording
        If `realign` is always, and the series cannot be realigned (`realign.hindrance`).
    """
    wanted = config.realign == "always" or (config.realign == "auto" and not has_motion(volumes.confounds))
    motion_V6, notes = _motion(volumes, config, file) if wanted else (None, [])
    bold_XYZV, moment, timing_notes = _slices_at_one_moment(volumes, config)
    confounds, motion = volumes.confounds, "given" if has_motion(volumes.confounds) else "unknown"
    if motion_V6 is not None:
        bold_XYZV, motion = resample_moved(bold_XYZV, volumes.affine_44, motion_V6), "estimated"
        displacement_V = framewise_displacement(motion_V6)[:, None]
        found_VM = np.concatenate([motion_V6, displacement_V], axis=1)
        confounds = with_columns(confounds, [*MOTION, "framewise_displacement"], found_VM)
    if config.smooth_mm is not None:
        bold_XYZV = smooth(bold_XYZV, volumes.affine_44, fwhm=config.smooth_mm)
    all_notes = (*volumes.notes, *notes, *timing_notes)
    return Prepared(
        volumes=replace(volumes, bold_XYZV=bold_XYZV, confounds=confounds, notes=all_notes, slice_time_Z=None),
        motion=motion,
        slice_timing="none" if moment is None else config.slice_timing,
        smooth_mm=np.nan if config.smooth_mm is None else config.smooth_mm,
        start_time=moment or 0.0,
    )


def _motion(volumes: Volumes, config: BoldConfig, file: str) -> tuple[Array | None, list[str]]:
    """Motion parameters (V, 6), or None with a note where the series does not allow to find them."""
    filled_XYZV = np.nan_to_num(volumes.bold_XYZV, posinf=0, neginf=0)
    reason = hindrance(filled_XYZV, volumes.affine_44)
    if reason is None:
        motion_V6, n_lost = estimate_motion(filled_XYZV, volumes.affine_44)
        return motion_V6, [f"motion of {n_lost} volumes did not converge"] if n_lost else []
    if config.realign == "always":
        remedy = "Set preprocess.bold.realign: auto, or leave the recording out"
        raise UnusableRecording(file, f"cannot be realigned: {reason}", remedy)
    return None, [f"not realigned: {reason}"]


def _slices_at_one_moment(volumes: Volumes, config: BoldConfig) -> tuple[Array, float | None, list[str]]:
    """Series after slice timing, the moment (s) that it now stands for, and a note where it was left alone."""
    times_Z = volumes.slice_time_Z
    if config.slice_timing == "none" or times_Z is None:
        return volumes.bold_XYZV, None, []
    if volumes.bold_XYZV.shape[3] < 4:
        return volumes.bold_XYZV, None, ["slice timing not corrected: a spline needs 4 volumes"]
    moment = 0.0 if config.slice_timing == "start" else volumes.t_r / 2
    corrected_XYZV = correct_slice_timing(
        volumes.bold_XYZV, slice_time_Z=times_Z, axis=volumes.slice_axis, t_r=volumes.t_r, moment=moment
    )
    return corrected_XYZV, moment, []


def smooth(bold_XYZV: Array, affine_44: Array, *, fwhm: float) -> Array:
    """Gaussian smoothing by `nilearn.image.smooth_img`; a voxel that is not finite counts as zero and stays NaN.

    Parameters
    ----------
    fwhm : float
        mm.
    """
    import nibabel
    from nilearn.image import smooth_img

    lost_XYZ = ~np.isfinite(bold_XYZV).all(axis=3)
    filled_XYZV = np.where(lost_XYZ[..., None], 0, bold_XYZV).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smoothed_XYZV = smooth_img(nibabel.Nifti1Image(filled_XYZV, affine_44), fwhm).get_fdata(dtype=np.float32)
    return np.where(lost_XYZ[..., None], np.nan, smoothed_XYZV).astype(np.float32)
