"""From band power to BOLD: the haemodynamic response, painted into a 4-D image with drift, motion and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from neuroloom.bold.parcels import template_parcels
from neuroloom.config import ConfigError
from neuroloom.records import Array
from neuroloom.study.sources import GRID_RATE

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
# mm on a head of 50 mm radius per unit of each motion parameter.
_ARC_MM = np.repeat([1.0, 50.0], 3)
SIGNAL_SHARE = 0.02
DRIFT_SHARE = 0.01
# nilearn bundles the symmetric ICBM152 template of 2009, release a.
SPACE = "MNI152NLin2009aSym"


@dataclass(frozen=True)
class VoxelGrid:
    """The brain on the voxel grid of the scanner.

    Attributes
    ----------
    brain_XYZ : bool array
    affine_44 : array
        Voxel to mm MNI.
    labels_X : int array
        Parcel of each brain voxel, 0 outside of the parcels.
    baseline_X : float32 array
        Mean intensity.
    white_X, csf_X : bool arrays
        Deep in white matter; neither grey nor white.
    motion_X6 : float32 array
        First-order change of intensity with each of `MOTION` (mm, rad).
    position_X3 : float32 array
        mm, divided by 100.
    """

    brain_XYZ: Array
    affine_44: Array
    labels_X: Array
    baseline_X: Array
    white_X: Array
    csf_X: Array
    motion_X6: Array
    position_X3: Array


@dataclass(frozen=True)
class Scan:
    """One BOLD run.

    Attributes
    ----------
    bold_XYZV : int16 array
        Scanner units, 0 outside the brain.
    motion_V6 : array
        `MOTION`, mm and rad.
    confounds : dict
        Mean signals of the whole brain, white matter and CSF, (V,) each.
    """

    bold_XYZV: Array
    motion_V6: Array
    confounds: dict[str, Array]


def bold_response(drive_PG: Array, *, t_r: float, n_volumes: int, hrf_lag: float) -> Array:
    """Parcel BOLD, (P, V), standardised: the drive convolved with nilearn's Glover response and read once per TR.

    Before the recording the drive is taken to be at its mean, so the truth follows from what is stored.

    Parameters
    ----------
    drive_PG : array
        At `GRID_RATE`, mean 0.
    t_r, hrf_lag : float
        s; the lag shifts the onset of the response.
    n_volumes : int
    """
    from nilearn.glm.first_level import glover_hrf
    from scipy.signal import oaconvolve

    kernel = glover_hrf(1 / GRID_RATE, oversampling=1, time_length=32.0 + max(hrf_lag, 0.0), onset=hrf_lag)
    response_PG = oaconvolve(drive_PG, kernel[None], axes=1)[:, : drive_PG.shape[1]]
    grid_G = np.arange(drive_PG.shape[1]) / GRID_RATE
    volume_V = np.arange(n_volumes) * t_r
    bold_PV = np.stack([np.interp(volume_V, grid_G, response_G) for response_G in response_PG])
    bold_PV -= bold_PV.mean(axis=1, keepdims=True)
    return np.asarray(bold_PV / bold_PV.std(axis=1, keepdims=True))


@lru_cache(maxsize=4)
def voxel_grid(voxel_mm: float, n_parcels: int) -> VoxelGrid:
    """The template brain and its parcels on an MNI-aligned grid.

    Raises
    ------
    ConfigError
        If a parcel has no voxel of this size.
    """
    import nibabel
    from nilearn import datasets, image

    parcels = template_parcels(n_parcels)
    template = image.resample_img(
        datasets.load_mni152_template(resolution=1), np.eye(3) * voxel_mm, interpolation="linear"
    )
    tissues = [datasets.load_mni152_gm_template(resolution=1), datasets.load_mni152_wm_template(resolution=1)]
    grey_XYZ, white_XYZ = (
        image.resample_to_img(tissue, template, interpolation="linear").get_fdata() for tissue in tissues
    )
    atlas = nibabel.Nifti1Image(parcels.labels_XYZ.astype(np.int16), parcels.affine_44)
    labels_XYZ = image.resample_to_img(atlas, template, interpolation="nearest").get_fdata().astype(int)
    head_XYZ = template.get_fdata()
    brain_XYZ = (head_XYZ > 0.2) | (labels_XYZ > 0)
    missing = set(range(1, n_parcels + 1)) - set(labels_XYZ[brain_XYZ].tolist())
    if missing:
        raise ConfigError(
            f"simulate: no voxel of {voxel_mm:g} mm in {len(missing)} of {n_parcels} parcels; lower voxel_mm"
        )
    # T2*-weighted contrast: grey matter is brighter than white, CSF brightest.
    weight_XYZ = 1250 - 350 * white_XYZ + 150 * np.clip(1 - grey_XYZ - white_XYZ, 0, 1)
    position_X3 = np.argwhere(brain_XYZ) @ template.affine[:3, :3].T + template.affine[:3, 3]
    return VoxelGrid(
        brain_XYZ=brain_XYZ,
        affine_44=template.affine,
        labels_X=labels_XYZ[brain_XYZ],
        baseline_X=weight_XYZ[brain_XYZ].astype(np.float32),
        white_X=(white_XYZ > 0.8)[brain_XYZ],
        csf_X=(grey_XYZ + white_XYZ < 0.3)[brain_XYZ] & (labels_XYZ == 0)[brain_XYZ],
        motion_X6=_motion_effect(weight_XYZ, brain_XYZ, position_X3, voxel_mm),
        position_X3=(position_X3 / 100).astype(np.float32),
    )


def _motion_effect(weight_XYZ: Array, brain_XYZ: Array, position_X3: Array, voxel_mm: float) -> Array:
    """Intensity change per mm and per rad: minus the gradient times the displacement that each parameter causes."""
    gradient_X3 = np.stack([axis[brain_XYZ] for axis in np.gradient(weight_XYZ, voxel_mm)], axis=1)
    turned_X3 = np.cross(position_X3, gradient_X3)
    return -np.concatenate([gradient_X3, turned_X3], axis=1).astype(np.float32)


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


def paint_scan(bold_PV: Array, *, grid: VoxelGrid, snr: float, motion_mm: float, rng: np.random.Generator) -> Scan:
    """Put parcel signals into voxels, with slow drift, head motion and white noise.

    Parameters
    ----------
    bold_PV : array
        Standardised parcel signals; 1 SD is 2 % of the baseline.
    grid : VoxelGrid
    snr : float
        SD of the parcel signal over the SD of a voxel's noise.
    motion_mm : float
        Size of head steps.
    rng : np.random.Generator
        Of this recording.
    """
    n_volumes = bold_PV.shape[1]
    signal_PV = np.concatenate([np.zeros((1, n_volumes)), bold_PV]).astype(np.float32)
    change_XV = signal_PV[grid.labels_X]
    change_XV += rng.standard_normal(change_XV.shape, dtype=np.float32) / np.float32(snr)
    change_XV *= np.float32(SIGNAL_SHARE)
    change_XV += _drift(grid, n_volumes, rng)
    change_XV += 1
    change_XV *= grid.baseline_X[:, None]
    motion_V6 = head_motion(n_volumes, motion_mm, rng)
    change_XV += grid.motion_X6 @ motion_V6.T.astype(np.float32)
    bold_XYZV = np.zeros((*grid.brain_XYZ.shape, n_volumes), np.int16)
    bold_XYZV[grid.brain_XYZ] = np.clip(np.rint(change_XV), 1, np.iinfo(np.int16).max)
    means = {"global_signal": slice(None), "white_matter": grid.white_X, "csf": grid.csf_X}
    confounds = {name: change_XV[pick].mean(axis=0, dtype=np.float64) for name, pick in means.items()}
    return Scan(bold_XYZV, motion_V6, confounds)


def _drift(grid: VoxelGrid, n_volumes: int, rng: np.random.Generator) -> Array:
    """Scanner drift as a share of the baseline: a line and one cosine, each with a smooth map over the brain."""
    time_V = np.linspace(-1, 1, n_volumes)
    courses_2V = np.stack([time_V, np.cos(np.pi * time_V)]).astype(np.float32)
    maps_X2 = rng.normal(0, 1, 2) + grid.position_X3 @ rng.normal(0, 0.5, (3, 2))
    return np.asarray(DRIFT_SHARE * maps_X2.astype(np.float32) @ courses_2V)
