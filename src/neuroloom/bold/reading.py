"""Read BOLD: 4-D NIfTI volumes with what belongs to them, checked against each other, or a table of parcel series."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.bold.companions import Companions, entities, find_companions, read_sidecar
from neuroloom.bold.confounds import read_confounds
from neuroloom.bold.sizes import check_sizes
from neuroloom.bold.slice_timing import slice_timing
from neuroloom.bold.tables import TABLES, read_table
from neuroloom.config import SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds, Events, ParcelSeries, Volumes
from neuroloom.schema import shown
from neuroloom.study.links import check_companions

PLAUSIBLE_TR = (0.1, 20.0)
LARGEST = 1e6  # of what JSON calls a number: a whole one may be too large for any float
_TOLERANCE = 0.01
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_MNI_SFORM = 4
_DAMAGED = (OSError, EOFError, ValueError, zlib.error)
logger = logging.getLogger(__name__)


def read_bold(path: Path, *, source: SourceConfig) -> Volumes | ParcelSeries:
    """Read a BOLD recording into memory.

    Parameters
    ----------
    path : Path
        4-D `.nii` or `.nii.gz`, or a table (`.1D`, `.tsv`, `.csv`) with volumes in rows and parcels in columns.
    source : SourceConfig
        `t_r` where neither sidecar nor header has it; `atlas` names the parcels of a table.

    Returns
    -------
    Volumes or ParcelSeries
        With confounds and events of the files that BIDS places beside or above it, or in `derivatives/*/`. `notes`
        say what was found and ignored. A voxel with any value that is not finite is NaN in all volumes.

    Raises
    ------
    UnusableRecording
        If the file is missing, damaged or not BOLD, or if it and its companions contradict each other.
    """
    if not path.is_file():
        raise UnusableRecording(path, "the file does not exist", "Correct the sheet's path or bring the file")
    companions = find_companions(path)
    check_companions(path, bold_source_files(path))
    if path.suffix in TABLES:
        return _read_parcels(path, companions, source)
    if not path.name.endswith((".nii", ".nii.gz")):
        allowed = ", ".join((".nii", ".nii.gz", *TABLES))
        raise UnusableRecording(path, "not a format of BOLD recordings", f"Give one of {allowed}")
    return _read_volumes(path, companions, source)


def bold_source_files(path: Path) -> list[Path]:
    """All existing files of a recording: data, sidecars, events, confounds and masks; sorted, data first."""
    found = find_companions(path)
    others = {*found.sidecars, *found.events, *found.confounds, *found.masks} - {path}
    return [path, *sorted(others)]


def _read_volumes(path: Path, companions: Companions, source: SourceConfig) -> Volumes:
    image = _load_image(path)
    if len(image.shape) != 4 or image.shape[3] < 2 or 0 in image.shape:
        shape = " x ".join(str(size) for size in image.shape)
        raise UnusableRecording(path, f"shape {shape}, not a series of at least 2 volumes", "Give a 4-D BOLD file")
    affine_44 = _checked_affine(path, image)
    sidecar = read_sidecar(companions)
    t_r, notes = _repetition_time(path, {**_sidecar_claims(sidecar, path), **_header_claims(image)}, source)
    notes += _header_notes(image)
    slice_time_Z, slice_axis, slice_notes = slice_timing(path, sidecar, shape=image.shape, t_r=t_r)
    bold_XYZV, bad_notes = _checked_data(path, image)
    mask_XYZ, mask_space, mask_notes = _mask(path, companions.masks, image.shape[:3], affine_44)
    confounds, confound_notes = _confounds(path, companions.confounds, image.shape[3])
    space = _space(path, sidecar, image) or mask_space or "native"
    events, event_notes = _events(companions.events, duration=t_r * image.shape[3])
    notes += slice_notes + bad_notes + mask_notes + confound_notes + event_notes
    for note in notes:
        logger.warning("%s: %s", path.name, note)
    return Volumes(
        bold_XYZV, affine_44, t_r, space, mask_XYZ, confounds, events, tuple(notes), slice_time_Z, slice_axis
    )


def _read_parcels(path: Path, companions: Companions, source: SourceConfig) -> ParcelSeries:
    bold_PV, parcels, atlas_sha256 = read_table(path)
    sidecar = read_sidecar(companions)
    t_r, notes = _repetition_time(path, _sidecar_claims(sidecar, path), source)
    confounds, confound_notes = _confounds(path, companions.confounds, bold_PV.shape[1])
    events, event_notes = _events(companions.events, duration=t_r * bold_PV.shape[1])
    reference = str(sidecar.get("SpatialReference", ""))
    return ParcelSeries(
        bold_PV=bold_PV,
        parcels=parcels,
        centroid_P3=np.full((len(parcels), 3), np.nan, np.float32),
        n_voxels_P=np.zeros(len(parcels), np.int32),
        t_r=t_r,
        atlas=source.atlas or "table",
        atlas_sha256=atlas_sha256,
        space=reference if reference.startswith("MNI") else entities(path).get("space", "unknown"),
        confounds=confounds,
        events=events,
        notes=tuple(notes + confound_notes + event_notes),
    )


def _load_image(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        check_sizes(path)
        image = nibabel.load(path, mmap=False)
        if not isinstance(image, nibabel.Nifti1Image):
            raise ValueError(f"a {type(image).__name__}, not volumes in one NIfTI file")
        image.header.get_xyzt_units()
    except (*_DAMAGED, KeyError, ImageFileError, HeaderDataError) as error:
        raise _damaged(path, error) from error
    return image


def _damaged(path: Path, error: Exception) -> UnusableRecording:
    reason = f"cannot be read: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
    return UnusableRecording(path, reason, "The file is damaged or incomplete: bring it again from its origin")


def _checked_affine(path: Path, image: Any) -> Array:
    """Voxel to mm; finite, invertible, and of the voxel size that the header says."""
    affine_44 = np.asarray(image.affine, float)
    remedy = "Repair the header (sform, qform), for example by converting the DICOM files again"
    if not np.isfinite(affine_44).all():
        raise UnusableRecording(path, "the affine has values that are not finite", remedy)
    zooms = np.asarray(image.header.get_zooms()[:3], float)
    sizes = np.linalg.norm(affine_44[:3, :3], axis=0)
    if not sizes.all() or abs(np.linalg.det(affine_44[:3, :3] / sizes)) < 1e-3:
        raise UnusableRecording(path, "the affine is singular: voxels have no volume", remedy)
    if not np.allclose(sizes, zooms, rtol=_TOLERANCE):
        reason = f"voxels of {_mm(sizes)} mm in the affine, {_mm(zooms)} mm in the header"
        raise UnusableRecording(path, reason, remedy)
    return affine_44


def _mm(sizes: Array) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _header_notes(image: Any) -> list[str]:
    placed = int(image.header["sform_code"]) or int(image.header["qform_code"])
    return [] if placed else ["the header has neither sform nor qform: orientation and left-right are not known"]


def _sidecar_claims(sidecar: dict[str, Any], path: Path) -> dict[str, float]:
    claims = {}
    for key, power in (("RepetitionTime", 1), ("SamplingFrequency", -1)):
        if key in sidecar:
            value = sidecar[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
                reason = f"{key} {shown(value)} in the sidecar is no number above 0"
                raise UnusableRecording(path, reason, "Correct the sidecar")
            claims[f"sidecar {key}"] = float(value) ** power
    return claims


def _header_claims(image: Any) -> dict[str, float]:
    """The time step of the header; without a unit it is no claim, since many writers leave 1.0 there."""
    unit = image.header.get_xyzt_units()[1]
    step = float(image.header.get_zooms()[3])
    return {"header": step * _SECONDS[unit]} if unit in _SECONDS and step > 0 else {}


def _repetition_time(path: Path, claims: dict[str, float], source: SourceConfig) -> tuple[float, list[str]]:
    """The repetition time that all who say one agree on."""
    claims = claims | ({"sources.<study>.t_r": source.t_r} if source.t_r else {})
    said = ", ".join(f"{who} {t_r:g} s" for who, t_r in claims.items())
    if not claims:
        reason = "no repetition time: neither sidecar nor header (with a time unit) has it"
        raise UnusableRecording(path, reason, "Give sources.<study>.t_r, or a JSON sidecar with RepetitionTime")
    t_r = next(iter(claims.values()))
    if not np.allclose(list(claims.values()), t_r, rtol=_TOLERANCE):
        remedy = "Find out which is right, and correct the others (sidecar, header or sources.<study>.t_r)"
        raise UnusableRecording(path, f"repetition times disagree: {said}", remedy)
    if not PLAUSIBLE_TR[0] <= t_r <= PLAUSIBLE_TR[1]:
        reason = f"implausible repetition time: {said} (plausible: {PLAUSIBLE_TR[0]:g} to {PLAUSIBLE_TR[1]:g} s)"
        raise UnusableRecording(path, reason, "Correct it; BIDS counts in s, a NIfTI header says its unit")
    only_config = list(claims) == ["sources.<study>.t_r"]
    return float(t_r), ["repetition time from sources.<study>.t_r"] if only_config else []


def _checked_data(path: Path, image: Any) -> tuple[Array, list[str]]:
    kind = image.get_data_dtype().kind
    if kind not in "iuf":
        reason = f"values of type {image.get_data_dtype()}"
        raise UnusableRecording(path, reason, "BOLD is real-valued: give the magnitude images")
    try:
        bold_XYZV = np.asarray(image.dataobj, dtype=np.float32)
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    finite_XYZ = np.isfinite(bold_XYZV).all(axis=3)
    varying_XYZ = (bold_XYZV != bold_XYZV[..., :1]).any(axis=3) & finite_XYZ
    if not varying_XYZ.any():
        what = "no voxel has finite values" if not finite_XYZ.any() else "no voxel changes over time"
        raise UnusableRecording(path, what, "The file holds no BOLD series: bring the right one")
    n_bad = int((~finite_XYZ).sum())
    bold_XYZV[~finite_XYZ] = np.nan
    return bold_XYZV, [f"{n_bad} voxels with values that are not finite are NaN"] if n_bad else []


def _space(path: Path, sidecar: dict[str, Any], image: Any) -> str | None:
    """The template space that name, sidecar or header state; None where none does."""
    name = entities(path).get("space", "")
    reference = str(sidecar.get("SpatialReference", ""))
    header = "MNI152" if int(image.header["sform_code"]) == _MNI_SFORM else ""
    return next((space for space in (name, reference, header) if space.startswith("MNI")), None)


def _mask(
    path: Path, files: list[Path], shape: tuple[int, ...], affine_44: Array
) -> tuple[Array | None, str | None, list[str]]:
    """The one mask on the grid of the series, the template space that its name states, and why others were ignored."""
    fitting, notes = [], []
    for file in files:
        image = _load_image(file)
        if image.shape == shape and np.allclose(image.affine, affine_44, atol=1e-3):
            fitting.append((file, image))
        else:
            grid = " x ".join(str(size) for size in image.shape)
            notes.append(f"mask {file.name} ignored: its grid ({grid}) is not the grid of the series")
    if len(fitting) > 1:
        names = ", ".join(str(file) for file, _ in fitting)
        raise UnusableRecording(path, f"more than one brain mask on its grid: {names}", "Keep one")
    if not fitting:
        return None, None, notes
    file, image = fitting[0]
    try:
        mask_XYZ = np.asarray(image.dataobj) > 0.5
    except _DAMAGED as error:
        raise _damaged(file, error) from error
    if not mask_XYZ.any():
        raise UnusableRecording(file, "the brain mask is empty", "Repair or remove it")
    space = entities(file).get("space", "")
    return mask_XYZ, space if space.startswith("MNI") else None, notes


def _confounds(path: Path, files: list[Path], n_volumes: int) -> tuple[Confounds, list[str]]:
    if len(files) > 1:
        names = ", ".join(str(file) for file in files)
        raise UnusableRecording(path, f"more than one table of confounds: {names}", "Keep one")
    return read_confounds(files[0], n_volumes=n_volumes) if files else (Confounds.none(n_volumes), [])


def _events(files: list[Path], *, duration: float) -> tuple[Events, list[str]]:
    """The most specific events table; label from `trial_type`, else `value`, else the word event."""
    if not files:
        return Events.none(), []
    file = files[-1]
    try:
        table = pd.read_csv(file, sep="\t", na_values=["n/a"])
        onset = table["onset"].to_numpy(float)
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        reason = f"no events table with numbers in a column onset ({error})"
        raise UnusableRecording(file, reason, "Repair or remove it") from error
    known = np.isfinite(onset)
    notes = [] if known.all() else [f"{(~known).sum()} events without an onset are left out"]
    if late := int((onset > duration).sum()):
        notes.append(f"{late} of {len(onset)} events begin after the end of the series")
    table = table[known]
    lasting = pd.to_numeric(table.get("duration", pd.Series(np.nan, table.index)), errors="coerce").to_numpy(float)
    column = next((name for name in ("trial_type", "value") if name in table.columns), None)
    label = ["event"] * len(table) if column is None else [str(text) for text in table[column]]
    return Events(onset[known], lasting, label), notes
