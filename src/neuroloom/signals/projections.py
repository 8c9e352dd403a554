"""Patterns of interference projected out of MEG: homogeneous fields, or components of loud seconds."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.coils import COILS, centred, good_picks, mean_power
from neuroloom.signals.maxwell import coil_info, unknown_coils

MAX_PROJECTED = 3
MIN_SHARE = 0.1
COILS_PER_FIELD = 4
LOUD = 0.2  # share of seconds that count as dominated by interference
MIN_LOUDNESS = 2.0  # their power over that of the median second
NULL = 1e-6
# FIFF coil types: planar, Neuromag-122 and Vectorview; axial and references of Magnes, CTF and KIT
GRADIOMETERS = (2, 3011, 3012, 3013, 3014, 4002, 4004, 4005, 5001, 5003, 5004, 6001)


def hfc_matrix(
    recording: Recording, bads: Collection[str], *, order: int, before_CC: Array | None = None
) -> tuple[Array | None, str]:
    """Project out the fields of far sources, each coil type by itself.

    Source: Tierney et al. 2021, NeuroImage 244:118484 (order 1); 2022, NeuroImage 258:119338 (higher orders); the
    fields are those of `mne.preprocessing.compute_proj_hfc`.

    Parameters
    ----------
    order : int
        1 homogeneous, 2 with gradients.
    before_CC : array, optional
        What the signal was multiplied with before, so that the fields are as they arrive.

    Returns
    -------
    matrix_CC : array or None
        None where geometry is unknown or there are too few coils for the fields.
    note : str
    """
    import mne

    picks = good_picks(recording, bads, *COILS)
    if lost := unknown_coils(recording, picks):
        return None, f"no homogeneous field correction: no geometry of {', '.join(lost[:5])}"
    references = good_picks(recording, bads, "ref_meg")
    lost = unknown_coils(recording, references)
    picks = np.sort([*picks, *(at for at in references if recording.ch_names[at] not in lost)])
    info = coil_info(recording, picks)
    projections = mne.preprocessing.compute_proj_hfc(info, order=order, picks=np.arange(len(picks)), verbose="error")
    field_CH = np.zeros((len(recording.ch_names), len(projections)))
    field_CH[picks] = np.concatenate([part["data"]["data"] for part in projections]).T
    if not _sees_homogeneous(recording, picks):
        field_CH = field_CH[:, 3:]
    arriving_CH = field_CH if before_CC is None else before_CC @ field_CH
    return project(recording, bads, {kind: arriving_CH for kind in COILS}, f"fields to order {order}")


def ssp_matrix(
    sample_CT: Array,
    recording: Recording,
    bads: Collection[str],
    *,
    n_components: int = MAX_PROJECTED,
) -> tuple[Array | None, str]:
    """Project out the main components of interference, each coil type by itself.

    Components come from the loudest fifth of the seconds, if they are at least twice as strong as the median second;
    each must explain a tenth of the variance there (Uusitalo and Ilmoniemi 1997, Med. Biol. Eng. Comput. 35:135).
    Without an empty room a strong rhythm may pass for interference, hence the few components.

    Parameters
    ----------
    sample_CT : array
        Band-passed signal of all channels of the recording.
    n_components : int
        The most to remove; never more than three.
    """
    found: dict[str, Array] = {}
    for kind in COILS:
        picks = good_picks(recording, bads, kind)
        if len(picks) < COILS_PER_FIELD:
            continue
        part_CT = _loudest(centred(sample_CT[picks]), recording.sfreq)
        if not part_CT.size:
            continue
        vectors, values, _ = np.linalg.svd(part_CT @ part_CT.T)
        enough = values / values.sum() >= MIN_SHARE
        n_kept = min(int(enough.sum()), n_components, MAX_PROJECTED)
        found[kind] = np.zeros((len(recording.ch_names), n_kept))
        found[kind][picks] = vectors[:, :n_kept]
    if not any(vectors.shape[1] for vectors in found.values()):
        return None, "no projection: no second stands out, or no component explains a tenth of those that do"
    return project(recording, bads, found, "components of the recording's loud seconds")


def project(
    recording: Recording, bads: Collection[str], pattern: dict[str, Array], words: str
) -> tuple[Array | None, str]:
    """Projector onto what is orthogonal to some patterns (C, H), in the good channels of each coil type."""
    matrix_CC = np.eye(len(recording.ch_names))
    done, refused = [], []
    for kind, pattern_CH in pattern.items():
        picks = good_picks(recording, bads, kind)
        seen_CH = pattern_CH[:, np.linalg.norm(pattern_CH[picks], axis=0) > NULL * np.linalg.norm(pattern_CH, axis=0)]
        n_fields = seen_CH.shape[1]
        if not n_fields:
            continue
        if len(picks) < COILS_PER_FIELD * n_fields:
            refused.append(f"{len(picks)} good {kind} are too few for {n_fields} patterns")
            continue
        left_CH, size_H, _ = np.linalg.svd(seen_CH[picks] / np.linalg.norm(seen_CH[picks], axis=0), full_matrices=False)
        base_CH = left_CH[:, size_H > NULL * size_H[0]]
        matrix_CC[np.ix_(picks, picks)] -= base_CH @ base_CH.T
        done.append(f"{base_CH.shape[1]} from {len(picks)} {kind}")
    if not done:
        return None, f"nothing projected out: {'; '.join(refused) or 'no coil sees a pattern'}"
    return matrix_CC, "; ".join([f"{words} projected out ({', '.join(done)})", *refused])


def _sees_homogeneous(recording: Recording, picks: Array) -> bool:
    """Whether any coil answers to a homogeneous field; the answer of gradiometers is a rounding error."""
    return bool((~np.isin(recording.coil_C[picks], GRADIOMETERS)).any())


def _loudest(signal_CT: Array, sfreq: float) -> Array:
    """The loudest fifth of the seconds; nothing where they are hardly louder than the median second."""
    length = max(int(sfreq), 1)
    starts = np.arange(0, signal_CT.shape[1] - length + 1, length)
    power_T = mean_power(signal_CT)
    power_W = np.array([power_T[start : start + length].mean() for start in starts])
    if not len(starts):
        return signal_CT[:, :0]
    loud = starts[power_W >= np.quantile(power_W, 1 - LOUD)]
    if power_W[np.isin(starts, loud)].mean() < MIN_LOUDNESS * np.median(power_W):
        return signal_CT[:, :0]
    return np.concatenate([signal_CT[:, start : start + length] for start in loud], axis=1)
