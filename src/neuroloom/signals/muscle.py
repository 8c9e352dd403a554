"""Muscle out of EEG: by independent components, above the rhythms of the brain, and where it is heard.

A muscle that contracts now and then has its component for itself only while it does; at other times the component holds
what the brain does below the same electrodes. Taken out by one matrix, as eyes are, it would take that along for all of
the recording. So a burst is taken out where it is, and a muscle that never rests everywhere; and of both only what lies
above 15 Hz: above 20 Hz the scalp hears muscle rather than brain (Whitham et al. 2007, Clin. Neurophysiol. 118:1877).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from neuroloom.records import Array, Recording, Signal
from neuroloom.signals.components import Components, seconds
from neuroloom.signals.filters import convolve, read_beyond
from neuroloom.signals.streams import Stream

L_FREQ = 15.0
RHYTHMS, MUSCLE = (7.0, 15.0), (20.0, 45.0)
RISE = 1.2  # power per hertz of the second over that of the first: a log-log slope of 0.17; of white noise it is 1
BURST = 8.0  # times the usual power in 1 s
MAX_SHARE = 0.5  # of the components: what is in more of them at once, such as a jolt, has no place of its own
OPEN = 3.0  # times the usual power from which a burst begins to be taken out; at twice that all of it is
SMOOTH_S = RAMP_S = 0.2


@dataclass(frozen=True)
class MuscleFit:
    """Muscle components, and when each is taken out.

    Attributes
    ----------
    components : Components
        Of muscle alone.
    limit_K : array
        Power above 15 Hz from which each begins to be taken out; 0 for one that always is.
    sfreq : float
        Hz.
    found : list of str
        The electrode where each is strongest, and for how much of the time it is taken out.
    note : str
        Why none was looked for.
    """

    components: Components
    limit_K: Array
    sfreq: float
    found: list[str] = field(default_factory=list)
    note: str = ""


def fit_muscle(
    recording: Recording, pieces: Sequence[Array], components: Components, *, taken: Sequence[int], h_freq: float
) -> MuscleFit:
    """Find the components of muscle.

    A component is one of muscle when its spectrum rises from 7-15 Hz to 20-45 Hz: its usual one, for a muscle that is
    always tense, or what is added to it in seconds that are eight times as loud. Source: the slope of the log spectrum
    of Dharmaprani et al. (2016, 38th IEEE EMBC), which is that of the usual one.

    Parameters
    ----------
    recording : Recording
        Names and sampling rate.
    pieces : sequence of array
        Filtered samples of all its channels.
    components : Components
    taken : sequence of int
        Components that have gone already, with the eyes.
    h_freq : float
        Low-pass of the recording, Hz.
    """
    high = min(h_freq, recording.sfreq / 2)
    if not len(components) or high < MUSCLE[1]:
        why = f"no muscle cleaning: the recording ends at {high:g} Hz, {MUSCLE[1]:g} Hz needed"
        none = MuscleFit(components.only([]), np.zeros(0), recording.sfreq)
        return replace(none, note=why) if len(components) else none
    sources = [components.filters_KC @ piece_CT[components.picks] for piece_CT in pieces]
    power_2KS = np.concatenate([_band_powers(source_KT, recording.sfreq) for source_KT in sources], axis=2)
    always, bursting = _find(power_2KS)
    chosen = [int(at) for at in np.flatnonzero(always | bursting) if at not in taken]
    return _with_limits(recording, pieces, components.only(chosen), always[chosen])


def _band_powers(source_KT: Array, sfreq: float) -> Array:
    """Power per hertz of rhythms and of muscle in each second, (2, K, seconds)."""
    source_KSJ = seconds(source_KT, sfreq)
    length = source_KSJ.shape[2]
    centred_KSJ = source_KSJ - source_KSJ.mean(axis=2, keepdims=True)
    power_KSF = np.abs(np.fft.rfft(centred_KSJ * np.hanning(length), axis=2)) ** 2
    freqs_F = np.fft.rfftfreq(length, 1 / sfreq)
    return np.stack([power_KSF[:, :, (freqs_F >= low) & (freqs_F <= high)].mean(2) for low, high in (RHYTHMS, MUSCLE)])


def _find(power_2KS: Array) -> tuple[Array, Array]:
    """Whether the usual spectrum of each component rises, and whether what its loud seconds add does, (K,) each."""
    muscle_KS = power_2KS[1]
    loud_KS = muscle_KS > BURST * np.median(muscle_KS, axis=1, keepdims=True)
    usual_2K = (power_2KS * ~loud_KS).sum(axis=2) / (~loud_KS).sum(axis=1)
    loud_KS &= loud_KS.mean(axis=0) < MAX_SHARE
    added_2K = ((power_2KS - usual_2K[:, :, None]) * loud_KS).sum(axis=2)
    always, bursting = (muscle_K >= RISE * rhythms_K for rhythms_K, muscle_K in (usual_2K, added_2K))
    return always, bursting & loud_KS.any(axis=1)


def _with_limits(recording: Recording, pieces: Sequence[Array], components: Components, always: Array) -> MuscleFit:
    """Learn the usual power of each component."""
    sfreq, kernel = recording.sfreq, _high_pass(recording.sfreq)
    if not len(components):
        return MuscleFit(components, np.zeros(0), sfreq)
    reach = len(kernel) // 2 + _half(SMOOTH_S, sfreq)
    wide = [read_beyond(piece_CT, -reach, piece_CT.shape[1] + reach, reach=reach) for piece_CT in pieces]
    power_KT = np.concatenate([_power(_fast(components, wide_CT, kernel), sfreq) for wide_CT in wide], axis=1)
    limit_K = np.where(always, 0.0, OPEN * np.median(power_KT, axis=1))
    share_K = _opening(power_KT, limit_K).mean(axis=1)
    # against the mean: a muscle near the reference is in all channels alike
    strongest = components.picks[np.abs(components.maps_CK - components.maps_CK.mean(axis=0)).argmax(axis=0)]
    found = [
        f"{recording.ch_names[at]} ({'always' if limit == 0 else f'{share:.1%} of the time'})"
        for at, limit, share in zip(strongest, limit_K, share_K, strict=True)
    ]
    return MuscleFit(components, limit_K, sfreq, found)


class WithoutMuscle(Stream):
    """A signal without its muscle components, while they are loud.

    Parameters
    ----------
    signal : Signal
        All channels of the recording.
    fit : MuscleFit
    """

    def __init__(self, signal: Signal, fit: MuscleFit) -> None:
        self._kernel = _high_pass(fit.sfreq)
        self._smooth, self._ramp = _half(SMOOTH_S, fit.sfreq), _half(RAMP_S, fit.sfreq)
        reach = len(self._kernel) // 2 + self._smooth + self._ramp
        super().__init__((signal.shape[0], signal.shape[1]), reach=reach)
        self._signal, self._fit = signal, fit

    def read(self, first: int, stop: int) -> Array:
        """The share of each component, weighted by how far it is above its limit."""
        components, margin = self._fit.components, self._smooth + self._ramp
        wide_CT = read_beyond(self._signal, first - self.reach, stop + self.reach, reach=self.reach)
        fast_KT = _fast(components, wide_CT, self._kernel)
        opening_KT = _opening(_power(fast_KT, self._fit.sfreq), self._fit.limit_K)
        share_KT = _ramped(opening_KT, self._ramp) * fast_KT[:, margin : margin + stop - first]
        piece_CT = wide_CT[:, self.reach : self.reach + stop - first].copy()
        piece_CT[components.picks] -= (components.maps_CK @ share_KT).astype(np.float32)
        return piece_CT


def without_muscle(signal: Signal, fit: MuscleFit) -> Signal:
    """The signal as it is where no component is one of muscle."""
    return WithoutMuscle(signal, fit) if len(fit.components) else signal


def _half(seconds: float, sfreq: float) -> int:
    """Half of an odd number of samples."""
    return int(seconds * sfreq) // 2


def _high_pass(sfreq: float) -> Array:
    from mne.filter import create_filter

    return np.asarray(create_filter(None, sfreq, L_FREQ, None, phase="zero", fir_design="firwin", verbose="error"))


def _fast(components: Components, wide_CT: Array, kernel: Array) -> Array:
    """Components above 15 Hz, without the half kernel at either end."""
    return convolve((components.filters_KC @ wide_CT[components.picks]).astype(np.float32), kernel)


def _power(fast_KT: Array, sfreq: float) -> Array:
    """Mean square, without half of the time that it is taken over at either end."""
    from scipy.ndimage import uniform_filter1d

    half = _half(SMOOTH_S, sfreq)
    mean_KT = uniform_filter1d(fast_KT.astype(float) ** 2, 2 * half + 1, axis=1)
    return np.asarray(mean_KT[:, half : fast_KT.shape[1] - half])


def _opening(power_KT: Array, limit_K: Array) -> Array:
    """From 0 at the limit to 1 at twice the limit, without a step, so that rounding makes no difference."""
    limit_K1 = limit_K[:, None]
    return np.clip(power_KT / np.where(limit_K1 > 0, limit_K1, 1.0) - 1.0, np.where(limit_K1 > 0, 0.0, 1.0), 1.0)


def _ramped(opening_KT: Array, half: int) -> Array:
    """Smoothed, without half a window at either end."""
    from scipy.ndimage import convolve1d

    window = np.hanning(2 * half + 3)[1:-1]
    return np.asarray(convolve1d(opening_KT, window / window.sum(), axis=1)[:, half : opening_KT.shape[1] - half])
