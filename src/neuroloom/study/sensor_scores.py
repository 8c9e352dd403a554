"""Scores of a simulated EEG or MEG recording: what was planted goes through the same filter and matrix.

Cleaning is linear but for the scanner's artefacts, and its matrix is in the store. So what the cleaned recording would
be without an artefact is known, whatever else was done to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from neuroloom.artifacts import Artifact
from neuroloom.config import MeegConfig
from neuroloom.records import BRAIN, Array, Events, Recording
from neuroloom.signals.filters import resample
from neuroloom.signals.magnetic_scores import interference_drop
from neuroloom.signals.preprocess import time_kernel
from neuroloom.signals.scanner_scores import (
    HARMONIC,
    Curve,
    erd_change,
    harmonic_drop,
    kept_r,
    kept_r_by_second,
    power_ratio,
)
from neuroloom.signals.scores import MARGIN_S, Score, during, score_bads, score_muscle, score_signal
from neuroloom.signals.streams import Filtered

PLANTED_BADS = ("dead", "flat", "noisy", "loose", "bridged")
MAX_SLICE_HZ = 70.0
HEART_HARMONICS = 5
CONTRASTS = (("eyes_closed", "eyes_open"), ("left_hand", None))


@dataclass(frozen=True)
class Planted:
    """One recording with its truth.

    Attributes
    ----------
    ch_types : list of str
        Of the good channels of the cleaned recording.
    clean_CT : array
        They, against their own mean where they are EEG.
    matrix : array (good channels, inputs)
        That they were made with, reference included.
    identity : array (good channels, inputs)
        That would leave them as they were.
    raw_IT : array
        The inputs as ingested.
    added : dict
        Kind -> what was added to the inputs.
    leadfield_IP : array
        What the inputs see of each parcel; zero where the truth does not say.
    noise_I : array
        RMS of the white noise of the inputs.
    kernel : array
        Of the filter in time.
    sfreq, new_sfreq : float
        Hz, of the inputs and of the cleaned recording.
    """

    ch_types: list[str]
    clean_CT: Array
    matrix: Array
    identity: Array
    raw_IT: Array
    added: dict[str, Array]
    leadfield_IP: Array
    noise_I: Array
    kernel: Array
    sfreq: float
    new_sfreq: float

    def filtered(self, signal_IT: Array) -> Array:
        """Inputs after the filter, at the new rate."""
        ratio = Fraction(self.new_sfreq / self.sfreq).limit_denominator(10_000)
        level_I = np.median(signal_IT, axis=1)
        stream = Filtered(signal_IT.astype(np.float32), kernel=self.kernel, level_C=level_I, ratio=ratio)
        return stream[:, : self.clean_CT.shape[1]]

    def slower(self, signal_CT: Array) -> Array:
        """Channels at the new rate, without the filter."""
        return resample(signal_CT, sfreq=self.sfreq, new_sfreq=self.new_sfreq)[:, : self.clean_CT.shape[1]]


def score_sensors(
    before: Recording, after: Recording, *, truth: Artifact, facts: pd.DataFrame, config: MeegConfig
) -> tuple[list[Score], list[Curve]]:
    """All scores of one recording, and the curves of those that say where something is lost.

    Parameters
    ----------
    before, after : Recording
        As ingested and as preprocessed, in memory.
    truth : Artifact
    facts : DataFrame
        Rows of `truth.parquet` about it.
    config : MeegConfig
    """
    found = [name for name, status in zip(after.ch_names, after.status, strict=True) if status != "good"]
    planted = find_planted(before, after, truth=truth, facts=facts, config=config)
    bads = facts.loc[facts["kind"].isin(PLANTED_BADS), "channel"]
    scores = score_bads(found, bads, n_channels=len(before.picks(*BRAIN)))
    plain_IT = planted.raw_IT - sum(planted.added.values())
    true_CP = average_reference(planted.ch_types) @ planted.identity @ planted.leadfield_IP
    filtered_CT = planted.matrix @ planted.filtered(plain_IT)
    scores += score_signal(
        planted.clean_CT,
        plain_CT=planted.slower(planted.matrix @ plain_IT),
        filtered_CT=filtered_CT,
        truth_CT=planted.slower(true_CP @ truth.read("source")),
        noise_psd_C=planted.matrix**2 @ planted.noise_I**2 / (planted.sfreq / 2),
        blink_T=planted.slower(truth.read("blink")[None])[0],
        sfreq=planted.new_sfreq,
        line_freq=float(facts.loc[facts["kind"] == "line_freq", "value"].iloc[0]),
    )
    bursts = _bursts(facts)
    if len(bursts.onset):
        brain_CT = true_CP @ planted.filtered(truth.read("source"))
        signals = {"plain_CT": filtered_CT, "brain_CT": brain_CT}
        scores += score_muscle(planted.clean_CT, **signals, bursts=bursts, sfreq=planted.new_sfreq)
    curves: list[Curve] = []
    if "gradient" in planted.added:
        in_scanner, curves = _score_scanner(planted, before.events, bursts, facts, config)
        scores += in_scanner
    if "interference" in planted.added:
        scores += _score_room(planted)
    return scores, curves


def find_planted(
    before: Recording, after: Recording, *, truth: Artifact, facts: pd.DataFrame, config: MeegConfig
) -> Planted:
    """Bring a recording and its truth together, see `score_sensors`.

    Raises
    ------
    ValueError
        If the cleaned recording does not hold the matrix that it was made with.
    """
    if after.mixing is None:
        raise ValueError("the cleaned recording has no matrix: it was not made by preprocess_meeg")
    matrix, inputs = after.mixing
    good = [at for at in after.picks(*BRAIN) if after.status[at] == "good"]
    ch_types = [after.ch_types[at] for at in good]
    reference_CC = average_reference(ch_types)
    known = list(truth.read("channel"))
    at_truth = [known.index(name) if name in known else -1 for name in inputs]
    noise = facts[facts["kind"] == "noise"].set_index("channel")["value"]
    return Planted(
        ch_types=ch_types,
        clean_CT=reference_CC @ after.signal_CT[good, :],
        matrix=reference_CC @ matrix[good],
        identity=np.eye(len(inputs), dtype=np.float32)[[inputs.index(after.ch_names[at]) for at in good]],
        raw_IT=np.nan_to_num(before.signal_CT[[before.ch_names.index(name) for name in inputs], :]),
        added=_added(truth, at_truth),
        leadfield_IP=_rows(truth.read("leadfield"), at_truth),
        noise_I=np.array([noise.get(name, 0.0) for name in inputs]),
        kernel=time_kernel(before.sfreq, after.line_freq, config)[0],
        sfreq=before.sfreq,
        new_sfreq=after.sfreq,
    )


def _added(truth: Artifact, at_truth: list[int]) -> dict[str, Array]:
    """What was added to each input, by kind."""
    if not truth.has("added_kind"):
        return {}
    kinds, map_CK, course_KT = (truth.read(f"added_{part}") for part in ("kind", "map", "course"))
    return {
        str(kind): _rows(map_CK[:, kinds == kind], at_truth) @ course_KT[kinds == kind] for kind in np.unique(kinds)
    }


def _rows(values: Array, at: list[int]) -> Array:
    """Some rows; zero where the index is -1."""
    return np.where(np.array(at)[:, None] >= 0, values[at], 0.0).astype(np.float32)


def average_reference(ch_types: Sequence[str]) -> Array:
    """EEG against the mean of the good channels, whatever reference it came with; MEG as it is."""
    is_eeg = np.array([kind == "eeg" for kind in ch_types])
    matrix_CC = np.eye(len(ch_types), dtype=np.float32)
    matrix_CC[np.ix_(is_eeg, is_eeg)] -= 1 / max(is_eeg.sum(), 1)
    return matrix_CC


def _bursts(facts: pd.DataFrame) -> Events:
    """When muscle was planted."""
    muscle = facts[facts["kind"] == "muscle"]
    return Events(muscle["onset"].to_numpy(), muscle["duration"].to_numpy(), list(muscle["channel"]))


def _score_scanner(
    planted: Planted, events: Events, bursts: Events, facts: pd.DataFrame, config: MeegConfig
) -> tuple[list[Score], list[Curve]]:
    """Gradients and heartbeats, against the recording that was never in a scanner."""
    raw_CT = planted.matrix @ planted.filtered(planted.raw_IT)
    without_CT = raw_CT - planted.matrix @ planted.filtered(planted.added["gradient"])
    truth_CT = without_CT - planted.matrix @ planted.filtered(planted.added["cardiac"])
    slice_rate = float(facts.loc[facts["kind"] == "slice_rate", "value"].iloc[0])
    slices = np.arange(slice_rate, min(MAX_SLICE_HZ, config.h_freq, 0.45 * planted.sfreq), slice_rate)
    beats_E = facts.loc[facts["kind"] == "heartbeat", "onset"].to_numpy()
    heart = (len(beats_E) - 1) / (beats_E[-1] - beats_E[0]) * np.arange(1, HEART_HARMONICS + 1)
    sfreq, clean_CT = planted.new_sfreq, planted.clean_CT
    # the truth has muscle in it, which is not to be kept
    still_T = ~during(bursts, clean_CT.shape[1], sfreq, margin=MARGIN_S)
    start, stop = _scan_limits(facts)
    curves = kept_r_by_second(clean_CT, truth_CT, sfreq=sfreq, still_T=still_T, start=start, stop=stop)
    drops, strengths = _heart_curves(without_CT, clean_CT, truth_CT=truth_CT, sfreq=sfreq, freqs=heart)
    together = harmonic_drop(without_CT, clean_CT, truth_CT=truth_CT, sfreq=sfreq, freqs=heart, together=True)
    scores = [
        Score("gradient", harmonic_drop(raw_CT, clean_CT, truth_CT=truth_CT, sfreq=sfreq, freqs=slices)),
        Score("scanner_r", kept_r(clean_CT[:, still_T], truth_CT[:, still_T], sfreq=sfreq)),
        Score("cardiac", together),
        Score("cardiac_worst", float(drops.value_N.min())),
    ]
    task = _without(events, "volume")
    for label, rest in CONTRASTS:
        if label in task.label:
            change = erd_change(clean_CT, truth_CT, sfreq=sfreq, events=task, task=label, rest=rest)
            scores.append(Score("erd", change))
    return scores, [*curves, drops, strengths]


def _scan_limits(facts: pd.DataFrame) -> tuple[float, float]:
    """When the scanner starts and stops, s."""
    volumes = facts[facts["kind"] == "volume"]
    return float(volumes["onset"].min()), float((volumes["onset"] + volumes["duration"]).max())


def _heart_curves(
    before_CT: Array, after_CT: Array, *, truth_CT: Array, sfreq: float, freqs: Array
) -> tuple[Curve, Curve]:
    """How far heartbeats fell at each harmonic, and how strong they were against EEG."""
    planted_CT, number_N = before_CT - truth_CT, np.arange(1.0, len(freqs) + 1)
    drop_N = power_ratio(planted_CT, after_CT - truth_CT, sfreq=sfreq, freqs=freqs)
    strength_N = power_ratio(planted_CT, truth_CT, sfreq=sfreq, freqs=freqs)
    return Curve("cardiac_drop", number_N, HARMONIC, drop_N), Curve("cardiac_over_eeg", number_N, HARMONIC, strength_N)


def _without(events: Events, label: str) -> Events:
    kept = np.array([found != label for found in events.label], bool)
    labels = [found for found in events.label if found != label]
    return Events(events.onset[kept], events.duration[kept], labels)


def _score_room(planted: Planted) -> list[Score]:
    """Interference alone with and without the matrix, and what the matrix does to dipoles."""
    interference_IT = planted.filtered(planted.added["interference"])
    drop = interference_drop(
        planted.identity @ interference_IT, planted.matrix @ interference_IT, ch_types=planted.ch_types
    )
    before_CP, after_CP = planted.identity @ planted.leadfield_IP, planted.matrix @ planted.leadfield_IP
    kept = dipole_amplitudes(before_CP, after_CP, planted.ch_types)
    return [Score("interference", min(drop.values())), Score("dipole", max(kept.values()))]


def dipole_amplitudes(before_CP: Array, after_CP: Array, ch_types: Sequence[str]) -> dict[str, float]:
    """Change of the amplitude that is fitted with the topography as it was, median over parcels, by coil type."""
    change = {}
    for kind in dict.fromkeys(ch_types):
        picks = [at for at, found in enumerate(ch_types) if found == kind]
        amplitude_P = (before_CP[picks] * after_CP[picks]).sum(axis=0) / (before_CP[picks] ** 2).sum(axis=0)
        change[kind] = float(np.median(np.abs(amplitude_P - 1)))
    return change
