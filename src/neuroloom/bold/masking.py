"""The brain mask of a BOLD series: given, from the MNI template, or from the series itself."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Volumes

# Erosion by two voxels eats a thin slab, or a brain of large voxels.
_OPENING_MM, _OPENING_VOXELS = 5.0, 10
_TEMPLATE_BRAIN = 0.2  # intensity, as in nilearn's load_mni152_brain_mask


def brain_mask(volumes: Volumes, *, file: str = "BOLD volumes") -> tuple[Array, str]:
    """Voxels of the brain that have a usable series.

    Parameters
    ----------
    volumes : Volumes
        Its own mask is taken; without one, nilearn's template mask for BOLD in an MNI space, and nilearn's EPI mask
        (least dense point of the histogram of the mean image) for BOLD in native space.
    file : str
        Named in errors.

    Returns
    -------
    mask_XYZ : bool array
        Without voxels that have values that are not finite or that never change.
    origin : str
        Where the mask is from, in words.

    Raises
    ------
    UnusableRecording
        If nothing is left.
    """
    if volumes.mask_XYZ is not None:
        mask_XYZ, origin = volumes.mask_XYZ, "given"
    elif volumes.space.startswith("MNI"):
        mask_XYZ, origin = _template_mask(volumes), "MNI152 template"
    else:
        mask_XYZ, origin = _epi_mask(volumes), "computed from the series"
    bold_XYZV = volumes.bold_XYZV
    usable_XYZ = (bold_XYZV != bold_XYZV[..., :1]).any(axis=3) & np.isfinite(bold_XYZV).all(axis=3)
    if not (mask_XYZ & usable_XYZ).any():
        remedy = "Check affine and space, or place a brain mask (*_desc-brain_mask.nii.gz) on its grid beside it"
        raise UnusableRecording(file, f"no brain voxel with a changing series (mask: {origin})", remedy)
    return mask_XYZ & usable_XYZ, origin


def _image(data: Array, affine_44: Array) -> Any:
    import nibabel

    return nibabel.Nifti1Image(data, affine_44)


def _template_mask(volumes: Volumes) -> Array:
    from nilearn.image.resampling import BoundingBoxError
    from nilearn.masking import compute_brain_mask

    grid_XYZ = np.zeros(volumes.bold_XYZV.shape[:3], np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty mask is an error of ours
            # The template has no skull: opening would eat gyri of the rim, a higher threshold the ventricles.
            mask = compute_brain_mask(_image(grid_XYZ, volumes.affine_44), threshold=_TEMPLATE_BRAIN, opening=False)
    except BoundingBoxError:
        return grid_XYZ > 0
    return mask.get_fdata() > 0


def _epi_mask(volumes: Volumes) -> Array:
    from nilearn.masking import compute_epi_mask

    mean_XYZ = np.nan_to_num(volumes.bold_XYZV.mean(axis=3, dtype=np.float64)).astype(np.float32)
    sizes = np.linalg.norm(volumes.affine_44[:3, :3], axis=0)
    solid = sizes.max() <= _OPENING_MM and min(mean_XYZ.shape) >= _OPENING_VOXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = compute_epi_mask(_image(mean_XYZ, volumes.affine_44), opening=2 if solid else False)
    return mask.get_fdata() > 0
