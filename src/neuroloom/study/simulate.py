"""The simulated study: sites that record EEG with BOLD, or MEG, of brains whose sources are known.

`simulated_rows` says which recordings there are, without making any; `simulate_site` makes those of one site: a BIDS
dataset, and the truth about it. EEG and BOLD of a person and task are two views of one brain and share their clock;
MEG of the same person is a recording of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.bold.confounds import framewise_displacement
from neuroloom.bold.parcels import Parcellation, template_parcels
from neuroloom.config import ConfigError, RecordingRow, SimulateConfig, SimulatedSite
from neuroloom.provenance import child_rng
from neuroloom.records import Array, Events
from neuroloom.study.artefacts import MICROVOLT, plant_artefacts
from neuroloom.study.bold_model import DRIFT_SHARE, bold_response, paint_scan, voxel_grid
from neuroloom.study.sensors import ELECTRODES, Sensors, eeg_sensors, meg_sensors, orientations, source_positions
from neuroloom.study.sources import BANDS, GRID_RATE, Brain, Traits, draw_traits, simulate_brain
from neuroloom.study.truth import Fact, facts_table, write_truth
from neuroloom.study.writing import EXTENSIONS, Tracing, datatype_name, write_dataset_files, write_scan, write_tracing

MIN_SFREQ = 80.0
MIN_VOLUMES = 10
_DATATYPES = {"eeg": "eeg", "meg": "meg", "bold": "func"}


def simulated_rows(study: str, simulate: SimulateConfig) -> list[RecordingRow]:
    """The recordings sheet of a simulated study.

    Parameters
    ----------
    study : str
        Name of the study.
    simulate : SimulateConfig

    Returns
    -------
    list of RecordingRow
        By site, subject, task and modality; paths start from the folder that holds the sites' folders.

    Raises
    ------
    ConfigError
        If a site cannot be simulated; all problems are listed.
    """
    problems = [
        f"simulate.sites.{name}: {problem}"
        for name, site in simulate.sites.items()
        for problem in _site_problems(site, simulate)
    ]
    if simulate.n_parcels % 2:
        problems.append(
            f"simulate.n_parcels: {simulate.n_parcels} is odd, both hemispheres need as many; use an even one"
        )
    if problems:
        raise ConfigError("\n  ".join(problems))
    return [
        _row(study, name, site, f"{number:02d}", task, modality)
        for name, site in simulate.sites.items()
        for number in range(1, site.n_subjects + 1)
        for task in simulate.tasks
        for modality in dict.fromkeys(site.modalities)
    ]


def _site_problems(site: SimulatedSite, simulate: SimulateConfig) -> list[str]:
    """What cannot be simulated, with what to change, as far as it can be known without doing it."""
    problems, artefacts = [], simulate.artefacts
    n_channels = {
        "eeg": site.n_eeg - (site.reference in ELECTRODES[site.n_eeg].split()),
        "meg": site.n_meg * (3 if site.meg_system == "neuromag" else 1),
    }
    n_bad = artefacts.dead_channels + artefacts.flat_channels + artefacts.noisy_channels
    few = [f"{count} {kind}" for kind, count in n_channels.items() if kind in site.modalities and count < n_bad]
    if few:
        problems.append(f"{n_bad} dead, flat and noisy channels of {' and '.join(few)}; lower simulate.artefacts")
    if site.sfreq < MIN_SFREQ:
        problems.append(f"sfreq: {site.sfreq:g} Hz is too slow for rhythms and muscle; use {MIN_SFREQ:g} or more")
    whole = float(site.sfreq).is_integer() and float(simulate.duration).is_integer()
    if "eeg" in site.modalities and site.eeg_format == "edf" and not whole:
        problems.append(
            f"EDF consists of records of 1 s, found {simulate.duration:g} s at {site.sfreq:g} Hz; use whole numbers"
        )
    if "bold" in site.modalities and simulate.duration < MIN_VOLUMES * site.t_r:
        problems.append(f"t_r: {simulate.duration:g} s hold fewer than {MIN_VOLUMES} volumes; raise simulate.duration")
    return problems


def _row(study: str, name: str, site: SimulatedSite, subject: str, task: str, modality: Any) -> RecordingRow:
    suffixes = {"eeg": f"eeg.{EXTENSIONS[site.eeg_format]}", "meg": "meg.fif", "bold": "bold.nii.gz"}
    row = RecordingRow(study=study, site=name, subject=subject, task=task, modality=modality, path="")
    file = datatype_name(row, suffixes[modality])
    return row.model_copy(update={"path": f"{name}/bids/sub-{subject}/{_DATATYPES[modality]}/{file}"})


def simulate_site(*, site: str, config: SimulateConfig, study: str, seed: int, folder: Path) -> None:
    """Simulate and write all recordings of one site.

    Writes `bids/` (the dataset), `truth.parquet` (one row for each planted fact: recording, kind, channel, onset,
    duration, value, unit; SI units, s from the start of the recording; channels under their 10-05 names) and
    `truth/<recording>.zarr` with manifest (`truth` artifacts). Equal seeds give equal files.

    Parameters
    ----------
    site : str
        Key of `config.sites`.
    config : SimulateConfig
    study : str
        Name of the study.
    seed : int
        Of the study; it also draws the cortex (source orientations), which all sites share.
    folder : Path
        The site's folder; made if it does not exist.

    Raises
    ------
    ConfigError
        If the config cannot be simulated (see `simulated_rows`), or a parcel is smaller than a voxel.
    FileExistsError
        If the folder holds a dataset already.
    """
    import mne

    rows = [row for row in simulated_rows(study, config) if row.site == site]
    if (folder / "bids").exists():
        raise FileExistsError(f"{folder}: holds a dataset already; remove it before simulating it again")
    folder.mkdir(parents=True, exist_ok=True)
    lab = Lab(study=study, seed=seed, config=config, machine=config.sites[site])
    people = {row.subject: draw_traits(lab.rng(site, row.subject)) for row in rows}
    tables: list[pd.DataFrame] = []
    with mne.use_log_level("error"):
        for subject, task in dict.fromkeys((row.subject, row.task) for row in rows):
            session = [row for row in rows if (row.subject, row.task) == (subject, task)]
            tables += _record_session(session, lab=lab, traits=people[subject], folder=folder)
    write_dataset_files(folder / "bids", rows=rows, people=people)
    pd.concat(tables, ignore_index=True).to_parquet(folder / "truth.parquet", engine="pyarrow", index=False)


@dataclass(frozen=True)
class Lab:
    """What all recordings of a site have in common; each part is computed once, when it is first needed."""

    study: str
    seed: int
    config: SimulateConfig
    machine: SimulatedSite

    def rng(self, *entities: str) -> np.random.Generator:
        """Random generator of one thing, so that one more person, site or task changes no other recording."""
        return child_rng(self.seed, "/".join(["simulate", self.study, *entities]))

    @cached_property
    def parcels(self) -> Parcellation:
        """Where the sources are."""
        return template_parcels(self.config.n_parcels)

    @cached_property
    def positions(self) -> Array:
        """Sources (P, 3), m in the head frame."""
        return source_positions(self.parcels.centroid_P3)

    @cached_property
    def directions(self) -> Array:
        """Orientations of the sources (P, 3); the same cortex at all sites of a study."""
        return orientations(self.positions, self.rng("cortex"))

    @cached_property
    def eeg(self) -> Sensors:
        """The site's EEG cap."""
        site = self.machine
        rates = {"sfreq": site.sfreq, "line_freq": site.line_freq}
        return eeg_sensors(n_eeg=site.n_eeg, reference=site.reference, position_P3=self.positions, **rates)

    @cached_property
    def meg(self) -> Sensors:
        """The site's MEG helmet."""
        site = self.machine
        rates = {"sfreq": site.sfreq, "line_freq": site.line_freq}
        return meg_sensors(system=site.meg_system, n_places=site.n_meg, position_P3=self.positions, **rates)

    def leadfield(self, sensors: Sensors) -> Array:
        """What each channel sees of each parcel, (C, P)."""
        return np.einsum("cpk,pk->cp", sensors.leadfield_CP3, self.directions).astype(np.float32)

    def brain(self, row: RecordingRow, traits: Traits) -> Brain:
        """The brain during a recording: one and the same for EEG and BOLD."""
        # MEG is another visit; EEG and BOLD share theirs, so they share a generator.
        occasion = "meg" if row.modality == "meg" else "eeg"
        return simulate_brain(
            centroid_P3=self.parcels.centroid_P3,
            task=row.task,  # type: ignore[arg-type]
            duration=self.config.duration,
            sfreq=self.machine.sfreq,
            traits=traits,
            rng=self.rng(row.site, row.subject, row.task, occasion),
        )


def _record_session(rows: list[RecordingRow], *, lab: Lab, traits: Traits, folder: Path) -> list[pd.DataFrame]:
    """All recordings of one person and task; the brain of EEG and BOLD is computed once."""
    brains: dict[bool, Brain] = {}
    tables = []
    for row in rows:
        is_meg = row.modality == "meg"
        if is_meg not in brains:
            brains[is_meg] = lab.brain(row, traits)
        record = _record_bold if row.modality == "bold" else _record_sensors
        facts = record(row, lab=lab, traits=traits, brain=brains[is_meg], folder=folder)
        tables.append(facts_table(row.recording, [*_personal_facts(traits), *facts]))
    return tables


def _personal_facts(traits: Traits) -> list[Fact]:
    return [
        Fact("alpha_peak", value=traits.alpha_hz, unit="Hz"),
        Fact("alpha_closed_gain", value=traits.closed_gain),
        Fact("erd", value=traits.erd),
    ]


def _record_sensors(row: RecordingRow, *, lab: Lab, traits: Traits, brain: Brain, folder: Path) -> list[Fact]:
    """EEG or MEG: project the sources, spoil the signal, write file and truth."""
    machine, is_eeg = lab.machine, row.modality == "eeg"
    sensors = lab.eeg if is_eeg else lab.meg
    leadfield_CP = lab.leadfield(sensors)
    clean_CT = leadfield_CP @ brain.source_PT
    clean_C = np.sqrt(np.mean(clean_CT**2, axis=1, dtype=np.float64))
    measured = plant_artefacts(
        clean_CT,
        sensors=sensors,
        artefacts=lab.config.artefacts,
        noise=machine.eeg_noise * MICROVOLT,
        open_eyes=_open_eyes(brain.events, lab.config.duration),
        rng=lab.rng(row.recording),
    )
    tracing = Tracing(
        info=sensors.info,
        signal_CT=measured.signal_CT,
        events=brain.events,
        file_format=machine.eeg_format if is_eeg else "fif",
        unit=machine.eeg_unit,
        reference=machine.reference if is_eeg else None,
    )
    write_tracing(tracing, row=row, bids=folder / "bids", scratch=folder / "scratch")
    arrays: dict[str, Array | list[str]] = {
        "source": brain.source_PT,
        "leadfield": leadfield_CP,
        "channel": sensors.ch_names,
        "blink": measured.blink_T,
    }
    snr = float(np.median(clean_C / measured.noise_C))
    attrs = {"sfreq": machine.sfreq, "t_r": None, "hrf_lag": lab.config.hrf_lag, "snr": snr}
    write_truth(folder, row.recording, parcels=lab.parcels, arrays=arrays, attrs=attrs)
    return [Fact("snr", value=snr), *([Fact("reference", machine.reference)] if is_eeg else []), *measured.facts]


def _open_eyes(events: Events, duration: float) -> list[tuple[float, float]]:
    """Onset and duration of blocks with open eyes; all the time where the task has no such blocks."""
    blocks = zip(events.onset.tolist(), events.duration.tolist(), events.label, strict=True)
    if "eyes_open" not in events.label:
        return [(0.0, duration)]
    return [(onset, length) for onset, length, label in blocks if label == "eyes_open"]


def _record_bold(row: RecordingRow, *, lab: Lab, traits: Traits, brain: Brain, folder: Path) -> list[Fact]:
    """BOLD: response of the drive, painted into voxels, with its confounds."""
    config, t_r, snr = lab.config, lab.machine.t_r, lab.machine.bold_snr
    n_volumes = int(config.duration / t_r + 1e-6)
    bold_PV = bold_response(brain.drive_PG, t_r=t_r, n_volumes=n_volumes, hrf_lag=config.hrf_lag)
    grid = voxel_grid(config.voxel_mm, config.n_parcels)
    rng = lab.rng(row.recording)
    scan = paint_scan(bold_PV, grid=grid, snr=snr, motion_mm=config.artefacts.motion_mm, rng=rng)
    write_scan(scan, row=row, bids=folder / "bids", grid=grid, events=brain.events, t_r=t_r)
    arrays = {"drive": brain.drive_PG, "bold": bold_PV, "motion": scan.motion_V6}
    attrs = {"sfreq": GRID_RATE, "t_r": t_r, "hrf_lag": config.hrf_lag, "snr": snr}
    write_truth(folder, row.recording, parcels=lab.parcels, arrays=arrays, attrs=attrs)
    weights = zip(BANDS, traits.bold_weights, strict=True)
    moved_V = framewise_displacement(scan.motion_V6)
    return [
        *(Fact(f"bold_weight_{band}", value=weight) for band, weight in weights),
        *(Fact("motion", onset=at * t_r, value=float(moved_V[at]), unit="mm") for at in np.flatnonzero(moved_V > 0)),
        Fact("drift", value=DRIFT_SHARE),
        Fact("hrf_lag", value=config.hrf_lag, unit="s"),
        Fact("snr", value=snr),
    ]
