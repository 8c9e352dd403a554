"""Scans of made people under two caps: parcels whose alpha power BOLD follows, and one that follows nothing."""

from __future__ import annotations

from functools import cache

import numpy as np

from neuroloom.bold.hrf import hrf_response, read_at
from neuroloom.bold.parcels import template_parcels
from neuroloom.config import RecordingRow
from neuroloom.records import Confounds
from neuroloom.study.sensors import ELECTRODES, head, orientations
from neuroloom.study.sources import coloured_noise
from neuroloom.synthesis.head_model import leadfield
from neuroloom.synthesis.pairs import Pair
from neuroloom.synthesis.scans import Scan

N_PARCELS, SFREQ, RATE, HIDDEN = 8, 100.0, 10.0, 2  # the parcel that EEG cannot see
CAPS = {"north": 19, "south": 32}
NAMES = [f"p{at}" for at in range(N_PARCELS)]


@cache
def centroids() -> np.ndarray:
    return template_parcels(N_PARCELS).centroid_P3


@cache
def cortex() -> np.ndarray:
    """One direction for each parcel, the same in all people."""
    from neuroloom.study.sensors import source_positions

    return orientations(source_positions(centroids()), np.random.default_rng(0))


def made_scan(
    site: str, subject: int, *, duration: float = 150.0, t_r: float = 2.0, lag: float = 0.0, session: str | None = None
) -> Scan:
    """EEG and BOLD of one person: the drive of BOLD is minus the power of 10 Hz in each parcel."""
    rng = np.random.default_rng([ord(site[0]), subject, len(session or "")])
    n_grid, n_times = int(duration * RATE), int(duration * SFREQ)
    power_PG = np.exp(0.8 * coloured_noise(rng, N_PARCELS, n_grid, RATE, exponent=0.5, h_freq=0.1).astype(float))
    time_T, grid_G = np.arange(n_times) / SFREQ, np.arange(n_grid) / RATE
    alpha_PT = coloured_noise(rng, N_PARCELS, n_times, SFREQ, l_freq=8.5, h_freq=12.5)
    source_PT = 20e-9 * alpha_PT * np.stack([np.interp(time_T, grid_G, np.sqrt(one_G)) for one_G in power_PG])
    names = ELECTRODES[CAPS[site]].split()
    places = head().montage.get_positions()["ch_pos"]
    position_C3 = np.stack([places[name] for name in names])
    gain_CP = np.einsum("cpk,pk->cp", leadfield(position_C3, centroids()), cortex())
    signal_CT = gain_CP @ source_PT + 0.5e-6 * rng.standard_normal((len(names), n_times))
    onset_V = 3.0 + t_r * np.arange(int((duration - 4) / t_r))
    drive_PG = -power_PG / power_PG.mean(axis=1, keepdims=True)
    drive_PG[HIDDEN] = drive_PG.std() * coloured_noise(rng, 1, n_grid, RATE, exponent=0.5, h_freq=0.1)[0]
    bold_PV = read_at(hrf_response(drive_PG, rate=RATE, lag=lag), rate=RATE, time_V=onset_V)
    bold_PV = bold_PV / bold_PV.std(axis=1, keepdims=True) + 0.3 * rng.standard_normal(bold_PV.shape)
    motion_V1 = np.cumsum(0.01 * rng.standard_normal((len(onset_V), 1)), axis=0)
    pair = made_pair(site, subject, session)
    return Scan(
        name=pair.name,
        study="s",
        participant=f"s/{site}/{subject:02d}",
        site=site,
        session=session,
        task="rest",
        run=None,
        signal_CT=signal_CT.astype(np.float32),
        sfreq=SFREQ,
        ch_names=names,
        position_C3=position_C3,
        onset_V=onset_V,
        bold_PV=bold_PV.astype(np.float32),
        kept_V=np.ones(len(onset_V), bool),
        t_r=t_r,
        parcels=list(NAMES),
        centroid_P3=centroids(),
        confounds=Confounds(["trans_x"], motion_V1.astype(np.float32)),
        rejected_N2=np.zeros((0, 2)),
    )


def made_pair(site: str, subject: int, session: str | None = None) -> Pair:
    facts = {"study": "s", "site": site, "subject": f"{subject:02d}", "session": session, "task": "rest", "path": "x"}
    eeg, bold = (RecordingRow(**facts, modality=modality) for modality in ("eeg", "bold"))
    return Pair(eeg.recording.removesuffix("_eeg"), eeg, bold)


@cache
def made_study(n_people: int = 4) -> tuple[tuple[Pair, ...], tuple[Scan, ...]]:
    """Pairs and scans of some people at both sites."""
    people = [(site, subject) for site in CAPS for subject in range(n_people)]
    return tuple(made_pair(*one) for one in people), tuple(made_scan(*one) for one in people)
