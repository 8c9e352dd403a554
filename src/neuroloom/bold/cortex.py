"""The left cortex of the MNI152 template, from which `template<N>` atlases are made.

It is cut once from nilearn's grey-matter template and kept under `resources/`: to load nilearn and to resample the
template takes ten times as long as all that a job does with a short series. `python -m neuroloom.bold.cortex` writes it
again.

The template is ICBM 2009a Nonlinear Symmetric, copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre,
Montreal Neurological Institute, McGill University; it may be used, copied, modified and distributed for any purpose
without fee where this notice appears in all copies.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuroloom.records import Array

KEPT = Path(__file__).parents[3] / "resources" / "left_cortex.nii.gz"
MM = 4.0
# An even number of columns around x = 0, so that the grid is its own mirror image.
SHAPE = (40, 48, 40)
ORIGIN = (-78.0, -110.0, -70.0)
GREY = 0.4


def read_left_cortex() -> tuple[Array, Array]:
    """Voxels (bool XYZ) and affine (mm, MNI152) of the left cortex, as `cut_left_cortex` found it."""
    import nibabel

    image = nibabel.load(KEPT)
    return np.asarray(image.dataobj) > 0, np.asarray(image.affine)


def cut_left_cortex() -> tuple[Array, Array]:
    """Voxels (bool XYZ) and affine (mm, MNI152): grey matter less cerebellum, brain stem and deep nuclei."""
    from nilearn.datasets import load_mni152_gm_template
    from nilearn.image import resample_img

    affine_44 = np.diag([MM, MM, MM, 1.0])
    affine_44[:3, 3] = ORIGIN
    grey = resample_img(
        load_mni152_gm_template(resolution=2), target_affine=affine_44, target_shape=SHAPE, interpolation="linear"
    ).get_fdata()
    x, y, z = np.indices(SHAPE) * MM + np.reshape(ORIGIN, (3, 1, 1, 1))
    symmetric = (grey + grey[::-1]) / 2
    return (symmetric > GREY) & (x < 0) & ~_below_cortex(x, y, z), affine_44


def _below_cortex(x: Array, y: Array, z: Array) -> Array:
    """Cerebellum (under a tent-shaped surface), brain stem (a column) and deep nuclei (an ellipsoid); MNI mm."""
    tent = -4 - 0.5 * np.abs(x) + 0.25 * np.minimum(y + 50, 0)
    cerebellum = (y < -30) & (z < tent)
    stem = (np.abs(x) < 16) & (y < -8) & (z < -8)
    nuclei = ((np.abs(x) - 14) / 18) ** 2 + ((y + 2) / 32) ** 2 + ((z - 6) / 22) ** 2 < 1
    return cerebellum | stem | nuclei


def write_left_cortex() -> None:
    """Cut it again and keep it."""
    import nibabel

    cortex_XYZ, affine_44 = cut_left_cortex()
    nibabel.save(nibabel.Nifti1Image(cortex_XYZ.astype(np.uint8), affine_44), KEPT)


if __name__ == "__main__":
    write_left_cortex()
