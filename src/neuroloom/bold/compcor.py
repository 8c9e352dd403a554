"""Nuisance signals of the series itself, for when no table has them: aCompCor, white matter, CSF, global signal."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuroloom.bold.cleaning import clean_series
from neuroloom.bold.confounds import with_columns
from neuroloom.records import Array, Confounds, Volumes

TISSUES = ("white_matter", "csf")
MIN_TISSUE_VOXELS = 10
_PURE = 0.9
_DEEP_MM = 10.0


def add_nuisance(
    volumes: Volumes, mask_XYZ: Array, *, prefixes: tuple[str, ...], n_components: int, high_pass: float | None
) -> tuple[Confounds, list[str]]:
    """Compute those of the wanted confounds that the table lacks and the series holds.

    Parameters
    ----------
    volumes : Volumes
        After realignment; tissue is only known in an MNI space.
    mask_XYZ : bool array
        Usable brain voxels.
    prefixes : tuple of str
        `config.confounds`; `a_comp_cor`, `global_signal`, `white_matter` and `csf` can be computed.
    n_components : int
        Of aCompCor.
    high_pass : float or None
        Hz, before the components are taken.

    Returns
    -------
    confounds : Confounds
        The table, with computed columns under fMRIPrep's names.
    notes : list of str
        What was computed, and what could not be.
    """
    confounds, notes = volumes.confounds, []
    lacking = [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in confounds.names)]
    if any("global_signal".startswith(prefix) for prefix in lacking):
        mean_V = volumes.bold_XYZV[mask_XYZ].mean(axis=0, dtype=np.float64)
        confounds = with_columns(confounds, ["global_signal"], mean_V[:, None])
        notes.append("global_signal computed from the series")
    wanted = [name for name in ("a_comp_cor_", *TISSUES) if any(name.startswith(prefix) for prefix in lacking)]
    if not wanted:
        return confounds, notes
    if not volumes.space.startswith("MNI"):
        return confounds, [*notes, f"{', '.join(wanted)} skipped: white matter and CSF are not known in native space"]
    tissue = {name: mask_XYZ & found_XYZ for name, found_XYZ in tissue_masks(volumes).items()}
    if few := [f"{mask.sum()} voxels of {name}" for name, mask in tissue.items() if mask.sum() < MIN_TISSUE_VOXELS]:
        return confounds, [*notes, f"{', '.join(wanted)} skipped: {', '.join(few)} ({MIN_TISSUE_VOXELS} are needed)"]
    for name in wanted:
        if name in TISSUES:
            names, values_VM = [name], volumes.bold_XYZV[tissue[name]].mean(axis=0, dtype=np.float64)[:, None]
        else:
            voxel_XV = volumes.bold_XYZV[tissue["white_matter"] | tissue["csf"]]
            values_VM = a_comp_cor(voxel_XV, n_components=n_components, t_r=volumes.t_r, high_pass=high_pass)
            names = [f"a_comp_cor_{index:02d}" for index in range(values_VM.shape[1])]
        confounds = with_columns(confounds, names, values_VM)
        notes.append(f"{names[0]}{f' to {names[-1][-2:]}' if len(names) > 1 else ''} computed from the series")
    return confounds, notes


def a_comp_cor(voxel_XV: Array, *, n_components: int, t_r: float, high_pass: float | None) -> Array:
    """Principal components of the noise regions (Behzadi et al. 2007, NeuroImage 37, 90).

    Parameters
    ----------
    voxel_XV : array
        Voxels of white matter and CSF, any unit.
    n_components, t_r, high_pass
        t_r in s, high_pass in Hz.

    Returns
    -------
    array (V, n_components)
        Courses over time of unit norm, largest first. Voxels are detrended, filtered and of equal variance before.
    """
    clean_XV = clean_series(
        voxel_XV.astype(np.float64), t_r=t_r, detrend=True, high_pass=high_pass, low_pass=None, confounds_VM=None
    )
    sd_X = clean_XV.std(axis=1)
    scaled_XV = clean_XV[sd_X > 0] / sd_X[sd_X > 0, None]
    # Eigenvectors of the small V x V matrix are the right singular vectors of the tall one.
    _, course_VV = np.linalg.eigh(scaled_XV.T @ scaled_XV)
    return course_VV[:, ::-1][:, : min(n_components, course_VV.shape[1])]


def tissue_masks(volumes: Volumes) -> dict[str, Array]:
    """White matter and ventricles (bool XYZ each) on the grid of the series, from nilearn's MNI152 templates.

    The templates are averaged over a voxel, and a voxel must be of one tissue to nine tenths. CSF is what is neither
    grey nor white deep in the brain; that around the brain is left out, because skull and vessels are next to it.
    """
    from nilearn import datasets
    from scipy.ndimage import binary_erosion

    brain = datasets.load_mni152_brain_mask(resolution=2)
    white, grey = (
        template(resolution=2).get_fdata()
        for template in (datasets.load_mni152_wm_template, datasets.load_mni152_gm_template)
    )
    deep = binary_erosion(brain.get_fdata() > 0, iterations=round(_DEEP_MM / 2))
    shares = {"white_matter": white, "csf": deep * np.clip(1 - white - grey, 0, 1)}
    return {name: _on_grid(share, brain.affine, volumes) > _PURE for name, share in shares.items()}


def _on_grid(share_XYZ: Any, affine_44: Array, volumes: Volumes) -> Array:
    import nibabel
    from nilearn.image import resample_img, smooth_img
    from nilearn.image.resampling import BoundingBoxError

    shape = volumes.bold_XYZV.shape[:3]
    sizes = np.linalg.norm(volumes.affine_44[:3, :3], axis=0)
    image = smooth_img(nibabel.Nifti1Image(share_XYZ.astype(np.float32), affine_44), sizes)
    try:
        return resample_img(image, target_affine=volumes.affine_44, target_shape=shape).get_fdata()
    except BoundingBoxError:
        return np.zeros(shape)
