"""Fitted models of synthesis on disk, for EEG that was recorded without BOLD: safetensors, JSON and a card.

Kept are the linear kinds, ridge and haemodynamic, which need no more than their weights; networks are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from neuroloom.artifacts import Artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import seen_subjects
from neuroloom.manifest import ArtifactError
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds, Recording
from neuroloom.schema import ConfigError
from neuroloom.signals.streams import pick
from neuroloom.synthesis.base import Context, Predictor
from neuroloom.synthesis.baselines import LinearPredictor, ridge_designs
from neuroloom.synthesis.config import HaemodynamicConfig, RidgeConfig, SynthesizeConfig, SynthesizerConfig
from neuroloom.synthesis.haemodynamic import Haemodynamic, features
from neuroloom.synthesis.linear import Linear
from neuroloom.synthesis.pieces import Piece
from neuroloom.synthesis.scans import Scan
from neuroloom.synthesis.tokens import Components
from neuroloom.training.checkpoint import SETTINGS, WEIGHTS, read_card, write_card

SHORTEST = 10  # volumes


@dataclass(frozen=True)
class PredictedBold:
    """BOLD of one EEG recording, in SDs of training.

    Attributes
    ----------
    mean_PV, std_PV : array
    parcels : list of str
    onset_V : array
        s from the first sample of the EEG.
    t_r : float
        s.
    """

    mean_PV: Array
    std_PV: Array
    parcels: list[str]
    onset_V: Array
    t_r: float


def save_fitted(
    fitted: Predictor,
    folder: Path,
    *,
    model: Any,
    config: SynthesizeConfig,
    fold: str,
    trained: Sequence[tuple[Scan, RecordingRow]],
    encoder: Path | None,
) -> None:
    """Keep a fitted model, if it is of a kind that is kept.

    Parameters
    ----------
    fitted : Predictor
    folder : Path
        Gets one folder for each fold.
    model : one of `config.SynthesizerConfig`
    config : SynthesizeConfig
    fold : str
    trained : sequence of (Scan, RecordingRow)
        Of training and validation, the EEG's row.
    encoder : Path or None
        The pretrained model that it reads through.
    """
    from safetensors.numpy import save_file

    linear = fitted.linear if isinstance(fitted, Haemodynamic) else fitted
    if not isinstance(linear, LinearPredictor) or not isinstance(model, RidgeConfig | HaemodynamicConfig):
        return
    place = folder / f"fold-{re.sub(r'[^A-Za-z0-9]+', '-', fold)}"
    place.mkdir(parents=True, exist_ok=True)
    scan, known = trained[0][0], linear.model
    arrays = {"weight": known.weight_PK, "scale": known.scale_PK, "inverse": known.inverse_PKK,
              "noise": known.noise_P, "centroid": scan.centroid_P3}  # fmt: skip
    if isinstance(fitted, Haemodynamic) and fitted.components is not None:
        arrays |= {"component_mean": fitted.components.mean_D, "component": fitted.components.direction_DK}
    save_file({name: np.ascontiguousarray(value, np.float64) for name, value in arrays.items()}, place / WEIGHTS)
    settings = {
        "kind": model.kind,
        "model": model.model_dump(),
        "design": linear.facts["design"],
        "target": config.target.model_dump(),
        "window": config.window,
        "parcels": list(scan.parcels),
        "t_r": float(np.median([one.t_r for one, _ in trained])),
        "encoder": _encoder_facts(encoder),
    }
    (place / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
    salt = f"synthesize/{scan.study}"
    people = {"salt": salt, "seen_subjects": seen_subjects([row for _, row in trained], salt=salt)}
    upstream = [read_card(encoder)] if encoder else []
    write_card(place, {"architecture": model.kind, "fold": fold, "upstream": upstream, **people})


def _encoder_facts(encoder: Path | None) -> dict[str, str] | None:
    return {"folder": encoder.as_posix(), "weights": read_card(encoder)["weights_sha256"]} if encoder else None


@dataclass(frozen=True)
class Fitted:
    """A model as it was kept."""

    settings: Mapping[str, Any]
    arrays: Mapping[str, Array]
    encoder: Path | None


def load_fitted(folder: Path) -> Fitted:
    """A model of synthesis, from the folder of one fold.

    Raises
    ------
    ConfigError
        If there is none, or the encoder that it reads through is not there.
    ArtifactError
        If weights are not those that cards name.
    """
    from safetensors.numpy import load_file

    if not (folder / SETTINGS).exists():
        raise ConfigError(
            f"{folder}: no fitted model of synthesis there (no {SETTINGS}); name a fold of a ridge or haemodynamic "
            "model, such as results/<study>/synthesize/subject/fitted/ridge/fold-0. "
            "Means, controls and networks are not kept"
        )
    read_card(folder)
    settings = json.loads((folder / SETTINGS).read_text())
    if "design" not in settings:
        raise ConfigError(
            f"{folder}: holds a {settings.get('kind')}, no model of synthesis; encoders are for `neuroloom embed`"
        )
    said, encoder = settings["encoder"], None
    if said:
        encoder = Path(said["folder"])
        if not encoder.is_dir():
            raise ConfigError(f"{encoder}: {folder} reads through this model; run the command where the study was run")
        if read_card(encoder)["weights_sha256"] != said["weights"]:
            raise ArtifactError(f"{encoder}: not the weights that {folder} was fitted on; run synthesize_bold again")
    return Fitted(settings, load_file(folder / WEIGHTS), encoder)


def predict_eeg(artifact: Artifact, fitted: Fitted, *, t_r: float | None = None) -> PredictedBold:
    """BOLD of one preprocessed EEG recording.

    Parameters
    ----------
    artifact : Artifact
        A `recording` of preprocess_meeg.
    fitted : Fitted
    t_r : float, optional
        Time between volumes, s; default: that of training.

    Raises
    ------
    UnusableRecording
        If it has no EEG with positions, or is too short.
    """
    settings = fitted.settings
    scan = _scan_of(artifact, settings, fitted.arrays["centroid"], t_r=t_r or settings["t_r"])
    n_volumes = len(scan.onset_V)
    target = SynthesizeConfig(target=settings["target"]).target
    piece = Piece(scan, 0, n_volumes, np.arange(n_volumes), scan.bold_PV, target)
    mean_PV, std_PV = predict_piece(piece, fitted, eeg=artifact.path)
    return PredictedBold(mean_PV, std_PV, list(scan.parcels), scan.onset_V, scan.t_r)


def predict_piece(piece: Piece, fitted: Fitted, *, eeg: Path | None = None) -> tuple[Array, Array]:
    """Mean, in the band of the target, and SD of the BOLD of a piece, (P, N) each; `eeg` is its store, for tokens."""
    arrays = fitted.arrays
    linear = Linear(arrays["weight"], arrays["scale"], arrays["inverse"], arrays["noise"][:, None])
    mean_PN, std_PN = linear.predict(_design(fitted, {piece.scan.name: eeg} if eeg else {})(piece))
    return piece.filtered(mean_PN), std_PN


def _design(fitted: Fitted, eeg: Mapping[str, Path]) -> Callable[[Piece], Array]:
    """Features as they were fitted."""
    settings, arrays = fitted.settings, fitted.arrays
    context = Context(SynthesizeConfig(), np.random.default_rng(0), eeg, fitted.encoder)
    model: Any = TypeAdapter(SynthesizerConfig).validate_python(settings["model"])
    if isinstance(model, RidgeConfig):
        return ridge_designs(model, context)[settings["design"]]
    known = Components(arrays["component_mean"], arrays["component"]) if "component" in arrays else None
    return lambda piece: features(piece, model, context, known, float(settings["design"]))


def _scan_of(artifact: Artifact, settings: Mapping[str, Any], centroid_P3: Array, *, t_r: float) -> Scan:
    """EEG as a scan whose BOLD nobody has measured; volumes begin where there is enough EEG before them."""
    eeg = pick(Recording.from_artifact(artifact), "eeg")
    if not eeg.ch_names or not np.isfinite(eeg.position_C3).all():
        raise UnusableRecording(artifact.path, "no EEG, or electrodes without positions", "Give EEG with a montage")
    onset_V = np.arange(settings["window"], eeg.signal_CT.shape[1] / eeg.sfreq, t_r)
    if len(onset_V) < SHORTEST:
        found = f"{len(onset_V)} volumes of {t_r:g} s after the first {settings['window']:g} s"
        raise UnusableRecording(artifact.path, found, f"Give a recording of {SHORTEST} volumes or more")
    name = str(artifact.attrs["recording"])
    return Scan(
        name=name,
        study="",
        participant="",
        site="",
        session=None,
        task="",
        run=None,
        signal_CT=eeg.signal_CT,
        sfreq=eeg.sfreq,
        ch_names=eeg.ch_names,
        position_C3=eeg.position_C3,
        onset_V=onset_V,
        bold_PV=np.full((len(settings["parcels"]), len(onset_V)), np.nan),
        kept_V=np.ones(len(onset_V), bool),
        t_r=t_r,
        parcels=list(settings["parcels"]),
        centroid_P3=centroid_P3,
        confounds=Confounds.none(len(onset_V)),
        rejected_N2=np.zeros((0, 2)),
    )


def write_predicted(found: PredictedBold, path: Path, *, atlas: str, facts: Mapping[str, Any]) -> None:
    """Write a table (volume, time, parcel, bold, std), or a 4-D image with the SD beside it.

    Parameters
    ----------
    found : PredictedBold
    path : Path
        `.parquet` or `.nii.gz`.
    atlas : str
        Of the image.
    facts : mapping
        Kept in the metadata of the table.

    Raises
    ------
    ConfigError
        If the ending is another, or the atlas does not have these parcels.
    """
    if path.name.endswith(".nii.gz"):
        return _write_image(found, path, atlas=atlas)
    if path.suffix != ".parquet":
        raise ConfigError(f"{path}: name a .parquet or a .nii.gz file")
    import pandas as pd

    from neuroloom.embedding import write_features

    n_parcels, n_volumes = found.mean_PV.shape
    table = pd.DataFrame(
        {
            "volume": np.repeat(np.arange(n_volumes), n_parcels),
            "time": np.repeat(found.onset_V, n_parcels),
            "parcel": found.parcels * n_volumes,
            "bold": found.mean_PV.T.ravel().astype(np.float32),
            "std": found.std_PV.T.ravel().astype(np.float32),
        }
    )
    write_features(table, path, facts={**facts, "unit": "SD of training", "t_r": found.t_r})
    return None


def _write_image(found: PredictedBold, path: Path, *, atlas: str) -> None:
    from neuroloom.bold.images import write_nifti
    from neuroloom.bold.parcels import load_atlas

    parcellation = load_atlas(atlas)
    if list(parcellation.names) != found.parcels:
        raise ConfigError(
            f"{path}: the model knows {len(found.parcels)} parcels that {atlas} does not have; say --atlas"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.name.removesuffix(".nii.gz")
    for values_PV, name in ((found.mean_PV, path.name), (found.std_PV, f"{stem}_std.nii.gz")):
        whole_PV = np.pad(np.asarray(values_PV, np.float32), ((1, 0), (0, 0)))
        write_nifti(path.with_name(name), whole_PV[parcellation.labels_XYZ], parcellation.affine_44, t_r=found.t_r)
