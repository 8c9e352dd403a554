"""Windows that hold a burst, with the reason, found while the cleaned signal streams into its store.

Nothing is cut out: the store keeps every window, and says of each whether training should use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuroloom.records import BRAIN, Array, Recording, Signal
from neuroloom.signals.bads import MIN_SPREAD
from neuroloom.signals.streams import Stream

GOOD = "good"
MEASURES = ("burst", "muscle")


@dataclass(frozen=True)
class Limits:
    """What is usual in a recording.

    Attributes
    ----------
    picks : int array
        Good brain channels.
    names : list of str
        Theirs.
    sfreq : float
        Hz.
    middle_2C, spread_2C : array
        Median and robust SD over seconds of the log SD of each channel, of the signal and of its first difference, in
        which muscle stands out.
    z : float
        Robust SDs above the median that make a second a burst.
    """

    picks: Array
    names: list[str]
    sfreq: float
    middle_2C: Array
    spread_2C: Array
    z: float


def fit_limits(recording: Recording, pieces: Sequence[Array], *, z: float) -> Limits | None:
    """Learn what is usual from pieces of the cleaned signal; None where there is no good channel."""
    good = [at for at in recording.picks(*BRAIN) if recording.status[at] == GOOD]
    if not good:
        return None
    measured_2SC = np.concatenate([_measure(piece_CT[good], recording.sfreq) for piece_CT in pieces], axis=1)
    middle_2C = np.median(measured_2SC, axis=1)
    spread_2C = 1.4826 * np.median(np.abs(measured_2SC - middle_2C[:, None]), axis=1)
    names = [recording.ch_names[at] for at in good]
    return Limits(np.array(good), names, recording.sfreq, middle_2C, np.maximum(spread_2C, MIN_SPREAD), z)


def judge(limits: Limits, window_CT: Array, start: int) -> str:
    """`good`, or `rejected: <what> at <channel>` with time and size; `start` is the window's first sample."""
    signal_CT = window_CT[limits.picks]
    if not signal_CT.any():
        return "rejected: no signal"
    z_2SC = (_measure(signal_CT, limits.sfreq) - limits.middle_2C[:, None]) / limits.spread_2C[:, None]
    worst_2SC = np.argwhere(z_2SC > limits.z)
    if not len(worst_2SC):
        return GOOD
    kind, second, channel = np.unravel_index(int(z_2SC.argmax()), z_2SC.shape)
    when = start / limits.sfreq + int(second)
    size = float(z_2SC[kind, second, channel])
    return f"rejected: {MEASURES[kind]} at {limits.names[channel]} ({when:.0f} s, {size:.1f} robust SD)"


def _measure(signal_CT: Array, sfreq: float) -> Array:
    """Log SD of each second of the signal and of its first difference, (2, seconds, C)."""
    length = max(min(int(sfreq), signal_CT.shape[1]), 2)
    n_seconds = max(signal_CT.shape[1] // length, 1)
    both = []
    for course_CT in (signal_CT, np.diff(signal_CT, axis=1, prepend=signal_CT[:, :1])):
        seconds_CST = course_CT[:, : n_seconds * length].reshape(len(course_CT), n_seconds, -1)
        both.append(seconds_CST.std(axis=2).T)
    return np.log(np.maximum(np.stack(both), np.finfo(np.float32).tiny))


class Judged(Stream):
    """A signal that is judged window by window as it passes.

    Parameters
    ----------
    signal : Signal
    window : int
        Samples; a rest at the end is judged, too.
    limits : Limits

    Attributes
    ----------
    status : list of str
        One per window, empty until the window has passed.
    """

    def __init__(self, signal: Signal, *, window: int, limits: Limits) -> None:
        super().__init__((signal.shape[0], signal.shape[1]), grid=window)
        self._signal, self._window, self._limits = signal, window, limits
        self.status = [""] * -(-signal.shape[1] // window)

    def read(self, first: int, stop: int) -> Array:
        """Windows that lie in the piece as a whole are judged."""
        piece_CT = np.asarray(self._signal[:, first:stop])
        for at in range(-(-first // self._window), len(self.status)):
            start, end = at * self._window, min((at + 1) * self._window, self.shape[1])
            if end > stop:
                break
            self.status[at] = judge(self._limits, piece_CT[:, start - first : end - first], start)
        return piece_CT
