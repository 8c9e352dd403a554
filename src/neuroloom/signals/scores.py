"""How well cleaning did, against the truth of the simulated study: figures with the bound that each should meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.filters import resample, welch_psd
from neuroloom.signals.ingest import BRAIN

ALPHA = (8.0, 12.0)


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
    "line_drop": Bound("mains, before over after", "dB", least=30.0),
    "line_neighbours": Bound("change 2 Hz from mains", "dB", most=1.0),
    "blink": Bound("correlation with the planted blinks, worst channel", "r", most=0.1),
    "alpha": Bound("change of alpha power against the truth, median channel", "share", most=0.05, judged="mean"),
    "bold": Bound("correlation with true BOLD over the ceiling of noise", "share", least=0.95, judged="mean"),
}


def score_bads(found: Iterable[str], planted: Iterable[str]) -> list[Score]:
    """Recall and precision of bad channels; NaN where nothing was planted or found."""
    found, planted = set(found), set(planted)
    hits = len(found & planted)
    return [
        Score("bads_recall", hits / len(planted) if planted else np.nan),
        Score("bads_precision", hits / len(found) if found else np.nan),
    ]


def score_signal(
    before: Recording, after: Recording, *, truth_CT: Array, noise_C: Array, blink_T: Array, line_freq: float
) -> list[Score]:
    """Mains, blinks and alpha of one recording.

    Parameters
    ----------
    before, after : Recording
        As ingested and as preprocessed; their good channels count.
    truth_CT : array
        What the channels of `before` would hold without noise and artefacts, at its rate.
    noise_C : array
        RMS of the white noise of each sensor, which is no artefact and stays.
    blink_T : array
        Time course of the planted blinks at that rate; zero where there are none.
    line_freq : float
        Hz.
    """
    good = [name for name, status in zip(after.ch_names, after.status, strict=True) if status == "good"]
    good = [name for name in good if after.ch_types[after.ch_names.index(name)] in BRAIN]
    at_before = [before.ch_names.index(name) for name in good]
    at_after = [after.ch_names.index(name) for name in good]
    is_eeg = np.array([before.ch_types[at] == "eeg" for at in at_before])
    raw_CT = _average_reference(before.signal_CT[at_before], is_eeg)
    true_CT = _average_reference(truth_CT[at_before], is_eeg)
    clean_CT = _average_reference(after.signal_CT[at_after], is_eeg)
    scores = _score_line(welch_psd(raw_CT, before.sfreq), welch_psd(clean_CT, after.sfreq), line_freq)
    # an average reference takes its own share of the noise away
    noise_psd_C = noise_C[at_before] ** 2 / (before.sfreq / 2) * np.where(is_eeg, 1 - 1 / max(is_eeg.sum(), 1), 1)
    alpha_true = _band_power(true_CT, before.sfreq) + noise_psd_C
    alpha_clean = _band_power(clean_CT, after.sfreq)
    scores.append(Score("alpha", float(np.median(np.abs(alpha_clean / alpha_true - 1)))))
    if blink_T.any():
        blink = resample(blink_T[None], sfreq=before.sfreq, new_sfreq=after.sfreq)[0]
        scores.append(Score("blink", float(np.abs(correlations(clean_CT, blink)).max())))
    return scores


def _average_reference(signal_CT: Array, is_eeg: Array) -> Array:
    """EEG against its own mean, so that before, after and truth can be compared; MEG as it is."""
    if not is_eeg.any():
        return signal_CT
    return np.where(is_eeg[:, None], signal_CT - signal_CT[is_eeg].mean(axis=0), signal_CT)


def _score_line(before: tuple[Array, Array], after: tuple[Array, Array], line_freq: float) -> list[Score]:
    """Mains above the high end of either recording was never heard: no score."""
    if line_freq + 3 > min(before[0][-1], after[0][-1]):
        return []
    drop = _db(before, line_freq) - _db(after, line_freq)
    sides = [abs(_db(after, line_freq + side) - _db(before, line_freq + side)) for side in (-2.0, 2.0)]
    return [Score("line_drop", drop), Score("line_neighbours", max(sides))]


def _db(spectrum: tuple[Array, Array], freq: float) -> float:
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
