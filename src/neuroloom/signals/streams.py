"""Signals of any length, computed piece by piece.

A stream has a shape and gives `[:, first:stop]`, as NumPy and Zarr arrays do; what it gives for a piece is what it
would give there for the whole, because each step needs its source only within a known reach of the piece. Streams are
put one on top of the other, and nothing is computed before a piece is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from neuroloom.records import Array, Recording, Signal
from neuroloom.signals.filters import convolve, read_beyond

PIECE_VALUES = 4_000_000  # 16 MB of float32
GAP_S = 1.0


class Stream(ABC):
    """Base of the streams: slicing, and long pieces computed as a row of short ones.

    Attributes
    ----------
    shape : tuple of int
        Channels, samples.
    reach : int
        Samples on either side of a piece that are computed for nothing.
    grid : int
        Long requests are computed in pieces of a multiple of this.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, shape: tuple[int, int], *, reach: int = 0, grid: int = 1) -> None:
        self.shape, self.reach, self.grid = shape, reach, grid

    @abstractmethod
    def read(self, first: int, stop: int) -> Array:
        """Samples `first` to `stop` of all channels, float32; `0 <= first <= stop <= shape[1]`."""

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        rows, times = key
        first, stop, _ = times.indices(self.shape[1])
        step = max(PIECE_VALUES // max(self.shape[0], 1), 8 * self.reach, 1)
        step = -(-step // self.grid) * self.grid
        if stop - first <= 2 * step:
            return self.read(first, max(stop, first))[rows]
        out_CT = np.empty((self.shape[0], stop - first), np.float32)
        for at in range(first, stop, step):
            end = min(at + step, stop)
            out_CT[:, at - first : end - first] = self.read(at, end)
        return out_CT[rows]


class Picked(Stream):
    """Some channels of a signal."""

    def __init__(self, signal: Signal, picks: Array) -> None:
        super().__init__((len(picks), signal.shape[1]))
        self._signal, self._picks = signal, picks

    def read(self, first: int, stop: int) -> Array:
        """Rows of the signal's piece."""
        return np.asarray(self._signal[:, first:stop])[self._picks]


class Patched(Stream):
    """A signal some of whose channels are replaced by those of another one."""

    def __init__(self, signal: Signal, patch: Signal, picks: Array) -> None:
        super().__init__((signal.shape[0], signal.shape[1]))
        self._signal, self._patch, self._picks = signal, patch, picks

    def read(self, first: int, stop: int) -> Array:
        """Both pieces, one laid over the other."""
        piece_CT = np.array(self._signal[:, first:stop], np.float32)
        piece_CT[self._picks] = self._patch[:, first:stop]
        return piece_CT


def pick(recording: Recording, *ch_types: str) -> Recording:
    """The recording without channels of other types."""
    kept = recording.picks(*ch_types)
    if len(kept) == len(recording.ch_names):
        return recording
    return replace(
        recording,
        signal_CT=Picked(recording.signal_CT, kept),
        ch_names=[recording.ch_names[at] for at in kept],
        ch_types=[recording.ch_types[at] for at in kept],
        units=[recording.units[at] for at in kept],
        status=[recording.status[at] for at in kept],
        coil_C=recording.coil_C[kept],
        loc_C12=recording.loc_C12[kept],
    )


class Filled(Stream):
    """A signal whose missing samples (NaN) are filled.

    A gap is bridged by a straight line between samples that are at most `GAP_S` away; where only one side has such a
    sample its value is held, and the middle of a longer gap is the channel's own level.

    Parameters
    ----------
    signal : Signal
    sfreq : float
        Hz.
    level_C : array
        Level of each channel.
    """

    def __init__(self, signal: Signal, *, sfreq: float, level_C: Array) -> None:
        super().__init__((signal.shape[0], signal.shape[1]))
        self._signal, self._radius, self._level_C = signal, max(int(GAP_S * sfreq), 1), level_C

    def read(self, first: int, stop: int) -> Array:
        """Only pieces with gaps need their neighbourhood."""
        piece_CT = np.asarray(self._signal[:, first:stop], np.float32)
        holed = np.flatnonzero(np.isnan(piece_CT).any(axis=1))
        if not len(holed):
            return piece_CT
        before = min(self._radius, first)
        after = min(self._radius, self.shape[1] - stop)
        wide_CT = np.asarray(self._signal[:, first - before : stop + after], np.float32)
        piece_CT = piece_CT.copy()
        for at in holed:
            filled_T = fill_gaps(wide_CT[at], radius=self._radius, level=float(self._level_C[at]))
            piece_CT[at] = filled_T[before : before + stop - first]
        return piece_CT


def fill_gaps(signal_T: Array, *, radius: int, level: float) -> Array:
    """One channel with its gaps filled, as `Filled` describes it; `radius` in samples."""
    there = np.flatnonzero(~np.isnan(signal_T))
    filled_T = np.full(len(signal_T), np.float32(level))
    if not len(there):
        return filled_T
    times = np.arange(len(signal_T))
    following = np.searchsorted(there, times)
    left, right = there[np.maximum(following - 1, 0)], there[np.minimum(following, len(there) - 1)]
    near_left, near_right = (left <= times) & (times - left <= radius), (right >= times) & (right - times <= radius)
    filled_T[near_left] = signal_T[left[near_left]]
    only_right = near_right & ~near_left
    filled_T[only_right] = signal_T[right[only_right]]
    both = near_left & near_right & (right > left)
    share_T = (times[both] - left[both]) / (right[both] - left[both])
    filled_T[both] = (1 - share_T) * signal_T[left[both]] + share_T * signal_T[right[both]]
    filled_T[there] = signal_T[there]
    return filled_T


class Filtered(Stream):
    """A signal after a symmetric FIR kernel and polyphase resampling.

    Beyond its ends the signal is continued by its point reflection as far as the kernel is wide, and by its last value
    after that.

    Parameters
    ----------
    signal : Signal
        Without gaps.
    kernel : array
        Symmetric, of odd length.
    level_C : array
        Level of each channel, taken off before filtering: float32 has seven digits, and offsets of an amplifier may
        need five of them.
    ratio : Fraction
        New sampling rate over the old one.
    """

    def __init__(self, signal: Signal, *, kernel: Array, level_C: Array, ratio: Fraction) -> None:
        self._up, self._down = ratio.numerator, ratio.denominator
        n_times = -(-signal.shape[1] * self._up // self._down)
        # SciPy's kernel reaches 10 samples of the slower of the two rates to either side
        blocks = -(-10 * max(self._up, self._down) // (self._up * self._down)) if ratio != 1 else 0
        half = len(kernel) // 2
        super().__init__((signal.shape[0], n_times), reach=-(-half * self._up // self._down) + blocks * self._up)
        self._signal, self._kernel, self._half, self._blocks = signal, kernel.astype(np.float32), half, blocks
        self._level_C1 = level_C[:, None].astype(np.float32)

    def read(self, first: int, stop: int) -> Array:
        """Blocks of `down` samples in are `up` samples out, so that each piece starts on a sample of both rates."""
        if self._up == self._down:
            return self._convolved(first, stop)
        from scipy.signal import resample_poly

        start = first // self._up - self._blocks
        end = -(-stop // self._up) + self._blocks
        filtered_CT = self._convolved(start * self._down, end * self._down)
        resampled_CT = resample_poly(filtered_CT, self._up, self._down, axis=1)
        skip = first - start * self._up
        return np.asarray(resampled_CT[:, skip : skip + stop - first], np.float32)

    def _convolved(self, first: int, stop: int) -> Array:
        wide_CT = read_beyond(self._signal, first - self._half, stop + self._half, reach=self._half)
        return convolve(wide_CT - self._level_C1, self._kernel)


class Mixed(Stream):
    """Linear combinations of channels, with rounded mantissas.

    Parameters
    ----------
    signal : Signal
    matrix : array (channels out, channels in)
    mantissa_bits : int or None
    """

    def __init__(self, signal: Signal, matrix: Array, *, mantissa_bits: int | None = None) -> None:
        super().__init__((len(matrix), signal.shape[1]))
        self._signal, self._matrix, self._bits = signal, matrix.astype(np.float32), mantissa_bits

    def read(self, first: int, stop: int) -> Array:
        """One product."""
        return round_mantissa(self._matrix @ np.asarray(self._signal[:, first:stop], np.float32), self._bits)


def round_mantissa(signal_CT: Array, bits: int | None) -> Array:
    """Round float32 values to `bits` of their 23 mantissa bits, to even: an error of at most 2^-(bits + 1) of each.

    The bits that are then zero take no space in the store. Ten bits are an error of 0.05 %, 10 nV of a sample of 20 µV:
    far below the noise of any amplifier.
    """
    if bits is None:
        return signal_CT
    dropped = 23 - bits
    below, kept = np.uint32((1 << (dropped - 1)) - 1), ~np.uint32((1 << dropped) - 1)
    rounded_CT = np.empty_like(signal_CT)
    for row, signal_T in zip(rounded_CT, signal_CT, strict=True):  # a channel at a time stays in the cache
        words = signal_T.view(np.uint32)
        row.view(np.uint32)[:] = (words + (below + ((words >> np.uint32(dropped)) & np.uint32(1)))) & kept
    return rounded_CT


def draw_pieces(
    n_times: int, sfreq: float, *, seconds: float, max_pieces: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """First and last samples of pieces on which a step learns.

    The whole of a short recording, else one piece at random in each of `max_pieces` equal parts of it.
    """
    length = max(int(seconds * sfreq), 1)
    if n_times <= length * max_pieces:
        return [(0, n_times)]
    part = n_times / max_pieces
    starts = (np.arange(max_pieces) * part + rng.uniform(0, part - length, max_pieces)).astype(int)
    return [(int(at), int(at) + length) for at in starts]


def read_pieces(signal: Signal, pieces: Sequence[tuple[int, int]]) -> Array:
    """Pieces of a signal side by side."""
    return np.concatenate([np.asarray(signal[:, first:stop], np.float32) for first, stop in pieces], axis=1)
