"""Heartbeats out of EEG that was recorded in a magnet: where they are, and what they add to each channel.

The head and the blood move in the static field with each beat (the ballistocardiogram). Its average around the beats,
and components of what varies from beat to beat, are subtracted (after the optimal basis sets of Niazy et al. 2005,
NeuroImage 28:720; what differs is said in `residue.py`). Only the average and the components are global, and fitted on
some beats; each beat is then fitted in its own window, so that `CardiacCleaned` computes what is asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroloom.records import Array
from neuroloom.signals.filters import window_starts
from neuroloom.signals.gradient import Source
from neuroloom.signals.residue import ResidueBasis, fit_residue, whitener

RATES = (40.0, 150.0)  # beats in a minute that a resting person may have
MIN_BEATS = 10
MAX_IRREGULAR, IRREGULAR = 0.2, 0.25  # share of intervals that may be further than this from their neighbours' median
OUT_OF_STEP, UNLIKE = 0.1, 0.9  # of the usual interval on either side; of the usual likeness
MIN_LIKENESS = 0.5  # median correlation of a beat with the average one
ECG_BAND, EEG_BAND = (5.0, 35.0), (1.0, 7.0)  # Hz; alpha repeats, too
FIT_SECONDS, PIECE_SECONDS = 120.0, 10.0
N_COMPONENTS = 8  # of the EEG, among which a heartbeat is looked for
N_TRIED = 3
ROUNDS = 4
MAX_HZ = 8.0  # of the components: what varies faster from beat to beat is taken for the alpha rhythm
MAX_BEATS = 240  # from which average and components are fitted
TAPER = 0.1  # of a window, at either end
MAX_LATE, MAX_GUESS = 0.03, 0.12  # s, of an artefact against its R peak, seen or guessed
CHANCE = 1.5  # size of a component of the average, against the largest that chance makes


@dataclass(frozen=True)
class Heartbeats:
    """Where the heart beat.

    Attributes
    ----------
    onset_E : array
        s; empty where no believable heartbeat was found.
    note : str
        What was found, or why there is nothing to go by.
    guessed_E : bool array or None
        Beats that were not seen well, but must lie near the middle between their neighbours.
    """

    onset_E: Array
    note: str
    guessed_E: Array | None = None

    @property
    def bpm(self) -> float:
        """Median rate; NaN without beats."""
        return float(60 / np.median(np.diff(self.onset_E))) if len(self.onset_E) > 1 else float("nan")


@dataclass(frozen=True)
class CardiacModel:
    """What the beats look like.

    Attributes
    ----------
    sfreq : float
        Hz.
    first_E : int array
        First sample of the window of each beat.
    mean_CJ : array
        Average beat over the window.
    basis : ResidueBasis
        Components of what varies.
    taper_J : array
        0 at the ends of the window, 1 in the middle.
    note : str
        What was done, or why nothing was.
    """

    sfreq: float
    first_E: Array
    mean_CJ: Array
    basis: ResidueBasis
    taper_J: Array
    note: str


def find_heartbeats(ecg_T: Array, *, sfreq: float) -> Heartbeats:
    """R peaks in an ECG.

    MNE's detector begins; beats are then placed by their likeness to the average one.

    Parameters
    ----------
    ecg_T : array
        ECG of the whole recording, without gradients; NaN where samples are missing.
    sfreq : float
        Hz.
    """
    import mne

    band_T = _band_pass(np.nan_to_num(ecg_T), sfreq, ECG_BAND)
    if not band_T.std() > 0:
        return Heartbeats(np.zeros(0), "no heartbeat found: the ECG is flat")
    raw = mne.io.RawArray(band_T[None].astype(float), mne.create_info(["ECG"], sfreq, "ecg"), verbose="error")
    found = mne.preprocessing.find_ecg_events(raw, ch_name="ECG", l_freq=None, h_freq=None, verbose="error")[0]
    return _settle(band_T, found[:, 0], sfreq=sfreq, reach=0.12, source="the ECG")


def heartbeats_of_eeg(source: Source, *, sfreq: float, picks: Array) -> Heartbeats:
    """Beats from the EEG itself, where there is no ECG: the principal component that repeats best like a heart.

    The beats are those of the artefact, which comes about 0.2 s after the R peak; for its removal that is the same.

    Parameters
    ----------
    source : array-like (C, T)
        EEG without gradients, V.
    sfreq : float
        Hz.
    picks : int array
        Good EEG channels.
    """
    length = min(int(PIECE_SECONDS * sfreq), source.shape[1])
    starts = window_starts(source.shape[1], length, int(FIT_SECONDS / PIECE_SECONDS))
    pieces = [_band_pass(np.nan_to_num(source[:, at : at + length])[picks], sfreq, EEG_BAND) for at in starts]
    weight_KC = np.linalg.svd(np.concatenate(pieces, axis=1), full_matrices=False)[0].T[:N_COMPONENTS]
    rhythms = [_periodicity([weight_C @ piece for piece in pieces], sfreq) for weight_C in weight_KC]
    found = Heartbeats(np.zeros(0), "no heartbeat found in the EEG itself")
    for at in np.argsort([-strength for strength, _ in rhythms])[:N_TRIED]:
        course_T = np.concatenate(
            [
                weight_KC[at] @ np.nan_to_num(source[:, first : first + 6 * length])[picks]
                for first in range(0, source.shape[1], 6 * length)
            ]
        )
        course_T = _band_pass(course_T, sfreq, EEG_BAND)
        course_T *= np.sign(np.mean(course_T**3)) or 1.0
        first_E = _peaks(course_T, 0.7 * rhythms[at][1])
        found = _settle(course_T, first_E, sfreq=sfreq, reach=0.3, source="the EEG itself")
        if len(found.onset_E):
            break
    return found


def _band_pass(signal: Array, sfreq: float, band: tuple[float, float]) -> Array:
    from scipy.signal import butter, sosfiltfilt

    sos = butter(3, (band[0], min(band[1], 0.45 * sfreq)), btype="bandpass", fs=sfreq, output="sos")
    return sosfiltfilt(sos, signal, axis=-1)


def _periodicity(pieces: list[Array], sfreq: float) -> tuple[float, float]:
    """Largest autocorrelation at the interval of a heart, and that interval in samples."""
    from scipy.signal import correlate

    low, high = (int(60 / rate * sfreq) for rate in RATES[::-1])
    whole = np.mean([correlate(piece, piece, method="fft")[len(piece) - 1 :][: high + 1] for piece in pieces], axis=0)
    best = low + int(np.argmax(whole[low:]))
    return float(whole[best] / whole[0]), float(best)


def _peaks(course_T: Array, distance: float) -> Array:
    from scipy.signal import find_peaks

    return find_peaks(course_T, distance=max(distance, 1), height=0)[0]


def _settle(course_T: Array, peaks_E: Array, *, sfreq: float, reach: float, source: str) -> Heartbeats:
    """Beats placed again and again by their likeness to the average one, then judged."""
    half = int(reach * sfreq)
    like_T = np.zeros(len(course_T))
    for _ in range(ROUNDS):
        inside = peaks_E[(peaks_E >= half) & (peaks_E + half < len(course_T))]
        if len(inside) < MIN_BEATS:
            return Heartbeats(np.zeros(0), f"no heartbeat found in {source}: {len(inside)} beats")
        mean_J = np.median(course_T[inside[:, None] + np.arange(-half, half + 1)], axis=0)
        like_T = _likeness(course_T, mean_J)
        interval = float(np.median(np.diff(inside)))
        peaks_E = _peaks(like_T, 0.6 * interval)
        peaks_E = peaks_E[like_T[peaks_E] > 0.4 * np.median(like_T[peaks_E])]
    found = _judge(_fine(like_T, peaks_E) / sfreq, float(np.median(like_T[peaks_E])), source)
    return _mend(found, like_T, sfreq) if len(found.onset_E) else found


def _mend(beats: Heartbeats, like_T: Array, sfreq: float) -> Heartbeats:
    """Beats out of step that hardly look like one are put between their neighbours: artefacts that hid an R peak."""
    from scipy.ndimage import median_filter

    onset_E, guessed_E = beats.onset_E.copy(), np.zeros(len(beats.onset_E), bool)
    like_E = like_T[np.clip(np.round(onset_E * sfreq).astype(int), 0, len(like_T) - 1)]
    before_E, after_E = np.diff(onset_E)[:-1], np.diff(onset_E)[1:]
    usual_E = median_filter(np.diff(onset_E), 9, mode="nearest")[:-1]
    early_E, late_E = before_E / usual_E - 1, after_E / usual_E - 1
    apart = (np.abs(early_E) > OUT_OF_STEP) & (np.abs(late_E) > OUT_OF_STEP) & (early_E * late_E < 0)
    unlike = like_E[1:-1] < UNLIKE * np.median(like_E)
    for at in np.flatnonzero(apart & unlike & (np.abs(early_E + late_E) < 0.3)) + 1:
        onset_E[at], guessed_E[at] = (onset_E[at - 1] + onset_E[at + 1]) / 2, True
    note = f"{beats.note}, {guessed_E.sum()} put in step" if guessed_E.any() else beats.note
    return Heartbeats(onset_E, note, guessed_E)


def _likeness(course_T: Array, mean_J: Array) -> Array:
    """Correlation of a wave with the piece of a signal around each sample, (T,)."""
    from scipy.signal import fftconvolve

    wave_J = (mean_J - mean_J.mean()) / max(float(np.linalg.norm(mean_J - mean_J.mean())), 1e-300)
    same = {"mode": "same"}
    ones_J = np.ones(len(wave_J))
    sum_T, square_T = (fftconvolve(part, ones_J, **same) for part in (course_T, course_T**2))
    size_T = np.sqrt(np.maximum(square_T - sum_T**2 / len(wave_J), 1e-12 * square_T.max()))
    # quiet stretches look like anything; they are held to the usual size
    return fftconvolve(course_T, wave_J[::-1], **same) / np.maximum(size_T, 0.3 * np.median(size_T))


def _fine(like_T: Array, peaks_E: Array) -> Array:
    """Peaks between samples, by a parabola."""
    peaks_E = peaks_E[(peaks_E > 0) & (peaks_E < len(like_T) - 1)]
    left, middle, right = like_T[peaks_E - 1], like_T[peaks_E], like_T[peaks_E + 1]
    return peaks_E + 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-300)


def _judge(onset_E: Array, likeness: float, source: str) -> Heartbeats:
    """Beats that a heart could make, or none with the reason."""
    from scipy.ndimage import median_filter

    if len(onset_E) < MIN_BEATS:
        return Heartbeats(np.zeros(0), f"no heartbeat found in {source}: {len(onset_E)} beats")
    step_E = np.diff(onset_E)
    rate = 60 / float(np.median(step_E))
    irregular = float(np.mean(np.abs(step_E / median_filter(step_E, 9, mode="nearest") - 1) > IRREGULAR))
    found = f"{rate:.0f} beats a minute, {irregular:.0%} irregular, likeness {likeness:.2f}"
    believable = RATES[0] <= rate <= RATES[1] and irregular <= MAX_IRREGULAR and likeness >= MIN_LIKENESS
    if not believable:
        return Heartbeats(np.zeros(0), f"no believable heartbeat in {source} ({found})")
    return Heartbeats(onset_E, f"heartbeats from {source}: {found}")


def fit_cardiac(
    source: Source, *, sfreq: float, beats: Heartbeats, picks: Array | None = None, rng: np.random.Generator
) -> CardiacModel:
    """Fit the average beat and the components of what varies.

    Parameters
    ----------
    source : array-like (C, T)
        EEG without gradients, V; read around at most `MAX_BEATS` beats.
    sfreq : float
        Hz.
    beats : Heartbeats
        Without any, the model takes nothing out and its note says why.
    picks : int array, optional
        Channels to clean (not the ECG); default: all.
    rng : np.random.Generator
        Chooses the beats.
    """
    n_channels = source.shape[0]
    if len(beats.onset_E) < MIN_BEATS:
        nothing = ResidueBasis.none(n_channels, 1)
        empty = (np.zeros(0, int), np.zeros((n_channels, 1)), nothing, np.ones(1))
        return CardiacModel(sfreq, *empty, note=f"no cardiac cleaning: {beats.note}")
    picked_C1 = np.isin(np.arange(n_channels), np.arange(n_channels) if picks is None else picks)[:, None]
    interval = float(np.median(np.diff(beats.onset_E))) * sfreq
    at_E = np.round(_with_ends(beats.onset_E) * sfreq).astype(int)
    chosen = np.sort(rng.permutation(np.arange(1, len(at_E) - 1))[:MAX_BEATS])
    first_E = at_E + _quiet_delay(_epochs(source, at_E[chosen], round(interval)) * picked_C1)
    length = round((1 + TAPER) * interval)
    taper_J = np.interp(np.arange(length) / length, [0, TAPER, 1 - TAPER, 1], [0, 1, 1, 0])
    taper_J = np.sin(taper_J * np.pi / 2) ** 2
    window_CJ = picked_C1 * taper_J
    epoch_ECJ = _epochs(source, first_E[chosen], length) * window_CJ
    first_E = first_E + _lateness(source, first_E, epoch_ECJ, sfreq, guessed_E=beats.guessed_E)
    epoch_ECJ = _epochs(source, first_E[chosen], length) * window_CJ
    mean_CJ = _repeated_part(epoch_ECJ)
    most = MAX_HZ * length / sfreq
    basis = fit_residue(mean_CJ, epoch_ECJ - mean_CJ, shift=1.0, least=1.0, most=most)
    note = f"{beats.note}; average of {len(epoch_ECJ)} beats, {len(basis.wave_KJ)} components of the residue"
    return CardiacModel(sfreq, first_E, mean_CJ, basis, taper_J, note)


def _with_ends(onset_E: Array) -> Array:
    """Beats, and one more at either end: its R peak may lie outside the recording, and what it does inside."""
    return np.concatenate([[2 * onset_E[0] - onset_E[1]], onset_E, [2 * onset_E[-1] - onset_E[-2]]])


def _brain_covariance(epoch_ECJ: Array) -> Array:
    """Covariance (C, C) of what is left of the beats without their average."""
    residue_CN = np.moveaxis(epoch_ECJ - epoch_ECJ.mean(axis=0), 1, 0).reshape(epoch_ECJ.shape[1], -1)
    return residue_CN @ residue_CN.T / residue_CN.shape[1]


def _repeated_part(epoch_ECJ: Array) -> Array:
    """The average beat as far as no chance explains it, (C, J): its leading components over channels.

    Chance is an average in which the sign of every other beat is turned: as much of the brain, and nothing that
    repeats. Channels are combined so that it is white, and components no stronger than its strongest are left out.
    """
    sign_E11 = (-1.0) ** np.arange(len(epoch_ECJ))[:, None, None]
    mean_CJ, chance_CJ = epoch_ECJ.mean(axis=0), (sign_E11 * epoch_ECJ).mean(axis=0)
    white_CC, back_CC = whitener(_brain_covariance(epoch_ECJ))
    left_CN, size_N, right_NJ = np.linalg.svd(white_CC @ mean_CJ, full_matrices=False)
    kept = size_N > CHANCE * np.linalg.norm(white_CC @ chance_CJ, 2)
    return back_CC @ (left_CN[:, kept] * size_N[kept]) @ right_NJ[kept]


def _lateness(source: Source, first_E: Array, epoch_ECJ: Array, sfreq: float, *, guessed_E: Array | None) -> Array:
    """By how many samples the artefact of each beat comes later than on average: where it is most like the average.

    The likeness is that of a matched filter, in which the channels are combined so that the brain is white. The beats
    of both ends, and those that are marked, were not seen but guessed, and are looked for further away.
    """
    white_CC, _ = whitener(_brain_covariance(epoch_ECJ))
    weight_CJ = white_CC @ white_CC @ epoch_ECJ.mean(axis=0)
    reach_E = np.full(len(first_E), max(round(MAX_LATE * sfreq), 1))
    guessed = np.zeros(0, int) if guessed_E is None else np.flatnonzero(guessed_E) + 1
    reach_E[[0, -1, *guessed]] = round(MAX_GUESS * sfreq)
    late = [_best_shift(source, int(at), weight_CJ, int(reach)) for at, reach in zip(first_E, reach_E, strict=True)]
    return np.array(late)


def _best_shift(source: Source, first: int, weight_CJ: Array, reach: int) -> int:
    start, stop = first - reach, first + reach + weight_CJ.shape[1]
    inside = slice(min(max(start, 0), source.shape[1]), max(min(stop, source.shape[1]), 0))
    if inside.stop - inside.start <= 2 * reach + 1:
        return 0
    piece_CT = np.nan_to_num(np.asarray(source[:, inside], np.float64))
    piece_CT -= piece_CT.mean(axis=1, keepdims=True)
    piece_CT = np.pad(piece_CT, ((0, 0), (inside.start - start, stop - inside.stop)))
    windows_CSJ = np.lib.stride_tricks.sliding_window_view(piece_CT, weight_CJ.shape[1], axis=1)
    return int(np.argmax(np.einsum("csj,cj->s", windows_CSJ, weight_CJ))) - reach


def _epochs(source: Source, first_E: Array, length: int) -> Array:
    """Windows that lie in the recording, less their means, (E, C, J); missing samples are zero."""
    inside = [at for at in first_E if at >= 0 and at + length <= source.shape[1]]
    epoch_ECJ = np.stack([np.asarray(source[:, at : at + length], np.float64) for at in inside])
    epoch_ECJ = np.nan_to_num(epoch_ECJ)
    return epoch_ECJ - epoch_ECJ.mean(axis=2, keepdims=True)


def _quiet_delay(epoch_ECJ: Array) -> int:
    """Samples from a beat to the quietest moment of its average, where its window may begin and end."""
    from scipy.ndimage import uniform_filter1d

    mean_CJ, interval = epoch_ECJ.mean(axis=0), epoch_ECJ.shape[2]
    power_C = epoch_ECJ.var(axis=(0, 2))
    weight_C = np.where(power_C > 0, 1 / np.where(power_C > 0, power_C, 1), 0.0)
    energy_J = uniform_filter1d(weight_C @ mean_CJ**2, max(interval // 10, 1), mode="wrap")
    quiet = int(np.argmin(energy_J))
    return quiet if quiet <= interval // 2 else quiet - interval


class CardiacArtefact:
    """What the heartbeats add to a signal, computed where it is asked for; the same however it is cut."""

    def __init__(self, source: Source, model: CardiacModel) -> None:
        self.source, self.model = source, model
        self.shape, self.dtype = (int(source.shape[0]), int(source.shape[1])), np.dtype(np.float32)

    def __getitem__(self, key: tuple[Any, slice]) -> Array:
        """`artefact[:, a:b]`, float32."""
        rows, times = key
        start, stop, step = times.indices(self.shape[1])
        artefact_CT = np.zeros((self.shape[0], max(stop - start, 0)))
        length = len(self.model.taper_J)
        first_E = self.model.first_E
        for first in first_E[(first_E + length > start) & (first_E < stop)]:
            inside = slice(max(first, start), min(first + length, stop))
            beat_CJ = self._beat(int(first))
            artefact_CT[:, inside.start - start : inside.stop - start] += beat_CJ[
                :, inside.start - first : inside.stop - first
            ]
        return artefact_CT.astype(np.float32)[rows, ::step]

    def _beat(self, first: int) -> Array:
        """One beat in its window; the average alone where the window leaves the recording or samples are missing."""
        model, basis = self.model, self.model.basis
        stop = first + len(model.taper_J)
        if first < 0 or stop > self.shape[1] or not len(basis.wave_KJ):
            return model.mean_CJ
        piece_CJ = np.asarray(self.source[:, first:stop], np.float64)
        residue_CJ = (piece_CJ - piece_CJ.mean(axis=1, keepdims=True)) * model.taper_J - model.mean_CJ
        return model.mean_CJ + basis.gain(np.nan_to_num(residue_CJ)) @ basis.wave_KJ


class CardiacCleaned:
    """A signal without its heartbeats; the source itself where none were found."""

    def __init__(self, source: Source, model: CardiacModel) -> None:
        self.source, self.model = source, model
        self.artefact = CardiacArtefact(source, model)
        self.shape, self.dtype = self.artefact.shape, self.artefact.dtype

    def __getitem__(self, key: tuple[Any, slice]) -> Array:
        """`cleaned[:, a:b]`, float32."""
        rows, times = key
        return np.asarray(self.source[:, times], np.float32)[rows] - self.artefact[rows, times]
