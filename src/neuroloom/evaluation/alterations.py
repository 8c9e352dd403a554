"""Signals with a slope, a band or channels taken out, which are read like the ones they are made of.

What is left is prepared anew as the model wants it, so that it does not see that something is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from neuroloom.evaluation.baselines import BANDS
from neuroloom.evaluation.examples import Pieces
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.signals.ocular import FRONTAL
from neuroloom.tokenizers.segments import (
    LARGEST_Z,
    WINDOWS_FOR_SCALE,
    Preparation,
    normalize_positions,
    normalize_segments,
)

SLOPE_BAND = (2.0, 40.0)  # Hz, that the slope is fitted in: above drifts, below the mains
WHITENED = (1.0, 45.0)  # Hz, that it is taken out of: the bands of the classical features
PEAK_SD = 1.5  # robust SDs above the line, from which a frequency belongs to a peak
FEWEST_FRONTAL = 3  # two channels around their mean would be one number and its mirror image
Gain = Callable[[Array, Array, float], Array]  # signal (B, C, T), frequencies (F,), Hz -> factors that end in F
Change = Callable[[Pieces], "Altered"]


@dataclass(frozen=True)
class Altered:
    """Pieces with fewer channels, or filtered, prepared anew; read like the pieces they are made of.

    Attributes
    ----------
    base : Pieces
        Prepared already; what preparation did to the channels left out is undone as far as it is linear.
    preparation : {"brainomni", "reve"}
    keep_C : bool array
    gain : callable, optional
        Signal, frequencies and rate -> what each frequency is multiplied by.
    band : str
        Name of the band that is left; empty where all are.
    """

    base: Pieces
    preparation: Preparation
    keep_C: Array
    gain: Gain | None = None
    band: str = ""

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.base)

    @property
    def recording(self) -> str:
        """Name."""
        return self.base.recording

    @property
    def ch_names(self) -> list[str]:
        """Names of the channels that are left."""
        return [name for name, kept in zip(self.base.ch_names, self.keep_C, strict=True) if kept]

    @property
    def sfreq(self) -> float:
        """Hz."""
        return self.base.sfreq

    @property
    def n_times(self) -> int:
        """Samples of a piece."""
        return self.base.n_times

    @property
    def start_N(self) -> Array:
        """First sample of each piece."""
        return self.base.start_N

    @property
    def sensor_type_C(self) -> Array:
        """Types of the channels that are left."""
        return self.base.sensor_type_C[self.keep_C]

    @cached_property
    def positions_C6(self) -> Array:
        """Positions of the channels that are left, prepared for themselves."""
        kept_C6 = self.base.positions_C6[self.keep_C]
        return kept_C6 if self.preparation == "reve" else normalize_positions(kept_C6, self.sensor_type_C)

    def read(self, first: int, count: int = 1) -> Array:
        """Pieces `first` to `first + count`, float32 (count, C, T)."""
        changed_BCT = self._changed(first, count)
        if self.preparation == "brainomni":
            return normalize_segments(changed_BCT, self.sensor_type_C)
        mean_C1, sd_C1 = self._scale
        return np.clip((changed_BCT - mean_C1) / sd_C1, -LARGEST_Z, LARGEST_Z).astype(np.float32)

    def _changed(self, first: int, count: int) -> Array:
        signal_BCT = self.base.read(first, count)[:, self.keep_C]
        return signal_BCT if self.gain is None else filtered(signal_BCT, self.gain, self.sfreq)

    @cached_property
    def _scale(self) -> tuple[Array, Array]:
        """Mean and SD of each channel over the recording, (C, 1)."""
        x_BCT = np.concatenate([self._changed(at, 1) for at in _spread(len(self))]).astype(np.float64)
        sd_C = x_BCT.std(axis=(0, 2))
        return x_BCT.mean(axis=(0, 2))[:, None], np.where(sd_C > 0, sd_C, 1.0)[:, None]


def _spread(n_pieces: int) -> list[int]:
    """Pieces over the whole recording that stand for all of them."""
    return [int(at) for at in np.linspace(0, n_pieces - 1, min(n_pieces, WINDOWS_FOR_SCALE)).round()]


def filtered(signal_BCT: Array, gain: Gain, sfreq: float) -> Array:
    """Multiply the spectrum by real factors; beyond its ends the signal is mirrored, by half its length.

    A point reflection, good for drifts, would turn a wave that ends on its peak into a step, which is in every band.

    Parameters
    ----------
    signal_BCT : array
    gain : callable
        Signal, frequencies and rate -> factors, of a shape that ends in F and fits (B, C, F).
    sfreq : float
        Hz.
    """
    pad = signal_BCT.shape[-1] // 2
    wide_BCT = np.pad(signal_BCT.astype(np.float64), ((0, 0), (0, 0), (pad, pad)), mode="reflect")
    freqs_F = np.fft.rfftfreq(wide_BCT.shape[-1], 1 / sfreq)
    spectrum_BCF = np.fft.rfft(wide_BCT, axis=-1) * gain(signal_BCT, freqs_F, sfreq)
    return np.fft.irfft(spectrum_BCF, wide_BCT.shape[-1], axis=-1)[..., pad : pad + signal_BCT.shape[-1]]


def band_gain(low: float, high: float) -> Gain:
    """Passes a band; within 1 Hz around it (half of a lower edge below 2 Hz) the gain rises and falls as a cosine."""

    def gain(signal_BCT: Array, freqs_F: Array, sfreq: float) -> Array:
        rise, fall = min(low / 2, 1.0), 1.0
        up_F = np.clip((freqs_F - low + rise) / rise, 0, 1)
        down_F = np.clip((high + fall - freqs_F) / fall, 0, 1)
        return (0.5 - 0.5 * np.cos(np.pi * up_F)) * (0.5 - 0.5 * np.cos(np.pi * down_F))

    return gain


def fit_slope(freqs_F: Array, psd_NF: Array) -> tuple[Array, Array]:
    """The aperiodic part of spectra: log10 power = offset - exponent x log10 frequency, in `SLOPE_BAND`.

    Least squares, five times, each time without the frequencies that stand `PEAK_SD` robust SDs above the line so far,
    which are those of rhythms (after the idea of Donoghue et al. 2020, Nat Neurosci 23:1655).

    Parameters
    ----------
    freqs_F : array
        Hz.
    psd_NF : array
        Power, of as many spectra as there are (N).

    Returns
    -------
    offset_N, exponent_N : array

    Raises
    ------
    ConfigError
        If fewer than 8 frequencies lie in the band.
    """
    inside = (freqs_F >= SLOPE_BAND[0]) & (freqs_F <= SLOPE_BAND[1])
    if inside.sum() < 8:
        raise ConfigError(
            f"slope of spectra: {inside.sum()} frequencies within {SLOPE_BAND} Hz, 8 are needed; give longer windows"
        )
    x_F, y_NF = np.log10(freqs_F[inside]), np.log10(np.maximum(psd_NF[:, inside], np.finfo(float).tiny))
    weight_NF = np.ones_like(y_NF)
    for _ in range(5):
        total_N = weight_NF.sum(axis=1)
        mean_x_N, mean_y_N = (weight_NF @ x_F) / total_N, (weight_NF * y_NF).sum(axis=1) / total_N
        from_x_NF, from_y_NF = x_F - mean_x_N[:, None], y_NF - mean_y_N[:, None]
        rise_N = (weight_NF * from_x_NF * from_y_NF).sum(axis=1) / (weight_NF * from_x_NF**2).sum(axis=1)
        rest_NF = from_y_NF - rise_N[:, None] * from_x_NF
        sd_N1 = 1.4826 * np.median(np.abs(rest_NF), axis=1, keepdims=True)
        # the limit keeps a spectrum without any noise from losing half of its frequencies to rounding
        weight_NF = (rest_NF <= np.maximum(PEAK_SD * sd_N1, 1e-9)).astype(float)
    return mean_y_N - rise_N * mean_x_N, -rise_N


def whitening(freqs_F: Array, psd_freqs_F: Array, psd_NF: Array) -> Array:
    """One over the amplitude of the aperiodic part of spectra, (N, F); constant beyond `WHITENED`.

    Parameters
    ----------
    freqs_F : array
        Hz, where factors are wanted.
    psd_freqs_F, psd_NF : array
        Spectra.
    """
    offset_N, exponent_N = fit_slope(psd_freqs_F, psd_NF)
    log_F = np.log10(np.clip(freqs_F, *WHITENED))
    return 10 ** ((exponent_N[:, None] * log_F - offset_N[:, None]) / 2)


def _window_gain(signal_BCT: Array, freqs_F: Array, sfreq: float) -> Array:
    """Each channel of each window by its own slope."""
    welch_F, psd_BCF = _spectra(signal_BCT, sfreq, seconds=min(1.0, signal_BCT.shape[-1] / sfreq))
    factor_NF = whitening(freqs_F, welch_F, psd_BCF.reshape(-1, len(welch_F)))
    return factor_NF.reshape(*signal_BCT.shape[:2], -1)


def _spectra(signal_BCT: Array, sfreq: float, *, seconds: float) -> tuple[Array, Array]:
    from scipy.signal import welch

    return welch(signal_BCT, sfreq, nperseg=min(round(seconds * sfreq), signal_BCT.shape[-1]), axis=-1)


def _recording_change(pieces: Pieces, *, preparation: Preparation) -> Altered:
    """Each channel by its slope over the recording."""
    psd_CF: Array | float = 0.0
    for at in _spread(len(pieces)):
        welch_F, psd_1CF = _spectra(pieces.read(at), pieces.sfreq, seconds=2.0)
        psd_CF = psd_CF + psd_1CF[0]
    mean_CF = np.asarray(psd_CF) / len(_spread(len(pieces)))

    def gain(signal_BCT: Array, freqs_F: Array, sfreq: float) -> Array:
        return whitening(freqs_F, welch_F, mean_CF)

    return _altered(pieces, preparation, gain=gain)


def _altered(
    pieces: Pieces, preparation: Preparation, *, keep_C: Array | None = None, gain: Gain | None = None
) -> Altered:
    return Altered(pieces, preparation, np.ones(len(pieces.ch_names), bool) if keep_C is None else keep_C, gain)


def frontal_channels(pieces: Pieces) -> Array:
    """Which sensors are near the eyes: electrodes by name, or the front third of the head, (C,).

    The front third of each kind of sensor is taken where fewer than three electrodes have a name that says it.
    """
    named_C = np.isin([name.casefold() for name in pieces.ch_names], [name.casefold() for name in FRONTAL])
    if named_C.sum() >= FEWEST_FRONTAL:
        return named_C
    front_C, eeg_C = np.zeros(len(named_C), bool), pieces.sensor_type_C == 0
    for of_kind_C in (eeg_C, ~eeg_C):
        if of_kind_C.any():
            y_C = pieces.positions_C6[:, 1]
            back, front = y_C[of_kind_C].min(), y_C[of_kind_C].max()
            front_C |= of_kind_C & (y_C > back + 2 / 3 * (front - back))
    return front_C


def _frontal_change(pieces: Pieces, *, preparation: Preparation, wanted: bool) -> Altered:
    keep_C = frontal_channels(pieces) == wanted
    if not keep_C.any():
        raise UnusableRecording(pieces.recording, "no channel is left by the frontal audit", "leave the audit out")
    return _altered(pieces, preparation, keep_C=keep_C)


def changes(preparation: Preparation, sfreq: float) -> dict[str, Change]:
    """The audits that change the signal, by name; bands that the rate cannot hold are left out."""

    def by_gain(gain: Gain, band: str = "") -> Change:
        return lambda pieces: replace(_altered(pieces, preparation, gain=gain), band=band)

    bands = {name: edges for name, edges in BANDS.items() if edges[1] <= 0.45 * sfreq}
    return {
        "no 1/f of recordings": partial(_recording_change, preparation=preparation),
        "no 1/f of windows": by_gain(_window_gain),
        **{f"{name} only": by_gain(band_gain(*edges), name) for name, edges in bands.items()},
        "frontal only": partial(_frontal_change, preparation=preparation, wanted=True),
        "without frontal": partial(_frontal_change, preparation=preparation, wanted=False),
    }
