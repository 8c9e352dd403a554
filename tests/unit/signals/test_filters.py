import numpy as np
import pytest

from neuroloom.signals.filters import apply_kernel, design_kernel, detect_line_freq, line_ratio, resample, welch_psd

SFREQ = 250.0


def tone(freq: float, *, seconds: float = 40.0, sfreq: float = SFREQ) -> np.ndarray:
    return np.sin(2 * np.pi * freq * np.arange(int(seconds * sfreq)) / sfreq)[None].astype(np.float32)


def gain_db(kernel: np.ndarray, freq: float) -> float:
    """Gain of a symmetric kernel at one frequency."""
    times = (np.arange(len(kernel)) - len(kernel) // 2) / SFREQ
    return 20 * np.log10(abs((kernel * np.cos(2 * np.pi * freq * times)).sum()))


@pytest.fixture(scope="module")
def kernel() -> np.ndarray:
    return design_kernel(SFREQ, l_freq=0.5, h_freq=70.0, notch_freqs=(50.0,))


@pytest.mark.parametrize("freq", [1.0, 10.0, 30.0, 48.0, 52.0, 65.0])
def test_band_passes(kernel: np.ndarray, freq: float) -> None:
    assert abs(gain_db(kernel, freq)) < 0.1


@pytest.mark.parametrize("freq", [0.01, 49.6, 50.0, 50.4, 95.0])
def test_the_rest_is_stopped(kernel: np.ndarray, freq: float) -> None:
    assert gain_db(kernel, freq) < -40


def test_a_tone_of_the_band_comes_out_as_it_went_in(kernel: np.ndarray) -> None:
    signal_CT = tone(10.0)
    middle = slice(len(kernel), -len(kernel))
    np.testing.assert_allclose(apply_kernel(signal_CT, kernel)[:, middle], signal_CT[:, middle], atol=0.01)


@pytest.mark.parametrize("n_times", [2, 10, 500])
def test_recordings_shorter_than_the_kernel_stay_finite(kernel: np.ndarray, n_times: int) -> None:
    filtered = apply_kernel(np.ones((2, n_times), np.float32), kernel)
    assert filtered.shape == (2, n_times)
    assert np.isfinite(filtered).all()


def test_an_offset_leaves_nothing_behind(kernel: np.ndarray) -> None:
    assert np.abs(apply_kernel(np.full((1, 5000), 4200.0, np.float32), kernel)).max() < 1e-3


@pytest.mark.parametrize(("sfreq", "new"), [(500.0, 200.0), (160.0, 200.0), (300.3074951171875, 200.0), (250.0, 250.0)])
def test_resampling_keeps_a_tone_where_it_is(sfreq: float, new: float) -> None:
    before = tone(10.0, sfreq=sfreq, seconds=20)
    after = resample(before, sfreq=sfreq, new_sfreq=new)
    assert after.shape[1] == int(np.ceil(before.shape[1] * new / sfreq - 1e-9))
    expected = np.sin(2 * np.pi * 10.0 * np.arange(after.shape[1]) / new)
    np.testing.assert_allclose(after[0, 200:-200], expected[200:-200], atol=2e-3)


def test_welch_has_the_power_of_white_noise(rng: np.random.Generator) -> None:
    _freqs_F, psd_CF = welch_psd(rng.normal(0, 3.0, (4, 60_000)).astype(np.float32), SFREQ)
    assert psd_CF[:, 1:-1].mean() * SFREQ / 2 == pytest.approx(9.0, rel=0.02)


def test_a_few_wrong_samples_do_not_drown_the_spectrum(rng: np.random.Generator) -> None:
    noise_CT = rng.normal(0, 3.0, (2, 60_000)).astype(np.float32)
    spikes_CT = noise_CT.copy()
    spikes_CT[:, [100, 30_000, 50_000]] = 1e5
    clean, spoilt = welch_psd(noise_CT, SFREQ)[1], welch_psd(spikes_CT, SFREQ)[1]
    assert spoilt[:, 1:-1].mean() == pytest.approx(clean[:, 1:-1].mean(), rel=0.15)


@pytest.mark.parametrize("line", [50.0, 60.0])
def test_mains_is_detected_and_measured(rng: np.random.Generator, line: float) -> None:
    noise_CT = rng.normal(0, 1.0, (4, 10_000)).astype(np.float32)
    spectrum = welch_psd(noise_CT + tone(line), SFREQ)
    assert detect_line_freq(*spectrum) == line
    assert line_ratio(*spectrum, line) > 10


def test_no_mains_is_no_mains(rng: np.random.Generator) -> None:
    assert detect_line_freq(*welch_psd(rng.normal(0, 1.0, (4, 10_000)).astype(np.float32), SFREQ)) is None
