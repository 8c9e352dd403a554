"""Scrubbing: volumes during which the head moved too much do not count (Power et al. 2014, NeuroImage 84, 320)."""

from __future__ import annotations

import numpy as np

from neuroloom.bold.confounds import motion_displacement, with_columns
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds

CENSORED = "censored"


def censored_volumes(confounds: Confounds, *, config: BoldConfig, file: str) -> tuple[Array, list[str]]:
    """Volumes whose framewise displacement exceeds `config.max_fd`, (V,) bool, and why none could be found.

    Raises
    ------
    UnusableRecording
        If more than the share `config.max_censored` goes, or fewer than `config.min_volumes` volumes stay.
    """
    n_volumes = len(confounds.values_VM)
    censored_V = np.zeros(n_volumes, bool)
    if config.max_fd is None:
        return censored_V, []
    fd_V = motion_displacement(confounds)
    if fd_V is None:
        return censored_V, ["no volume censored: without motion parameters FD is not known"]
    censored_V = np.nan_to_num(fd_V) > config.max_fd
    n_censored = int(censored_V.sum())
    if n_censored > config.max_censored * n_volumes or n_volumes - n_censored < config.min_volumes:
        reason = f"{n_censored} of {n_volumes} volumes moved by more than {config.max_fd:g} mm (max_fd)"
        remedy = "The head moved too much: leave the recording out, or raise max_fd or max_censored"
        raise UnusableRecording(file, reason, remedy)
    return censored_V, []


def with_censored(confounds: Confounds, censored_V: Array) -> Confounds:
    """The table with the column `censored` (1 where a volume does not count), by which later stages leave it out."""
    return with_columns(confounds, [CENSORED], censored_V[:, None].astype(np.float32))


def kept_volumes(confounds: Confounds) -> Array:
    """Volumes that count, (V,) bool: all where nothing was censored."""
    if CENSORED not in confounds.names:
        return np.ones(len(confounds.values_VM), bool)
    return confounds.values_VM[:, confounds.names.index(CENSORED)] == 0
