"""Bad channels, with reasons.

A channel is bad by itself (missing, dead, flat, noisy, deviating) or by what it shares with the others: nothing
(uncorrelated), or everything (bridged by gel). Source: the PREP pipeline (Bigdely-Shamlo et al. 2015), with medians
over windows of the whole recording in place of its counts of bad windows.
"""

from __future__ import annotations

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.records import BRAIN, Array, Recording
from neuroloom.signals.filters import window_sd, window_starts
from neuroloom.signals.survey import Survey

SI_TO_SHOWN = {"eeg": 1e6, "mag": 1e15, "grad": 1e13}
SHOWN_UNIT = {"eeg": "µV", "mag": "fT", "grad": "fT/cm"}
MIN_CHANNELS_TO_COMPARE = 8
MIN_SPREAD = 0.1  # log units, 10 % in amplitude: channels that agree more closely than that are not outliers
MAX_WINDOWS = 120
ROUNDING = 1e-9  # µV or fT; what arithmetic leaves of zeros
QUIET_SHARE = 0.25  # of the others' SD, or they of a loud one's: beside the reference it is half, alpha is threefold


def find_bads(recording: Recording, found: Survey, sample_CT: Array, *, config: MeegConfig) -> dict[str, str]:
    """Bad channels of each type.

    Parameters
    ----------
    recording : Recording
        Names, types, the file's own marks, and the sampling rate of the sample.
    found : Survey
        Of the recording as read.
    sample_CT : array
        After notch and band-pass, so that mains and drift alone make no channel bad.
    config : MeegConfig

    Returns
    -------
    dict
        Channel name -> reason, with the figure found.
    """
    bads: dict[str, str] = {}
    sd_C = window_sd(sample_CT, recording.sfreq)
    for ch_type in BRAIN:
        picks = recording.picks(ch_type)
        for at in picks:
            if reason := _alone(recording, found, at, sd_C[at], config):
                bads[recording.ch_names[at]] = reason
        good = [at for at in picks if recording.ch_names[at] not in bads]
        bads |= {recording.ch_names[at]: why for at, why in _amplitudes(sd_C, good, ch_type, config).items()}
    eeg = [at for at in recording.picks("eeg") if recording.ch_names[at] not in bads]
    names = [recording.ch_names[at] for at in eeg]
    return (
        bads
        | _bridged(sample_CT[eeg], names, recording.sfreq, config)
        | _lonely(sample_CT[eeg], names, recording.sfreq, config)
    )


def _alone(recording: Recording, found: Survey, at: int, sd: float, config: MeegConfig) -> str | None:
    """What is wrong with a channel without a look at the others."""
    ch_type, status = recording.ch_types[at], recording.status[at]
    if status.startswith("bad: "):
        return status.removeprefix("bad: ")
    if found.missing_C[at] > config.max_nan_fraction:
        return f"missing ({found.missing_C[at]:.0%} of samples)"
    shown = sd * SI_TO_SHOWN[ch_type]
    if found.constant_C[at] or shown < ROUNDING:
        return "dead (constant)"
    if shown < (config.flat_uv if ch_type == "eeg" else config.flat_ft):
        return f"flat (SD {shown:.2g} {SHOWN_UNIT[ch_type]})"
    return None


def _amplitudes(sd_C: Array, picks: list[int], ch_type: str, config: MeegConfig) -> dict[int, str]:
    """Channels that are much louder or quieter than the others of their type."""
    if not picks:
        return {}
    log_sd = np.log(sd_C[picks])
    quiet, loud = float(np.median(log_sd)) + np.log(QUIET_SHARE), float(np.median(log_sd)) - np.log(QUIET_SHARE)
    bads = {}
    for at, value in zip(picks, log_sd, strict=True):
        z = robust_z(value, log_sd)
        noisy, silent = z > config.noisy_z and value > loud, z < -config.noisy_z and value < quiet
        word = "noisy" if noisy else "deviating" if silent else None
        if word:
            side = "above" if z > 0 else "below"
            shown = f"SD {sd_C[at] * SI_TO_SHOWN[ch_type]:.3g} {SHOWN_UNIT[ch_type]}"
            bads[at] = f"{word} ({shown}, {abs(z):.1f} robust SD {side} the others)"
    return bads


def robust_z(value: float, sample: Array) -> float:
    """Distance from the median in robust SDs (1.4826 x MAD), which are not taken below `MIN_SPREAD`."""
    middle = float(np.median(sample))
    spread = 1.4826 * float(np.median(np.abs(sample - middle)))
    return (float(value) - middle) / max(spread, MIN_SPREAD)


def _bridged(sample_CT: Array, names: list[str], sfreq: float, config: MeegConfig) -> dict[str, str]:
    """Electrodes that gel has joined: the SD of their difference is a small share of their own SD."""
    if config.bridged_share is None or len(names) < 2:
        return {}
    difference_CC, sd_C = _median_covariances(sample_CT, sfreq)
    share_CC = difference_CC / np.minimum.outer(sd_C, sd_C)
    np.fill_diagonal(share_CC, np.inf)
    nearest = share_CC.argmin(axis=1)
    return {
        name: f"bridged with {names[nearest[at]]} (their difference has {share_CC[at, nearest[at]]:.1%} of the SD)"
        for at, name in enumerate(names)
        if share_CC[at, nearest[at]] < config.bridged_share
    }


def _median_covariances(sample_CT: Array, sfreq: float) -> tuple[Array, Array]:
    """Medians over windows of 1 s: SD of the difference of each pair (C, C), and SD of each channel (C,)."""
    covariance_WCC = np.stack([np.cov(window_CT) for window_CT in _windows(sample_CT, sfreq)])
    variance_WC = np.diagonal(covariance_WCC, axis1=1, axis2=2)
    difference_WCC = variance_WC[:, :, None] + variance_WC[:, None, :] - 2 * covariance_WCC
    return np.sqrt(np.maximum(np.median(difference_WCC, axis=0), 0)), np.sqrt(np.median(variance_WC, axis=0))


def _lonely(sample_CT: Array, names: list[str], sfreq: float, config: MeegConfig) -> dict[str, str]:
    """Channels that go with no other: on a head, neighbours see the same sources."""
    if config.uncorrelated is None or len(names) < MIN_CHANNELS_TO_COMPARE:
        return {}
    best_WC = []
    for window_CT in _windows(sample_CT, sfreq):
        r_CC = np.abs(np.nan_to_num(np.corrcoef(window_CT)))
        np.fill_diagonal(r_CC, 0.0)
        best_WC.append(np.partition(r_CC, -2, axis=1)[:, -2:].mean(axis=1))  # two, so that a chance match is none
    best_C = np.median(best_WC, axis=0)
    return {
        name: f"uncorrelated (r {best_C[at]:.2f} with the two that are closest to it)"
        for at, name in enumerate(names)
        if best_C[at] < config.uncorrelated
    }


def _windows(sample_CT: Array, sfreq: float) -> list[Array]:
    length = max(min(int(sfreq), sample_CT.shape[1]), 2)
    return [sample_CT[:, at : at + length] for at in window_starts(sample_CT.shape[1], length, MAX_WINDOWS)]
