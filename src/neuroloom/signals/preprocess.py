"""Preprocessing of EEG and MEG of any length: what is learnt from pieces of the recording is applied as it streams.

In time: gradients of a scanner, gaps, one filter for band-pass and mains, resampling, heartbeats in the scanner. In
space: one matrix for the room's magnetic fields, eyes, bad channels and reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import BRAIN, Array, Recording, Signal
from neuroloom.signals.bads import find_bads
from neuroloom.signals.empty_room import EmptyRoom
from neuroloom.signals.filters import design_kernel, detect_line_freq, line_ratio, welch_psd, window_sd
from neuroloom.signals.magnetic import MagneticFit, choose_method, fit_magnetic
from neuroloom.signals.magnetic_bads import find_meg_bads
from neuroloom.signals.maxwell import tsss
from neuroloom.signals.mixing import MAGNETIC_S, Mixing, fit_mixing
from neuroloom.signals.movement import HeadPositions, follow_head
from neuroloom.signals.muscle import without_muscle
from neuroloom.signals.quality import MeegQc
from neuroloom.signals.rejection import Judged, fit_limits
from neuroloom.signals.scanner import without_gradients, without_heartbeats
from neuroloom.signals.streams import Filled, Filtered, Mixed, draw_pieces, pick
from neuroloom.signals.survey import Survey, survey

KEPT = (*BRAIN, "eog", "ecg", "emg")
HELPING = ("ref_meg",)
PIECE_S, MAX_PIECES = 20.0, 20


@dataclass(frozen=True)
class Timed:
    """A recording after the steps in time.

    Attributes
    ----------
    recording : Recording
        At the new sampling rate, with all channels that help.
    pieces : list of array
        Of its signal; what follows learns from them.
    found : Survey
        Of the recording before filtering.
    line_freq : float or None
        Hz.
    line_source : str
        `declared` or `detected`.
    h_freq : float
        Low-pass, Hz.
    edge_fraction : float
        Share of samples within half a kernel of an end.
    notes : list of str
    """

    recording: Recording
    pieces: list[Array]
    found: Survey
    line_freq: float | None
    line_source: str
    h_freq: float
    edge_fraction: float
    notes: list[str]


def preprocess_meeg(
    *,
    recording: Recording,
    config: MeegConfig,
    window: float,
    file: str,
    rng: np.random.Generator,
    empty_room: Recording | None = None,
    head: HeadPositions | None = None,
) -> tuple[Recording, MeegQc]:
    """Clean one recording; everything but brain, ocular, cardiac and muscle channels is left behind.

    Parameters
    ----------
    recording : Recording
        As ingested.
    config : MeegConfig
    window : float
        Length of the windows that are judged, s.
    file : str
        Named in errors.
    rng : np.random.Generator
        Of this recording; draws the pieces that are learnt from and the start of the decomposition into components.
    empty_room : Recording, optional
        Of the same machine, see `read_empty_room`; used where `auto` finds nothing better, and by `ssp`.
    head : HeadPositions, optional
        Where it was in the helmet, which signal space separation follows.

    Returns
    -------
    recording : Recording
        float32 at `config.sfreq`. Its signal is computed when it is read, and its `window_status` is filled in then.
    qc : MeegQc

    Raises
    ------
    UnusableRecording
        If more than `max_bad_fraction` of the brain channels are bad, the triggers of a scanner are missing, or the
        empty room is of another machine.
    """
    timed = steps_in_time(recording, config=config, file=file, rng=rng)
    sample_CT = np.concatenate(timed.pieces, axis=1)
    bads = find_bads(timed.recording, timed.found, sample_CT, config=config)
    if config.magnetic != "none":
        bads |= find_meg_bads(timed.recording, sample_CT, bads)
    _check_bads(timed.recording, bads, config, file)
    timed, config = _followed(timed, bads, head, config=config, rng=rng)
    if config.magnetic == "tsss" and len(timed.recording.picks("mag", "grad")):
        timed = _separated_in_time(timed, bads, file, rng)
    room = _fit_room(timed, bads, empty_room, config=config, file=file, rng=rng)
    if room is not None:
        bads |= room.lost
        _check_bads(timed.recording, bads, config, file)
    rest = config if room is None else config.model_copy(update={"magnetic": "none"})
    mixing = fit_mixing(timed.recording, timed.pieces, bads, config=rest, rng=rng)
    mixing = mixing if room is None else _after_room(mixing, room)
    clean, pieces = _mixed(timed, mixing, config)
    clean = _judged(clean, pieces, window, config)
    return clean, _quality(recording, timed, bads, mixing, clean, np.concatenate(pieces, axis=1), config)


def steps_in_time(recording: Recording, *, config: MeegConfig, file: str, rng: np.random.Generator) -> Timed:
    """All that is done to each channel by itself, as a stream, and the pieces that are learnt from."""
    recording, notes = without_gradients(pick(recording, *KEPT, *HELPING), config=config, file=file, rng=rng)
    found = survey(recording.signal_CT, recording.sfreq)
    line_freq, line_source = _line(recording, found)
    kernel, h_freq = time_kernel(recording.sfreq, line_freq, config)
    signal_CT = filtered(recording.signal_CT, found, kernel, sfreq=recording.sfreq, new_sfreq=config.sfreq)
    timed = replace(recording, signal_CT=signal_CT, sfreq=config.sfreq)
    timed, pieces = _with_pieces(timed, rng)
    if recording.scanner_t_r is not None:
        timed, more = without_heartbeats(timed, config=config, rng=rng)
        timed, pieces = _with_pieces(timed, rng)
        notes += more
    edges = min((len(kernel) - 1) / recording.signal_CT.shape[1], 1.0)
    return Timed(timed, pieces, found, line_freq, line_source, h_freq, edges, notes)


def _followed(
    timed: Timed,
    bads: dict[str, str],
    head: HeadPositions | None,
    *,
    config: MeegConfig,
    rng: np.random.Generator,
) -> tuple[Timed, MeegConfig]:
    """After signal space separation that follows the head, where it is to be done and there are positions."""
    if head is None or config.magnetic in ("none", "reference", "hfc", "ssp"):
        return timed, config
    if config.magnetic == "auto" and choose_method(timed.recording, bads, "auto")[0] != "maxwell":
        return timed, config
    if not len(head.time_N):
        return replace(timed, notes=[*timed.notes, head.note]), config
    signal, temporal = timed.recording.signal_CT, config.magnetic == "tsss"
    try:
        followed, note = follow_head(signal, timed.recording, bads, head, temporal=temporal)
    except ValueError:  # the array does not allow it, which the same without movement is left to say
        return timed, config
    recording, pieces = _with_pieces(replace(timed.recording, signal_CT=followed), rng)
    timed = replace(timed, recording=recording, pieces=pieces, notes=[*timed.notes, note])
    return timed, config.model_copy(update={"magnetic": "none"})


def _separated_in_time(timed: Timed, bads: dict[str, str], file: str, rng: np.random.Generator) -> Timed:
    """After temporal signal space separation, which rebuilds bad coils, too."""
    try:
        separated = tsss(timed.recording.signal_CT, timed.recording, bads)
    except ValueError as error:
        raise UnusableRecording(file, str(error), "Set preprocess.meeg.magnetic: auto") from error
    recording, pieces = _with_pieces(replace(timed.recording, signal_CT=separated), rng)
    note = f"temporal signal space separation in pieces of {separated.st_duration:g} s"
    return replace(timed, recording=recording, pieces=pieces, notes=[*timed.notes, note])


def measure_room(room: Recording, *, config: MeegConfig, rng: np.random.Generator) -> EmptyRoom:
    """What stands out in an empty room, through the filter of the recordings."""
    file = room.site_files["empty_room"]
    timed = steps_in_time(room, config=config, file=file, rng=rng)
    sample_CT = np.concatenate(timed.pieces, axis=1)
    bads = find_bads(timed.recording, timed.found, sample_CT, config=config)
    bads |= find_meg_bads(timed.recording, sample_CT, bads)
    names, kinds = timed.recording.ch_names, timed.recording.ch_types
    duration = sample_CT.shape[1] / timed.recording.sfreq
    covariance_CC = np.cov(sample_CT)
    return EmptyRoom(file, names, kinds, timed.recording.coil_C, covariance_CC, duration=duration, bads=bads)


def _fit_room(
    timed: Timed,
    bads: dict[str, str],
    empty_room: Recording | None,
    *,
    config: MeegConfig,
    file: str,
    rng: np.random.Generator,
) -> MagneticFit | None:
    """What an empty room takes out; nothing where there is none, or the helmet tells inner from outer fields."""
    if empty_room is None or config.magnetic not in ("auto", "ssp"):
        return None
    sample_CT = np.concatenate(timed.pieces, axis=1)[:, : int(MAGNETIC_S * timed.recording.sfreq)]
    measure = partial(measure_room, empty_room, config=config, rng=rng)
    try:
        fit = fit_magnetic(timed.recording, sample_CT, bads, method=config.magnetic, room=measure)
    except ValueError as error:
        remedy = "Name an empty room of the machine that recorded, in sources.<study>.empty_room, or null"
        raise UnusableRecording(file, str(error), remedy) from error
    return None if fit.method in ("maxwell", "none") else fit


def _after_room(mixing: Mixing, room: MagneticFit) -> Mixing:
    """The matrix with the empty room's as its first factor."""
    return replace(mixing, matrix_CC=mixing.matrix_CC @ room.matrix_CC, notes=[room.note, *mixing.notes])


def _with_pieces(recording: Recording, rng: np.random.Generator) -> tuple[Recording, list[Array]]:
    """Pieces of the signal; the whole of a short recording is kept, so that it is not computed twice."""
    n_times = recording.signal_CT.shape[1]
    spans = draw_pieces(n_times, recording.sfreq, seconds=PIECE_S, max_pieces=MAX_PIECES, rng=rng)
    pieces = [np.asarray(recording.signal_CT[:, first:stop]) for first, stop in spans]
    return (replace(recording, signal_CT=pieces[0]), pieces) if len(pieces) == 1 else (recording, pieces)


def filtered(signal: Signal, found: Survey, kernel: Array, *, sfreq: float, new_sfreq: float) -> Filtered:
    """Gaps, filter and resampling; nothing is computed yet."""
    ratio = Fraction(new_sfreq / sfreq).limit_denominator(10_000)  # off by less than 1e-8
    without_gaps = Filled(signal, sfreq=sfreq, level_C=found.level_C)
    return Filtered(without_gaps, kernel=kernel, level_C=found.level_C, ratio=ratio)


def _line(recording: Recording, found: Survey) -> tuple[float | None, str]:
    """Mains of the place: what file or study say, else what the spectrum shows."""
    if recording.line_freq is not None:
        return float(recording.line_freq), "declared"
    return detect_line_freq(found.freqs_F, found.psd_CF[recording.picks(*BRAIN)]), "detected"


def time_kernel(sfreq: float, line_freq: float | None, config: MeegConfig) -> tuple[Array, float]:
    """The filter, and its low-pass (Hz); harmonics of mains above the low-pass need no notch of their own."""
    h_freq = min(config.h_freq, 0.9 * sfreq / 2)
    notches = tuple(np.arange(line_freq, h_freq + 1.0, line_freq)) if line_freq and config.notch else ()
    return design_kernel(sfreq, l_freq=config.l_freq, h_freq=h_freq, notch_freqs=notches), h_freq


def _check_bads(recording: Recording, bads: dict[str, str], config: MeegConfig, file: str) -> None:
    picks = recording.picks(*BRAIN)
    if len(bads) > config.max_bad_fraction * len(picks):
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(bads.items())[:8])
        remedy = "Look at the recording; preprocess.meeg.max_bad_fraction sets the limit"
        raise UnusableRecording(file, f"{len(bads)} of {len(picks)} channels are bad ({listed} ...)", remedy)


def _mixed(timed: Timed, mixing: Mixing, config: MeegConfig) -> tuple[Recording, list[Array]]:
    """The recording after the matrix, and its pieces."""
    recording = replace(timed.recording, status=mixing.status)
    matrix = mixing.matrix_CC[recording.picks(*KEPT)].astype(np.float32)
    clean = replace(
        pick(recording, *KEPT),
        signal_CT=Mixed(without_muscle(recording.signal_CT, mixing.muscle), matrix, mantissa_bits=config.mantissa_bits),
        line_freq=timed.line_freq,
        reference="average" if config.reference == "average" else recording.reference,
        mixing=(matrix, recording.ch_names),
    )
    return clean, [matrix @ without_muscle(piece_CT, mixing.muscle)[:, :] for piece_CT in timed.pieces]


def _judged(clean: Recording, pieces: list[Array], window: float, config: MeegConfig) -> Recording:
    """The recording with windows that are judged as they are read."""
    limits = fit_limits(clean, pieces, z=config.burst_z) if config.burst_z else None
    if limits is None:
        return clean
    judged = Judged(clean.signal_CT, window=round(window * clean.sfreq), limits=limits)
    return replace(clean, signal_CT=judged, window_status=judged.status)


def _quality(
    recording: Recording,
    timed: Timed,
    bads: dict[str, str],
    mixing: Mixing,
    clean: Recording,
    after_CT: Array,
    config: MeegConfig,
) -> MeegQc:
    """Figures before, from the survey, and after, from the pieces."""
    found, line_freq, brain = timed.found, timed.line_freq, timed.recording.picks(*BRAIN)
    after_F, after_CF = welch_psd(after_CT[clean.picks(*BRAIN)], clean.sfreq)
    kinds = zip(recording.ch_names, recording.ch_types, strict=True)
    status = dict(zip(clean.ch_names, clean.status, strict=True))
    return MeegQc(
        n_channels=len(brain),
        duration=recording.signal_CT.shape[1] / recording.sfreq,
        sfreq_in=recording.sfreq,
        sfreq_out=config.sfreq,
        bads=bads,
        interpolated=[name for name in clean.ch_names if status[name].startswith("interpolated")],
        left_behind=[name for name, kind in kinds if kind not in KEPT],
        ocular=mixing.ocular,
        muscle=mixing.muscle.found,
        notes="; ".join([*timed.notes, *mixing.notes]),
        line_freq=line_freq,
        line_source=timed.line_source,
        line_db_before=line_ratio(found.freqs_F, found.psd_CF[brain], line_freq) if line_freq else float("nan"),
        line_db_after=line_ratio(after_F, after_CF, line_freq) if line_freq else float("nan"),
        l_freq=config.l_freq,
        h_freq=timed.h_freq,
        edge_fraction=timed.edge_fraction,
        nan_fraction=float(np.mean(found.missing_C[brain])),
        n_events=len(recording.events.label),
        sd_before=_by_type(timed.recording, found.sd_C),
        sd_after=_by_type(clean, window_sd(after_CT, clean.sfreq)),
    )


def _by_type(recording: Recording, value_C: Array) -> dict[str, float]:
    """Median over the channels of each type."""
    picks = {ch_type: recording.picks(ch_type) for ch_type in BRAIN}
    return {ch_type: float(np.median(value_C[at])) for ch_type, at in picks.items() if len(at)}
