"""MEG channels that do not fit the field of the others, with reasons."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.bads import robust_z
from neuroloom.signals.coils import COILS, centred, good_picks
from neuroloom.signals.maxwell import Expansion, coil_info, plan_expansion
from neuroloom.signals.projections import COILS_PER_FIELD

SAMPLES_PER_CHANNEL = 5
BADS_SECONDS = 20.0  # of pieces of 5 s; MNE finds the expansion anew for each


def find_meg_bads(
    recording: Recording, sample_CT: Array, bads: Collection[str], *, limit: float = 7.0
) -> dict[str, str]:
    """Channels that do not fit the field that the others see, with the reason.

    Strong interference hides a noisy channel from any look at its amplitude. Here counts what no combination of the
    other channels of its type explains; where there are twice as many coils as harmonics, also what MNE's
    `find_bad_channels_maxwell` does not find in the expansion (with fewer, the expansion fits any channel).

    Parameters
    ----------
    recording : Recording
        Names, types, coils, and the sampling rate of the sample.
    sample_CT : array
        Band-passed signal of all channels; its first 20 s are used.
    bads : collection of str
        Known already.
    limit : float
        SDs, robust or MNE's, from which a channel is bad.
    """
    sample_CT = sample_CT[:, : int(BADS_SECONDS * recording.sfreq)]
    found: dict[str, str] = {}
    for kind in COILS:
        picks = good_picks(recording, bads, kind)
        if len(picks) >= 2 * COILS_PER_FIELD and sample_CT.shape[1] >= SAMPLES_PER_CHANNEL * len(picks):
            found |= _misfits_of_the_others(recording, sample_CT, picks, limit)
    known = {*bads, *found}
    plan, _ = plan_expansion(recording, known)
    if plan is not None and plan.redundancy >= 2:
        found |= _misfits_of_the_expansion(recording, sample_CT, known, plan, limit)
    return found


def _misfits_of_the_expansion(
    recording: Recording, sample_CT: Array, bads: Collection[str], plan: Expansion, limit: float
) -> dict[str, str]:
    import mne

    info = coil_info(recording, plan.picks, bads)
    raw = mne.io.RawArray(sample_CT[plan.picks].astype(float), info, verbose="error")
    duration = min(5.0, raw.n_times / recording.sfreq)
    noisy, flat, scores = mne.preprocessing.find_bad_channels_maxwell(
        raw, limit=limit, duration=duration, min_count=2, h_freq=None, return_scores=True, **plan.options()
    )
    score = dict(zip(scores["ch_names"], scores["scores_noisy"], strict=True))
    reasons = {name: f"does not fit the field of the others ({np.nanmax(score[name]):.1f} SD)" for name in noisy}
    return reasons | {name: "flat (for 30 ms or more)" for name in flat}


def _misfits_of_the_others(recording: Recording, sample_CT: Array, picks: Array, limit: float) -> dict[str, str]:
    """The part of each channel that the others do not explain is one over the diagonal of the inverse covariance."""
    part_CT = centred(sample_CT[picks])
    scale_C = part_CT.std(axis=1)
    alive = scale_C > 0
    picks, part_CT = picks[alive], part_CT[alive] / scale_C[alive, None]
    covariance_CC = part_CT @ part_CT.T / part_CT.shape[1] + 1e-6 * np.eye(len(picks))
    left_C = scale_C[alive] / np.sqrt(np.diag(np.linalg.inv(covariance_CC)))
    unit, factor = ("fT", 1e15) if recording.ch_types[picks[0]] == "mag" else ("fT/cm", 1e13)
    reasons = {}
    for at, left in zip(picks, left_C, strict=True):
        z = robust_z(np.log(left), np.log(left_C))
        if z > limit:
            name, size = recording.ch_names[at], left * factor
            reasons[name] = f"does not fit the other channels ({size:.3g} {unit} unexplained, {z:.1f} robust SD)"
    return reasons
