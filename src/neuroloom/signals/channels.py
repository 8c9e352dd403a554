"""Bad channels with reasons, and their interpolation as a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.records import Array, Recording
from neuroloom.signals.ingest import BRAIN, window_sd

MIN_ELECTRODES_OF_A_SPHERE = 8
HEAD_CENTRE = (0.0, 0.0, 0.04)  # m in the head frame
FLAT_UNITS = {"eeg": 1e6, "mag": 1e15, "grad": 1e13}


def fill_gaps(signal_CT: Array) -> Array:
    """Missing samples (NaN) filled by a straight line between their neighbours; a channel of NaN becomes zero."""
    if not np.isnan(signal_CT).any():
        return signal_CT
    filled_CT = signal_CT.copy()
    times = np.arange(signal_CT.shape[1])
    for signal_T in filled_CT:
        lost = np.isnan(signal_T)
        if lost.all():
            signal_T[:] = 0.0
        elif lost.any():
            signal_T[lost] = np.interp(times[lost], times[~lost], signal_T[~lost])
    return filled_CT


def find_bads(recording: Recording, raw_CT: Array, filtered_CT: Array, *, config: MeegConfig) -> dict[str, str]:
    """Bad channels of each type, with the reason.

    Parameters
    ----------
    recording : Recording
        For names, types and the file's own marks.
    raw_CT : array
        As read, NaN where samples are missing.
    filtered_CT : array
        After notch and band-pass, so that mains and drift alone make no channel bad.

    Returns
    -------
    dict
        Channel name -> reason: `marked in the file`, `missing`, `dead`, `flat` or `noisy`, with the figure found.
    """
    bads: dict[str, str] = {}
    sd_C = window_sd(filtered_CT, recording.sfreq)
    for ch_type in BRAIN:
        picks = recording.picks(ch_type)
        reference = sd_C[picks][sd_C[picks] * FLAT_UNITS[ch_type] >= _flat(ch_type, config)]
        for at in picks:
            reason = _marked(recording.status[at]) or _reason(raw_CT[at], sd_C[at], reference, ch_type, config)
            if reason:
                bads[recording.ch_names[at]] = reason
    return bads


def _flat(ch_type: str, config: MeegConfig) -> float:
    return config.flat_uv if ch_type == "eeg" else config.flat_ft


def _marked(status: str) -> str | None:
    return status.removeprefix("bad: ") if status.startswith("bad: ") else None


def _reason(raw_T: Array, sd: float, reference: Array, ch_type: str, config: MeegConfig) -> str | None:
    lost = float(np.isnan(raw_T).mean())
    if lost > config.max_nan_fraction:
        return f"missing ({lost:.0%} of samples)"
    if np.nanmax(raw_T) == np.nanmin(raw_T):
        return "dead (constant)"
    unit = {"eeg": "µV", "mag": "fT", "grad": "fT/cm"}[ch_type]
    if sd * FLAT_UNITS[ch_type] < _flat(ch_type, config):
        return f"flat (SD {sd * FLAT_UNITS[ch_type]:.2g} {unit})"
    z = robust_z(np.log(sd), np.log(reference))
    return (
        f"noisy (SD {sd * FLAT_UNITS[ch_type]:.3g} {unit}, {z:.1f} robust SD above the others)"
        if z > config.noisy_z
        else None
    )


def robust_z(value: float, sample: Array) -> float:
    """Distance from the median in robust SDs (1.4826 x MAD).

    The SD is not taken below 0.1 (10 % in amplitude): channels that agree more closely than that are not outliers.
    """
    middle = float(np.median(sample))
    spread = 1.4826 * float(np.median(np.abs(sample - middle)))
    return (float(value) - middle) / max(spread, 0.1)


def to_info(recording: Recording, picks: Array) -> Any:
    """`mne.Info` of some channels of a recording, in the head frame, with electrode positions as digitised points."""
    import mne
    from mne.io.constants import FIFF

    names = [recording.ch_names[at] for at in picks]
    info = mne.create_info(names, recording.sfreq, [recording.ch_types[at] for at in picks])
    electrodes = {
        recording.ch_names[at]: recording.position_C3[at].astype(float)
        for at in picks
        if recording.ch_types[at] == "eeg"
    }
    if electrodes:
        montage = mne.channels.make_dig_montage(electrodes, coord_frame="head")
        info.set_montage(montage, on_missing="ignore", verbose="error")
    for ch, at in zip(info["chs"], picks, strict=True):
        if recording.ch_types[at] in ("mag", "grad"):
            ch["loc"][:] = recording.loc_C12[at]
            ch["coil_type"], ch["coord_frame"] = int(recording.coil_C[at]), FIFF.FIFFV_COORD_HEAD
    return info


def interpolation_matrix(recording: Recording, bads: list[str], ch_type: str) -> tuple[Array, Array, Array]:
    """Weights that give the bad channels of one type from its good ones.

    MNE's interpolation (spherical splines for EEG, minimum-norm fields for MEG) is linear in the good channels, so
    interpolating unit impulses yields its matrix once, and any length of signal is a product.

    Returns
    -------
    weights : array (bad, good)
    bad_picks, good_picks : int arrays
        Channel indices.
    """
    import mne

    picks = recording.picks(ch_type)
    is_bad = np.array([recording.ch_names[at] in set(bads) for at in picks], bool)
    good, bad = picks[~is_bad], picks[is_bad]
    info = to_info(recording, picks)
    info["bads"] = [recording.ch_names[at] for at in bad]
    impulses = np.zeros((len(picks), max(len(good), 1)))
    impulses[~is_bad] = np.eye(len(good))
    raw = mne.io.RawArray(impulses, info, verbose="error")
    # a sphere is fitted to the electrodes; a few of them, or coils, do not determine one
    origin = "auto" if ch_type == "eeg" and len(picks) >= MIN_ELECTRODES_OF_A_SPHERE else HEAD_CENTRE
    raw.interpolate_bads(reset_bads=False, origin=origin, verbose="error")
    return raw.get_data()[is_bad].astype(np.float32), bad, good
