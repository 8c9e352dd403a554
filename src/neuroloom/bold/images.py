"""Images of BOLD, as NIfTI that any fMRI tool opens."""

from __future__ import annotations

from pathlib import Path

from neuroloom.records import Array


def write_nifti(path: Path, data: Array, affine_44: Array, *, t_r: float | None = None) -> Path:
    """Write an image in MNI space.

    Parameters
    ----------
    path : Path
    data : array (X, Y, Z) or (X, Y, Z, V)
    affine_44 : array
        Voxel to mm MNI.
    t_r : float, optional
        s; the fourth pixel size, which a mask does not have.
    """
    import nibabel

    image = nibabel.Nifti1Image(data, affine_44)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine_44, code="mni")
    image.set_qform(affine_44, code="mni")
    if t_r is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], t_r))
    image.to_filename(path)
    return path
