"""The whole chain, asked for in pieces, gives what it gives as a whole; and memory does not grow with length."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.records import Array, Events, Recording
from neuroloom.signals import preprocess, scanner
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.signals.streams import Stream

CONFIG = MeegConfig(mantissa_bits=None, ocular="none", muscle="none")
T_R = 1.5


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a long recording: what is learnt is learnt from pieces, and nothing is kept in memory."""
    monkeypatch.setattr(preprocess, "PIECE_S", 3.0)
    monkeypatch.setattr(preprocess, "MAX_PIECES", 4)
    monkeypatch.setattr(scanner, "IN_MEMORY", 0)


def in_scanner(recording: Recording) -> Recording:
    """The recording with a gap, a heart in one channel and pulses that repeat with each volume."""
    rng, times = np.random.default_rng(0), np.arange(recording.signal_CT.shape[1]) / recording.sfreq
    phase_T = (times % T_R) / T_R
    pulses_T = 3e-3 * np.sin(2 * np.pi * 14 * phase_T) * (phase_T < 0.8)
    signal_CT = recording.signal_CT + np.outer(rng.normal(1, 0.3, 19), pulses_T).astype(np.float32)
    signal_CT[18] = 1e-3 * np.exp(-(((times % 0.9) - 0.4) ** 2) / 2e-4) + 0.1 * pulses_T
    signal_CT[3, 1000:1020] = np.nan
    onsets = np.arange(0.0, times[-1] - T_R, T_R)
    events = Events(onsets, np.zeros(len(onsets)), ["R128"] * len(onsets))
    types = ["eeg"] * 18 + ["ecg"]
    return replace(recording, signal_CT=signal_CT.astype(np.float32), events=events, ch_types=types, scanner_t_r=T_R)


@pytest.mark.usefixtures("lazy")
@pytest.mark.parametrize("scanned", [False, True], ids=["plain", "in a scanner"])
def test_pieces_equal_the_whole_to_one_part_in_a_million(recording: Recording, scanned: bool) -> None:
    given = in_scanner(recording) if scanned else recording
    rng = np.random.default_rng(0)
    clean, qc = preprocess_meeg(recording=given, config=CONFIG, window=5.0, file="a", rng=rng)
    assert ("volumes from volume triggers" in qc.notes) == scanned
    n_times = clean.signal_CT.shape[1]
    whole_CT = clean.signal_CT.read(0, n_times)
    parts_CT = np.concatenate([clean.signal_CT[:, at : at + 437] for at in range(0, n_times, 437)], axis=1)
    assert np.isfinite(whole_CT).all()
    # a part in a million of what was measured: float32 has no more of millivolts of gradients
    largest = np.nanmax(np.abs(given.signal_CT)) if scanned else np.abs(whole_CT).max()
    assert np.abs(parts_CT - whole_CT).max() <= 1e-6 * largest


class Endless(Stream):
    """Noise of any length, made when it is read."""

    def __init__(self, n_channels: int, n_times: int) -> None:
        super().__init__((n_channels, n_times))

    def read(self, first: int, stop: int) -> Array:
        rng = np.random.default_rng(first)
        common_T = rng.standard_normal(stop - first, dtype=np.float32)
        return np.float32(1e-5) * (common_T + rng.standard_normal((self.shape[0], stop - first), dtype=np.float32))


def peak_mb(recording: Recording, hours: float) -> float:
    n_times = int(hours * 3600 * recording.sfreq)
    endless = replace(recording, signal_CT=Endless(19, n_times))
    tracemalloc.start()
    clean, _ = preprocess_meeg(recording=endless, config=CONFIG, window=10.0, file="a", rng=np.random.default_rng(0))
    for at in range(0, clean.signal_CT.shape[1], 400_000):
        clean.signal_CT[:, at : at + 400_000]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def test_memory_does_not_grow_with_length(recording: Recording) -> None:
    assert peak_mb(recording, 3.0) < 1.1 * peak_mb(recording, 1.0)
