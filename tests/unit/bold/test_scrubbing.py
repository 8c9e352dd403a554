from dataclasses import replace

import numpy as np
import pytest

from neuroloom.bold.cleaning import clean_parcels, clean_series
from neuroloom.bold.preprocess import preprocess_parcels
from neuroloom.bold.scrubbing import censored_volumes, kept_volumes, with_censored
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Confounds, ParcelSeries

CONFIG = BoldConfig(max_fd=0.5)


def table(fd_V: np.ndarray) -> Confounds:
    return Confounds(["framewise_displacement"], fd_V[:, None].astype(np.float32))


def test_volumes_beyond_the_limit_are_censored_and_the_first_is_not() -> None:
    fd_V = np.array([np.nan, 0.1, 0.5, 0.6, 0.2, *[0.0] * 20])
    censored_V, notes = censored_volumes(table(fd_V), config=CONFIG, file="f")
    assert np.flatnonzero(censored_V).tolist() == [3]
    assert notes == []
    confounds = with_censored(table(fd_V), censored_V)
    np.testing.assert_array_equal(kept_volumes(confounds), ~censored_V)
    assert kept_volumes(table(fd_V)).all()


def test_without_a_limit_or_motion_nothing_is_censored() -> None:
    fd_V = np.full(25, 3.0)
    assert not censored_volumes(table(fd_V), config=BoldConfig(), file="f")[0].any()
    censored_V, notes = censored_volumes(Confounds.none(25), config=CONFIG, file="f")
    assert not censored_V.any()
    assert "FD is not known" in notes[0]


@pytest.mark.parametrize(("n_volumes", "n_moved", "fails"), [(40, 20, False), (40, 21, True), (18, 9, True)])
def test_too_much_motion_is_refused(n_volumes: int, n_moved: int, fails: bool) -> None:
    fd_V = np.zeros(n_volumes)
    fd_V[-n_moved:] = 2
    if not fails:
        assert censored_volumes(table(fd_V), config=CONFIG, file="f")[0].sum() == n_moved
        return
    with pytest.raises(UnusableRecording, match=rf"{n_moved} of {n_volumes} volumes moved by more than 0\.5 mm"):
        censored_volumes(table(fd_V), config=CONFIG, file="run3")


def test_a_spike_no_longer_rings_through_the_filter(rng: np.random.Generator) -> None:
    time_V = np.arange(150) * 2.0
    true_PV = 1000 + 10 * np.sin(2 * np.pi * np.outer([0.02, 0.04, 0.06], time_V))
    spiky_PV, fd_V = true_PV.copy(), np.full(150, 0.05)
    spiky_PV[:, [40, 41, 90]] += 200
    fd_V[[40, 41, 90]] = 2.0
    facts = {"t_r": 2.0, "confounds": table(fd_V), "config": CONFIG}
    clean, spiky = (clean_parcels(means_PV, **facts).bold_PV for means_PV in (true_PV, spiky_PV))
    scrubbed = clean_parcels(spiky_PV, censored_V=fd_V > 0.5, **facts).bold_PV
    kept_V = fd_V <= 0.5
    error_before, error_after = (np.abs(x - clean)[:, kept_V].max() for x in (spiky, scrubbed))
    assert error_before > 2
    assert error_after < 0.05 * error_before
    assert np.isfinite(scrubbed).all()
    np.testing.assert_allclose(scrubbed[:, 90], (scrubbed[:, 89] + scrubbed[:, 91]) / 2, rtol=1e-4)


def test_censored_volumes_do_not_count_in_the_regression(rng: np.random.Generator) -> None:
    confound_V = rng.standard_normal(80)
    series_PV = np.outer([3.0, -2.0], confound_V)
    series_PV[:, [10, 55]] += 500
    options = {"t_r": 2.0, "detrend": False, "high_pass": None, "low_pass": None, "confounds_VM": confound_V[:, None]}
    kept_V = np.ones(80, bool)
    kept_V[[10, 55]] = False
    left_PV = clean_series(series_PV - series_PV[:, kept_V].mean(axis=1, keepdims=True), kept_V=kept_V, **options)
    assert np.abs(left_PV - left_PV.mean(axis=1, keepdims=True))[:, kept_V].max() < 1e-8


def test_volumes_censored_at_the_ends_take_the_nearest_value(rng: np.random.Generator) -> None:
    series_PV = rng.standard_normal((2, 30)).cumsum(axis=1)
    kept_V = np.ones(30, bool)
    kept_V[[0, 1, 29]] = False
    options = {"t_r": 2.0, "detrend": True, "high_pass": None, "low_pass": 0.1, "confounds_VM": None}
    cleaned_PV = clean_series(series_PV, kept_V=kept_V, **options)
    np.testing.assert_array_equal(cleaned_PV[:, 0], cleaned_PV[:, 2])
    np.testing.assert_array_equal(cleaned_PV[:, 29], cleaned_PV[:, 28])


def test_the_row_counts_them_and_the_series_marks_them(rng: np.random.Generator) -> None:
    fd_V = np.full(60, 0.1)
    fd_V[[7, 30]] = 0.9
    bold_PV = (800 + rng.standard_normal((4, 60))).astype(np.float32)
    nowhere = np.full((4, 3), np.nan)
    series = ParcelSeries(bold_PV, list("abcd"), nowhere, np.zeros(4, int), 2.0, "t", "0", "unknown", table(fd_V))
    cleaned, qc = preprocess_parcels(series=series, config=CONFIG)
    assert qc.row()["n_censored"] == 2
    assert np.flatnonzero(~kept_volumes(cleaned.confounds)).tolist() == [7, 30]
    assert cleaned.bold_PV.shape == (4, 60)
    untouched, qc = preprocess_parcels(series=replace(series, confounds=table(fd_V / 10)), config=CONFIG)
    assert qc.n_censored == 0
    assert "censored" not in untouched.confounds.names
