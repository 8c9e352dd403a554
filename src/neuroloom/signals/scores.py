"""How well cleaning did, against the truth of the simulated study: figures with the bound that each should meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neuroloom.records import Array, Events
from neuroloom.signals.filters import apply_kernel, design_kernel, welch_psd

ALPHA = (8.0, 12.0)
BRAIN_ALPHA, MUSCLE = (8.0, 13.0), (20.0, 70.0)
HEARD = 1e-3  # of its power: what is left of muscle below that is not told from noise
MARGIN_S = 0.5  # to either side of a burst, and at the ends of a recording


@dataclass(frozen=True)
class Score:
    """One figure about one recording.

    Attributes
    ----------
    what : str
        Key of `BOUNDS`.
    value : float
    """

    what: str
    value: float


@dataclass(frozen=True)
class Bound:
    """What a figure of a site should reach.

    Attributes
    ----------
    text, unit : str
        What it is, in words.
    least, most : float
        The bound.
    judged : str
        `worst` recording, or the `mean` over recordings.
    """

    text: str
    unit: str
    least: float = -np.inf
    most: float = np.inf
    judged: Literal["worst", "mean"] = "worst"

    @property
    def is_floor(self) -> bool:
        """Whether more is better."""
        return bool(np.isfinite(self.least))

    def met(self, value: float) -> bool:
        """Whether a figure is within the bound."""
        return bool(self.least <= value <= self.most)


BOUNDS: dict[str, Bound] = {
    "bads_recall": Bound("planted bad channels that were found", "share", least=0.9, judged="mean"),
    "bads_precision": Bound("channels found bad that were planted", "share", least=0.9, judged="mean"),
    "bads_false": Bound("channels found bad that were not planted, of all", "share", most=0.03, judged="mean"),
    "line_drop": Bound("mains, before over after", "dB", least=30.0),
    "line_neighbours": Bound("change 2 Hz from mains", "dB", most=1.0),
    "blink": Bound("correlation with the planted blinks, worst channel", "r", most=0.1),
    "alpha": Bound("change of alpha power against the truth, median channel", "share", most=0.05, judged="mean"),
    "muscle": Bound("bursts of muscle, before over after, 20-70 Hz", "dB", least=6.0),
    "muscle_r": Bound(
        "correlation with true EEG in bursts, after less before, median channel", "r", 0.0, judged="mean"
    ),
    "muscle_alpha": Bound("change of 8-13 Hz in bursts, median channel", "share", most=0.05, judged="mean"),
    "gradient": Bound("gradients of the scanner, before over after, worst harmonic of the slices", "dB", least=40.0),
    "scanner_r": Bound("correlation with EEG outside the scanner, 1-40 Hz, median channel", "r", least=0.95),
    "cardiac": Bound("heartbeats in the scanner, before over after, five harmonics together", "dB", least=15.0),
    "cardiac_worst": Bound("the same, worst harmonic: where they are weakest against EEG", "dB", least=15.0),
    "erd": Bound("change of the contrast of 8-13 Hz between conditions, median channel", "share", most=0.1),
    "interference": Bound("magnetic fields of the room, before over after, worst coil type", "dB", least=20.0),
    "dipole": Bound("change of the amplitude of dipoles in the parcels, median, worst coil type", "share", most=0.05),
    "bold": Bound("correlation with true BOLD over the ceiling of noise", "share", least=0.95, judged="mean"),
}


def score_bads(found: Iterable[str], planted: Iterable[str], *, n_channels: int) -> list[Score]:
    """Recall and precision of bad channels, NaN where nothing was planted or found, and the share of false ones."""
    found, planted = set(found), set(planted)
    hits = len(found & planted)
    return [
        Score("bads_recall", hits / len(planted) if planted else np.nan),
        Score("bads_precision", hits / len(found) if found else np.nan),
        Score("bads_false", len(found - planted) / n_channels),
    ]


def score_signal(
    clean_CT: Array,
    *,
    plain_CT: Array,
    filtered_CT: Array,
    truth_CT: Array,
    noise_psd_C: Array,
    blink_T: Array,
    sfreq: float,
    line_freq: float,
) -> list[Score]:
    """Mains, blinks and alpha of the good channels of one recording, all at the rate and reference of the cleaned one.

    Parameters
    ----------
    clean_CT : array
        Preprocessed.
    plain_CT : array
        The recording as it is outside of scanner and room, through the same matrix, but through no filter.
    filtered_CT : array
        The same through the filter, by which alone its neighbourhood of mains is judged.
    truth_CT : array
        What the channels would hold without noise and artefacts.
    noise_psd_C : array
        Power spectral density of the white noise of the sensors, which is no artefact and stays.
    blink_T : array
        Time course of the planted blinks; zero where there are none.
    sfreq, line_freq : float
        Hz.
    """
    plain, filtered, clean = (welch_psd(part_CT, sfreq) for part_CT in (plain_CT, filtered_CT, clean_CT))
    scores = _score_line(plain, filtered, clean, line_freq=line_freq)
    if blink_T.any():
        alpha_true = _band_power(truth_CT, sfreq) + noise_psd_C
        scores.append(Score("blink", float(np.abs(correlations(clean_CT, blink_T)).max())))
        scores.append(Score("alpha", float(np.median(np.abs(_band_power(clean_CT, sfreq) / alpha_true - 1)))))
    return scores


def score_muscle(clean_CT: Array, *, plain_CT: Array, brain_CT: Array, bursts: Events, sfreq: float) -> list[Score]:
    """What cleaning does to bursts of muscle, and to the brain while they last.

    Parameters
    ----------
    clean_CT : array
        Good EEG channels, preprocessed.
    plain_CT : array
        The recording as it is outside of the scanner, through the same filter and matrix.
    brain_CT : array
        What the brain alone is in these channels, through the same filter.
    bursts : Events
        When muscle was planted.
    sfreq : float
        Hz.
    """
    n_times = min(part_CT.shape[1] for part_CT in (clean_CT, plain_CT, brain_CT))
    clean_CT, plain_CT, brain_CT = (part_CT[:, :n_times] for part_CT in (clean_CT, plain_CT, brain_CT))
    during_T, outside_T = during(bursts, n_times, sfreq), ~during(bursts, n_times, sfreq, margin=MARGIN_S)
    outside_T[: int(MARGIN_S * sfreq)] = outside_T[-int(MARGIN_S * sfreq) :] = False

    def added(part_CT: Array) -> float:
        power_CT = _in_band(part_CT - brain_CT, MUSCLE, sfreq) ** 2
        return float((power_CT[:, during_T].mean(axis=1) - power_CT[:, outside_T].mean(axis=1)).sum())

    def likeness(part_CT: Array) -> float:
        pairs = zip(part_CT[:, during_T], brain_CT[:, during_T], strict=True)
        return float(np.median([np.corrcoef(part_T, brain_T)[0, 1] for part_T, brain_T in pairs]))

    planted = added(plain_CT)
    alpha_2C = np.stack(
        [_in_band(part_CT, BRAIN_ALPHA, sfreq)[:, during_T].var(axis=1) for part_CT in (clean_CT, plain_CT)]
    )
    return [
        Score("muscle", float(10 * np.log10(planted / max(added(clean_CT), HEARD * planted)))),
        Score("muscle_r", likeness(clean_CT) - likeness(plain_CT)),
        Score("muscle_alpha", float(abs(np.median(alpha_2C[0] / alpha_2C[1]) - 1))),
    ]


def during(events: Events, n_times: int, sfreq: float, *, margin: float = 0.0) -> Array:
    """Whether there is an event, sample by sample."""
    during_T = np.zeros(n_times, bool)
    for onset, duration in zip(events.onset, events.duration, strict=True):
        during_T[max(int((onset - margin) * sfreq), 0) : int((onset + duration + margin) * sfreq)] = True
    return during_T


def _in_band(signal_CT: Array, band: tuple[float, float], sfreq: float) -> Array:
    kernel = design_kernel(sfreq, l_freq=band[0], h_freq=min(band[1], 0.45 * sfreq))
    return apply_kernel(signal_CT.astype(np.float32), kernel)


Spectrum = tuple[Array, Array]


def _score_line(plain: Spectrum, filtered: Spectrum, clean: Spectrum, *, line_freq: float) -> list[Score]:
    """Mains above the high end of the recording was never heard: no score."""
    if line_freq + 3 > plain[0][-1]:
        return []
    sides = [abs(_db(filtered, line_freq + side) - _db(plain, line_freq + side)) for side in (-2.0, 2.0)]
    return [Score("line_drop", _db(plain, line_freq) - _db(clean, line_freq)), Score("line_neighbours", max(sides))]


def _db(spectrum: Spectrum, freq: float) -> float:
    """Power within a quarter of a hertz, median channel, dB."""
    freqs_F, psd_CF = spectrum
    near = np.abs(freqs_F - freq) <= 0.26
    power = np.median(psd_CF[:, near].mean(axis=1))
    return float(10 * np.log10(max(power, np.finfo(float).tiny)))


def _band_power(signal_CT: Array, sfreq: float) -> Array:
    freqs_F, psd_CF = welch_psd(signal_CT, sfreq)
    return psd_CF[:, (freqs_F >= ALPHA[0]) & (freqs_F <= ALPHA[1])].mean(axis=1)


def correlations(signal_CT: Array, course_T: Array) -> Array:
    """Pearson correlation of each channel with one time course, (C,)."""
    n_times = min(signal_CT.shape[1], len(course_T))
    signal_CT = signal_CT[:, :n_times] - signal_CT[:, :n_times].mean(axis=1, keepdims=True)
    course_T = course_T[:n_times] - course_T[:n_times].mean()
    norm_C = np.linalg.norm(signal_CT, axis=1) * np.linalg.norm(course_T)
    return signal_CT @ course_T / np.where(norm_C > 0, norm_C, np.inf)
