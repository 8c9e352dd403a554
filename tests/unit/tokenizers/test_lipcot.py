"""The LiPCoT tokenizer: fit, codes, resynthesis, files, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from neuroloom.config import ConfigError
from neuroloom.manifest import ArtifactError
from neuroloom.tokenizers.config import LipcotConfig
from neuroloom.tokenizers.lipcot import Lipcot, burg, lipcot_features
from neuroloom.training.checkpoint import WEIGHTS

SFREQ, CHANNELS = 100.0, 6


class Windows:
    """As much of `Segments` as a tokenizer reads."""

    def __init__(self, signal_BCT: np.ndarray, name: str = "sub-01", sfreq: float = SFREQ) -> None:
        self.signal_BCT, self.recording, self.sfreq = signal_BCT, name, sfreq

    def __len__(self) -> int:
        return len(self.signal_BCT)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        return self.signal_BCT[first : first + count]


def rhythms(rng: np.random.Generator, n_windows: int = 30, seconds: int = 4) -> np.ndarray:
    """Windows of channels with a rhythm of 8, 14, 22 Hz or none, at unit SD."""
    signal_BCT = np.empty((n_windows, CHANNELS, int(seconds * SFREQ)), np.float32)
    for row_T in signal_BCT.reshape(-1, signal_BCT.shape[-1]):
        freq, radius = rng.choice([8, 14, 22]), rng.choice([0.0, 0.97])
        a = [1, -2 * radius * np.cos(2 * np.pi * freq / SFREQ), radius**2]
        row = lfilter([1], a, rng.standard_normal(len(row_T) + 200))[200:]
        row_T[:] = row / row.std()
    return signal_BCT


def config(**changes: Any) -> LipcotConfig:
    return LipcotConfig(**{"order": 8, "vocabulary": 8, "step": 2.0, "n_init": 3, **changes})


@pytest.fixture
def signal_BCT(rng: np.random.Generator) -> np.ndarray:
    return rhythms(rng)


@pytest.fixture
def tokenizer(signal_BCT: np.ndarray) -> Lipcot:
    fitted = Lipcot(config(), SFREQ)
    fitted.fit([Windows(signal_BCT[:20]), Windows(signal_BCT[20:])], rng=np.random.default_rng(1))
    return fitted


def test_a_token_is_a_channel_of_a_step(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    tokens = tokenizer.encode(signal_BCT)
    assert tokens.codes.shape == (30, CHANNELS, 2, 1)
    assert tokens.codes.dtype == np.int64
    assert tokens.features.shape == (30, CHANNELS, 2, 9)
    assert tokens.features.dtype == np.float32
    assert tokenizer.codebook_sizes == (8,)
    assert set(np.unique(tokens.codes)) == set(range(8))
    a_WP, sigma_W = burg(signal_BCT[3, :, 200:], 8, 0.2)
    expected_CD = (lipcot_features(a_WP, sigma_W, SFREQ, 2) - tokenizer._mean_D) / tokenizer._scale_D
    np.testing.assert_allclose(tokens.features[3, :, 1], expected_CD, rtol=1e-5, atol=1e-6)


def test_59_channels_of_5_s_are_59_tokens(rng: np.random.Generator) -> None:
    signal_BCT = rng.standard_normal((2, 59, 2500))
    fitted = Lipcot(LipcotConfig(n_init=1), 500.0)
    fitted.fit([Windows(signal_BCT, sfreq=500.0)], rng=rng)
    assert fitted.encode(signal_BCT).codes.shape == (2, 59, 1, 1)


def test_overlapping_steps_equal_steps_cut_by_hand(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    codes_BCNQ = tokenizer.encode(signal_BCT, overlap=0.5).codes
    assert codes_BCNQ.shape[2] == 3
    np.testing.assert_array_equal(codes_BCNQ[:, :, 1:2], tokenizer.encode(signal_BCT[..., 100:300]).codes)


def test_takes_tensors(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    import torch

    tokens = tokenizer.encode(torch.from_numpy(signal_BCT).requires_grad_())
    np.testing.assert_array_equal(tokens.codes, tokenizer.encode(signal_BCT).codes)
    np.testing.assert_array_equal(tokenizer.embed(torch.from_numpy(tokens.codes)), tokenizer.embed(tokens.codes))


def test_embeds_codes_as_centres(tokenizer: Lipcot) -> None:
    centres_KD = tokenizer.embed(np.arange(8)[:, None])
    np.testing.assert_allclose(centres_KD * tokenizer._scale_D + tokenizer._mean_D, tokenizer.codebook(), rtol=1e-5)
    with pytest.raises(ValueError, match="codes from 0 to 7"):
        tokenizer.embed(np.array([[8]]))


def test_two_fits_with_one_seed_are_equal(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    again = Lipcot(config(), SFREQ)
    corpus = [Windows(signal_BCT[:20]), Windows(signal_BCT[20:])]
    again.fit(corpus, rng=np.random.default_rng(1))
    np.testing.assert_allclose(again.codebook(), tokenizer.codebook(), rtol=1e-12)


def test_flat_series_are_left_out_of_the_fit_and_have_the_code_nearest_to_silence(signal_BCT: np.ndarray) -> None:
    holes_BCT = signal_BCT.copy()
    holes_BCT[2, 1], holes_BCT[3, 0, 200:] = 0, 7.0
    fitted = Lipcot(config(), SFREQ)
    facts = fitted.fit([Windows(holes_BCT)], rng=np.random.default_rng(1))
    assert facts["flat_series"] == 3
    assert facts["series"] == 30 * CHANNELS * 2 - 3
    tokens = fitted.encode(holes_BCT)
    assert np.isfinite(tokens.features).all()
    silence_D = lipcot_features(np.zeros((1, 8)), np.zeros(1), SFREQ, "coefficients")[0]
    distance_K = np.linalg.norm((fitted.codebook() - silence_D) / fitted._scale_D, axis=1)
    assert [*tokens.codes[2, 1, :, 0], tokens.codes[3, 0, 1, 0]] == [distance_K.argmin()] * 3


def test_names_window_and_channel_that_are_not_finite(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    signal_BCT[4, 2, 17] = np.nan
    with pytest.raises(ValueError, match=r"1 series are not finite .* window 4, channel 2"):
        tokenizer.encode(signal_BCT)
    with pytest.raises(ValueError, match=r"sub-07, from segment 1: .* channel 2"):
        Lipcot(config(), SFREQ).fit([Windows(signal_BCT, "sub-07")], rng=np.random.default_rng(0))


def test_refuses_what_does_not_fit(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"windows by channels by 200 samples \(2 s at 100 Hz\)"):
        tokenizer.encode(signal_BCT[..., :199])
    with pytest.raises(ValueError, match="below 1"):
        tokenizer.encode(signal_BCT, overlap=1.0)
    with pytest.raises(ConfigError, match=r"step 0.05 s is 5 samples at 100 Hz, order 8 needs 9"):
        Lipcot(config(step=0.05), SFREQ)
    with pytest.raises(ValueError, match="sub-01: has 100 Hz, the tokenizer has 250 Hz"):
        Lipcot(config(), 250.0).fit([Windows(signal_BCT)], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="no codebook yet"):
        Lipcot(config(), SFREQ).encode(signal_BCT)


def test_refuses_fewer_distinct_series_than_codes(signal_BCT: np.ndarray) -> None:
    same_BCT = np.repeat(signal_BCT[:1, :, :200], 20, axis=0)
    with pytest.raises(ConfigError, match=r"6 distinct series .* vocabulary of 8"):
        Lipcot(config(), SFREQ).fit([Windows(same_BCT)], rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="0 distinct series"):
        Lipcot(config(), SFREQ).fit([], rng=np.random.default_rng(0))


def test_one_channel_is_enough(signal_BCT: np.ndarray) -> None:
    fitted = Lipcot(config(), SFREQ)
    fitted.fit([Windows(signal_BCT[:, :1])], rng=np.random.default_rng(0))
    assert fitted.encode(signal_BCT[:1, :1]).codes.shape == (1, 1, 2, 1)


def test_mini_batches_find_clusters_nearly_as_tight(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    inertia = {}
    for batch_size in (0, 128):
        fitted = Lipcot(config(batch_size=batch_size), SFREQ)
        inertia[batch_size] = fitted.fit([Windows(signal_BCT)], rng=np.random.default_rng(1))["inertia"]
    assert inertia[0] <= inertia[128] < 1.3 * inertia[0]


@pytest.mark.parametrize("features", ["spectral", "coefficients", "cepstrum"])
def test_decoded_noise_has_the_spectrum_of_its_features(signal_BCT: np.ndarray, features: str) -> None:
    fitted = Lipcot(config(features=features), SFREQ)
    fitted.fit([Windows(signal_BCT)], rng=np.random.default_rng(1))
    one_D = fitted.encode(signal_BCT).features[7, 3, 0]
    decoded_BCT = fitted.decode(np.broadcast_to(one_D, (1, 2000, 2, len(one_D))), rng=np.random.default_rng(2))
    assert decoded_BCT.shape == (1, 2000, 400)
    assert decoded_BCT.dtype == np.float32
    freqs_F = np.linspace(0, SFREQ / 2, 4001)
    psd_F = fitted.spectrum(one_D, freqs_F)
    for lag in range(12):
        expected = np.trapezoid(psd_F * np.cos(2 * np.pi * freqs_F * lag / SFREQ), freqs_F)
        found = np.mean(decoded_BCT[..., : 400 - lag] * decoded_BCT[..., lag:])
        assert found == pytest.approx(expected, abs=0.03 * np.trapezoid(psd_F, freqs_F))


@pytest.mark.parametrize("features", ["coefficients", "cepstrum"])
def test_what_a_code_is_decoded_to_has_that_code(rng: np.random.Generator, features: str) -> None:
    # order 2, as the processes have: the estimates of further coefficients are noise, which would divide the clusters
    fitted = Lipcot(config(features=features, order=2, vocabulary=4, step=20.0), SFREQ)
    fitted.fit([Windows(rhythms(rng, seconds=20))], rng=np.random.default_rng(1))
    codes = np.tile(np.arange(4).reshape(1, 4, 1, 1), (25, 1, 3, 1))
    again = fitted.encode(fitted.decode(fitted.embed(codes))).codes
    assert (codes == again).mean() > 0.9


def test_steps_are_joined_without_clicks(signal_BCT: np.ndarray, tokenizer: Lipcot) -> None:
    one_D = tokenizer.encode(signal_BCT).features[0, 0, 0]
    features_BCND = np.broadcast_to(one_D, (40, 5, 6, 9))
    decoded_BCT = tokenizer.decode(features_BCND)
    jumps = np.diff(decoded_BCT, axis=-1)
    at_joins = jumps[..., 199::200]
    assert np.abs(at_joins).mean() < 1.15 * np.abs(jumps).mean()
    power_T = (decoded_BCT**2).mean(axis=(0, 1))
    near_joins = np.concatenate([power_T[at - 10 : at + 10] for at in range(200, 1200, 200)])
    assert near_joins.mean() == pytest.approx(power_T.mean(), rel=0.15)


def test_decoding_is_repeatable_and_follows_the_generator(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    features = tokenizer.encode(signal_BCT[:2]).features
    np.testing.assert_array_equal(tokenizer.decode(features), tokenizer.decode(features))
    assert not np.array_equal(tokenizer.decode(features), tokenizer.decode(features, rng=np.random.default_rng(9)))


def test_the_integral_of_a_spectrum_is_the_variance(tokenizer: Lipcot, signal_BCT: np.ndarray) -> None:
    freqs_F = np.linspace(0, SFREQ / 2, 2001)
    psd_BCF = tokenizer.spectrum(tokenizer.encode(signal_BCT).features[:, :, 0], freqs_F)
    assert psd_BCF.shape == (30, CHANNELS, 2001)
    variance_BC = np.trapezoid(psd_BCF, freqs_F, axis=-1)
    np.testing.assert_allclose(variance_BC, signal_BCT[..., :200].var(axis=-1), rtol=0.25)


def test_comes_back_from_its_files_bit_for_bit(tokenizer: Lipcot, signal_BCT: np.ndarray, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "lipcot")
    loaded = Lipcot.load(tmp_path / "lipcot")
    assert loaded.config == tokenizer.config
    np.testing.assert_array_equal(loaded.codebook(), tokenizer.codebook())
    np.testing.assert_array_equal(loaded.encode(signal_BCT).codes, tokenizer.encode(signal_BCT).codes)


def test_refuses_files_that_do_not_belong_together(tokenizer: Lipcot, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no LiPCoT tokenizer can be read"):
        Lipcot.load(tmp_path / "nowhere")
    tokenizer.save(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["config"]["vocabulary"] = 16
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ArtifactError, match=r"safetensors: has .*\(8, 9\).* need .*\(16, 9\)"):
        Lipcot.load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"not weights")
    with pytest.raises(ArtifactError, match="no LiPCoT tokenizer can be read"):
        Lipcot.load(tmp_path)
