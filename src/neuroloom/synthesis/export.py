"""Predicted BOLD as 4-D images that any fMRI tool opens, named and described by BIDS-Derivatives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.bold.images import write_nifti
from neuroloom.bold.parcels import Parcellation, make_parcellation
from neuroloom.config import RecordingRow
from neuroloom.records import Array

_GENERATOR = "NeuroLoom"


def entities_of(row: RecordingRow) -> dict[str, str]:
    """BIDS entities of a recording, in the order of a file name."""
    values = {"sub": row.subject, "ses": row.session, "task": row.task, "run": row.run}
    return {name: value for name, value in values.items() if value}


def write_bold_image(
    bold_PV: Array,
    std_PV: Array | None = None,
    *,
    parcellation: Parcellation,
    t_r: float,
    space: str,
    folder: Path,
    entities: Mapping[str, str],
    description: str,
    sources: Sequence[str] = (),
    unit: str = "%",
    start_time: float = 0.0,
    voxel_mm: float | None = None,
) -> Path:
    """Write a predicted series, and how uncertain it is, as 4-D NIfTI; each voxel of a parcel holds its series.

    Beside `..._desc-predicted_bold.nii.gz` stand `..._desc-predictedsd_bold.nii.gz` (where there is an uncertainty),
    the labels of the parcels (`..._seg-<atlas>_dseg`, NIfTI and tsv), sidecars, and the dataset's description.

    Parameters
    ----------
    bold_PV, std_PV : array
        Prediction and its SD. A parcel with a value that is not finite is 0 in the image and named in the sidecar.
    parcellation : Parcellation
        Labels and grid; the image is on its grid.
    t_r : float
        s.
    space : str
        Name of the template in BIDS, such as `MNI152NLin2009aSym`.
    folder : Path
        Root of the derivatives dataset; made if it does not exist.
    entities : mapping
        `sub`, `task` and so on (`entities_of`).
    description : str
        What predicted it from what.
    sources : sequence of str
        What it was made from, such as BIDS URIs.
    unit : str
        Of the values.
    start_time : float
        Time of the first volume in the scan, s.
    voxel_mm : float, optional
        Size of the voxels; default the atlas's own.

    Returns
    -------
    Path
        The image of the prediction.

    Raises
    ------
    ValueError
        If series and parcels do not fit, the space is no MNI template, or a parcel has no voxel of this size.
    FileExistsError
        If the image is there: people of two sites may have one label, so each site needs a folder of its own.
    """
    _check(bold_PV, std_PV, parcellation, space, entities)
    parcellation = parcellation if voxel_mm is None else resampled(parcellation, voxel_mm)
    at = folder / f"sub-{entities['sub']}" / (f"ses-{entities['ses']}" if "ses" in entities else "") / "func"
    stem = "_".join([*(f"{name}-{value}" for name, value in entities.items()), f"space-{space}"])
    if (found := at / f"{stem}_desc-predicted_bold.nii.gz").exists():
        raise FileExistsError(f"{found}: is there already; give each site a folder of its own, or remove it first")
    at.mkdir(parents=True, exist_ok=True)
    lost = [name for name, row_V in zip(parcellation.names, bold_PV, strict=True) if not np.isfinite(row_V).all()]
    sidecar = {
        "RepetitionTime": float(t_r),
        "StartTime": float(start_time),
        "TaskName": entities.get("task", "n/a"),
        "SkullStripped": True,
        "SpatialReference": space,
        "Sources": list(sources),
        "Parcellation": {"Name": parcellation.name, "SHA256": parcellation.sha256, "Space": parcellation.space},
        "MissingParcels": lost,
        "Units": unit,
        "GeneratedBy": _generated_by(),
    }
    write_description(folder)
    _write_labels(at / f"{stem}_seg-{_alphanumeric(parcellation.name)}_dseg", parcellation, space)
    if std_PV is not None:
        text = f"Standard deviation of: {description}"
        _write_series(at / f"{stem}_desc-predictedsd_bold", std_PV, parcellation, {"Description": text, **sidecar})
    path = at / f"{stem}_desc-predicted_bold"
    return _write_series(path, bold_PV, parcellation, {"Description": description, **sidecar})


def write_description(folder: Path) -> None:
    """The `dataset_description.json` of a folder of derivatives."""
    from mne_bids.config import BIDS_VERSION

    content = {
        "Name": "BOLD predicted from EEG",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": _generated_by(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "dataset_description.json", content)


def resampled(parcellation: Parcellation, voxel_mm: float) -> Parcellation:
    """The parcellation on a grid of other voxels, each with the label that is nearest.

    Raises
    ------
    ValueError
        If a parcel has no voxel of this size.
    """
    import nibabel
    from nilearn.image import resample_img

    if np.allclose(parcellation.affine_44[:3, :3], np.diag([voxel_mm] * 3)):
        return parcellation
    image = nibabel.Nifti1Image(np.array(parcellation.labels_XYZ), parcellation.affine_44)
    found = resample_img(image, target_affine=np.eye(3) * voxel_mm, interpolation="nearest")
    labels_XYZ = np.asarray(found.dataobj).astype(np.int32)
    present = set(np.unique(labels_XYZ).tolist())
    lost = [name for label, name in enumerate(parcellation.names, 1) if label not in present]
    if lost:
        raise ValueError(f"atlas {parcellation.name}: no voxel of {voxel_mm:g} mm in {', '.join(lost)}; lower voxel_mm")
    fitting = make_parcellation(
        labels_XYZ=labels_XYZ,
        affine_44=found.affine,
        names=parcellation.names,
        name=parcellation.name,
        space=parcellation.space,
    )
    return replace(fitting, sha256=parcellation.sha256)


def _check(
    bold_PV: Array, std_PV: Array | None, parcellation: Parcellation, space: str, entities: Mapping[str, str]
) -> None:
    shapes = [array.shape for array in (bold_PV, std_PV) if array is not None]
    if len(set(shapes)) != 1 or len(bold_PV) != len(parcellation.names):
        raise ValueError(f"series of shape {shapes} for {len(parcellation.names)} parcels of {parcellation.name}")
    if not (parcellation.space.startswith("MNI") and space.startswith("MNI")):
        raise ValueError(
            f"atlas {parcellation.name} in {parcellation.space} space, space {space}: an MNI atlas is needed"
        )
    if "sub" not in entities or not all(value.isalnum() for value in (*entities.values(), space)):
        raise ValueError(f"entities {dict(entities)}, space {space}: give `sub`, and letters and digits only")


def _write_series(stem: Path, values_PV: Array, parcellation: Parcellation, sidecar: Mapping[str, Any]) -> Path:
    """Image and sidecar; one more row of zeros, in front, is what the background holds."""
    whole_P1 = np.isfinite(values_PV).all(axis=1, keepdims=True)
    filled_PV = np.where(whole_P1, values_PV, 0).astype(np.float32)
    data_XYZV = np.pad(filled_PV, ((1, 0), (0, 0)))[parcellation.labels_XYZ]
    _write_json(stem.with_name(f"{stem.name}.json"), sidecar)
    path = stem.with_name(f"{stem.name}.nii.gz")
    return write_nifti(path, data_XYZV, parcellation.affine_44, t_r=float(sidecar["RepetitionTime"]))


def _write_labels(stem: Path, parcellation: Parcellation, space: str) -> None:
    import pandas as pd

    table = pd.DataFrame({"index": range(1, len(parcellation.names) + 1), "name": parcellation.names})
    table.to_csv(stem.with_name(f"{stem.name}.tsv"), sep="\t", index=False)
    facts = {"Description": f"Parcels of {parcellation.name}", "SpatialReference": space, "Manual": False}
    _write_json(stem.with_name(f"{stem.name}.json"), facts | {"GeneratedBy": _generated_by()})
    path = stem.with_name(f"{stem.name}.nii.gz")
    write_nifti(path, parcellation.labels_XYZ.astype(np.int16), parcellation.affine_44)


def _generated_by() -> list[dict[str, str]]:
    return [{"Name": _GENERATOR, "Version": version("neuroloom"), "Description": "neuroloom.synthesis"}]


def _alphanumeric(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum())


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
