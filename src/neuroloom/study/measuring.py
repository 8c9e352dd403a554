"""EEG and MEG of a simulated brain: sources at the sensors, with what the body, the room and the scanner add."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroloom.config import RecordingRow
from neuroloom.records import Array, Events
from neuroloom.study.artefacts import MICROVOLT, plant_artefacts, spoil_channels
from neuroloom.study.interference import join_sensors, measure_references, plant_interference, reference_sensors
from neuroloom.study.lab import LEAD_S, Lab
from neuroloom.study.scanner import plant_scanner
from neuroloom.study.sensors import Sensors, with_ecg
from neuroloom.study.sources import Brain
from neuroloom.study.truth import Fact, write_truth
from neuroloom.study.writing import Tracing, write_tracing

SLICE_RATE = 9.5  # slices (or groups of them) in a second, Hz
RANK_SHARE = 1e-6  # of the largest singular value, below which a component is rounding


@dataclass(frozen=True)
class Surroundings:
    """What did not come from the head.

    Attributes
    ----------
    added : dict
        Kind -> what was added to each channel, (C, T).
    more : Sensors and array, or None
        The machine with its further channels, which come last, and what those hold.
    events : Events
        Triggers.
    facts : list of Fact
    """

    added: dict[str, Array]
    more: tuple[Sensors, Array] | None
    events: Events
    facts: list[Fact]


def record_sensors(row: RecordingRow, *, lab: Lab, brain: Brain, folder: Path) -> list[Fact]:
    """Project the sources, spoil the signal, write file and truth.

    Parameters
    ----------
    row : RecordingRow
        Of EEG or MEG.
    lab : Lab
    brain : Brain
    folder : Path
        Of the site.
    """
    machine, is_eeg = lab.machine, row.modality == "eeg"
    sensors, artefacts, rng = lab.eeg if is_eeg else lab.meg, lab.config.artefacts, lab.rng(row.recording)
    leadfield_CP = lab.leadfield(sensors)
    signal_CT = leadfield_CP @ brain.source_PT
    clean_C = np.sqrt(np.mean(signal_CT**2, axis=1, dtype=np.float64))
    around = _scanner(row, sensors, signal_CT, lab) if is_eeg else _room(row, sensors, signal_CT, lab, brain)
    measured = plant_artefacts(
        signal_CT,
        sensors=sensors,
        artefacts=artefacts,
        noise=machine.eeg_noise * MICROVOLT,
        open_eyes=_open_eyes(brain.events, lab.config.duration),
        rng=rng,
    )
    n_channels = len(sensors.ch_names)
    for part_CT in around.added.values():
        signal_CT += part_CT[:n_channels]
    contact_CC, bad_facts = spoil_channels(
        signal_CT, sensors=sensors, artefacts=artefacts, typical_C=measured.typical_C, rng=rng
    )
    whole, all_CT = sensors, signal_CT
    if around.more is not None:
        whole, all_CT = around.more[0], np.concatenate([signal_CT, around.more[1]])
    if len(whole.leadfield_CP3) > n_channels:  # reference coils see a little of the brain, too
        leadfield_CP = lab.leadfield(whole)
    tracing = Tracing(
        info=whole.info,
        signal_CT=all_CT,
        events=_merge(brain.events, around.events),
        file_format=machine.eeg_format if is_eeg else "fif",
        unit=machine.eeg_unit,
        reference=machine.reference if is_eeg else None,
    )
    write_tracing(tracing, row=row, bids=folder / "bids", scratch=folder / "scratch")
    snr = float(np.median(clean_C / measured.noise_C))
    write_truth(
        folder,
        row.recording,
        parcels=lab.parcels,
        arrays={
            "source": brain.source_PT,
            "leadfield": leadfield_CP,
            "channel": whole.ch_names[: len(leadfield_CP)],
            "blink": measured.blink_T,
            **_components({kind: _through(contact_CC, part_CT) for kind, part_CT in around.added.items()}),
        },
        attrs={"sfreq": machine.sfreq, "t_r": None, "hrf_lag": lab.config.hrf_lag, "snr": snr},
    )
    reference = [Fact("reference", machine.reference)] if is_eeg else []
    return [Fact("snr", value=snr), *reference, *measured.facts, *around.facts, *bad_facts]


def _open_eyes(events: Events, duration: float) -> list[tuple[float, float]]:
    """Onset and duration of blocks with open eyes; all the time where the task has no such blocks."""
    blocks = zip(events.onset.tolist(), events.duration.tolist(), events.label, strict=True)
    if "eyes_open" not in events.label:
        return [(0.0, duration)]
    return [(onset, length) for onset, length, label in blocks if label == "eyes_open"]


def _scanner(row: RecordingRow, sensors: Sensors, signal_CT: Array, lab: Lab) -> Surroundings:
    """Gradients and heartbeats, where EEG is recorded with BOLD; its clock is not the scanner's."""
    machine, artefacts = lab.machine, lab.config.artefacts
    if "bold" not in machine.modalities:
        return Surroundings({}, None, Events.none(), [])
    planted = plant_scanner(
        np.zeros_like(signal_CT),
        sensors=sensors,
        t_r=machine.t_r,
        n_volumes=lab.n_volumes,
        start=LEAD_S,
        n_slices=round(SLICE_RATE * machine.t_r),
        gradient_uv=artefacts.gradient_uv,
        cardiac_uv=artefacts.cardiac_uv,
        clock_ppm=artefacts.clock_ppm,
        rng=lab.rng(row.recording, "scanner"),
    )
    added = {"gradient": planted.gradient_CT, "cardiac": planted.cardiac_CT}
    more = (with_ecg(sensors), planted.ecg_T[None])
    facts = [*planted.facts, Fact("slice_rate", value=planted.slice_rate, unit="Hz")]
    return Surroundings(added, more, planted.triggers, facts)


def _room(row: RecordingRow, sensors: Sensors, signal_CT: Array, lab: Lab, brain: Brain) -> Surroundings:
    """Magnetic fields of what stands and drives around a MEG laboratory; CTF measures them with reference coils."""
    rng = lab.rng(row.recording, "room")
    planted = plant_interference(signal_CT, sensors=sensors, size=lab.config.artefacts.interference_db, rng=rng)
    added_CT, more = planted.signal_CT, None
    if lab.machine.meg_system == "ctf":
        references = reference_sensors(
            sfreq=lab.machine.sfreq, line_freq=lab.machine.line_freq, position_P3=lab.positions
        )
        heard_CT = measure_references(
            references, interference=planted, source_PT=brain.source_PT, direction_P3=lab.directions, rng=rng
        )
        more = (join_sensors(sensors, references), heard_CT)
        added_CT = np.concatenate([added_CT, planted.at(references.info)])
    return Surroundings({"interference": added_CT}, more, Events.none(), planted.facts)


def _merge(events: Events, triggers: Events) -> Events:
    """Both, in the order of their onsets."""
    onset = np.concatenate([events.onset, triggers.onset])
    order = np.argsort(onset, kind="stable")
    labels = [*events.label, *triggers.label]
    duration = np.concatenate([events.duration, triggers.duration])
    return Events(onset[order], duration[order], [labels[at] for at in order])


def _through(contact_CC: Array, part_CT: Array) -> Array:
    """What comes through the contacts of the channels that have such; further channels have sound ones."""
    n_channels = len(contact_CC)
    return np.concatenate([contact_CC @ part_CT[:n_channels], part_CT[n_channels:]])


def _components(added: dict[str, Array]) -> dict[str, Array | list[str]]:
    """What was added, as few maps with their courses: `added_kind` (K), `added_map` (C, K), `added_course` (K, T)."""
    kinds: list[str] = []
    maps, courses = [], []
    for kind, part_CT in added.items():
        value_K, vector_CK = np.linalg.eigh(part_CT.astype(float) @ part_CT.T.astype(float))
        kept = value_K > RANK_SHARE**2 * value_K[-1]
        maps.append(vector_CK[:, kept])
        courses.append(vector_CK[:, kept].T @ part_CT)
        kinds += [kind] * int(kept.sum())
    if not kinds:
        return {}
    return {
        "added_kind": kinds,
        "added_map": np.concatenate(maps, axis=1),
        "added_course": np.concatenate(courses).astype(np.float32),
    }
