"""Gradient artefacts out of EEG recorded with BOLD: the average of neighbouring volumes, and what that leaves.

Average artefact subtraction (Allen, Josephs & Turner 2000, NeuroImage 12:230) with components of the residue (after
Niazy et al. 2005, NeuroImage 28:720). What differs from the sources: the two clocks need not be tied to each other
(volumes are read on the scanner's clock by band-limited interpolation, and the drift is measured by the artefact's own
phase); harmonics of the average that are no larger than chance stay in; components are those of `residue.py`.

Only clock and components are global, and fitted on some volumes; the rest needs a bounded neighbourhood. So
`GradientCleaned` is an array that computes what is asked of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from neuroloom.records import Array
from neuroloom.signals.filters import HALF_KERNEL, interpolate_at
from neuroloom.signals.residue import N_WAVEFORMS, ResidueBasis, fit_residue
from neuroloom.signals.triggers import MIN_VOLUMES

WINDOW = 100  # volumes; components follow the head, so that an average may be long
WINDOW_VALUES, FEWEST_IN_WINDOW = 30_000_000, 25  # samples of all channels (120 MB), volumes
CHANCE = 2.0  # power of a harmonic of the average that is left in, against what chance alone would make
CLOCK_VOLUMES, CLOCK_CHANNELS, CLOCK_ROUNDS = 40, 8, 5
MAX_JITTER = 0.25  # samples; volumes that scatter more than this around a regular clock have no artefact to go by
RUNS = 4  # of WINDOW volumes, from which the components are fitted
EDGE = 16  # samples; so long does the artefact of a single volume ring on
BLOCK = 16  # volumes that are cleaned at once
NEAR = 4  # volumes whose average and components are kept
Found = TypeVar("Found")
SIDE_HZ, LEAST_HZ = 0.5, 1.0  # frequency shift of the surrogates of the residue, and where components begin


class Source(Protocol):
    """Anything that has channels by times and gives pieces of them: an array, a store, another lazy signal."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, times."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """`source[:, a:b]` as an array."""
        ...


@dataclass(frozen=True)
class GradientModel:
    """How to clean a recording.

    Attributes
    ----------
    sfreq : float
        Hz.
    onset, period : float
        Beginning of the first volume and distance of volumes, in samples of the EEG, neither of them whole.
    n_volumes : int
    n_grid : int
        Points at which a volume is read.
    window : int
        Volumes of an average.
    basis : ResidueBasis
        Waveforms on the grid.
    drift : float
        Scanner's second over that of the EEG, less 1; NaN where the sheet gives no repetition time.
    jitter : float
        RMS distance of the artefact from a regular clock, samples.
    note : str
        What was done and found.
    """

    sfreq: float
    onset: float
    period: float
    n_volumes: int
    n_grid: int
    window: int
    basis: ResidueBasis
    drift: float
    jitter: float
    note: str

    def position(self, volume: int) -> Array:
        """Where the grid of a volume lies in the recording, samples, (J,)."""
        return self.onset + (volume + np.arange(self.n_grid) / self.n_grid) * self.period


def fit_gradient(
    source: Source,
    *,
    sfreq: float,
    onset_V: Array,
    t_r: float | None = None,
    window: int = WINDOW,
    rng: np.random.Generator,
) -> GradientModel:
    """Fit what is global: the clock of the volumes, and the components of the residue.

    Parameters
    ----------
    source : array-like (C, T)
        EEG and ECG, V; read in pieces. Missing samples are NaN.
    sfreq : float
        Hz.
    onset_V : array
        Beginnings of the volumes, s (`triggers.volume_onsets`).
    t_r : float, optional
        As the scanner says it, s; only for the note about drift.
    window : int
        Neighbouring volumes of an average; fewer at a high sampling rate, because as many are kept in memory.
    rng : np.random.Generator
        Chooses the volumes that are looked at.
    """
    onset_V = onset_V[(onset_V >= 0) & (onset_V * sfreq < source.shape[1] - 1)]
    period, onset = np.polyfit(np.arange(len(onset_V)), onset_V * sfreq, 1)
    fitting = max(WINDOW_VALUES // int(source.shape[0] * period), FEWEST_IN_WINDOW)
    model = GradientModel(
        sfreq=sfreq,
        onset=float(onset),
        period=float(period),
        n_volumes=len(onset_V),
        n_grid=int(np.ceil(period - 0.01)),
        window=min(window, fitting, len(onset_V)),
        basis=ResidueBasis.none(source.shape[0], int(np.ceil(period - 0.01))),
        drift=float("nan"),
        jitter=0.0,
        note="",
    )
    model = _tune_clock(source, model)
    drift = model.period / (sfreq * t_r) - 1 if t_r else float("nan")
    model = replace(model, drift=drift, basis=_fit_basis(source, model, rng))
    said = f"; clocks apart by {drift * 1e6:.1f} ppm" if t_r else ""
    note = f"average of {model.window} volumes, {len(model.basis.wave_KJ)} components of the residue{said}{model.note}"
    return replace(model, note=note)


def _tune_clock(source: Source, model: GradientModel) -> GradientModel:
    """Period and onset by the phase of the artefact: triggers are whole samples, a hundredth of one can be heard."""
    last = model.n_volumes - 1
    volumes = np.unique(np.linspace(0, last, min(CLOCK_VOLUMES, model.n_volumes)).astype(int))
    tuned, jitter = model, float("inf")
    for _ in range(CLOCK_ROUNDS):
        reader = _Volumes(source, tuned, capacity=len(volumes))
        usable = np.array([at for at in volumes if reader.valid(at).any()])
        if len(usable) < MIN_VOLUMES:
            return replace(model, note="; clock taken from the triggers alone")
        spectrum_VCF = np.stack([reader.spectrum(at) for at in usable])
        loudest = np.argsort((np.abs(spectrum_VCF) ** 2).mean(axis=0)[:, 1:].sum(axis=1))[-CLOCK_CHANNELS:]
        late_V = _lateness(spectrum_VCF[:, loudest], tuned) * tuned.period / tuned.n_grid
        slope, shift = np.polyfit(usable, late_V, 1)
        jitter = float(np.sqrt(np.mean((late_V - slope * usable - shift) ** 2)))
        tuned = replace(tuned, onset=tuned.onset + shift, period=tuned.period + slope)
        if abs(slope) * model.n_volumes < 1e-4:
            break
    if jitter > MAX_JITTER or abs(tuned.period - model.period) * last > 2.0:
        return replace(model, jitter=jitter, note="; clock taken from the triggers alone")
    return replace(tuned, jitter=jitter)


def _lateness(spectrum_VCF: Array, model: GradientModel) -> Array:
    """By how many points of the grid each volume is late against the mean, (V,).

    A head that moves mixes the waveforms of the gradients anew, which a plain phase would take for time. So only that
    part of the derivative counts which is no mixture of the waveforms.
    """
    import scipy.linalg

    least = max(int(LEAST_HZ * model.period / model.sfreq), 1)
    turn_F = 2 * np.pi * np.arange(least, spectrum_VCF.shape[2]) / model.n_grid
    mean_CF = spectrum_VCF[:, :, least:].mean(axis=0)
    mean_CN, slope_CN = _as_real(mean_CF), _as_real(-1j * turn_F * mean_CF)
    # of a narrow matrix, by the driver that does not give up: the usual one has done so on a busy machine
    wave_KN = scipy.linalg.svd(mean_CN, full_matrices=False, lapack_driver="gesvd")[2][:N_WAVEFORMS]
    slope_CN -= slope_CN @ wave_KN.T @ wave_KN
    apart_VCN = _as_real(spectrum_VCF[:, :, least:]) - mean_CN
    return np.einsum("vcn,cn->v", apart_VCN, slope_CN) / max(float((slope_CN**2).sum()), 1e-300)


def _as_real(spectrum: Array) -> Array:
    """Real and imaginary parts side by side."""
    return np.concatenate([spectrum.real, spectrum.imag], axis=-1).astype(np.float64)


def _fit_basis(source: Source, model: GradientModel, rng: np.random.Generator) -> ResidueBasis:
    """Components of the residue from some runs of neighbouring volumes."""
    n_runs = min(RUNS, -(-model.n_volumes // model.window))
    starts = np.linspace(0, model.n_volumes - model.window, n_runs)
    if n_runs == RUNS:  # evenly spread runs could fall in step with the task
        starts += rng.uniform(-0.5, 0.5, n_runs) * model.window
    starts = np.clip(np.round(starts), 0, model.n_volumes - model.window).astype(int)
    volumes = np.unique(starts[:, None] + np.arange(model.window))
    reader = _Volumes(source, model, capacity=2 * model.window)
    pairs = [(reader.template(at), reader.residue(at)) for at in volumes if reader.valid(at).any()]
    if not pairs:
        return model.basis
    mean_CJ = np.mean([template_CJ for template_CJ, _ in pairs], axis=0)
    residue_VCJ = np.stack([residue_CJ for _, residue_CJ in pairs])
    cycles = model.period / model.sfreq
    return fit_residue(mean_CJ, residue_VCJ, shift=max(round(SIDE_HZ * cycles), 1), least=LEAST_HZ * cycles)


class _Volumes:
    """Volumes of a source on the scanner's clock; some are kept, because neighbours need them again."""

    def __init__(self, source: Source, model: GradientModel, *, capacity: int, other: Source | None = None) -> None:
        self.source, self.model, self.capacity, self.other = source, model, capacity, other
        self._kept: OrderedDict[int, tuple[Array, Array, Array]] = OrderedDict()
        # a volume is asked for with the one before it and the one after
        self._templates: OrderedDict[int, Array] = OrderedDict()
        self._gains: OrderedDict[int, Array] = OrderedDict()

    def grid(self, volume: int) -> Array:
        """The volume at its grid points, float32 (C, J)."""
        return self._read(volume)[0]

    def spectrum(self, volume: int) -> Array:
        """Its Fourier transform, complex64 (C, F)."""
        return self._read(volume)[1]

    def valid(self, volume: int) -> Array:
        """Channels in which no sample of it is missing, (C,)."""
        return self._read(volume)[2]

    def template(self, volume: int) -> Array:
        """Average of the nearest volumes, (C, J): without mean and trend, and only where it is more than chance."""
        first = min(max(volume - self.model.window // 2, 0), self.model.n_volumes - self.model.window)
        return _kept(self._templates, first, self._template, capacity=NEAR)  # one for all volumes of a short scan

    def _template(self, first: int) -> Array:
        model, window = self.model, range(first, first + self.model.window)
        valid_VC = np.stack([self.valid(at) for at in window])
        start_VC = np.stack([self.spectrum(at)[:, 0].real for at in window])
        count_C1 = np.maximum(valid_VC.sum(axis=0), 1)[:, None]
        sum_CF, power_CF = np.zeros_like(self.spectrum(first)), np.float32(0)
        for spectrum_CF in map(self.spectrum, window):  # a stack of all would leave the cache
            sum_CF += spectrum_CF
            power_CF = power_CF + (spectrum_CF.real**2 + spectrum_CF.imag**2)
        mean_CF = sum_CF / count_C1
        spread_CF = np.maximum(power_CF - count_C1 * np.abs(mean_CF) ** 2, 0) / np.maximum(count_C1 - 1, 1)
        mean_CF = mean_CF - self._trend(start_VC, valid_VC)
        share_CF = 1 - CHANCE * spread_CF / count_C1 / np.maximum(np.abs(mean_CF) ** 2, np.finfo(np.float32).tiny)
        share_CF[:, 0] = 0.0
        return np.fft.irfft(mean_CF * np.clip(share_CF, 0, 1), n=model.n_grid, axis=1)

    def residue(self, volume: int) -> Array:
        """The volume less its template and the line through what is left, (C, J); zero where samples are missing."""
        left_CJ = (self.grid(volume) - self.template(volume)) * self.valid(volume)[:, None]
        line_2J = np.stack([np.ones(self.model.n_grid), np.linspace(-1, 1, self.model.n_grid)])
        line_2J /= np.linalg.norm(line_2J, axis=1, keepdims=True)
        return left_CJ - left_CJ @ line_2J.T @ line_2J

    def gain(self, volume: int) -> Array:
        """How much of each component the volume holds, (C, K)."""
        return _kept(self._gains, volume, lambda at: self.model.basis.gain(self.residue(at)), capacity=NEAR)

    def _trend(self, sum_VC: Array, valid_VC: Array) -> Array:
        """Spectrum (C, F) of the mean slope of the volumes, which is drift of the electrodes and no artefact."""
        n_grid = self.model.n_grid
        step_V1 = (np.arange(len(sum_VC)) - (len(sum_VC) - 1) / 2)[:, None] * valid_VC
        step_V1 = (step_V1 - step_V1.sum(axis=0) / np.maximum(valid_VC.sum(axis=0), 1)) * valid_VC
        slope_C = (step_V1 * sum_VC).sum(axis=0) / np.maximum((step_V1**2).sum(axis=0), 1) / n_grid
        return np.outer(slope_C, np.fft.rfft(np.arange(n_grid) / n_grid - 0.5))

    def _read(self, volume: int) -> tuple[Array, Array, Array]:
        return _kept(self._kept, volume, self._resampled, capacity=self.capacity)

    def _resampled(self, volume: int) -> tuple[Array, Array, Array]:
        position_J = self.model.position(volume)
        first = int(np.floor(position_J[0])) - HALF_KERNEL + 1
        position_J = position_J - first  # is rounded, so that the last sample is told from what comes out
        stop = first + int(np.floor(position_J[-1])) + HALF_KERNEL + 1
        piece_CT, beyond = self._piece(first, stop)
        lost_CT = np.isnan(piece_CT)
        valid_C = ~lost_CT.any(axis=1) & (beyond <= 2 * HALF_KERNEL)
        piece_CT = np.where(valid_C[:, None], piece_CT, 0.0)
        grid_CJ = interpolate_at(piece_CT, position_J).astype(np.float32)
        return grid_CJ, np.fft.rfft(grid_CJ, axis=1).astype(np.complex64), valid_C

    def _piece(self, first: int, stop: int) -> tuple[Array, int]:
        """Samples [first, stop) and how many of them lie beyond the recording: those are taken a volume further in."""
        n_times, period = self.source.shape[1], round(self.model.period)
        left, right = max(-first, 0), max(stop - n_times, 0)
        parts = [self._samples(max(first, 0), min(stop, n_times))]
        if left:
            parts.insert(0, self._samples(period - left, period))
        if right:
            parts.append(self._samples(n_times - period, n_times - period + min(right, period)))
        piece_CT = np.concatenate(parts, axis=1)
        lacking = stop - first - piece_CT.shape[1]
        return np.pad(piece_CT, ((0, 0), (0, lacking)), constant_values=np.nan), max(left, right)

    def _samples(self, start: int, stop: int) -> Array:
        piece_CT = np.asarray(self.source[:, start:stop], np.float64)
        return piece_CT if self.other is None else piece_CT - self.other[:, start:stop]


def _kept(kept: OrderedDict[int, Found], volume: int, make: Callable[[int], Found], *, capacity: int) -> Found:
    """What was made of a volume, made anew only where it was not used lately."""
    if volume not in kept:
        kept[volume] = make(volume)
    kept.move_to_end(volume)
    if len(kept) > capacity:
        kept.popitem(last=False)
    return kept[volume]


class GradientCleaned:
    """A signal without its gradient artefact, computed where it is asked for; the same however it is cut.

    `other` is what is known of the source besides (the heartbeats of a first pass, `cardiac.CardiacArtefact`): it is
    kept out of the averages, and stays in the signal.
    """

    def __init__(self, source: Source, model: GradientModel, *, other: Source | None = None) -> None:
        self.source, self.model = source, model
        self.shape, self.dtype = (int(source.shape[0]), int(source.shape[1])), np.dtype(np.float32)
        self._volumes = _Volumes(source, model, capacity=2 * model.window + BLOCK, other=other)

    def __getitem__(self, key: tuple[Any, slice]) -> Array:
        """`cleaned[:, a:b]`, float32; outside the volumes it is the source but for `EDGE` samples on either side."""
        rows, times = key
        start, stop, step = times.indices(self.shape[1])
        cleaned_CT = self._subtract(start, stop)
        for first, last in self._edges():
            inside = slice(max(first, start), min(last, stop))
            if inside.start < inside.stop:
                cleaned_CT[:, inside.start - start : inside.stop - start] = self._bridge(first, last, inside)
        return cleaned_CT[rows, ::step]

    def _subtract(self, start: int, stop: int) -> Array:
        cleaned_CT = np.array(self.source[:, start:stop], np.float32)
        model, n_times = self.model, self.shape[1]
        for first, last in self._blocks(start, stop):
            low, high = (int(np.ceil(model.onset + at * model.period)) for at in (first, last))
            # a scan that ends with the recording was cut off by it, and rings as if it went on
            low = 0 if first == 0 and low <= EDGE else low
            high = n_times if last == model.n_volumes and high >= n_times - EDGE else high
            at = np.arange(max(low, start), min(high, stop))
            if len(at):
                cleaned_CT[:, at - start] -= self._artefact(first, last, at)
        return cleaned_CT

    def _edges(self) -> list[tuple[int, int]]:
        """Samples [first, last) around the scan's beginning and end, where the amplifier's filter rings once."""
        ends = (self.model.onset, self.model.onset + self.model.n_volumes * self.model.period)
        around = [(round(end) - EDGE, round(end) + EDGE) for end in ends]
        return [(first, last) for first, last in around if first > 0 and last < self.shape[1]]

    def _bridge(self, first: int, last: int, inside: slice) -> Array:
        """A straight line over [first, last), of which `inside` is wanted."""
        value_C2 = np.stack([self._subtract(at, at + 1)[:, 0] for at in (first - 1, last)], axis=1)
        share_T = (np.arange(inside.start, inside.stop) - first + 1) / (last - first + 1)
        return value_C2[:, :1] + np.diff(value_C2, axis=1) * share_T

    def _blocks(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Volumes [first, last) that touch [start, stop), in blocks."""
        onset, period = self.model.onset, self.model.period
        last = min(int(np.ceil((stop + EDGE - onset) / period)), self.model.n_volumes)
        first = max(int((start - EDGE - onset) // period), 0)
        return [(at, min(at + BLOCK, last)) for at in range(first, last, BLOCK)]

    def _artefact(self, first: int, last: int, at: Array) -> Array:
        """Artefact of some volumes at whole samples; the first and last volume go on as they are beyond the scan."""
        model, end = self.model, self.model.n_volumes - 1
        parts = [self._on_grid(min(max(volume, 0), end)) for volume in range(first - 1, last + 1)]
        position = ((at - model.onset) / model.period - (first - 1)) * model.n_grid
        return interpolate_at(np.concatenate(parts, axis=1), position)

    def _on_grid(self, volume: int) -> Array:
        """Average and components of a volume, (C, J); what a component weighs goes over from one volume to the next."""
        model, basis = self.model, self.model.basis
        artefact_CJ = self._volumes.template(volume).copy()
        if not len(basis.wave_KJ):
            return artefact_CJ
        middle_J = (np.arange(model.n_grid) + 0.5) / model.n_grid - 0.5
        around = [self._volumes.gain(min(max(volume + side, 0), model.n_volumes - 1)) for side in (-1, 0, 1)]
        for gain_CK, share_J in zip(around, _tents(middle_J), strict=True):
            artefact_CJ += gain_CK @ (basis.wave_KJ * share_J)
        return artefact_CJ


def _tents(middle_J: Array) -> tuple[Array, Array, Array]:
    """Weights of the volume before, the volume itself and the one after, by distance from the middle of the volume."""
    before_J, after_J = np.maximum(-middle_J, 0), np.maximum(middle_J, 0)
    return before_J, 1 - before_J - after_J, after_J
