"""First preprocessing of EEG and MEG: notch and band-pass, bad channels, reference, resampling."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Recording
from neuroloom.signals.channels import fill_gaps, find_bads, interpolation_matrix
from neuroloom.signals.filters import apply_kernel, design_kernel, detect_line_freq, line_ratio, resample, welch_psd
from neuroloom.signals.ingest import BRAIN, window_sd
from neuroloom.signals.ocular import OcularFit, fit_ocular

KEPT = (*BRAIN, "eog", "ecg", "emg")
MIN_GOOD_TO_INTERPOLATE = 4


@dataclass(frozen=True)
class MeegQc:
    """What preprocessing found and did: one row of the QC table.

    Attributes
    ----------
    bads : dict
        Channel -> reason.
    interpolated : list of str
        Bad channels that were given values from their neighbours; the others stay bad.
    left_behind : list of str
        Channels of other types (reference coils, misc), which are in the ingested store only.
    ocular : list of float
        Correlation of each removed component with its eye channel.
    notes : str
        What could not be done, and why.
    line_freq : float or None
        Hz, declared or detected; None where no mains stands out.
    line_db_before, line_db_after : float
        Mains above its surroundings, median channel.
    h_freq : float
        Low-pass that was applied, Hz.
    edge_fraction : float
        Share of samples within half a filter kernel of an end.
    sd_before, sd_after : dict
        Median SD in 1 s by channel type, SI units.
    """

    n_channels: int
    duration: float
    sfreq_in: float
    sfreq_out: float
    bads: dict[str, str]
    interpolated: list[str]
    left_behind: list[str]
    ocular: list[float]
    notes: str
    line_freq: float | None
    line_source: str
    line_db_before: float
    line_db_after: float
    l_freq: float
    h_freq: float
    edge_fraction: float
    nan_fraction: float
    n_events: int
    sd_before: dict[str, float]
    sd_after: dict[str, float]

    def row(self) -> dict[str, Any]:
        """Scalars of a table row; mappings as JSON."""
        values = dict(vars(self))
        values["n_bads"], values["n_ocular"] = len(self.bads), len(self.ocular)
        for name in ("bads", "interpolated", "left_behind", "ocular", "sd_before", "sd_after"):
            values[name] = json.dumps(values[name], ensure_ascii=False)
        return values


def preprocess_meeg(
    *, recording: Recording, config: MeegConfig, file: str, rng: np.random.Generator
) -> tuple[Recording, MeegQc]:
    """Clean one recording; everything but brain, ocular, cardiac and muscle channels is left behind.

    Parameters
    ----------
    recording : Recording
        As ingested.
    config : MeegConfig
    file : str
        Named in errors.
    rng : np.random.Generator
        Of this recording; draws the start of the decomposition into components.

    Returns
    -------
    recording : Recording
        float32 at `config.sfreq`.
    qc : MeegQc

    Raises
    ------
    UnusableRecording
        If more than `max_bad_fraction` of the brain channels are bad.
    """
    left_behind = [name for name, kind in zip(recording.ch_names, recording.ch_types, strict=True) if kind not in KEPT]
    recording = recording.pick(*KEPT)
    raw_CT = recording.signal_CT
    signal_CT = fill_gaps(raw_CT)
    brain = recording.picks(*BRAIN)
    freqs_F, psd_CF = _brain_psd(recording, signal_CT)
    line_freq, line_source = _line(recording, freqs_F, psd_CF)
    h_freq = min(config.h_freq, 0.9 * recording.sfreq / 2)
    kernel = _kernel(recording.sfreq, line_freq if config.notch else None, config, h_freq)
    filtered_CT = apply_kernel(signal_CT, kernel)
    bads = find_bads(recording, raw_CT, filtered_CT, config=config)
    _check_bads(recording, bads, config, file)
    eyes = remove_ocular(recording, filtered_CT, bads, config=config, rng=rng)
    interpolated = interpolate(recording, filtered_CT, list(bads)) if config.interpolate else []
    status = [_status(name, bads, interpolated) for name in recording.ch_names]
    if config.reference == "average":
        average_reference(recording, filtered_CT, status)
    clean = replace(
        recording,
        signal_CT=round_mantissa(
            resample(filtered_CT, sfreq=recording.sfreq, new_sfreq=config.sfreq), config.mantissa_bits
        ),
        sfreq=config.sfreq,
        status=status,
        line_freq=line_freq,
        reference="average" if config.reference == "average" else recording.reference,
    )
    after_F, after_CF = _brain_psd(clean, clean.signal_CT)
    qc = MeegQc(
        n_channels=len(brain),
        duration=raw_CT.shape[1] / recording.sfreq,
        sfreq_in=recording.sfreq,
        sfreq_out=config.sfreq,
        bads=bads,
        interpolated=interpolated,
        left_behind=left_behind,
        ocular=eyes.correlations,
        notes=eyes.note,
        line_freq=line_freq,
        line_source=line_source,
        line_db_before=line_ratio(freqs_F, psd_CF, line_freq) if line_freq else float("nan"),
        line_db_after=line_ratio(after_F, after_CF, line_freq) if line_freq else float("nan"),
        l_freq=config.l_freq,
        h_freq=h_freq,
        edge_fraction=min((len(kernel) - 1) / raw_CT.shape[1], 1.0),
        nan_fraction=float(np.mean([np.isnan(raw_CT[at]).mean() for at in brain])),
        n_events=len(recording.events.label),
        sd_before=_median_sd(recording, signal_CT, recording.sfreq),
        sd_after=_median_sd(clean, clean.signal_CT, clean.sfreq),
    )
    return clean, qc


def _brain_psd(recording: Recording, signal_CT: Array) -> tuple[Array, Array]:
    """Spectrum of the brain channels; they are chosen afterwards, because choosing copies the signal."""
    freqs_F, psd_CF = welch_psd(signal_CT, recording.sfreq)
    return freqs_F, psd_CF[recording.picks(*BRAIN)]


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


def _line(recording: Recording, freqs_F: Array, psd_CF: Array) -> tuple[float | None, str]:
    """Mains of the place: what file or study say, else what the spectrum shows."""
    if recording.line_freq is not None:
        return float(recording.line_freq), "declared"
    return detect_line_freq(freqs_F, psd_CF), "detected"


def _kernel(sfreq: float, line_freq: float | None, config: MeegConfig, h_freq: float) -> Array:
    """Harmonics above the low-pass need no notch of their own."""
    edge = h_freq + 1.0
    notches = tuple(np.arange(line_freq, edge, line_freq)) if line_freq else ()
    return design_kernel(sfreq, l_freq=config.l_freq, h_freq=h_freq, notch_freqs=notches)


def _check_bads(recording: Recording, bads: dict[str, str], config: MeegConfig, file: str) -> None:
    picks = recording.picks(*BRAIN)
    if len(bads) > config.max_bad_fraction * len(picks):
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(bads.items())[:8])
        remedy = "Look at the recording; preprocess.meeg.max_bad_fraction sets the limit"
        raise UnusableRecording(file, f"{len(bads)} of {len(picks)} channels are bad ({listed} ...)", remedy)


def remove_ocular(
    recording: Recording, signal_CT: Array, bads: dict[str, str], *, config: MeegConfig, rng: np.random.Generator
) -> OcularFit:
    """Take components of the eyes out of the good EEG channels, in place; say what was found."""
    if not config.ocular or not len(recording.picks("eeg")):
        return OcularFit(None, np.zeros(0, int), [])
    seed = int(rng.integers(2**31))
    fit = fit_ocular(recording, signal_CT, bads, threshold=config.ocular_correlation, seed=seed)
    if fit.matrix_CC is not None:
        signal_CT[fit.picks] = fit.matrix_CC @ signal_CT[fit.picks]
    return fit


def interpolate(recording: Recording, signal_CT: Array, bads: list[str]) -> list[str]:
    """Give bad channels values from their neighbours, in place; return the names of those that were."""
    done: list[str] = []
    for ch_type in BRAIN:
        names = [recording.ch_names[at] for at in recording.picks(ch_type)]
        lost = [name for name in names if name in bads]
        if lost and len(names) - len(lost) >= MIN_GOOD_TO_INTERPOLATE:
            weights, bad_picks, good_picks = interpolation_matrix(recording, lost, ch_type)
            signal_CT[bad_picks] = weights @ signal_CT[good_picks]
            done += lost
    return done


def average_reference(recording: Recording, signal_CT: Array, status: list[str]) -> None:
    """Subtract the mean of the usable EEG channels from all EEG channels, in place."""
    eeg = recording.picks("eeg")
    usable = [at for at in eeg if not status[at].startswith("bad")]
    if not usable:
        return
    weight_C = np.zeros(len(signal_CT), np.float32)
    weight_C[usable] = 1 / len(usable)
    mean_T = weight_C @ signal_CT
    for at in eeg:
        signal_CT[at] -= mean_T


def _status(name: str, bads: dict[str, str], interpolated: list[str]) -> str:
    if name not in bads:
        return "good"
    return f"interpolated: {bads[name]}" if name in interpolated else f"bad: {bads[name]}"


def _median_sd(recording: Recording, signal_CT: Array, sfreq: float) -> dict[str, float]:
    sd_C = window_sd(signal_CT, sfreq)
    picks = {ch_type: recording.picks(ch_type) for ch_type in BRAIN}
    return {ch_type: float(np.median(sd_C[at])) for ch_type, at in picks.items() if len(at)}
