from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import butter, filtfilt
from tests.synthesis import made_scan

from neuroloom.schema import ConfigError
from neuroloom.synthesis.config import SynthesizeConfig, TargetConfig
from neuroloom.synthesis.pieces import nuisance, parts_of_scan, piece_of, scaled, target_scale, whole_scan

CONFIG = SynthesizeConfig(window=8.0, response=12.0)


def test_volumes_without_a_window_of_eeg_do_not_count_and_are_filtered_all_the_same() -> None:
    scan = made_scan("north", 0)
    piece = whole_scan(scan, CONFIG)
    assert piece.onset_N[0] >= 8.0
    assert piece.onset_N[0] - 2.0 < 8.0
    shorter = piece_of(scan, int(piece.volumes_N[0]), len(scan.onset_V), CONFIG)
    assert np.abs(shorter.target_PN - piece.target_PN).max() > 0.01  # another stretch is another filter


def test_the_target_is_in_its_band_without_trend() -> None:
    scan = made_scan("north", 0)
    drifting = replace(scan, bold_PV=scan.bold_PV + np.linspace(0, 50, len(scan.onset_V), dtype=np.float32))
    one, other = (whole_scan(each, CONFIG).target_PN for each in (scan, drifting))
    np.testing.assert_allclose(one, other, atol=1e-4)
    power_PF = np.abs(np.fft.rfft(one * np.hanning(one.shape[1]), axis=1)) ** 2
    above_F = np.fft.rfftfreq(one.shape[1], scan.t_r) > 0.15
    assert (power_PF[:, above_F].sum(axis=1) < 0.02 * power_PF.sum(axis=1)).all()


def test_nothing_of_the_test_is_in_the_target_of_training() -> None:
    """Other BOLD in the test part changes no bit of the training part; in the published chain it does."""
    scan = made_scan("north", 0, duration=400.0)
    changed_PV = scan.bold_PV.copy()
    changed_PV[:, -20:] += 30 * np.random.default_rng(0).standard_normal((8, 20))
    for chain, leaks in (("clean", False), ("published", True)):
        config = CONFIG.model_copy(update={"target": TargetConfig(chain=chain)})
        before, after = (parts_of_scan(each, config) for each in (scan, replace(scan, bold_PV=changed_PV)))
        assert np.array_equal(before["train"].target_PN, after["train"].target_PN) != leaks
        assert not np.array_equal(before["test"].target_PN, after["test"].target_PN)


def test_parts_of_a_scan_are_a_window_and_a_response_apart() -> None:
    scan = made_scan("north", 0, duration=400.0)
    parts = parts_of_scan(scan, CONFIG)
    for earlier, later in (("train", "validation"), ("validation", "test")):
        assert parts[later].onset_N[0] - parts[earlier].onset_N[-1] >= 20.0
    counts = np.array([len(parts[part].volumes_N) for part in ("train", "validation", "test")])
    np.testing.assert_allclose(counts / counts.sum(), CONFIG.parts, atol=0.02)
    with pytest.raises(ConfigError, match="leave fewer than 10 for test, validation"):
        parts_of_scan(made_scan("north", 0, duration=120.0), CONFIG)


def test_a_smaller_gap_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gap 10 s is less than window and response \(20 s\)"):
        SynthesizeConfig(window=8.0, response=12.0, gap=10.0)
    wide = parts_of_scan(made_scan("north", 0, duration=400.0), SynthesizeConfig(window=8.0, response=12.0, gap=40.0))
    assert wide["validation"].onset_N[0] - wide["train"].onset_N[-1] >= 40.0


def test_censored_volumes_neither_count_nor_ring() -> None:
    scan = made_scan("north", 0)
    kept_V, spiked_PV = scan.kept_V.copy(), scan.bold_PV.copy()
    kept_V[30], spiked_PV[:, 30] = False, 1e3
    plain = whole_scan(replace(scan, kept_V=kept_V), CONFIG)
    spiked = whole_scan(replace(scan, kept_V=kept_V, bold_PV=spiked_PV), CONFIG)
    assert 30 not in spiked.volumes_N
    np.testing.assert_allclose(spiked.target_PN, plain.target_PN, atol=1e-4)


def test_the_scale_is_that_of_training() -> None:
    one, other = (whole_scan(made_scan("north", at), CONFIG) for at in (0, 1))
    scale_P = target_scale([one])
    np.testing.assert_allclose(np.mean(scaled(one, scale_P).target_PN ** 2, axis=1), 1.0)
    np.testing.assert_allclose(scaled(other, scale_P).target_PN, other.target_PN / scale_P[:, None])
    lost = replace(one, target_PN=np.where(np.arange(8)[:, None] == 3, np.nan, one.target_PN))
    np.testing.assert_allclose(target_scale([lost, other])[3], target_scale([other])[3])


def test_the_published_chain_is_low_pass_mean_and_quantile_over_the_whole_scan() -> None:
    scan = made_scan("north", 0)
    config = CONFIG.model_copy(update={"target": TargetConfig(chain="published")})
    piece = whole_scan(scan, config)
    low_PV = filtfilt(*butter(5, 0.15, fs=1 / scan.t_r), scan.bold_PV.astype(float), axis=1)
    low_PV -= low_PV.mean(axis=1, keepdims=True)
    expected_PV = low_PV / np.quantile(np.abs(low_PV), 0.95, axis=1, keepdims=True)
    np.testing.assert_allclose(piece.target_PN, expected_PV[:, piece.volumes_N])


def test_nuisance_is_motion_and_the_global_signal_in_the_band() -> None:
    piece = whole_scan(made_scan("north", 0), CONFIG)
    names, values_NM = nuisance(piece)
    assert names == ["global_signal", "trans_x"]
    np.testing.assert_allclose(values_NM[:, 0], piece.target_PN.mean(axis=0))
    assert values_NM.shape == (len(piece.volumes_N), 2)
