"""Predictions as a store, scores of them with the ceiling, and what they go with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.synthesis import HIDDEN, N_PARCELS, NAMES, cortex, made_scan, made_study

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.bold.parcels import template_parcels
from neuroloom.study.sensors import ELECTRODES, head, source_positions
from neuroloom.synthesis.attribution import attribution_table
from neuroloom.synthesis.ceiling import parcel_groups, signal_to_noise
from neuroloom.synthesis.config import HaemodynamicConfig, SynthesizeConfig
from neuroloom.synthesis.head_model import COMMON, leadfield, to_common
from neuroloom.synthesis.jobs import score_scans
from neuroloom.synthesis.predictions import Predictions
from neuroloom.synthesis.synthesize import Synthesis, synthesize

CONFIG = SynthesizeConfig(window=8.0, response=12.0, n_draws=20)
ALPHA = {"alpha": (8.0, 13.0)}


@pytest.fixture(scope="module")
def found() -> Synthesis:
    pairs, scans = made_study()
    sheet = [row for pair in pairs for row in (pair.eeg, pair.bold)]
    given = {"pairs": pairs, "sheet": sheet, "scans": scans, "eeg": {}, "encoder": None, "n_folds": 4, "folds": None}
    return synthesize(model=HaemodynamicConfig(bands=ALPHA), config=CONFIG, division="subject", seed=1, **given)


@pytest.fixture(scope="module")
def predictions(found: Synthesis) -> Predictions:
    facts = {"model": "ours", "kind": "haemodynamic", "split": "subject", "folds": found.facts, "seen": []}
    return Predictions(found.scans, facts, found.connectivity_SPP)


def test_predictions_come_back_from_their_store(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "ours.zarr"
    write_artifact(path, "predictions", arrays=predictions.arrays(), attrs=predictions.attrs())
    back = Predictions.from_artifact(open_artifact(path, kind="predictions"))
    assert back.facts == predictions.facts
    for mine, theirs in zip(predictions.scans, back.scans, strict=True):
        assert (mine.scan, mine.participant, mine.site, mine.task, mine.t_r) == (
            *(theirs.scan, theirs.participant, theirs.site, theirs.task, theirs.t_r),
        )
        for name in ("bold_true_PV", "bold_pred_PV", "bold_std_PV", "nuisance_VM", "onset_V"):
            np.testing.assert_allclose(getattr(theirs, name), getattr(mine, name), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(back.connectivity_SPP[mine.scan], predictions.connectivity_SPP[mine.scan], rtol=1e-5)


def test_scores_stand_beside_nulls_and_ceiling(predictions: Predictions, tmp_path: Path) -> None:
    groups = ["invisible" if at == HIDDEN else "visible" for at in range(N_PARCELS)]
    rows = [
        pd.DataFrame({"scan": one.scan, "parcel": NAMES, "ceiling": 0.9, "snr": 1.0, "group": groups})
        for one in predictions.scans
    ]
    path = tmp_path / "ceiling.parquet"
    pd.concat(rows).to_parquet(path)
    table = score_scans(predictions, config=CONFIG, ceiling=[str(path)], seed=1)["parcels"]
    assert set(table["target"]) == {"measured", "phase randomised", "circular shift", "other subject"}
    assert (table["ceiling"] == 0.9).all()
    measured = table[table["target"] == "measured"]
    assert (measured.loc[measured["group"] == "visible", "p_phase"] < 0.06).mean() > 0.8
    assert (measured.loc[measured["group"] == "invisible", "p_phase"] < 0.06).mean() < 0.5
    without = score_scans(predictions, config=CONFIG, ceiling=[], seed=1)["parcels"]
    assert without["ceiling"].isna().all()


def test_static_connectivity_is_the_one_that_a_model_gives(predictions: Predictions) -> None:
    """Given the measured one it agrees wholly; given nothing it is that of the prediction."""
    true_SPP = {one.scan: np.corrcoef(one.bold_true_PV) for one in predictions.scans}
    found = {}
    for name, given in (("own", predictions.connectivity_SPP), ("true", true_SPP), ("none", {})):
        scans = score_scans(replace(predictions, connectivity_SPP=given), config=CONFIG, ceiling=[], seed=1)["scans"]
        found[name] = scans[scans["target"] == "measured"].set_index("scan")
    np.testing.assert_allclose(found["true"]["fc_static"], 1.0)
    assert not np.allclose(found["own"]["fc_static"], found["none"]["fc_static"])
    np.testing.assert_allclose(found["own"]["fc_dynamic"], found["none"]["fc_dynamic"])


def test_bold_goes_with_alpha_some_seconds_before_as_in_the_measured(found: Synthesis) -> None:
    table = attribution_table(
        found.pieces, found.scans, model="ours", bands={**ALPHA, "beta": (15.0, 30.0)}, window=16.0
    )
    assert set(table["source"]) == {"measured", "ours"}
    assert set(table["electrode"]) == set(COMMON)
    seen = table[(table["parcel"] != NAMES[HIDDEN]) & (table["band"] == "alpha")]
    for source in ("measured", "ours"):
        by_lag = seen[seen["source"] == source].groupby("lag")["r"].mean()
        assert by_lag.idxmin() in (4.0, 6.0)  # BOLD falls with alpha, when the response is at its peak
    other = table[(table["parcel"] != NAMES[HIDDEN]) & (table["band"] == "beta") & (table["source"] == "ours")]
    ours = seen[seen["source"] == "ours"]
    assert other["r"].abs().max() < ours["r"].abs().max() / 2


def test_electrodes_of_any_cap_are_brought_to_the_common_ones() -> None:
    """What sources show at 32 electrodes says what they show at 19, and 19 are brought to themselves."""
    small, large = made_scan("north", 0), made_scan("south", 0)
    field = {}
    for scan in (small, large):
        gain_CP = np.einsum("cpk,pk->cp", leadfield(scan.position_C3, scan.centroid_P3), cortex())
        field[scan.site] = to_common(scan.position_C3, scan.centroid_P3) @ gain_CP
    for at in range(N_PARCELS):
        assert np.corrcoef(field["north"][:, at], field["south"][:, at])[0, 1] > 0.97
    same_CC = to_common(small.position_C3, small.centroid_P3)
    assert same_CC.shape == (19, 19)


def test_the_field_is_that_of_the_average_reference_and_falls_with_depth() -> None:
    places, centroid_P3 = head().montage.get_positions()["ch_pos"], template_parcels(64).centroid_P3
    gain_CP3 = leadfield(np.stack([places[name] for name in ELECTRODES[64].split()]), centroid_P3)
    assert np.abs(gain_CP3.mean(axis=0)).max() < 1e-9 * np.abs(gain_CP3).max()
    radius_P = np.linalg.norm(source_positions(centroid_P3) - head().sphere["r0"], axis=1)
    assert np.corrcoef(np.log(np.linalg.norm(gain_CP3, axis=2).max(axis=0)), radius_P)[0, 1] > 0.7


def test_a_source_is_heard_as_well_as_power_over_the_rest_says(tmp_path: Path) -> None:
    """Two sources of which electrodes see different patterns: the ratio is that of their powers to the noise."""
    rng = np.random.default_rng(0)
    leadfield_CP = np.array([[1.0, 0.2], [-1.0, 0.2], [0.0, -0.4]])
    source_PT = np.array([[2.0], [0.2]]) * rng.standard_normal((2, 40_000))
    signal = np.median(np.sqrt(np.mean((leadfield_CP @ source_PT) ** 2, axis=1)))
    path = tmp_path / "truth.zarr"
    arrays = {"parcel": ["a", "b"], "centroid": np.zeros((2, 3)), "source": source_PT, "leadfield": leadfield_CP}
    attrs = {"sfreq": 100.0, "t_r": None, "hrf_lag": 0.0, "snr": signal / 0.1}
    write_artifact(path, "truth", arrays={**arrays, "channel": ["x", "y", "z"]}, attrs=attrs, window=1000)
    snr_P = signal_to_noise(open_artifact(path, kind="truth"))
    expected_P = np.array([4.0, 0.04]) * (leadfield_CP**2).sum(axis=0) / 0.1**2
    np.testing.assert_allclose(snr_P, expected_P, rtol=0.05)
    planted_P = np.array([True, True])
    assert parcel_groups(np.array([[2.0, 0.5], [2.0, 3.0]]), ["n", "s"], planted_P) == ["visible", "weak"]
    assert parcel_groups(np.array([[2.0, 3.0]]), ["n"], np.array([False, True])) == ["invisible", "visible"]
