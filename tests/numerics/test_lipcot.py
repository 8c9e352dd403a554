"""LiPCoT equals its official code, a textbook Burg, statsmodels and scikit-learn, and finds the truth of a process."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from statsmodels.regression.linear_model import burg as statsmodels_burg

from neuroloom.tokenizers.burg import power_response
from neuroloom.tokenizers.config import LipcotConfig
from neuroloom.tokenizers.lipcot import Lipcot, burg, lipcot_features

SFREQ = 500.0
WARPS = {"plain": 0.0, "warped": 0.2}


@pytest.fixture(scope="module")
def reference(repository: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    folder = Path(os.environ.get("NEUROLOOM_REFERENCE", repository / ".." / "shared" / "reference"))
    if not (folder / "lipcot.safetensors").exists():
        pytest.skip(f"no lipcot.safetensors in {folder}; set NEUROLOOM_REFERENCE")
    return load_file(folder / "lipcot.safetensors")


def textbook(x_T: np.ndarray, order: int, warp: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Burg's lattice for one window as it is written in the books, the all-pass sample by sample."""
    forward, backward, a, power, reflections = x_T, x_T, np.ones(1), np.mean(x_T**2), []
    for _ in range(order):
        forward, delayed, before = forward[1:], np.empty(len(backward) - 1), 0.0
        for at in range(len(delayed)):
            before = delayed[at] = backward[at] - warp * (backward[at + 1] - before)
        k = -2 * (delayed @ forward) / (forward @ forward + delayed @ delayed)
        forward, backward = forward + k * delayed, delayed + k * forward
        a = np.append(a, 0.0)
        a, power = a + k * a[::-1], power * (1 - k**2)
        reflections.append(k)
    return a[1:], power, np.array(reflections)


def process(rng: np.random.Generator, freqs: tuple[float, ...], n_times: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of an autoregressive process with resonances, and a stretch of it."""
    pairs = [0.95 * np.exp(2j * np.pi * freq / SFREQ) for freq in freqs]
    a = np.poly([*pairs, *np.conj(pairs)]).real
    return a[1:], lfilter([1], a, rng.standard_normal(n_times + 2000))[2000:]


@pytest.mark.parametrize("kind", WARPS)
def test_coefficients_equal_the_official_ones(reference: dict[str, np.ndarray], kind: str) -> None:
    a_WP, sigma_W = burg(reference["in/x_WT"], 16, WARPS[kind])
    np.testing.assert_allclose(a_WP, reference[f"out/a_{kind}"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(sigma_W, reference[f"out/sigma_{kind}"], rtol=1e-8)


@pytest.mark.parametrize("method", [1, 2, 3])
def test_features_equal_the_official_ones(reference: dict[str, np.ndarray], method: int) -> None:
    features_WD = lipcot_features(*burg(reference["in/x_WT"], 16, 0.2), SFREQ, method)
    expected_WD = reference[f"out/features_method{method}"].copy()
    if method == 1:  # the order within a pair of poles is undefined in the official code
        features_WD[:, 16:32], expected_WD[:, 16:32] = np.abs(features_WD[:, 16:32]), np.abs(expected_WD[:, 16:32])
    np.testing.assert_allclose(features_WD, expected_WD, rtol=0, atol=1e-8)


@pytest.mark.parametrize("warp", [0.0, 0.2, 0.7, -0.4, 0.95])
@pytest.mark.parametrize("n_times", [17, 100, 241, 700])
def test_equals_the_textbook(rng: np.random.Generator, warp: float, n_times: int) -> None:
    pink_WT = np.cumsum(rng.standard_normal((3, n_times)), axis=1)
    x_WT = np.concatenate([pink_WT, 1e-6 * pink_WT, rng.standard_normal((2, n_times))])
    a_WP, sigma_W = burg(x_WT, 16, warp)
    expected = [textbook(x_T, 16, warp) for x_T in x_WT]
    scale_W1 = np.array([np.abs(a_P).max() for a_P, _, _ in expected])[:, None]
    np.testing.assert_allclose(a_WP / scale_W1, np.array([a_P for a_P, _, _ in expected]) / scale_W1, atol=1e-8)
    np.testing.assert_allclose(sigma_W, [sigma for _, sigma, _ in expected], rtol=1e-8)
    assert max(np.abs(k_P).max() for _, _, k_P in expected) < 1


def test_equals_statsmodels(rng: np.random.Generator) -> None:
    x_WT = np.cumsum(rng.standard_normal((5, 2500)), axis=1)
    a_WP, _ = burg(x_WT, 16)
    np.testing.assert_allclose(-a_WP, [statsmodels_burg(x_T, 16, demean=False)[0] for x_T in x_WT], atol=1e-8)


def test_recovers_the_poles_of_a_process(rng: np.random.Generator) -> None:
    truth_P, x_T = process(rng, (10.0, 40.0, 120.0), 100_000)
    a_WP, sigma_W = burg(x_T[None], 6)
    assert sigma_W[0] == pytest.approx(1.0, rel=0.02)
    features_D = lipcot_features(a_WP, sigma_W, SFREQ, "spectral")[0]
    np.testing.assert_allclose(features_D[6:12:2], [10.0, 40.0, 120.0], rtol=0.02)
    np.testing.assert_allclose(1 - 10 ** (-features_D[:6] / 2), 0.95, atol=0.005)
    np.testing.assert_allclose(a_WP[0], truth_P, atol=0.02)


@pytest.mark.parametrize("warp", [0.0, 0.2, -0.3])
def test_a_spectrum_is_that_of_the_process_whatever_the_warp(rng: np.random.Generator, warp: float) -> None:
    truth_P, x_T = process(rng, (10.0, 40.0, 120.0), 100_000)
    freqs_F = np.linspace(2, 245, 200)
    expected_F = power_response(truth_P[None], np.ones(1), freqs_F, SFREQ)[0]
    a_WP, sigma_W = burg(x_T[None], 24, warp)
    found_F = power_response(a_WP, sigma_W, freqs_F, SFREQ, warp)[0]
    assert np.abs(10 * np.log10(found_F / expected_F)).max() < 1.0  # dB


class Windows:
    recording, sfreq = "sub-01", SFREQ

    def __init__(self, signal_BCT: np.ndarray) -> None:
        self.signal_BCT = signal_BCT

    def __len__(self) -> int:
        return len(self.signal_BCT)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        return self.signal_BCT[first : first + count]


def test_codes_are_the_labels_of_scikit_learn(rng: np.random.Generator) -> None:
    signal_BCT = np.stack([process(rng, tuple(rng.uniform(5, 200, 3)), 500)[1] for _ in range(400)])
    signal_BCT = signal_BCT.reshape(50, 8, 500).astype(np.float32)
    tokenizer = Lipcot(LipcotConfig(step=1.0, n_init=2), SFREQ)
    tokenizer.fit([Windows(part) for part in np.split(signal_BCT, 5)], rng=np.random.default_rng(42))
    features_WD = lipcot_features(*burg(signal_BCT.reshape(-1, 500), 16, 0.2), SFREQ, 2)
    scaled_WD = StandardScaler().fit_transform(features_WD)
    seed = int(np.random.default_rng(42).integers(2**31))
    labels_W = KMeans(64, n_init=2, max_iter=500, random_state=seed).fit(scaled_WD).labels_
    np.testing.assert_array_equal(tokenizer.encode(signal_BCT).codes.ravel(), labels_W)
    assert len(np.unique(labels_W)) == 64
