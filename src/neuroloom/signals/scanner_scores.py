"""How well the artefacts of a scanner were removed, against EEG that never was in one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuroloom.records import Array, Events
from neuroloom.signals.filters import apply_kernel, design_kernel

BAND = (1.0, 40.0)
MU = (8.0, 13.0)
FROM_START, FROM_STOP, HARMONIC = "s from the scanner's start", "s from the scanner's stop", "harmonic of the heart"


@dataclass(frozen=True)
class Curve:
    """What a score of one recording is made of: its value at each second or harmonic (N).

    Attributes
    ----------
    what : str
        Key of `study.scoring.CURVES`.
    x_N : array
        Middle of the second, or number of the harmonic.
    x_unit : str
        `FROM_START`, `FROM_STOP` or `HARMONIC`.
    value_N : array
    """

    what: str
    x_N: Array
    x_unit: str
    value_N: Array


def harmonic_drop(
    before_CT: Array,
    after_CT: Array,
    *,
    truth_CT: Array,
    sfreq: float,
    freqs: Array,
    width: float = 0.25,
    together: bool = False,
) -> float:
    """By how much an artefact got smaller around its harmonics, dB: the worst harmonic of the median channel.

    What is compared is before less truth, and after less truth. So what cleaning took from the brain counts as much as
    what it left of the artefact.

    Parameters
    ----------
    before_CT, after_CT, truth_CT : array
        The same samples with the artefact, cleaned, and without it.
    sfreq : float
        Hz.
    freqs : array
        Harmonics, Hz.
    width : float
        Reach on either side of each, Hz.
    together : bool
        Add up the power of all harmonics instead of looking for the worst one.
    """
    errors = (before_CT - truth_CT, after_CT - truth_CT)
    return float(power_ratio(*errors, sfreq=sfreq, freqs=freqs, width=width, together=together).min())


def power_ratio(
    over_CT: Array, under_CT: Array, *, sfreq: float, freqs: Array, width: float = 0.25, together: bool = False
) -> Array:
    """Power of one signal over that of another around each harmonic, dB (N,), median channel; see `harmonic_drop`."""
    freq_F = np.fft.rfftfreq(over_CT.shape[1], 1 / sfreq)
    near_NF = np.abs(freq_F - np.asarray(freqs)[:, None]) <= width
    near_NF = near_NF.any(axis=0, keepdims=True) if together else near_NF
    over_NC, under_NC = (np.maximum(_power(part_CT, near_NF), 1e-300) for part_CT in (over_CT, under_CT))
    return np.asarray(np.median(10 * np.log10(over_NC / under_NC), axis=1))


def _power(signal_CT: Array, near_NF: Array) -> Array:
    taper_T = np.hanning(signal_CT.shape[1])
    power_CF = (np.abs(np.fft.rfft(signal_T * taper_T)) ** 2 for signal_T in signal_CT)
    return np.stack([[power_F[near_F].sum() for near_F in near_NF] for power_F in power_CF], axis=1)


def kept_r(after_CT: Array, truth_CT: Array, *, sfreq: float) -> float:
    """Correlation with the truth in 1 to 40 Hz, median channel."""
    pairs = zip(_in_band(after_CT, sfreq), _in_band(truth_CT, sfreq), strict=True)
    return float(np.nanmedian([np.corrcoef(after_T, truth_T)[0, 1] for after_T, truth_T in pairs if truth_T.any()]))


def kept_r_by_second(
    after_CT: Array, truth_CT: Array, *, sfreq: float, still_T: Array, start: float, stop: float
) -> list[Curve]:
    """Where `kept_r` is lost: the correlation within each second, and that of the recording without this second.

    Seconds are counted from the scanner's start in the first half of the scan, from its stop in the second half. One of
    which less than half counts has no correlation of its own; one that is cut short by half is left out.

    Parameters
    ----------
    after_CT, truth_CT : array
        The whole recording.
    sfreq : float
        Hz.
    still_T : bool array
        Samples that count: those that `kept_r` is given.
    start, stop : float
        Of the scanner, s.
    """
    time_T = np.arange(len(still_T)) / sfreq
    late_T = time_T >= (start + stop) / 2
    second_T = np.floor(time_T - np.where(late_T, stop, start))
    first_W = np.concatenate([[0], np.flatnonzero(np.diff(second_T)) + 1])
    whole_W = np.diff(first_W, append=len(time_T)) >= sfreq / 2  # the clocks differ, and leave slivers
    a_CT, b_CT = np.zeros(after_CT.shape), np.zeros(truth_CT.shape)
    a_CT[:, still_T], b_CT[:, still_T] = (_in_band(part_CT[:, still_T], sfreq) for part_CT in (after_CT, truth_CT))
    products = (np.broadcast_to(1.0 * still_T, a_CT.shape), a_CT, b_CT, a_CT**2, b_CT**2, a_CT * b_CT)
    sums_NCW = np.stack([np.add.reduceat(part_CT, first_W, axis=1) for part_CT in products])
    heard_W, total_NC1 = sums_NCW[0, 0] >= sfreq / 2, sums_NCW.sum(axis=2, keepdims=True)
    x_W, curves = second_T[first_W] + 0.5, []
    for x_unit, is_late in ((FROM_START, False), (FROM_STOP, True)):
        side_W = whole_W & (late_T[first_W] == is_late)
        own_W = side_W & heard_W
        curves.append(Curve("scanner_r_second", x_W[own_W], x_unit, _correlation(sums_NCW[:, :, own_W])))
        without_W = _correlation(total_NC1 - sums_NCW[:, :, side_W])
        curves.append(Curve("scanner_r_without", x_W[side_W], x_unit, without_W))
    return curves


def _in_band(signal_CT: Array, sfreq: float) -> Array:
    return apply_kernel(np.asarray(signal_CT, np.float32), design_kernel(sfreq, l_freq=BAND[0], h_freq=BAND[1]))


def _correlation(sums_NCW: Array) -> Array:
    """Median channel's, from the sums of 1, a, b, a², b² and ab; NaN where nothing varies."""
    n_CW, a_CW, b_CW, aa_CW, bb_CW, ab_CW = sums_NCW
    spread_CW = np.sqrt(np.maximum(n_CW * aa_CW - a_CW**2, 0) * np.maximum(n_CW * bb_CW - b_CW**2, 0))
    r_CW = (n_CW * ab_CW - a_CW * b_CW) / np.where(spread_CW > 0, spread_CW, np.nan)
    return np.asarray(np.nanmedian(r_CW, axis=0))


def erd_change(
    after_CT: Array, truth_CT: Array, *, sfreq: float, events: Events, task: str, rest: str | None = None
) -> float:
    """Change of the contrast of power in 8 to 13 Hz, task over rest, against the truth: a share, median channel.

    Parameters
    ----------
    events : Events
        The task's.
    task, rest : str
        Labels of events; without `rest`, all times outside any event.
    """
    in_task_T = _during(events, task, truth_CT.shape[1], sfreq)
    labels = set(events.label)
    in_rest_T = (
        ~np.any([_during(events, label, truth_CT.shape[1], sfreq) for label in labels], axis=0)
        if rest is None
        else _during(events, rest, truth_CT.shape[1], sfreq)
    )
    kernel = design_kernel(sfreq, l_freq=MU[0], h_freq=MU[1])
    power = [apply_kernel(np.asarray(part, np.float32), kernel) ** 2 for part in (after_CT, truth_CT)]
    contrast_2C = np.array([part[:, in_task_T].mean(axis=1) / part[:, in_rest_T].mean(axis=1) for part in power])
    return float(np.median(np.abs(contrast_2C[0] / contrast_2C[1] - 1)))


def _during(events: Events, label: str, n_times: int, sfreq: float) -> Array:
    inside_T = np.zeros(n_times, bool)
    for onset, duration, found in zip(events.onset, events.duration, events.label, strict=True):
        if found == label:
            inside_T[int(onset * sfreq) : int((onset + duration) * sfreq)] = True
    return inside_T
