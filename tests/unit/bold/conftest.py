"""Small BOLD: a bright ellipsoid that fluctuates, in native space, in memory and as a file."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neuroloom.records import Confounds, Volumes

SHAPE = (16, 18, 14)


@pytest.fixture
def affine_44() -> np.ndarray:
    """4 mm, the first axis from right to left."""
    return np.array([[-4.0, 0, 0, 30], [0, 4, 0, -36], [0, 0, 4, -28], [0, 0, 0, 1]])


@pytest.fixture
def brain_XYZ() -> np.ndarray:
    """Voxels of an ellipsoid in the middle of the grid."""
    middle = (np.array(SHAPE) - 1) / 2
    return (((np.moveaxis(np.indices(SHAPE), 0, -1) - middle) / (np.array(SHAPE) * 0.38)) ** 2).sum(axis=-1) < 1


@pytest.fixture
def volumes(rng: np.random.Generator, brain_XYZ: np.ndarray, affine_44: np.ndarray) -> Volumes:
    """40 volumes; about 1000 units with noise of 1 % inside, about 20 outside."""
    noise = rng.standard_normal((*SHAPE, 40))
    bold_XYZV = np.where(brain_XYZ[..., None], 1000 + 10 * noise, 20 + 5 * np.abs(noise)).astype(np.float32)
    return Volumes(bold_XYZV, affine_44, 2.0, "native", None, Confounds.none(40))


@pytest.fixture
def bold_XYZV(volumes: Volumes) -> np.ndarray:
    """Data of 12 volumes, for files."""
    return volumes.bold_XYZV[..., :12].copy()


@pytest.fixture
def write_bold(tmp_path: Path, bold_XYZV: np.ndarray, affine_44: np.ndarray) -> Callable[..., Path]:
    """Writes a BOLD file and returns its path."""

    def write(
        name: str = "sub-01_task-rest_bold.nii.gz",
        data: np.ndarray | None = None,
        t_r: float = 2.0,
        unit: str = "sec",
        **header: object,
    ) -> Path:
        image = nibabel.Nifti1Image(bold_XYZV if data is None else data, affine_44)
        image.header.set_xyzt_units("mm", unit)
        if len(image.shape) == 4:
            image.header.set_zooms((4, 4, 4, t_r))
        for field, value in header.items():
            image.header[field] = value
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.to_filename(path)
        return path

    return write
