"""Parcellations: made here of the cortex of the MNI152 template, cut as cubes, or loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.bold.companions import bare_name, entities
from neuroloom.bold.cortex import read_left_cortex
from neuroloom.bold.masking import brain_mask
from neuroloom.config import ConfigError
from neuroloom.records import Array, Volumes

_SIZES = {"schaefer": tuple(range(100, 1001, 100)), "difumo": (64, 128, 256, 512, 1024)}
_FORMS = "template<N>, grid<mm>, schaefer<N>, difumo<N>, aal, or the path of a NIfTI label image"


@dataclass(frozen=True)
class Parcellation:
    """Labels on a voxel grid.

    Attributes
    ----------
    labels_XYZ : int32 array
        0 is background, 1..P are the parcels.
    affine_44 : array
        Voxel to mm.
    names : list of str
        One per parcel; `names[i]` belongs to label i + 1.
    centroid_P3 : array
        Mean position of a parcel's voxels, mm; NaN for a parcel without voxels.
    sha256 : str
        Over labels, affine and names.
    name : str
        The atlas in the words of the config, such as `template64`.
    space : str
        `MNI152` or `native`.
    """

    labels_XYZ: Array
    affine_44: Array
    names: list[str]
    centroid_P3: Array
    sha256: str
    name: str
    space: str


def make_parcellation(*, labels_XYZ: Array, affine_44: Array, names: list[str], name: str, space: str) -> Parcellation:
    """Parcellation with its centroids and checksum.

    Parameters
    ----------
    labels_XYZ : int array
        0 is background, 1..P are the parcels.
    affine_44 : array
        Voxel to mm.
    names : list of str
        P unique names.
    name, space : str
        As in `Parcellation`.

    Raises
    ------
    ConfigError
        If labels and names do not belong together.
    """
    labels_XYZ = np.array(labels_XYZ, dtype=np.int32, order="C")
    affine_44 = np.array(affine_44, dtype=np.float64, order="C")
    if labels_XYZ.min() < 0 or labels_XYZ.max() > len(names) or len(set(names)) != len(names):
        raise ConfigError(
            f"atlas {name}: labels {labels_XYZ.min()}..{labels_XYZ.max()} and {len(set(names))} different names for "
            f"{len(names)} parcels do not fit; labels run from 1 to the number of parcels, names are unique"
        )
    digest = hashlib.sha256(labels_XYZ.tobytes() + affine_44.tobytes())
    digest.update(json.dumps([list(labels_XYZ.shape), names]).encode())
    centroid_P3 = _centroids(labels_XYZ, affine_44, len(names))
    for array in (labels_XYZ, affine_44, centroid_P3):
        array.setflags(write=False)
    return Parcellation(labels_XYZ, affine_44, list(names), centroid_P3, digest.hexdigest(), name, space)


def _centroids(labels_XYZ: Array, affine_44: Array, n_parcels: int) -> Array:
    owner = labels_XYZ[labels_XYZ > 0] - 1
    mm = _voxel_mm(labels_XYZ > 0, affine_44)
    count = np.bincount(owner, minlength=n_parcels).astype(float)
    total = np.stack([np.bincount(owner, weights=axis, minlength=n_parcels) for axis in mm.T], axis=1)
    return total / np.where(count == 0, np.nan, count)[:, None]


@lru_cache(maxsize=8)
def template_parcels(n_parcels: int) -> Parcellation:
    """Compact parcels of the cortex, the same on both sides, made from the MNI152 grey-matter template (`cortex`).

    The left cortical voxels of a 4 mm grid are clustered by position (farthest-point seeds, then Lloyd's iterations),
    numbered from front to back, and mirrored: `R07` is the mirror image of `L07`. It needs no download, and it is a
    geometric division, not an anatomical or functional one.

    Parameters
    ----------
    n_parcels : int
        Both sides together; even, 2 to 400.

    Raises
    ------
    ConfigError
        If `n_parcels` is odd or out of range.
    """
    check_atlas(f"template{n_parcels}")
    cortex_XYZ, affine_44 = read_left_cortex()
    labels_XYZ = np.zeros(cortex_XYZ.shape, np.int32)
    labels_XYZ[cortex_XYZ] = _compact_clusters(_voxel_mm(cortex_XYZ, affine_44), n_parcels // 2) + 1
    mirrored = labels_XYZ[::-1]
    labels_XYZ = labels_XYZ + np.where(mirrored > 0, mirrored + n_parcels // 2, 0)
    width = max(2, len(str(n_parcels // 2)))
    names = [f"{side}{index:0{width}d}" for side in "LR" for index in range(1, n_parcels // 2 + 1)]
    return make_parcellation(
        labels_XYZ=labels_XYZ, affine_44=affine_44, names=names, name=f"template{n_parcels}", space="MNI152"
    )


def _compact_clusters(points: Array, n_clusters: int) -> Array:
    """Cluster of each point (n, 3), clusters numbered from front (largest y) to back."""
    seeds = [int(np.argmax(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    nearest = np.full(len(points), np.inf)
    for _ in range(n_clusters - 1):
        nearest = np.minimum(nearest, np.linalg.norm(points - points[seeds[-1]], axis=1))
        seeds.append(int(np.argmax(nearest)))
    centres = points[seeds]
    for _ in range(30):
        owner = np.argmin(np.linalg.norm(points[:, None] - centres, axis=2), axis=1)
        count = np.bincount(owner, minlength=n_clusters)
        total = np.stack([np.bincount(owner, weights=axis, minlength=n_clusters) for axis in points.T], axis=1)
        centres = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centres)
    order = np.argsort(-centres[:, 1], kind="stable")
    rank = np.empty(n_clusters, int)
    rank[order] = np.arange(n_clusters)
    return rank[owner]


def load_atlas(name: str, *, reference: Volumes | None = None) -> Parcellation:
    """Parcellation by its name in the config.

    Parameters
    ----------
    name : str
        `template<N>` (`template_parcels`), `grid<mm>` (`grid_parcels`), `schaefer<N>` (Schaefer et al. 2018,
        7 networks), `difumo<N>` (Dadi et al. 2020; each voxel goes to the map that is largest there, which turns the
        overlapping maps into parcels), `aal` (SPM12), or the path of a NIfTI label image. Beside an image, a tsv of
        the same name with columns `index` and `name` names the labels; without one they are `label-<index>`.
    reference : Volumes, optional
        The series that a grid is laid over.

    Raises
    ------
    ConfigError
        Unknown name, a file that is no label image, or an atlas that is neither on this machine nor to be fetched.
    """
    kind, size = check_atlas(name)
    if kind == "file":
        return _file_atlas(Path(name))
    if kind == "template":
        return template_parcels(int(size))
    if kind != "grid":
        return _fetched_atlas(name, kind, int(size))
    if reference is None:
        raise ConfigError(f"atlas {name}: a grid is laid over one recording; pass its volumes as reference")
    return grid_parcels(size, reference=reference)


def check_atlas(name: str) -> tuple[str, float]:
    """Kind and size of an atlas that the config names; loads nothing, so that a config is checked before any job.

    Returns
    -------
    kind : str
        `template`, `grid`, `schaefer`, `difumo`, `aal` or `file`.
    size : float
        Parcels, or mm of a grid; 0 where the name has no number.

    Raises
    ------
    ConfigError
        If the name or its number is unknown, or the file does not exist.
    """
    if name.endswith((".nii", ".nii.gz")):
        if not Path(name).is_file():
            raise ConfigError(f"atlas {name}: no such file; give the path of a NIfTI label image")
        return "file", 0
    match = re.fullmatch(r"(template|schaefer|difumo)(\d+)|(grid)(\d+(?:\.\d+)?)|(aal)", name)
    if match is None:
        raise ConfigError(f"atlas {name!r} is unknown; allowed: {_FORMS}")
    kind, size = match[1] or match[3] or match[5], float(match[2] or match[4] or 0)
    if kind == "template" and size not in range(2, 401, 2):
        raise ConfigError(f"atlas {name}: the number of parcels must be even, 2 to 400; for example template64")
    if kind in _SIZES and size not in _SIZES[kind]:
        raise ConfigError(f"atlas {name}: {kind} has {', '.join(map(str, _SIZES[kind]))} parcels")
    if kind == "grid" and size == 0:
        raise ConfigError(f"atlas {name}: the edge must be above 0 mm, for example grid25")
    return kind, size


def grid_parcels(edge: float, *, reference: Volumes) -> Parcellation:
    """Cubes inside the brain mask of one series: parcels for BOLD that is not in a template space.

    Cubes are aligned with the mm axes and counted from the lower corner of the field of view: `g-2-0-5` is the third
    from the left, the first from the back and the sixth from below. Names of two subjects do not correspond.

    Parameters
    ----------
    edge : float
        mm.
    reference : Volumes
        The series; the parcellation is on its grid and in its space.
    """
    check_atlas(f"grid{edge:g}")
    mask_XYZ, _ = brain_mask(reference)
    corner = _voxel_mm(np.ones_like(mask_XYZ), reference.affine_44).min(axis=0)
    # Voxel centres that lie on a face of a cube must not be torn apart by rounding.
    cube = np.floor((_voxel_mm(mask_XYZ, reference.affine_44) - corner) / edge + 1e-6).astype(int)
    cubes, owner = np.unique(cube, axis=0, return_inverse=True)
    labels_XYZ = np.zeros(mask_XYZ.shape, np.int32)
    labels_XYZ[mask_XYZ] = owner.ravel() + 1
    return make_parcellation(
        labels_XYZ=labels_XYZ,
        affine_44=reference.affine_44,
        names=[f"g-{x}-{y}-{z}" for x, y, z in cubes],
        name=f"grid{edge:g}",
        space="MNI152" if reference.space.startswith("MNI") else "native",
    )


def _voxel_mm(mask_XYZ: Array, affine_44: Array) -> Array:
    """Positions (n, 3) of the voxels of a mask, mm, in the order of boolean indexing."""
    return np.argwhere(mask_XYZ) @ affine_44[:3, :3].T + affine_44[:3, 3]


def _fetched_atlas(name: str, kind: str, size: int) -> Parcellation:
    from nilearn import datasets

    calls: dict[str, Callable[[], Any]] = {
        "schaefer": lambda: datasets.fetch_atlas_schaefer_2018(n_rois=size, resolution_mm=2, verbose=0),
        "difumo": lambda: datasets.fetch_atlas_difumo(dimension=size, resolution_mm=3, verbose=0),
        "aal": lambda: datasets.fetch_atlas_aal(version="SPM12", verbose=0),
    }
    try:
        atlas = calls[kind]()
    except Exception as error:  # nilearn passes on whatever its download raises
        raise ConfigError(
            f"atlas {name} is not on this machine and nilearn could not fetch it ({type(error).__name__}: {error}). "
            f"Run nilearn's fetcher where there is a network and copy its folder to {datasets.get_data_dirs()[0]} "
            "(or where NILEARN_DATA points), or give the path of a NIfTI label image, or use template<N>"
        ) from error
    if kind == "difumo":
        return _from_maps(atlas, name)
    return _from_labels(atlas.maps, dict(zip(atlas.lut["index"], atlas.lut["name"], strict=True)), name, "MNI152")


def _from_maps(atlas: Any, name: str) -> Parcellation:
    """Parcels from overlapping maps; one map at a time, because all of them fill gigabytes."""
    import nibabel

    image = nibabel.load(atlas.maps)
    labels_XYZ = np.zeros(image.shape[:3], np.int32)
    largest_XYZ = np.zeros(image.shape[:3], np.float32)
    for index in range(image.shape[3]):
        map_XYZ = np.asarray(image.dataobj[..., index], np.float32)
        above_XYZ = map_XYZ > largest_XYZ
        labels_XYZ[above_XYZ] = index + 1
        largest_XYZ[above_XYZ] = map_XYZ[above_XYZ]
    names = _unique([str(text) for text in atlas.labels["difumo_names"]])
    return make_parcellation(labels_XYZ=labels_XYZ, affine_44=image.affine, names=names, name=name, space="MNI152")


def _file_atlas(path: Path) -> Parcellation:
    """A label image; its space is a template's where its name (`space-MNI...`) or its sform code says so."""
    import nibabel
    import pandas as pd

    table = path.with_name(f"{bare_name(path)}.tsv")
    names: dict[int, str] = {}
    if table.is_file():
        listed = pd.read_csv(table, sep="\t")
        if not {"index", "name"} <= set(listed.columns):
            raise ConfigError(f"atlas {table}: columns {', '.join(listed.columns)}; index and name are needed")
        names = {int(index): str(text) for index, text in zip(listed["index"], listed["name"], strict=True)}
    template = entities(path).get("space", "").startswith("MNI") or int(nibabel.load(path).header["sform_code"]) == 4
    return _from_labels(path, names, path.name, "MNI152" if template else "native")


def _from_labels(path: Path | str, names: dict[int, str], name: str, space: str) -> Parcellation:
    """Parcellation of a label image with any integers; labels are renumbered in their order."""
    import nibabel

    image = nibabel.load(path)
    values_XYZ = np.asarray(image.dataobj)
    if values_XYZ.ndim != 3 or not np.equal(values_XYZ, np.round(values_XYZ)).all() or not (values_XYZ > 0).any():
        raise ConfigError(f"atlas {path}: shape {image.shape}; a 3-D image of whole-numbered labels above 0 is needed")
    values = np.unique(values_XYZ[values_XYZ > 0])
    labels_XYZ = np.where(values_XYZ > 0, np.searchsorted(values, values_XYZ) + 1, 0)
    if names and (unnamed := [int(value) for value in values if int(value) not in names]):
        raise ConfigError(f"atlas {path}: labels without a name in its table: {', '.join(map(str, unnamed[:10]))}")
    texts = _unique([str(names.get(int(value), f"label-{int(value)}")) for value in values])
    return make_parcellation(labels_XYZ=labels_XYZ, affine_44=image.affine, names=texts, name=name, space=space)


def _unique(names: list[str]) -> list[str]:
    """Names that appear more than once get their number."""
    return [f"{name}_{index}" if names.count(name) > 1 else name for index, name in enumerate(names, 1)]
