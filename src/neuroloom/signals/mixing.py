"""All that is done to channels at one moment, as one matrix: eyes, interpolation, reference, interference of MEG.

Each step is fitted on pieces of the filtered recording and is linear in the channels, so that the whole recording, of
any length, is cleaned by one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.records import BRAIN, Array, Recording
from neuroloom.signals.channels import interpolation_matrix
from neuroloom.signals.components import Components, find_components
from neuroloom.signals.magnetic import fit_magnetic
from neuroloom.signals.muscle import MuscleFit, fit_muscle
from neuroloom.signals.ocular import fit_ocular

MIN_GOOD_TO_INTERPOLATE = 4
MAGNETIC_S = 300.0


@dataclass(frozen=True)
class Mixing:
    """The matrix and what is in it.

    Attributes
    ----------
    matrix_CC : array
        Channels out by channels in, in the order of the recording.
    status : list of str
        Of each channel afterwards.
    ocular : list of float
        Correlation of each removed component with its eye channel.
    notes : list of str
        What was done, what could not be done, and why.
    muscle : MuscleFit
        What is to be taken out before, which is no matrix: it changes with time.
    """

    matrix_CC: Array
    status: list[str]
    ocular: list[float]
    notes: list[str]
    muscle: MuscleFit


def fit_mixing(
    recording: Recording,
    pieces: Sequence[Array],
    bads: dict[str, str],
    *,
    config: MeegConfig,
    rng: np.random.Generator,
) -> Mixing:
    """Fit all steps that the config asks for.

    Parameters
    ----------
    recording : Recording
        Names, types, positions and sampling rate; its signal is not read.
    pieces : sequence of array
        Filtered samples of all its channels.
    bads : dict
        Bad channel -> reason.
    config : MeegConfig
    rng : np.random.Generator
        Of this recording.
    """
    sample_CT = np.concatenate(pieces, axis=1)[:, : int(MAGNETIC_S * recording.sfreq)]
    method = "none" if config.magnetic == "tsss" else config.magnetic  # tSSS changes with time: it comes before
    files = {name: Path(path) for name, path in recording.site_files.items()}
    room = fit_magnetic(
        recording,
        sample_CT,
        bads,
        method=method,
        calibration=files.get("calibration"),
        cross_talk=files.get("cross_talk"),
    )
    seed = int(rng.integers(2**31))
    components = _components(recording, pieces, bads, config=config, seed=seed)
    eyes = fit_ocular(recording, pieces, bads, components, config=config)
    wanted = components if config.muscle == "ica" else components.only([])
    muscle = fit_muscle(recording, pieces, wanted, taken=eyes.chosen, h_freq=config.h_freq)
    matrix_CC = eyes.matrix_CC if room.matrix_CC is None else eyes.matrix_CC @ room.matrix_CC
    rebuilt = list(room.rebuilt)
    if config.interpolate:
        weights_CC, interpolated = interpolation(recording, [name for name in bads if name not in rebuilt])
        matrix_CC, rebuilt = weights_CC @ matrix_CC, rebuilt + interpolated
    status = [_status(name, bads, rebuilt) for name in recording.ch_names]
    if config.reference == "average":
        matrix_CC = average_reference(recording, status) @ matrix_CC
    notes = [room.note] if len(recording.picks("mag", "grad")) else []
    notes += [components.note, eyes.note, muscle.note]
    return Mixing(matrix_CC, status, eyes.correlations, [note for note in notes if note], muscle)


def _components(
    recording: Recording, pieces: Sequence[Array], bads: dict[str, str], *, config: MeegConfig, seed: int
) -> Components:
    """One decomposition, for eyes and muscle."""
    if "ica" not in (config.ocular, config.muscle):
        return Components.none(
            np.array([at for at in recording.picks("eeg") if recording.ch_names[at] not in bads], int)
        )
    return find_components(recording, pieces, bads, fast=config.muscle == "ica", seed=seed)


def interpolation(recording: Recording, bads: list[str]) -> tuple[Array, list[str]]:
    """Matrix that gives bad channels values from their neighbours, and the names of those that it does."""
    matrix_CC = np.eye(len(recording.ch_names))
    done: list[str] = []
    for ch_type in BRAIN:
        names = [recording.ch_names[at] for at in recording.picks(ch_type)]
        lost = [name for name in names if name in bads]
        if lost and len(names) - len(lost) >= MIN_GOOD_TO_INTERPOLATE:
            weights, bad_picks, good_picks = interpolation_matrix(recording, lost, ch_type)
            matrix_CC[bad_picks] = 0.0
            matrix_CC[np.ix_(bad_picks, good_picks)] = weights
            done += lost
    return matrix_CC, done


def average_reference(recording: Recording, status: Sequence[str]) -> Array:
    """Matrix that takes the mean of the usable EEG channels from all EEG channels."""
    matrix_CC = np.eye(len(recording.ch_names))
    eeg = recording.picks("eeg")
    usable = [at for at in eeg if not status[at].startswith("bad")]
    if usable:
        matrix_CC[np.ix_(eeg, usable)] -= 1 / len(usable)
    return matrix_CC


def _status(name: str, bads: dict[str, str], interpolated: list[str]) -> str:
    if name not in bads:
        return "good"
    return f"interpolated: {bads[name]}" if name in interpolated else f"bad: {bads[name]}"
