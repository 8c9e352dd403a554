"""From an `mne.io.Raw` to a `Recording`: names, types, positions, units and events made certain, or refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.config import IngestConfig, SourceConfig
from neuroloom.dims import UNITS
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import BRAIN, Array, Events, Recording
from neuroloom.signals.filters import window_sd
from neuroloom.signals.names import normalise_names, type_by_name
from neuroloom.signals.reading import RawStream, read_sidecar, site_files

GRADIENT_FACTOR = 100.0
logger = logging.getLogger(__name__)


def to_recording(
    raw: Any, *, path: Path, source: SourceConfig, config: IngestConfig
) -> tuple[Recording, dict[str, Any]]:
    """Standardise one recording.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    path : Path
        Named in errors.
    source : SourceConfig
        Montage, types, line frequency and scale that the file does not say.
    config : IngestConfig
        Plausible ranges.

    Returns
    -------
    recording : Recording
        All channels but triggers, in V, T or T/m; its signal is read when it is written.
    notes : dict
        What was changed: names in the file, dropped channels with reasons.

    Raises
    ------
    UnusableRecording
        Unknown electrodes, no positions, implausible units, nothing but flat channels.
    """
    _set_types(raw, path=path, source=source)
    events = read_events(raw)
    kept = [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind in UNITS]
    dropped = {name: raw.get_channel_types([name])[0] for name in raw.ch_names if name not in set(kept)}
    if not set(raw.get_channel_types(kept)) & set(BRAIN):
        raise UnusableRecording(path, "no EEG or MEG channel", "Set sources.<study>.types, or correct the sheet")
    in_file = list(kept)
    if dropped:
        raw.pick(kept)
    raw.rename_channels(dict(zip(in_file, normalise_names(in_file, file=path), strict=True)), allow_duplicates=False)
    _set_montage(raw, path=path, source=source)
    ch_types = raw.get_channel_types()
    factor_C = np.where(np.isin(ch_types, "eeg"), source.scale, 1.0)
    recording = Recording(
        signal_CT=RawStream(raw, path=path, factor_C=factor_C),
        sfreq=float(raw.info["sfreq"]),
        ch_names=list(raw.ch_names),
        ch_types=ch_types,
        units=[UNITS[kind] for kind in ch_types],
        status=["bad: marked in the file" if name in raw.info["bads"] else "good" for name in raw.ch_names],
        coil_C=np.array([int(ch["coil_type"]) & 0xFFFF for ch in raw.info["chs"]], np.int32),
        loc_C12=head_locations(raw.info),
        events=events,
        line_freq=source.line_freq or raw.info["line_freq"],
        reference=_reference(raw, path, source),
        scanner_t_r=None if {"mag", "grad"} & set(ch_types) else source.scanner_t_r,  # no helmet goes into one
        site_files={name: str(file) for name, file in site_files(path).items()},
    )
    check_positions(recording, path=path)
    check_units(recording, path=path, config=config)
    return recording, {"channel_names_in_file": in_file, "dropped_channels": dropped}


def _set_types(raw: Any, *, path: Path, source: SourceConfig) -> None:
    """Types from the config, then from names that speak for themselves where the file says EEG for everything."""
    if unknown := [name for name in source.types if name not in raw.ch_names]:
        found = f"no channel {', '.join(unknown)}; there are {', '.join(raw.ch_names)}"
        raise UnusableRecording(path, found, "Correct sources.<study>.types")
    said = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    guessed = {name: kind for name in said if said[name] == "eeg" and (kind := type_by_name(name))}
    raw.set_channel_types(guessed | source.types, on_unit_change="ignore", verbose="error")


def read_events(raw: Any) -> Events:
    """Annotations, or, without any, the trigger channels; onsets in s from the first sample."""
    import mne

    if len(raw.annotations):
        table = raw.annotations  # their zero is where the machine began to count, not the first sample kept
        onset, labels = np.asarray(table.onset) - raw.first_time, [str(text) for text in table.description]
        return Events(onset, np.asarray(table.duration), labels)
    if "stim" not in raw.get_channel_types():
        return Events.none()
    found = mne.find_events(raw, shortest_event=1, initial_event=False, verbose="error")
    onset = (found[:, 0] - raw.first_samp) / raw.info["sfreq"]
    return Events(onset, np.zeros(len(found)), [str(code) for code in found[:, 2]])


def _set_montage(raw: Any, *, path: Path, source: SourceConfig) -> None:
    """Template positions, only where the config names a montage and the file has none."""
    import mne

    is_eeg = np.array([kind == "eeg" for kind in raw.get_channel_types()])
    if source.montage is None or not np.isnan(head_locations(raw.info)[is_eeg, :3]).any():
        return
    electrodes = [name for name, eeg in zip(raw.ch_names, is_eeg, strict=True) if eeg]
    try:
        montage = mne.channels.make_standard_montage(source.montage)
    except ValueError as error:
        known = ", ".join(mne.channels.get_builtin_montages())
        raise UnusableRecording(path, f"montage {source.montage!r} is unknown", f"MNE knows {known}") from error
    if unknown := [name for name in electrodes if name not in montage.ch_names]:
        remedy = "Say what they are in sources.<study>.types (misc, eog, ...), or name the right montage"
        raise UnusableRecording(path, f"not in montage {source.montage}: {', '.join(unknown)}", remedy)
    raw.set_montage(montage, on_missing="ignore", verbose="error")


def head_locations(info: Any) -> Array:
    """Position and coil axes of each channel in the head frame, (C, 12); NaN where unknown.

    MEG coils are stored in the frame of the device; without a device-to-head transform (an empty room) they stay there.
    """
    from mne.io.constants import FIFF

    loc_C12 = np.array([ch["loc"][:12] for ch in info["chs"]], float)
    if info["dev_head_t"] is not None:
        rotation, shift = info["dev_head_t"]["trans"][:3, :3], info["dev_head_t"]["trans"][:3, 3]
        device = np.array([ch["coord_frame"] == FIFF.FIFFV_COORD_DEVICE for ch in info["chs"]])
        turned = (loc_C12[device].reshape(-1, 4, 3) @ rotation.T).reshape(-1, 12)
        turned[:, :3] += shift
        loc_C12[device] = turned
    loc_C12[~loc_C12[:, :3].any(axis=1)] = np.nan
    electrode = np.array([int(ch["coil_type"]) == int(FIFF.FIFFV_COIL_EEG) for ch in info["chs"]], bool)
    loc_C12[electrode, 3:] = np.nan  # MNE keeps the reference's position there
    return loc_C12.astype(np.float32)


def check_positions(recording: Recording, *, path: Path) -> None:
    """Refuse EEG or MEG channels without a position: every model downstream needs them."""
    picks = recording.picks(*BRAIN)
    lost = [recording.ch_names[at] for at in picks if np.isnan(recording.position_C3[at]).any()]
    if lost:
        remedy = (
            "Name a montage in sources.<study>.montage, add electrodes.tsv, or type them misc in sources.<study>.types"
        )
        raise UnusableRecording(path, f"no positions for {', '.join(lost)}", remedy)


def check_units(recording: Recording, *, path: Path, config: IngestConfig) -> None:
    """Refuse a recording whose amplitudes cannot be what the unit says.

    The measure is the median over channels of the median SD in 1 s, which drift and bursts do not move; gradients of a
    scanner do, by two orders of magnitude.
    """
    sd_C = window_sd(recording.signal_CT, recording.sfreq)
    low, high = config.plausible_eeg_uv
    eeg = (low, high * (GRADIENT_FACTOR if recording.scanner_t_r else 1))
    ranges = {"eeg": (1e6, *eeg, "µV"), "mag": (1e15, *config.plausible_meg_ft, "fT")}
    for ch_type, (factor, low, high, unit) in ranges.items():
        picks = recording.picks(ch_type)
        if not len(picks):
            continue
        sd = sd_C[picks] * factor
        if not np.nanmax(sd, initial=0.0) > 0:
            raise UnusableRecording(path, f"all {ch_type} channels are flat or missing", "Check the recording itself")
        if not low <= np.nanmedian(sd[sd > 0]) <= high:
            found = f"{ch_type} amplitude is {np.nanmedian(sd[sd > 0]):.3g} {unit} (plausible: {low:g} to {high:g})"
            remedy = "The unit in the file is wrong: set sources.<study>.scale (numbers in µV read as V: 1e-6)"
            if ch_type == "eeg" and not recording.scanner_t_r:
                remedy += "; or it was recorded in an MRI scanner: set sources.<study>.scanner_t_r"
            raise UnusableRecording(path, found, remedy)


def _reference(raw: Any, path: Path, source: SourceConfig) -> str:
    """What the study says, else the BIDS sidecar, else what MNE knows."""
    said = source.reference or read_sidecar(path).get("EEGReference")
    return str(said or ("average" if raw.info["custom_ref_applied"] else "unknown"))
