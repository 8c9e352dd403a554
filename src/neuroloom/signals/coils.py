"""Small things that every method of taking interference out of MEG needs: which coils are good, and their variance."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neuroloom.records import Array, Recording

COILS = ("mag", "grad")


def good_picks(recording: Recording, bads: Collection[str], *kinds: str) -> Array:
    """Channels of some types that are not bad."""
    return np.array([at for at in recording.picks(*kinds) if recording.ch_names[at] not in bads], int)


def centred(signal_CT: Array) -> Array:
    """In double precision, without the mean of each channel."""
    signal_CT = np.asarray(signal_CT, np.float64)
    return signal_CT - signal_CT.mean(axis=1, keepdims=True)


def mean_power(signal_CT: Array) -> Array:
    """Mean square over channels, each with the same weight, (T,)."""
    power_C1 = np.mean(signal_CT**2, axis=1, keepdims=True)
    return np.mean(signal_CT**2 / np.where(power_C1 > 0, power_C1, 1.0), axis=0)


def explained_shares(
    recording: Recording, sample_CT: Array, matrix_CC: Array, bads: Collection[str]
) -> dict[str, float]:
    """Share of the variance that goes, median good channel of each coil type."""
    shares = {}
    for kind in COILS:
        picks = good_picks(recording, bads, kind)
        if len(picks):
            before_CT = centred(sample_CT[picks])
            after_CT = centred(matrix_CC[picks] @ sample_CT)
            power_C = np.maximum((before_CT**2).sum(axis=1), np.finfo(float).tiny)
            shares[kind] = float(np.median(1 - (after_CT**2).sum(axis=1) / power_C))
    return shares
