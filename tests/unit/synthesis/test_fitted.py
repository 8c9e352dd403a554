"""Fitted models that are kept say the same as when they were fitted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.synthesis import made_study

from neuroloom.artifacts import Artifact, open_artifact, write_artifact
from neuroloom.evaluation.splits import participant_of
from neuroloom.manifest import ArtifactError
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording
from neuroloom.schema import ConfigError
from neuroloom.synthesis.config import HaemodynamicConfig, MeanConfig, RidgeConfig, SynthesizeConfig
from neuroloom.synthesis.fitted import PredictedBold, load_fitted, predict_eeg, predict_piece, write_predicted
from neuroloom.synthesis.scans import Scan
from neuroloom.synthesis.synthesize import Synthesis, synthesize
from neuroloom.training.checkpoint import read_card

CONFIG = SynthesizeConfig(window=8.0, response=12.0, n_draws=20)
ALPHA = {"alpha": (8.0, 13.0)}


def fit(model: Any, keep: Path) -> Synthesis:
    pairs, scans = made_study()
    sheet = [row for pair in pairs for row in (pair.eeg, pair.bold)]
    given: dict[str, Any] = {"pairs": pairs, "sheet": sheet, "scans": scans, "eeg": {}, "encoder": None, "n_folds": 4}
    return synthesize(model=model, config=CONFIG, division="subject", seed=1, folds=(0,), keep=keep, **given)


@pytest.mark.parametrize(
    "model", [RidgeConfig(bands=ALPHA), HaemodynamicConfig(bands=ALPHA)], ids=["ridge", "haemodynamic"]
)
def test_what_was_kept_predicts_the_same(model: Any, tmp_path: Path) -> None:
    found = fit(model, tmp_path)
    kept = load_fitted(tmp_path / "fold-0")
    for scan in found.scans:
        mean_PN, std_PN = predict_piece(found.pieces[scan.scan], kept)
        measured_P = np.isfinite(scan.bold_pred_PV).all(axis=1)
        np.testing.assert_allclose(mean_PN[measured_P], scan.bold_pred_PV[measured_P], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(std_PN[measured_P], scan.bold_std_PV[measured_P], rtol=1e-9)
    people = read_card(tmp_path / "fold-0")["seen_subjects"]
    everyone = {participant_of(pair.eeg) for pair in made_study()[0]}
    assert len(people) == len(everyone - {one.participant for one in found.scans})


def stored(scan: Scan, folder: Path) -> Artifact:
    """The EEG of a scan as a store of preprocessing."""
    n = len(scan.ch_names)
    loc_C12 = np.zeros((n, 12), np.float32)
    loc_C12[:, :3] = scan.position_C3
    recording = Recording(
        signal_CT=np.asarray(scan.signal_CT[:, :], np.float32),
        sfreq=scan.sfreq,
        ch_names=scan.ch_names,
        ch_types=["eeg"] * n,
        units=["V"] * n,
        status=["good"] * n,
        coil_C=np.ones(n, np.int32),
        loc_C12=loc_C12,
    )
    path = folder / "new_eeg.zarr"
    write_artifact(path, "recording", arrays=recording.arrays(), attrs={**recording.attrs(), "recording": "new_eeg"})
    return open_artifact(path, kind="recording")


def test_eeg_without_bold_gets_what_the_study_predicted(tmp_path: Path) -> None:
    found = fit(HaemodynamicConfig(bands=ALPHA), tmp_path)
    said = found.scans[0]
    artifact = stored(found.pieces[said.scan].scan, tmp_path)
    bold = predict_eeg(artifact, load_fitted(tmp_path / "fold-0"))
    assert bold.t_r == said.t_r
    assert bold.onset_V[0] == CONFIG.window
    read_PV = np.stack([np.interp(said.onset_V, bold.onset_V, row_V) for row_V in bold.mean_PV])
    alike = [np.corrcoef(mine, theirs)[0, 1] for mine, theirs in zip(read_PV, said.bold_pred_PV, strict=True)]
    assert np.nanmedian(alike) > 0.95  # other volumes, and ends of the filter
    with pytest.raises(UnusableRecording, match="Give a recording of 10 volumes"):
        predict_eeg(artifact, load_fitted(tmp_path / "fold-0"), t_r=60.0)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    fit(RidgeConfig(bands=ALPHA), tmp_path)
    file = tmp_path / "fold-0" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="have changed"):
        load_fitted(tmp_path / "fold-0")


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    fit(MeanConfig(), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="no fitted model of synthesis there"):
        load_fitted(tmp_path / "fold-0")


def test_tables_and_images_hold_mean_and_sd(tmp_path: Path) -> None:
    import nibabel
    import pandas as pd

    from neuroloom.bold.parcels import load_atlas

    atlas = load_atlas("template8")
    mean_PV = np.arange(8 * 3, dtype=float).reshape(8, 3)
    found = PredictedBold(mean_PV, 2 * mean_PV, list(atlas.names), np.arange(3.0), 2.0)
    write_predicted(found, tmp_path / "bold.parquet", atlas="template8", facts={})
    table = pd.read_parquet(tmp_path / "bold.parquet").pivot(index="parcel", columns="volume", values="bold")
    np.testing.assert_array_equal(table.loc[list(atlas.names)], mean_PV)
    write_predicted(found, tmp_path / "bold.nii.gz", atlas="template8", facts={})
    image = nibabel.load(tmp_path / "bold.nii.gz")
    assert image.header.get_zooms()[3] == 2.0
    inside = np.asarray(image.dataobj)[atlas.labels_XYZ == 5]
    np.testing.assert_array_equal(inside, np.broadcast_to(mean_PV[4], inside.shape))
    with pytest.raises(ConfigError, match="say --atlas"):
        write_predicted(found, tmp_path / "bold.nii.gz", atlas="template10", facts={})
    with pytest.raises(ConfigError, match=r"\.parquet or a \.nii\.gz"):
        write_predicted(found, tmp_path / "bold.csv", atlas="template8", facts={})
