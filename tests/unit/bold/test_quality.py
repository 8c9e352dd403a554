import numpy as np
import pytest

from neuroloom.bold.quality import (
    CARPET_ROWS,
    carpet,
    linear_detrended,
    mean_spectrum,
    standardised_dvars,
    temporal_snr,
)


def test_detrending_leaves_what_is_no_line(rng: np.random.Generator) -> None:
    volume_V = np.arange(50)
    wave_V = np.sin(volume_V / 3)
    wave_V -= np.polyval(np.polyfit(volume_V, wave_V, 1), volume_V)
    series_XV = np.stack([1000 + 3.0 * volume_V + wave_V, -2.0 * volume_V])
    np.testing.assert_allclose(linear_detrended(series_XV), [wave_V, 0 * volume_V], atol=1e-3)


def test_temporal_snr_is_mean_over_sd_without_drift(rng: np.random.Generator) -> None:
    series_XV = 500 + rng.standard_normal((200, 300)) * 5 + np.arange(300) * 0.5
    assert temporal_snr(series_XV.astype(np.float32)) == pytest.approx((500 + 75) / 5, rel=0.03)
    assert np.isnan(temporal_snr(np.ones((3, 10))))


def test_dvars_is_one_for_noise_and_high_at_a_jump(rng: np.random.Generator) -> None:
    series_XV = rng.standard_normal((500, 200)) * rng.uniform(1, 5, (500, 1)) + 1000
    quiet_V = standardised_dvars(series_XV)
    assert np.isnan(quiet_V[0])
    assert quiet_V[1:].mean() == pytest.approx(1, abs=0.03)
    series_XV[:, 100:] += 20
    jump_V = standardised_dvars(series_XV)
    assert np.nanargmax(jump_V) == 100
    assert jump_V[100] > 4
    np.testing.assert_allclose(standardised_dvars(3 * series_XV + 7), jump_V, rtol=1e-3)


def test_dvars_of_a_series_without_usual_changes_is_unknown() -> None:
    assert np.isnan(standardised_dvars(np.ones((4, 10)))).all()


def test_the_carpet_is_sorted_thinned_and_standardised(rng: np.random.Generator) -> None:
    parcel_X = rng.integers(-1, 6, 2000)
    carpet_XV, rows_X = carpet(rng.standard_normal((2000, 30)) * 9 + 100, parcel_X)
    assert carpet_XV.shape == (CARPET_ROWS, 30)
    assert (np.diff(rows_X) >= 0).all()
    assert set(rows_X) == set(range(6))
    np.testing.assert_allclose(carpet_XV.std(axis=1), 1, rtol=1e-4)
    same_XV, _ = carpet(np.stack([np.arange(30.0) ** 2, np.ones(30)]), np.array([1, 0]))
    assert not same_XV[0].any()


def test_the_spectrum_peaks_where_the_series_swings() -> None:
    time_V = np.arange(200) * 2.0
    series_PV = np.stack([np.sin(2 * np.pi * 0.0625 * time_V), np.full(200, np.nan)])
    frequency_F, psd_F = mean_spectrum(series_PV, 2.0)
    assert frequency_F[psd_F.argmax()] == pytest.approx(0.0625)
    assert frequency_F[-1] == pytest.approx(0.25)
