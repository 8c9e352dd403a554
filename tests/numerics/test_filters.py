"""One kernel in one pass equals MNE's two filters; its impulse response is finite, so chunks equal the whole."""

import mne
import numpy as np

from neuroloom.signals.filters import apply_kernel, design_kernel

SFREQ = 250.0


def test_equals_mnes_band_pass_and_notch(rng: np.random.Generator) -> None:
    signal_CT = np.cumsum(rng.standard_normal((3, 15_000)), axis=1)
    signal_CT -= signal_CT.mean(axis=1, keepdims=True)
    kernel = design_kernel(SFREQ, l_freq=0.5, h_freq=70.0, notch_freqs=(50.0,))
    ours = apply_kernel(signal_CT.astype(np.float32), kernel)
    theirs = mne.filter.filter_data(signal_CT, SFREQ, 0.5, 70.0, verbose="error")
    theirs = mne.filter.filter_data(
        theirs, SFREQ, 51.0, 49.0, l_trans_bandwidth=0.5, h_trans_bandwidth=0.5, verbose="error"
    )
    inside = slice(len(kernel), -len(kernel))
    np.testing.assert_allclose(ours[:, inside], theirs[:, inside], atol=1e-4 * theirs.std())


def test_a_chunk_with_half_a_kernel_of_overlap_equals_the_whole(rng: np.random.Generator) -> None:
    signal_CT = rng.standard_normal((2, 12_000)).astype(np.float32)
    kernel = design_kernel(SFREQ, l_freq=0.5, h_freq=70.0)
    half = len(kernel) // 2
    whole = apply_kernel(signal_CT, kernel)
    chunk = apply_kernel(signal_CT[:, 5000 - half : 7000 + half], kernel)[:, half:-half]
    np.testing.assert_allclose(chunk, whole[:, 5000:7000], atol=1e-6 * whole.std() * 10)
