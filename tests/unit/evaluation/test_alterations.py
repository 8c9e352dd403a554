"""What is taken out is gone, the rest is there, and prepared as a model wants it."""

from typing import Any

import numpy as np
import pytest

from neuroloom.evaluation.alterations import Altered, band_gain, changes, filtered, fit_slope, frontal_channels
from neuroloom.evaluation.baselines import BANDS
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Preparation, normalize_positions

SFREQ = 200.0
NAMES = ["Fp1", "Fp2", "AF7", "C3", "C4", "Oz"]


def noise(rng: np.random.Generator, shape: tuple[int, ...], exponent: Any = 1.0) -> Any:
    """Noise of unit SD whose power falls with this exponent."""
    spectrum = np.fft.rfft(rng.standard_normal(shape), axis=-1)
    freqs_F = np.maximum(np.fft.rfftfreq(shape[-1], 1 / SFREQ), 0.5)
    x = np.fft.irfft(spectrum / freqs_F ** (np.asarray(exponent)[..., None] / 2), shape[-1], axis=-1)
    return (x / x.std(axis=-1, keepdims=True)).astype(np.float32)


def wave(freq: float, rng: np.random.Generator, count: int, n_times: int = 400) -> Any:
    return np.sqrt(2) * np.sin(2 * np.pi * (freq * np.arange(n_times) / SFREQ + rng.random((count, 1))))


@pytest.mark.parametrize("band", list(BANDS))
def test_a_band_keeps_its_rhythm_and_no_other(band: str, rng: np.random.Generator) -> None:
    low, high = BANDS[band]
    centres = {"delta": 2.5, "theta": 6.0, "alpha": 10.5, "beta": 20.0, "low gamma": 37.0}
    for name, freq in centres.items():
        x_BCT = wave(freq, rng, 1)[None].astype(np.float32)
        left = filtered(x_BCT, band_gain(low, high), SFREQ)[..., 50:-50].std() / x_BCT[..., 50:-50].std()
        assert left == pytest.approx(1.0 if name == band else 0.0, abs=0.07), (name, left)


def test_nothing_is_lost_where_the_gain_is_one(rng: np.random.Generator) -> None:
    for n_times in (400, 401):
        x_BCT = rng.standard_normal((2, 3, n_times)).astype(np.float32)
        same_BCT = filtered(x_BCT, lambda signal, freqs_F, sfreq: np.ones(len(freqs_F)), SFREQ)
        np.testing.assert_allclose(same_BCT, x_BCT, rtol=0, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_planted_slope_is_found_below_a_peak(exponent: float) -> None:
    freqs_F = np.arange(0, 100.5, 0.5)
    aperiodic_F = 3.0 * np.maximum(freqs_F, 0.5) ** -exponent
    peaks_F = 20 * np.exp(-0.5 * ((freqs_F - 10) / 1.0) ** 2) + 4 * np.exp(-0.5 * ((freqs_F - 20) / 2.0) ** 2)
    offset_N, exponent_N = fit_slope(freqs_F, np.stack([aperiodic_F, aperiodic_F * (1 + peaks_F)]))
    assert exponent_N == pytest.approx([exponent, exponent], abs=0.1)
    assert offset_N == pytest.approx([np.log10(3.0)] * 2, abs=0.1)
    with pytest.raises(ConfigError, match="4 frequencies within"):
        fit_slope(np.array([1.0, 5, 10, 20, 30, 50]), np.ones((1, 6)))


@pytest.mark.parametrize("name", ["no 1/f of recordings", "no 1/f of windows"])
def test_whitening_takes_the_slope_and_leaves_the_peak(name: str, toy_pieces: Any, rng: np.random.Generator) -> None:
    from scipy.signal import welch

    x_NCT = noise(rng, (40, 6, 400), np.array([0.5, 1.0, 1.5, 2.0, 1.0, 1.0]))
    x_NCT[:, 5] += wave(10.0, rng, 40)
    pieces = toy_pieces("r", x_NCT, NAMES, np.zeros((6, 6), np.float32), SFREQ)
    white = changes("reve", SFREQ)[name](pieces)
    freqs_F, psd_CF = welch(white.read(0, 40), SFREQ, nperseg=200, axis=-1)
    psd_CF = psd_CF.mean(axis=0)
    exponent_C = fit_slope(freqs_F, psd_CF)[1]
    assert exponent_C == pytest.approx(np.zeros(6), abs=0.15)
    around = (np.abs(freqs_F - 10) > 4) & (freqs_F > 3) & (freqs_F < 40)
    assert psd_CF[5, freqs_F == 10] > 8 * psd_CF[5, around].mean()
    assert psd_CF[0, freqs_F == 10] < 1.5 * psd_CF[0, around].mean()


@pytest.mark.parametrize("preparation", ["brainomni", "reve"])
def test_what_is_left_is_prepared_anew(preparation: Preparation, toy_pieces: Any, rng: np.random.Generator) -> None:
    place_C6 = rng.standard_normal((6, 6)).astype(np.float32)
    pieces = toy_pieces("r", noise(rng, (30, 6, 400)), NAMES, place_C6, SFREQ)
    keep_C = np.array([False, True, True, False, True, True])
    altered = Altered(pieces, preparation, keep_C, band_gain(8, 13))
    assert altered.ch_names == ["Fp2", "AF7", "C4", "Oz"]
    assert (len(altered), altered.n_times, altered.recording) == (30, 400, "r")
    assert len(altered.sensor_type_C) == 4
    x_NCT = altered.read(0, 30)
    assert x_NCT.dtype == np.float32
    assert (altered.read(7)[0] == x_NCT[7]).all()
    if preparation == "brainomni":
        np.testing.assert_allclose(x_NCT.mean(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(x_NCT.std(axis=(1, 2)), 1, rtol=1e-4)
        np.testing.assert_allclose(altered.positions_C6, normalize_positions(place_C6[keep_C], np.zeros(4)), rtol=1e-5)
    else:
        np.testing.assert_allclose(x_NCT.std(axis=(0, 2)), 1, rtol=1e-4)
        assert (altered.positions_C6 == place_C6[keep_C]).all()


def test_frontal_sensors_have_names_or_stand_in_front(toy_pieces: Any) -> None:
    place_C6 = np.zeros((6, 6), np.float32)
    place_C6[:, 1] = [0.09, 0.08, 0.05, 0.0, -0.05, -0.09]
    x_NCT = np.zeros((1, 6, 400), np.float32)
    assert frontal_channels(toy_pieces("r", x_NCT, NAMES, place_C6)).tolist() == [True] * 3 + [False] * 3
    coded = toy_pieces("r", x_NCT, ["E1", "E2", "Fp1", "E4", "E5", "E6"], place_C6)
    assert frontal_channels(coded).tolist() == [True] * 3 + [False] * 3
    loud = toy_pieces("r", x_NCT, ["FP1", "FPZ", "C3", "C4", "FP2", "Oz"], place_C6)
    assert frontal_channels(loud).tolist() == [True, True, False, False, True, False]
