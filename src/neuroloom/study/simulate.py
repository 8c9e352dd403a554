"""The simulated study: sites that record EEG with BOLD, or MEG, of brains whose sources are known.

`simulated_rows` says which recordings there are, without making any; `simulate_site` makes those of one site: a BIDS
dataset, and the truth about it. EEG and BOLD of a person and task are two views of one brain and share their clock;
MEG of the same person is a recording of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.bold.confounds import framewise_displacement
from neuroloom.config import ConfigError, RecordingRow, SimulateConfig, SimulatedSite
from neuroloom.records import Events
from neuroloom.study.bold_model import DRIFT_SHARE, bold_response, paint_scan, slice_responses, slice_times, voxel_grid
from neuroloom.study.lab import LEAD_S, Lab
from neuroloom.study.measuring import record_sensors
from neuroloom.study.sensors import ELECTRODES
from neuroloom.study.sources import BANDS, GRID_RATE, Brain, Traits, draw_traits
from neuroloom.study.truth import Fact, facts_table, write_truth
from neuroloom.study.writing import EXTENSIONS, datatype_name, write_dataset_files, write_derivatives, write_scan

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
    if simulate.invisible_parcels > simulate.n_parcels // 2:
        problems.append(
            f"simulate.invisible_parcels: {simulate.invisible_parcels} of {simulate.n_parcels}; at most half of them"
        )
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
    contacts = {"eeg": artefacts.loose_channels + 2 * artefacts.bridged_pairs, "meg": 0}
    for kind, count in n_channels.items():
        if kind in site.modalities and count < n_bad + contacts[kind]:
            problems.append(f"{n_bad + contacts[kind]} bad channels of {count} {kind}; lower simulate.artefacts")
    if site.sfreq < MIN_SFREQ:
        problems.append(f"sfreq: {site.sfreq:g} Hz is too slow for rhythms and muscle; use {MIN_SFREQ:g} or more")
    whole = float(site.sfreq).is_integer() and float(simulate.duration).is_integer()
    if "eeg" in site.modalities and site.eeg_format == "edf" and not whole:
        problems.append(
            f"EDF consists of records of 1 s, found {simulate.duration:g} s at {site.sfreq:g} Hz; use whole numbers"
        )
    if "bold" in site.modalities and simulate.duration - 2 * LEAD_S < MIN_VOLUMES * site.t_r:
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


def _record_session(rows: list[RecordingRow], *, lab: Lab, traits: Traits, folder: Path) -> list[pd.DataFrame]:
    """All recordings of one person and task; the brain of EEG and BOLD is computed once."""
    brains: dict[bool, Brain] = {}
    tables = []
    for row in rows:
        is_meg = row.modality == "meg"
        if is_meg not in brains:
            brains[is_meg] = lab.brain(row, traits)
        given: dict[str, Any] = {"lab": lab, "brain": brains[is_meg], "folder": folder}
        facts = _record_bold(row, traits=traits, **given) if row.modality == "bold" else record_sensors(row, **given)
        tables.append(facts_table(row.recording, [*_personal_facts(traits), *facts]))
    return tables


def _personal_facts(traits: Traits) -> list[Fact]:
    return [
        Fact("alpha_peak", value=traits.alpha_hz, unit="Hz"),
        Fact("alpha_closed_gain", value=traits.closed_gain),
        Fact("erd", value=traits.erd),
    ]


def _record_bold(row: RecordingRow, *, lab: Lab, traits: Traits, brain: Brain, folder: Path) -> list[Fact]:
    """BOLD: response of the drive, painted into voxels, with its confounds."""
    config, machine, t_r, snr = lab.config, lab.machine, lab.machine.t_r, lab.machine.bold_snr
    grid = voxel_grid(config.voxel_mm, config.n_parcels)
    slice_time_Z = slice_times(grid.brain_XYZ.shape[2], t_r, machine.slice_order)
    timing: dict[str, Any] = {"t_r": t_r, "n_volumes": lab.n_volumes, "hrf_lag": config.hrf_lag, "start": LEAD_S}
    bold_PV = bold_response(brain.drive_PG, **timing)
    scan = paint_scan(
        slice_responses(brain.drive_PG, slice_time_Z=slice_time_Z, **timing),
        grid=grid,
        snr=snr,
        motion_mm=config.artefacts.motion_mm,
        realigned=machine.derivatives,
        rng=lab.rng(row.recording),
    )
    visible_P = ~np.isin(np.arange(config.n_parcels), lab.invisible)
    bids = folder / "bids"
    events = _since(brain.events, LEAD_S)
    write_scan(scan, row=row, bids=bids, grid=grid, events=events, t_r=t_r, slice_time_Z=slice_time_Z)
    if machine.derivatives:
        write_derivatives(scan, row=row, bids=bids, grid=grid)
    arrays: dict[str, Any] = {"power": brain.power_BPG.astype(np.float32), "band": list(BANDS), "drive": brain.drive_PG}
    arrays |= {"bold": bold_PV, "motion": scan.motion_V6, "visible": visible_P}
    attrs = {"sfreq": GRID_RATE, "t_r": t_r, "hrf_lag": config.hrf_lag, "snr": snr, "bold_start": LEAD_S}
    write_truth(folder, row.recording, parcels=lab.parcels, arrays=arrays, attrs=attrs)
    weights = zip(BANDS, traits.bold_weights, strict=True)
    moved_V = framewise_displacement(scan.motion_V6)
    return [
        *(Fact(f"bold_weight_{band}", value=weight) for band, weight in weights),
        *(Fact("motion", onset=at * t_r, value=float(moved_V[at]), unit="mm") for at in np.flatnonzero(moved_V > 0)),
        *(Fact("invisible", channel=lab.parcels.names[at]) for at in lab.invisible),
        Fact("drift", value=DRIFT_SHARE),
        Fact("hrf_lag", value=config.hrf_lag, unit="s"),
        Fact("snr", value=snr),
    ]


def _since(events: Events, start: float) -> Events:
    """Events on a clock that starts later; what was over by then is left out."""
    end = events.onset + events.duration - start
    kept = np.flatnonzero(end > 0)
    onset = np.maximum(events.onset[kept] - start, 0.0)
    return Events(onset, end[kept] - onset, [events.label[at] for at in kept])
