"""All models on made people under two caps: what they find, and where they have to find nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.synthesis import CAPS, HIDDEN, N_PARCELS, made_scan, made_study

from neuroloom.config import RecordingRow
from neuroloom.schema import ConfigError
from neuroloom.study.sources import coloured_noise
from neuroloom.synthesis.base import Context
from neuroloom.synthesis.config import (
    ArtefactConfig,
    BoltConfig,
    CnnConfig,
    FitConfig,
    HaemodynamicConfig,
    MeanConfig,
    RidgeConfig,
    SynthesizeConfig,
)
from neuroloom.synthesis.haemodynamic import fit
from neuroloom.synthesis.metrics import correlation
from neuroloom.synthesis.pieces import parts_of_scan, whole_scan
from neuroloom.synthesis.synthesize import Synthesis, synthesize

CONFIG = SynthesizeConfig(window=8.0, response=12.0)
ALPHA = {"alpha": (8.0, 13.0)}
SEEN = np.arange(N_PARCELS) != HIDDEN
TINY_BOLT = BoltConfig(
    network={
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
        "patch_size": 100,
        "n_patches": 32,
        "scales": (100, 200),
        "spectral_depth": 1,
        "spectral_heads": 2,
        "electrodes": ("O1", "O2", "Pz", "Cz", "C3", "C4"),
    },
    training=FitConfig(epochs=1, batch_size=32),
)


def rows_of(pairs: Any) -> list[RecordingRow]:
    return [row for pair in pairs for row in (pair.eeg, pair.bold)]


def said(model: Any, division: str = "subject", **changes: Any) -> Synthesis:
    pairs, scans = made_study()
    given: dict[str, Any] = {"pairs": pairs, "sheet": rows_of(pairs), "scans": scans, "folds": None, **changes}
    return synthesize(model=model, config=CONFIG, division=division, n_folds=4, eeg={}, encoder=None, seed=1, **given)


def correlations(found: Synthesis) -> np.ndarray:
    return np.stack([correlation(one.bold_true_PV, one.bold_pred_PV) for one in found.scans])


@pytest.fixture(scope="module")
def sources() -> Synthesis:
    return said(HaemodynamicConfig(bands=ALPHA))


def test_every_scan_is_tested_once_by_weights_of_other_people(sources: Synthesis) -> None:
    assert sorted(one.scan for one in sources.scans) == sorted(scan.name for scan in made_study()[1])
    assert [fact["n_test"] for fact in sources.facts] == [2, 2, 2, 2]
    assert [fact["n_train"] for fact in sources.facts] == [4, 4, 4, 4]


def test_sources_find_the_bold_of_other_people_and_sites(sources: Synthesis) -> None:
    r_SP = correlations(sources)
    assert r_SP[:, SEEN].mean() > 0.7
    elsewhere = correlations(said(HaemodynamicConfig(bands=ALPHA), "site"))
    assert elsewhere[:, SEEN].mean() > 0.6


def test_nothing_is_found_where_bold_follows_nothing(sources: Synthesis) -> None:
    assert abs(correlations(sources)[:, HIDDEN].mean()) < 0.25  # 8 scans


def test_sources_beat_ridge_on_electrodes_which_beats_the_mean(sources: Synthesis) -> None:
    ridge = said(RidgeConfig(bands=ALPHA))
    assert correlations(sources)[:, SEEN].mean() > correlations(ridge)[:, SEEN].mean() + 0.02
    mean = said(MeanConfig())
    assert np.isnan(correlations(mean)).all()
    error = {name: np.mean([(one.bold_true_PV - one.bold_pred_PV)[SEEN] ** 2 for one in found.scans])
             for name, found in (("ridge", ridge), ("mean", mean))}  # fmt: skip
    assert error["ridge"] < error["mean"]


def test_scans_of_other_people_in_place_of_the_own_are_chance() -> None:
    """The whole chain with each EEG beside the BOLD of somebody else at the same site."""
    _, scans = made_study()
    other = {scan.site: [one.bold_PV for one in scans if one.site == scan.site] for scan in scans}
    mixed, at = [], dict.fromkeys(CAPS, 0)
    for scan in scans:
        mixed.append(replace(scan, bold_PV=other[scan.site][(at[scan.site] + 1) % 4]))
        at[scan.site] += 1
    found = said(HaemodynamicConfig(bands=ALPHA), scans=tuple(mixed))
    assert abs(correlations(found)[:, SEEN].mean()) < 0.12


def test_the_artefact_control_finds_nothing_in_clean_eeg() -> None:
    assert abs(correlations(said(ArtefactConfig()))[:, SEEN].mean()) < 0.15


def test_the_artefact_control_finds_what_scanner_left_in_time_with_bold() -> None:
    """A residue of gradients whose size follows the BOLD: the control has to hear it."""
    _, scans = made_study()
    dirty = []
    for scan in scans:
        time_T = np.arange(scan.signal_CT.shape[1]) / scan.sfreq
        size_T = 2e-5 * (2 + np.interp(time_T, scan.onset_V, scan.bold_PV[0]))
        wave_T = np.sin(2 * np.pi * 30 * ((time_T - scan.onset_V[0]) % scan.t_r))
        place_C1 = np.sin(np.arange(len(scan.ch_names)))[:, None]
        dirty.append(replace(scan, signal_CT=scan.signal_CT + (place_C1 * size_T * wave_T).astype(np.float32)))
    found = said(ArtefactConfig(), scans=tuple(dirty))
    assert correlations(found)[:, 0].mean() > 0.5


def test_validation_finds_the_lag_of_the_response() -> None:
    pairs, _ = made_study()
    late = [made_scan(pair.eeg.site, int(pair.eeg.subject), lag=1.0) for pair in pairs]
    found = said(HaemodynamicConfig(bands=ALPHA, lags=(-1.0, 0.0, 1.0)), scans=late)
    assert [fact["lag"] for fact in found.facts] == [1.0] * 4


def test_intervals_hold_what_they_say(sources: Synthesis) -> None:
    z = np.concatenate(
        [((one.bold_true_PV - one.bold_pred_PV) / one.bold_std_PV)[SEEN].ravel() for one in sources.scans]
    )
    assert 0.9 < np.mean(np.abs(z) < 1.96) < 0.99


def test_connectivity_is_completed_by_what_predictions_leave_over() -> None:
    """A course that all parcels share, and EEG does not see: no prediction has it, connectivity has."""
    _, scans = made_study()
    shared = []
    for at, scan in enumerate(scans):
        noise_V = coloured_noise(np.random.default_rng(at), 1, len(scan.onset_V), 0.5, exponent=0.5, h_freq=0.1)[0]
        shared.append(replace(scan, bold_PV=scan.bold_PV + 2 * noise_V.astype(np.float32)))
    found = said(HaemodynamicConfig(bands=ALPHA), scans=tuple(shared))
    upper = np.triu_indices(N_PARCELS, 1)
    for one in found.scans:
        true_E, bare_E = (np.corrcoef(series)[upper] for series in (one.bold_true_PV, one.bold_pred_PV))
        completed_PP = found.connectivity_SPP[one.scan]
        np.testing.assert_allclose(np.diag(completed_PP), 1.0)
        assert np.mean((completed_PP[upper] - true_E) ** 2) < np.mean((bare_E - true_E) ** 2)


def test_a_parcel_that_a_scan_did_not_measure_stays_unknown_and_the_others_are_as_they_were() -> None:
    _, scans = made_study()
    lost_PV = scans[0].bold_PV.copy()
    lost_PV[1] = np.nan
    found = said(HaemodynamicConfig(bands=ALPHA), scans=(replace(scans[0], bold_PV=lost_PV), *scans[1:]))
    one = next(each for each in found.scans if each.scan == scans[0].name)
    assert np.isnan(one.bold_true_PV[1]).all()
    assert np.isfinite(np.delete(one.bold_pred_PV, 1, axis=0)).all()
    r_SP = correlations(found)
    assert r_SP[:, SEEN][np.isfinite(r_SP[:, SEEN])].mean() > 0.7


BF16_BOLT = TINY_BOLT.model_copy(update={"training": FitConfig(epochs=1, batch_size=32, precision="bf16-mixed")})
CNN = CnnConfig(training=FitConfig(epochs=6, lr=1e-2))


@pytest.mark.parametrize("model", [CNN, TINY_BOLT, BF16_BOLT], ids=["cnn", "neurobolt", "bf16"])
def test_networks_learn_from_windows_of_any_cap(model: Any) -> None:
    found = said(model, folds=(0,))
    r_SP = correlations(found)
    assert len(found.scans) == 2
    assert np.isfinite(r_SP).all()
    assert found.facts[0]["epoch"] >= 1
    assert all((one.bold_std_PV > 0).all() for one in found.scans)
    if model.kind == "cnn":
        assert r_SP[:, SEEN].mean() > 0.2


def test_the_same_seed_says_the_same() -> None:
    one, other = (said(CnnConfig(training=FitConfig(epochs=1)), folds=(0,)) for _ in range(2))
    for mine, theirs in zip(one.scans, other.scans, strict=True):
        np.testing.assert_array_equal(mine.bold_pred_PV, theirs.bold_pred_PV)


def test_ends_of_scans_are_predicted_from_their_beginnings() -> None:
    pairs = [pair for pair in made_study()[0] if pair.eeg.site == "south"][:2]
    scans = [made_scan("south", int(pair.eeg.subject), duration=400.0) for pair in pairs]
    found = said(HaemodynamicConfig(bands=ALPHA), "scan", pairs=pairs, scans=scans)
    assert [one.onset_V[0] > 250 for one in found.scans] == [True, True]
    assert correlations(found)[:, SEEN].mean() > 0.6
    assert [fact["n_test"] for fact in found.facts] == [2]
    assert set(parts_of_scan(scans[0], CONFIG)) == {"train", "validation", "test"}


def test_too_few_people_are_named() -> None:
    _, scans = made_study()
    with pytest.raises(ConfigError, match="nobody with EEG and BOLD for"):
        said(MeanConfig(), scans=scans[:2], folds=(0,))


def test_caps_without_positions_are_refused() -> None:
    scan = made_scan("north", 0)
    piece = whole_scan(replace(scan, position_C3=np.full((19, 3), np.nan)), CONFIG)
    with pytest.raises(ConfigError, match="19 of 19 electrodes have no position"):
        fit(HaemodynamicConfig(), {"train": [piece], "validation": [piece]}, Context(CONFIG, np.random.default_rng(0)))
