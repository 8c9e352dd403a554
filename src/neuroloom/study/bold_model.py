"""From band power to BOLD: the haemodynamic response, painted into a head that moves, with drift and noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from neuroloom.bold.confounds import MOTION as MOTION
from neuroloom.bold.hrf import hrf_kernel, read_at
from neuroloom.bold.parcels import Parcellation, template_parcels
from neuroloom.bold.realign import grid_centre, resample_moved, rigid_matrix
from neuroloom.config import ConfigError
from neuroloom.records import Array
from neuroloom.study.sources import GRID_RATE

# mm on a head of 50 mm radius per unit of each motion parameter.
_ARC_MM = np.repeat([1.0, 50.0], 3)
SIGNAL_SHARE = 0.02
DRIFT_SHARE = 0.01
# nilearn bundles the symmetric ICBM152 template of 2009, release a.
SPACE = "MNI152NLin2009aSym"
_ANATOMY_MM = 2
# What a voxel holds is blurred by its own size, so that a moved head can be interpolated; and the rim of the head
# has to stay on the grid while it moves.
_BLUR = 0.8
_RIM_VOXELS = 2


@dataclass(frozen=True)
class Anatomy:
    """The head at rest, finer than the scanner's grid.

    Attributes
    ----------
    spline_XYZ : float32 array
        Cubic spline coefficients of the baseline intensity, blurred as a voxel blurs it.
    affine_44 : array
        Its voxel to mm MNI.
    parcels : Parcellation
    """

    spline_XYZ: Array
    affine_44: Array
    parcels: Parcellation


@dataclass(frozen=True)
class VoxelGrid:
    """The voxel grid of the scanner with the head at rest.

    Attributes
    ----------
    brain_XYZ : bool array
        Brain mask.
    field_XYZ : bool array
        Voxels that the head may reach: the brain and a rim around it.
    affine_44 : array
        Voxel to mm MNI.
    anatomy : Anatomy
        From which the head in another place is sampled.
    index_X3 : int array
        Of the voxels of the field.
    labels_X : int array
        Parcel of each voxel of the field, 0 outside of the parcels.
    baseline_X : float32 array
        Mean intensity.
    white_X, csf_X : bool arrays
        Deep in white matter; neither grey nor white.
    position_X3 : float32 array
        mm, divided by 100.
    """

    brain_XYZ: Array
    field_XYZ: Array
    affine_44: Array
    anatomy: Anatomy
    index_X3: Array
    labels_X: Array
    baseline_X: Array
    white_X: Array
    csf_X: Array
    position_X3: Array


@dataclass(frozen=True)
class Scan:
    """One BOLD run.

    Attributes
    ----------
    bold_XYZV : int16 array
        Scanner units, 0 beyond the rim of the head.
    motion_V6 : array
        `MOTION`, mm and rad, as in `bold.realign.rigid_matrix`; zero at the first volume.
    confounds : dict
        Mean signals of the whole brain, white matter and CSF, (V,) each.
    """

    bold_XYZV: Array
    motion_V6: Array
    confounds: dict[str, Array]


def bold_response(drive_PG: Array, *, t_r: float, n_volumes: int, hrf_lag: float, start: float = 0.0) -> Array:
    """Parcel BOLD, (P, V), standardised: the drive convolved with nilearn's Glover response and read once per TR.

    Before the recording the drive is taken to be at its mean, so the truth follows from what is stored.

    Parameters
    ----------
    drive_PG : array
        At `GRID_RATE`, mean 0.
    t_r, hrf_lag : float
        s; the lag shifts the onset of the response.
    n_volumes : int
    start : float
        Beginning of the first volume on the clock of the drive, s.
    """
    timing = {"t_r": t_r, "n_volumes": n_volumes, "hrf_lag": hrf_lag, "start": start}
    return slice_responses(drive_PG, slice_time_Z=np.zeros(1), **timing)[0]  # type: ignore[arg-type]


def slice_responses(
    drive_PG: Array, *, t_r: float, n_volumes: int, hrf_lag: float, slice_time_Z: Array, start: float = 0.0
) -> Array:
    """Parcel BOLD as each slice reads it, (Z, P, V); standardised as it is at the start of the volumes.

    Parameters are those of `bold_response`; `slice_time_Z` (s) counts from the start of a volume.
    """
    from scipy.signal import oaconvolve

    response_PG = oaconvolve(drive_PG, hrf_kernel(GRID_RATE, hrf_lag)[None], axes=1)[:, : drive_PG.shape[1]]
    start_V = start + np.arange(n_volumes) * t_r
    bold_PV = read_at(response_PG, rate=GRID_RATE, time_V=start_V)
    mean_P1, sd_P1 = bold_PV.mean(axis=1, keepdims=True), bold_PV.std(axis=1, keepdims=True)
    times, which_Z = np.unique(slice_time_Z, return_inverse=True)
    read = [(read_at(response_PG, rate=GRID_RATE, time_V=start_V + time) - mean_P1) / sd_P1 for time in times]
    return np.stack(read)[which_Z]


def slice_times(n_slices: int, t_r: float, order: Literal["at_once", "ascending", "interleaved"]) -> Array:
    """When each slice is measured, s from the start of a volume; interleaved: every other one, then those between."""
    if order == "at_once":
        return np.zeros(n_slices)
    rank = np.arange(n_slices)
    if order == "interleaved":
        rank[np.concatenate([np.arange(0, n_slices, 2), np.arange(1, n_slices, 2)])] = np.arange(n_slices)
    return np.asarray(np.round(rank * t_r / n_slices, 4))


@lru_cache(maxsize=4)
def voxel_grid(voxel_mm: float, n_parcels: int) -> VoxelGrid:
    """The template brain and its parcels on an MNI-aligned grid.

    Raises
    ------
    ConfigError
        If a parcel has no voxel of this size.
    """
    from nilearn import datasets, image
    from scipy.ndimage import binary_dilation

    template = image.resample_img(
        datasets.load_mni152_template(resolution=1), np.eye(3) * voxel_mm, interpolation="linear"
    )
    tissues = [datasets.load_mni152_gm_template(resolution=1), datasets.load_mni152_wm_template(resolution=1)]
    grey_XYZ, white_XYZ = (
        image.resample_to_img(tissue, template, interpolation="linear").get_fdata() for tissue in tissues
    )
    parcels = template_parcels(n_parcels)
    anatomy = _anatomy(parcels, _BLUR * voxel_mm)
    labels_XYZ = _labels_at(anatomy, np.argwhere(np.ones(template.shape)), template.affine, np.eye(4))
    labels_XYZ = labels_XYZ.reshape(template.shape)
    brain_XYZ = (template.get_fdata() > 0.2) | (labels_XYZ > 0)
    missing = set(range(1, n_parcels + 1)) - set(labels_XYZ[brain_XYZ].tolist())
    if missing:
        raise ConfigError(
            f"simulate: no voxel of {voxel_mm:g} mm in {len(missing)} of {n_parcels} parcels; lower voxel_mm"
        )
    field_XYZ = binary_dilation(brain_XYZ, iterations=_RIM_VOXELS)
    index_X3 = np.argwhere(field_XYZ)
    position_X3 = index_X3 @ template.affine[:3, :3].T + template.affine[:3, 3]
    return VoxelGrid(
        brain_XYZ=brain_XYZ,
        field_XYZ=field_XYZ,
        affine_44=template.affine,
        anatomy=anatomy,
        index_X3=index_X3,
        labels_X=labels_XYZ[field_XYZ],
        baseline_X=_baseline_at(anatomy, index_X3, template.affine, np.eye(4)),
        white_X=((white_XYZ > 0.8) & brain_XYZ)[field_XYZ],
        csf_X=((grey_XYZ + white_XYZ < 0.3) & brain_XYZ & (labels_XYZ == 0))[field_XYZ],
        position_X3=(position_X3 / 100).astype(np.float32),
    )


def _anatomy(parcels: Parcellation, fwhm: float) -> Anatomy:
    """Baseline intensity: T2*-weighted, so that grey matter is brighter than white, and CSF brightest."""
    from nilearn import datasets, image
    from scipy.ndimage import spline_filter

    brain = datasets.load_mni152_template(resolution=_ANATOMY_MM)
    grey_XYZ, white_XYZ = (
        load(resolution=_ANATOMY_MM).get_fdata()
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    weight_XYZ = 1250 - 350 * white_XYZ + 150 * np.clip(1 - grey_XYZ - white_XYZ, 0, 1)
    head = image.new_img_like(brain, (weight_XYZ * (brain.get_fdata() > 0.2)).astype(np.float32))
    smooth_XYZ = image.smooth_img(head, fwhm).get_fdata()
    return Anatomy(spline_filter(smooth_XYZ, order=3, output=np.float32), head.affine, parcels)


def _seen_at(index_X3: Array, affine_44: Array, pose_44: Array, other_44: Array) -> Array:
    """Where in another grid the tissue lies that a moved head has in the voxels of this one, (3, X)."""
    seen_44 = np.linalg.inv(other_44) @ np.linalg.inv(pose_44) @ affine_44
    return np.asarray(seen_44[:3, :3] @ index_X3.T + seen_44[:3, 3:])


def _baseline_at(anatomy: Anatomy, index_X3: Array, affine_44: Array, pose_44: Array) -> Array:
    from scipy.ndimage import map_coordinates

    at_3X = _seen_at(index_X3, affine_44, pose_44, anatomy.affine_44)
    found_X = map_coordinates(anatomy.spline_XYZ, at_3X, order=3, prefilter=False, output=np.float32)
    return np.maximum(found_X, 0)


def _labels_at(anatomy: Anatomy, index_X3: Array, affine_44: Array, pose_44: Array) -> Array:
    parcels = anatomy.parcels
    at_3X = np.rint(_seen_at(index_X3, affine_44, pose_44, parcels.affine_44)).astype(int)
    inside_X = ((at_3X >= 0) & (at_3X < np.reshape(parcels.labels_XYZ.shape, (3, 1)))).all(axis=0)
    return np.where(inside_X, parcels.labels_XYZ[tuple(np.where(inside_X, at_3X, 0))], 0)


def head_motion(n_volumes: int, motion_mm: float, rng: np.random.Generator) -> Array:
    """Six motion parameters (V, 6) in mm and rad that change in steps, one in 20 volumes.

    The framewise displacement of a step lies between half and one and a half times `motion_mm`.
    """
    at = rng.choice(np.arange(1, n_volumes), size=min(max(n_volumes // 20, 1), n_volumes - 1), replace=False)
    share = rng.normal(0, 1, (len(at), 6))
    share *= rng.uniform(0.5, 1.5, (len(at), 1)) / np.abs(share).sum(axis=1, keepdims=True)
    step_V6 = np.zeros((n_volumes, 6))
    step_V6[at] = motion_mm * share / _ARC_MM
    return np.cumsum(step_V6, axis=0)


def paint_scan(
    bold_ZPV: Array, *, grid: VoxelGrid, snr: float, motion_mm: float, realigned: bool, rng: np.random.Generator
) -> Scan:
    """Put parcel signals into the voxels of a head that moves, with slow drift and white noise of the scanner.

    Parameters
    ----------
    bold_ZPV : array
        Standardised parcel signals as each slice reads them (one slice stands for all); 1 SD is 2 % of the baseline.
    grid : VoxelGrid
    snr : float
        SD of the parcel signal over the SD of a voxel's noise.
    motion_mm : float
        Size of head steps.
    realigned : bool
        Move the volumes back by the motion that was planted, as preprocessed data come.
    rng : np.random.Generator
        Of this recording.
    """
    n_volumes = bold_ZPV.shape[2]
    share_XV = rng.standard_normal((len(grid.index_X3), n_volumes), dtype=np.float32) / np.float32(snr)
    share_XV *= np.float32(SIGNAL_SHARE)
    share_XV += _drift(grid, n_volumes, rng)
    motion_V6 = head_motion(n_volumes, motion_mm, rng)
    signal_ZPV = np.pad(SIGNAL_SHARE * bold_ZPV, ((0, 0), (1, 0), (0, 0))).astype(np.float32)
    slice_X = grid.index_X3[:, 2] if len(signal_ZPV) > 1 else np.zeros(len(grid.index_X3), int)
    for still, baseline_X, labels_X in _poses(motion_V6, grid):
        share_XV[:, still] += signal_ZPV[slice_X, labels_X, still] + 1
        share_XV[:, still] *= baseline_X[:, None]
    measured_XYZV = np.zeros((*grid.field_XYZ.shape, n_volumes), np.float32)
    measured_XYZV[grid.field_XYZ] = share_XV
    if realigned:
        measured_XYZV = np.nan_to_num(resample_moved(measured_XYZV, grid.affine_44, motion_V6))
    bold_XYZV = np.clip(np.rint(measured_XYZV), 0, np.iinfo(np.int16).max).astype(np.int16)
    series_XV = measured_XYZV[grid.field_XYZ]
    means = {"global_signal": grid.brain_XYZ[grid.field_XYZ], "white_matter": grid.white_X, "csf": grid.csf_X}
    confounds = {name: series_XV[pick].mean(axis=0, dtype=np.float64) for name, pick in means.items()}
    return Scan(bold_XYZV, motion_V6, confounds)


def _poses(motion_V6: Array, grid: VoxelGrid) -> Iterator[tuple[slice, Array, Array]]:
    """The volumes that the head lay still for, with its baseline and labels on the voxels of the field."""
    starts = [0, *(np.flatnonzero(np.abs(np.diff(motion_V6, axis=0)).any(axis=1)) + 1).tolist()]
    centre_3 = grid_centre(grid.field_XYZ.shape, grid.affine_44)
    for start, stop in zip(starts, [*starts[1:], len(motion_V6)], strict=True):
        where: Any = (grid.anatomy, grid.index_X3, grid.affine_44, rigid_matrix(motion_V6[start], centre_3))
        yield slice(start, stop), _baseline_at(*where), _labels_at(*where)


def _drift(grid: VoxelGrid, n_volumes: int, rng: np.random.Generator) -> Array:
    """Scanner drift as a share of the baseline: a line and one cosine, each with a smooth map over the brain."""
    time_V = np.linspace(-1, 1, n_volumes)
    courses_2V = np.stack([time_V, np.cos(np.pi * time_V)]).astype(np.float32)
    maps_X2 = rng.normal(0, 1, 2) + grid.position_X3 @ rng.normal(0, 0.5, (3, 2))
    return np.asarray(DRIFT_SHARE * maps_X2.astype(np.float32) @ courses_2V)
