"""Channels as MNE sees them, and the interpolation of bad ones as a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuroloom.records import Array, Recording

MIN_ELECTRODES_OF_A_SPHERE = 8
HEAD_CENTRE = (0.0, 0.0, 0.04)  # m in the head frame


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
