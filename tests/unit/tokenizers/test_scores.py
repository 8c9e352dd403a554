"""Scores of tokens, against signals, spectra and histograms whose scores are known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.signal import freqz, lfilter

from neuroloom.records import Events
from neuroloom.tokenizers.base import Tokens
from neuroloom.tokenizers.scores import (
    code_counts,
    code_usage,
    elsewhere,
    score_reconstruction,
    segment_labels,
    spectral_difference,
    token_features,
    unit_spectrum,
    waveform_correlation,
)
from neuroloom.tokenizers.tokens import PADDING

SFREQ = 128.0


class Perfect:
    """A tokenizer whose features are the samples themselves; every second is a step."""

    sfreq, step, codebook_sizes = SFREQ, 1.0, (4,)

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def encode(self, signal_BCT: Any, positions_BC6: Any, sensor_type_BC: Any, overlap: float = 0.0) -> Tokens:
        codes = signal_BCT.reshape(*signal_BCT.shape[:2], -1, round(self.sfreq))
        return Tokens(codes, codes)

    def embed(self, codes: Any) -> Any:
        return codes

    def decode(self, features: Any, positions_BC6: Any, sensor_type_BC: Any) -> Any:
        windows_BCWT = features.reshape(*features.shape[:2], -1, round(2 * self.sfreq))
        return windows_BCWT / windows_BCWT.std(axis=-1, keepdims=True) * self.gain


class Pieces:
    """As much of `Segments` as is read here."""

    sfreq, duration = SFREQ, 10.0

    def __init__(self, signal_BCT: np.ndarray) -> None:
        self.signal_BCT = signal_BCT
        self.positions_C6 = np.zeros((signal_BCT.shape[1], 6))
        self.sensor_type_C = np.zeros(signal_BCT.shape[1], int)

    def __len__(self) -> int:
        return len(self.signal_BCT)

    def sensors(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([self.positions_C6] * count), np.stack([self.sensor_type_C] * count)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        return self.signal_BCT[first : first + count]


@pytest.fixture
def noise_BCT(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(12, 5, round(10 * SFREQ)))


def test_correlation_is_one_for_equal_and_zero_for_other_signals(noise_BCT: np.ndarray) -> None:
    assert waveform_correlation(3 * noise_BCT + 7, noise_BCT, window=256) == pytest.approx(1)
    assert waveform_correlation(-noise_BCT, noise_BCT, window=256) == pytest.approx(-1)
    assert abs(waveform_correlation(noise_BCT[::-1], noise_BCT, window=256)) < 0.02
    mixed = noise_BCT + np.roll(noise_BCT, 1, axis=0)
    assert waveform_correlation(mixed, noise_BCT, window=256) == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_correlation_is_a_mean_over_windows(noise_BCT: np.ndarray) -> None:
    made = noise_BCT.copy()
    made[..., 256:512] *= -1
    assert waveform_correlation(made, noise_BCT, window=256) == pytest.approx((4 - 1) / 5)
    assert waveform_correlation(made[..., :500], noise_BCT[..., :500], window=256) == pytest.approx(1)


def test_windows_in_which_nothing_moves_do_not_count(noise_BCT: np.ndarray) -> None:
    made = noise_BCT.copy()
    made[:, 2] = 0
    assert waveform_correlation(made, noise_BCT, window=256) == pytest.approx(1)
    assert np.isnan(waveform_correlation(0 * made, noise_BCT, window=256))


def test_spectra_differ_by_what_a_filter_did(noise_BCT: np.ndarray) -> None:
    assert spectral_difference(20 * noise_BCT, noise_BCT, sfreq=SFREQ) == pytest.approx(0, abs=1e-9)
    made = lfilter([1, 0.9], [1], noise_BCT)
    freqs_F, true_BCF = unit_spectrum(noise_BCT, sfreq=SFREQ)
    gain_F = np.abs(freqz([1, 0.9], [1], worN=freqs_F, fs=SFREQ)[1]) ** 2
    # power is brought to one after the filter, and the noise is white
    expected = np.abs(10 * np.log10(gain_F / gain_F.mean())).mean()
    assert spectral_difference(made, noise_BCT, sfreq=SFREQ) == pytest.approx(expected, rel=0.05)
    assert expected > 1
    np.testing.assert_allclose(true_BCF.sum(axis=-1), 1)
    assert (freqs_F[0], freqs_F[-1]) == (1.0, 45.0)


def test_spectra_of_flat_channels_do_not_count(noise_BCT: np.ndarray) -> None:
    made = noise_BCT.copy()
    made[:, 0] = 0
    assert spectral_difference(made, noise_BCT, sfreq=SFREQ) == pytest.approx(0, abs=1e-9)
    assert np.isnan(spectral_difference(0 * made, noise_BCT, sfreq=SFREQ))


def test_a_perfect_tokenizer_is_told_from_codes_that_know_nothing(noise_BCT: np.ndarray) -> None:
    score = score_reconstruction(Perfect(gain=5.0), Pieces(noise_BCT))
    assert score.correlation == pytest.approx(1)
    assert abs(score.correlation_null) < 0.02
    assert score.spectral_db < 0.3  # windows are brought to one size
    assert score.spectral_db_null > 1
    assert score.n_segments == 12
    assert score.encode_speed > 100


def test_the_null_is_of_another_segment_and_another_window() -> None:
    features_BLSD = np.arange(3 * 10, dtype=float).reshape(3, 1, 10, 1)
    moved = elsewhere(Perfect(), features_BLSD)
    assert moved[1, 0, :4, 0].tolist() == [8, 9, 0, 1]
    assert sorted(moved.ravel()) == sorted(features_BLSD.ravel())


def test_every_code_alike_uses_the_whole_codebook() -> None:
    row = code_usage([np.full(16, 7), np.full(16, 9)], tokens_per_second=64)
    assert row == pytest.approx(
        {
            **{"usage_1": 1.0, "perplexity_1": 16.0, "usage_2": 1.0, "perplexity_2": 16.0},
            **{"bits_per_second": 2 * 4 * 64, "entropy_bits_per_second": 2 * 4 * 64},
        }
    )


def test_one_code_says_nothing() -> None:
    row = code_usage([np.array([0, 0, 50, 0])], tokens_per_second=10)
    assert row == pytest.approx(
        {"usage_1": 0.25, "perplexity_1": 1.0, "bits_per_second": 20.0, "entropy_bits_per_second": 0.0}
    )


def test_entropy_of_known_shares() -> None:
    row = code_usage([np.array([2, 1, 1, 0])], tokens_per_second=2)
    assert row["entropy_bits_per_second"] == pytest.approx(2 * 1.5)
    assert row["perplexity_1"] == pytest.approx(2**1.5)
    assert row["usage_1"] == 0.75


def test_codes_are_counted_by_level_without_padding() -> None:
    codes_NLSQ = np.array([[[[0, 2], [1, 2]], [[0, 0], [0, 3]]]], np.uint16)
    padded = np.concatenate([codes_NLSQ, np.full((1, 1, 2, 2), PADDING, np.uint16)], axis=1)
    counts = code_counts(padded, (3, 4))
    assert [count.tolist() for count in counts] == [[3, 1, 0], [1, 0, 2, 1]]


def test_features_of_a_probe_have_one_length_for_any_montage(rng: np.random.Generator) -> None:
    tokenizer = SimpleNamespace(
        codebook_sizes=(4, 8), embed=lambda codes: np.asarray(codes).sum(-1, keepdims=True) * [1.0, -2.0]
    )
    for n_latents in (3, 9):
        codes_NLSQ = np.stack([rng.integers(0, size, (70, n_latents, 6)) for size in (4, 8)], axis=-1)
        features = token_features(codes_NLSQ, tokenizer)
        assert features["histogram"].shape == (70, 12)
        assert features["embedding"].shape == (70, 4)
        expected = [np.bincount(codes_NLSQ[66, ..., q].ravel(), minlength=s) for q, s in enumerate((4, 8))]
        np.testing.assert_allclose(features["histogram"][66], np.concatenate(expected) / (n_latents * 6))
        sums = codes_NLSQ[66].sum(-1)
        np.testing.assert_allclose(
            features["embedding"][66], [sums.mean(), -2 * sums.mean(), sums.std(), 2 * sums.std()]
        )


def test_a_segment_has_the_label_that_covers_most_of_it() -> None:
    events = Events(
        onset=np.array([0.0, 4.0, 9.0, 10.5, 20.0]),
        duration=np.array([3.0, 4.0, 1.0, 0.5, 9.0]),
        label=["rest", "left", "right", "right", "blink"],
    )
    recording = SimpleNamespace(sfreq=250.0, events=events)
    starts = np.array([0, 500, 1000, 2000, 2500, 5000])  # 0, 2, 4, 8, 10, 20 s
    labels = segment_labels(recording, starts, 1000)
    assert labels == ["rest", "", "left", "", "", "blink"]
    assert segment_labels(recording, starts, 1000, share=0.3) == ["rest", "left", "left", "right", "", "blink"]
    assert segment_labels(SimpleNamespace(sfreq=250.0, events=Events.none()), starts, 1000) == [""] * 6


def test_one_window_has_no_other_to_be_its_null() -> None:
    class Slow:
        step = 2.0

    features_BLSD = np.arange(6.0).reshape(1, 2, 1, 3)
    assert elsewhere(Slow(), features_BLSD) is None  # type: ignore[arg-type]
    two = elsewhere(Slow(), np.concatenate([features_BLSD, -features_BLSD]))  # type: ignore[arg-type]
    assert two is not None
    assert np.array_equal(two[0], -features_BLSD[0])
