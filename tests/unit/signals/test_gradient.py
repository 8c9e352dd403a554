import numpy as np
import pytest

from neuroloom.signals.filters import HALF_KERNEL, KAISER_BETA, interpolate_at
from neuroloom.signals.gradient import EDGE, GradientCleaned, GradientModel, fit_gradient
from neuroloom.study.scanner import ScannerTruth, plant_scanner
from neuroloom.study.sensors import eeg_sensors

SFREQ, T_R, SECONDS = 160.0, 1.5, 52.0
N_VOLUMES = 30  # 45 s of it


@pytest.fixture(scope="module")
def eeg() -> np.ndarray:
    """Coloured noise that neighbours share, 10 µV."""
    rng = np.random.default_rng(5)
    white_CT = rng.standard_normal((19, int(SECONDS * SFREQ)))
    freqs_F = np.fft.rfftfreq(white_CT.shape[1], 1 / SFREQ)
    pink_CT = np.fft.irfft(np.fft.rfft(white_CT) / np.maximum(freqs_F, 0.5) ** 0.7, n=white_CT.shape[1])
    mixed_CT = rng.standard_normal((19, 19)) @ pink_CT
    return (10e-6 * mixed_CT / mixed_CT.std(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def scanned(eeg: np.ndarray) -> tuple[np.ndarray, ScannerTruth]:
    place = np.array([[0.0, 0.02, 0.08]])
    cap = eeg_sensors(n_eeg=19, reference="average", sfreq=SFREQ, line_freq=50, position_P3=place)
    signal_CT = eeg.copy()
    sizes = {"gradient_uv": 4000.0, "cardiac_uv": 0.0, "clock_ppm": 30.0}
    grid = {"t_r": T_R, "n_volumes": N_VOLUMES, "n_slices": 24}
    return signal_CT, plant_scanner(signal_CT, sensors=cap, **grid, **sizes, rng=np.random.default_rng(6))


def fit(signal_CT: np.ndarray, truth: ScannerTruth, **changes) -> GradientModel:
    return fit_gradient(
        signal_CT, sfreq=SFREQ, onset_V=truth.triggers.onset, t_r=T_R, rng=np.random.default_rng(0), **changes
    )


def test_interpolation_is_that_of_band_limited_signals() -> None:
    time = np.arange(400)
    position = np.linspace(HALF_KERNEL, 399 - HALF_KERNEL, 777)
    for freq in (0.01, 0.2, 0.44):
        wave_CT = np.stack([np.sin(2 * np.pi * freq * time + 1), np.cos(2 * np.pi * freq * time)])
        wanted = np.stack([np.sin(2 * np.pi * freq * position + 1), np.cos(2 * np.pi * freq * position)])
        np.testing.assert_allclose(interpolate_at(wave_CT, position), wanted, atol=2e-3)


def test_weights_of_interpolation_are_tabled_finely_enough(rng: np.random.Generator) -> None:
    n_taps = 2 * HALF_KERNEL
    share_J = np.concatenate([[0.0, 1 - 1e-12], rng.random(500)])
    apart_JN = share_J[:, None] - np.arange(1 - HALF_KERNEL, HALF_KERNEL + 1)
    weight_JN = np.sinc(apart_JN) * np.i0(KAISER_BETA * np.sqrt(np.clip(1 - (apart_JN / HALF_KERNEL) ** 2, 0, None)))
    found_NJ = interpolate_at(np.eye(n_taps), HALF_KERNEL - 1 + share_J)
    np.testing.assert_allclose(found_NJ.T, weight_JN / weight_JN.sum(axis=1, keepdims=True), rtol=0, atol=3e-8)


@pytest.mark.parametrize("position", [HALF_KERNEL - 1.5, 400 - HALF_KERNEL])
def test_interpolation_reads_nothing_beyond_the_signal(position: float) -> None:
    with pytest.raises(ValueError, match=r"of 400 are asked for; give 32 more"):
        interpolate_at(np.zeros((1, 400)), np.array([200.0, position]))


def test_the_artefact_goes_and_its_clock_is_found(eeg: np.ndarray, scanned: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = scanned
    model = fit(signal_CT, truth)
    assert model.drift == pytest.approx(30e-6, abs=1.5e-6)
    assert model.jitter < 0.02
    error_CT = GradientCleaned(signal_CT, model)[:, :] - eeg
    assert np.sqrt((error_CT**2).mean()) < 0.01 * np.sqrt((truth.gradient_CT**2).mean())
    assert "components of the residue; clocks apart by" in model.note


def test_any_piece_equals_that_piece_of_the_whole(scanned: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = scanned
    model = fit(signal_CT, truth, window=9)
    whole_CT = GradientCleaned(signal_CT, model)[:, :]
    n_times = signal_CT.shape[1]
    pieces = [(0, 5), (0, 100), (237, 801), (3000, 3001), (7190, 7230), (7199, n_times), (n_times - 3, n_times)]
    for start, stop in pieces:  # each from a fresh view, which has kept nothing
        piece_CT = GradientCleaned(signal_CT, model)[:, start:stop]
        np.testing.assert_allclose(piece_CT, whole_CT[:, start:stop], atol=1e-6 * whole_CT.std(), rtol=0)
    again = GradientCleaned(signal_CT, model)
    steps = np.concatenate([again[:, at : at + 333] for at in range(0, n_times, 333)], axis=1)
    np.testing.assert_allclose(steps, whole_CT, atol=1e-6 * whole_CT.std(), rtol=0)


def test_only_a_neighbourhood_is_read(scanned: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = scanned

    class Watched:
        shape = signal_CT.shape
        read: list[tuple[int, int]] = []  # noqa: RUF012

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            self.read.append((key[1].start, key[1].stop))
            return signal_CT[key]

    model = fit(signal_CT, truth, window=7)
    source = Watched()
    GradientCleaned(source, model)[:, 4000:4100]
    reach = (7 + 2) * T_R * SFREQ
    assert min(start for start, _ in source.read) > 4000 - reach
    assert max(stop for _, stop in source.read) < 4100 + reach


def test_times_without_scanning_stay_as_they_are(eeg: np.ndarray, scanned: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = scanned
    cleaned_CT = GradientCleaned(signal_CT, fit(signal_CT, truth))[:, :]
    end = int(np.ceil((truth.volume_onset[-1] + T_R) * SFREQ)) + EDGE
    np.testing.assert_array_equal(cleaned_CT[:, end:], signal_CT[:, end:])


def test_rows_and_steps_are_those_of_an_array(scanned: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = scanned
    cleaned = GradientCleaned(signal_CT, fit(signal_CT, truth))
    assert cleaned.shape == signal_CT.shape
    assert cleaned.dtype == np.float32
    part_CT = cleaned[:, 500:900]
    np.testing.assert_array_equal(cleaned[3:5, 500:900:2], part_CT[3:5, ::2])
    assert cleaned[:, 900:500].shape == (19, 0)


def test_missing_samples_and_dead_channels_do_no_harm(
    eeg: np.ndarray, scanned: tuple[np.ndarray, ScannerTruth]
) -> None:
    signal_CT, truth = scanned
    holes_CT = signal_CT.copy()
    holes_CT[4, 2000:2100] = np.nan
    holes_CT[7] = 0.0
    cleaned_CT = GradientCleaned(holes_CT, fit(holes_CT, truth))[:, :]
    assert np.isnan(cleaned_CT).sum() == 100
    assert np.abs(cleaned_CT[7]).max() < 1e-9
    error_CT = np.nan_to_num(cleaned_CT - eeg)
    others = [at for at in range(19) if at != 7]
    assert np.sqrt((error_CT[others] ** 2).mean()) < 0.02 * np.sqrt((truth.gradient_CT**2).mean())


def test_equal_seeds_give_equal_signals(scanned: tuple[np.ndarray, ScannerTruth]) -> None:
    signal_CT, truth = scanned
    first, second = (GradientCleaned(signal_CT, fit(signal_CT, truth))[:, 1000:2000] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_drift_of_the_electrodes_is_no_artefact(eeg: np.ndarray, scanned: tuple[np.ndarray, ScannerTruth]) -> None:
    """200 µV/s in all channels: without care each volume would get a sawtooth of 300 µV."""
    signal_CT, truth = scanned
    ramp_T = (200e-6 * np.arange(signal_CT.shape[1]) / SFREQ).astype(np.float32)
    plain_CT = GradientCleaned(signal_CT, fit(signal_CT, truth))[:, :]
    drifting_CT = signal_CT + ramp_T
    cleaned_CT = GradientCleaned(drifting_CT, fit(drifting_CT, truth))[:, :] - ramp_T
    inner = slice(EDGE, int(44 * SFREQ))
    assert np.sqrt(((cleaned_CT - plain_CT)[:, inner] ** 2).mean()) < 1e-6
