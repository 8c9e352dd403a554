"""External interference out of MEG: reference coils, signal space separation, homogeneous fields or projections.

Each method is linear and does not change with time, so each is a matrix over all channels of the recording, found once
and multiplied with any length of signal. Which one an array allows is a matter of its coils (`choose_method`):
signal space separation where the helmet tells inner from outer fields, the reference coils where there are some.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.filters import welch_psd
from neuroloom.signals.maxwell import Expansion, coil_info, maxwell_matrix, plan_expansion, unknown_coils

Method = Literal["maxwell", "reference", "hfc", "ssp", "none"]
COILS = ("mag", "grad")
MIN_REFERENCES = 3
RIDGE = 5.0  # times the power of the references' own noise
TRIMMED = 0.05  # share of seconds that fit the references worst
MAX_PROJECTED = 3
MIN_SHARE = 0.1
COILS_PER_FIELD = 4
LOUD = 0.2  # share of seconds that count as dominated by interference
MIN_LOUDNESS = 2.0  # their power over that of the median second
NULL = 1e-6
# FIFF coil types: planar, Neuromag-122 and Vectorview; axial and references of Magnes, CTF and KIT
GRADIOMETERS = (2, 3011, 3012, 3013, 3014, 4002, 4004, 4005, 5001, 5003, 5004, 6001)


@dataclass(frozen=True)
class MagneticFit:
    """What takes interference out of one recording.

    Attributes
    ----------
    matrix_CC : float32 array or None
        Multiplies all channels; rows of other types and of references are those of the identity. None where nothing
        is done.
    method : str
    note : str
        What was done, and why this way.
    rebuilt : list of str
        Bad channels whose values the matrix makes from the others.
    explained : dict
        Share of the sample's variance that goes, median channel of each coil type.
    """

    matrix_CC: Array | None
    method: Method
    note: str
    rebuilt: list[str] = field(default_factory=list)
    explained: dict[str, float] = field(default_factory=dict)


def fit_magnetic(
    recording: Recording,
    sample_CT: Array,
    bads: Collection[str],
    *,
    method: str = "auto",
    order: int = 1,
    n_components: int = MAX_PROJECTED,
    origin: tuple[float, float, float] | None = None,
    calibration: Path | None = None,
    cross_talk: Path | None = None,
) -> MagneticFit:
    """Find the matrix that cleans a recording.

    Where there are reference coils they are regressed out before fields or components are projected out. Signal space
    separation is done alone: it describes outer fields as the bare coils see them.

    Parameters
    ----------
    recording : Recording
        For coils, names and types.
    sample_CT : array
        Band-passed signal of all its channels, some minutes at most; any rate.
    bads : collection of str
        Left out of all fits.
    method : str
        A `Method`, or `auto`.
    order : int
        Of the fields that `hfc` removes: 1 homogeneous, 2 with gradients.
    n_components : int
        Most components of each coil type that `ssp` removes.
    origin, calibration, cross_talk
        See `maxwell_matrix`.

    Raises
    ------
    ValueError
        If the method is unknown.
    """
    regressed_CC, regression = None, ""
    if method not in ("maxwell", "none") and len(recording.picks("ref_meg")):
        regressed_CC, regression = reference_matrix(sample_CT, recording, bads)
    chosen, why, plan = _choose(recording, bads, method, origin, references_serve=regressed_CC is not None)
    rebuilt: list[str] = []
    if chosen == "maxwell":
        files = {"calibration": calibration, "cross_talk": cross_talk}
        matrix_CC, note = maxwell_matrix(recording, bads, origin=origin, plan=plan, **files)
        if matrix_CC is not None:
            rebuilt = [recording.ch_names[at] for at in recording.picks(*COILS) if recording.ch_names[at] in bads]
    elif chosen == "hfc":
        matrix_CC, note = _after(regressed_CC, hfc_matrix(recording, bads, order=order, before_CC=regressed_CC))
    elif chosen == "ssp":
        left_CT = sample_CT if regressed_CC is None else regressed_CC @ sample_CT
        matrix_CC, note = _after(regressed_CC, ssp_matrix(left_CT, recording, bads, n_components=n_components))
    else:
        matrix_CC, note = (regressed_CC, "") if chosen == "reference" else (None, "")
        regression = regression or ("no regression: no reference coils" if chosen == "reference" else "")
    note = "; ".join(text for text in (why, regression, note) if text)
    if matrix_CC is None:
        return MagneticFit(None, "none", note)
    explained = _explained(recording, sample_CT, matrix_CC, bads)
    return MagneticFit(matrix_CC.astype(np.float32), chosen, note, rebuilt, explained)


def choose_method(recording: Recording, bads: Collection[str], wanted: str) -> tuple[Method, str]:
    """Which method to take, and why.

    `auto` takes reference coils first, because they see the interference and not the brain; then signal space
    separation; then homogeneous fields, which cost brain signal where there are few coils; then projections.
    `fit_magnetic` goes on to the next one where the sample is too short for the references.

    Raises
    ------
    ValueError
        If the wanted method is unknown.
    """
    n_references = len(good_picks(recording, bads, "ref_meg"))
    return _choose(recording, bads, wanted, None, references_serve=n_references >= MIN_REFERENCES)[:2]


def _choose(
    recording: Recording,
    bads: Collection[str],
    wanted: str,
    origin: tuple[float, float, float] | None,
    *,
    references_serve: bool,
) -> tuple[Method, str, Expansion | None]:
    """With the expansion, where it had to be found to choose: that takes seconds."""
    if wanted in get_args(Method):
        return wanted, "", None  # type: ignore[return-value]
    if wanted != "auto":
        raise ValueError(f"unknown method {wanted!r}; use auto, {', '.join(get_args(Method))}")
    picks = recording.picks(*COILS)
    if not len(picks):
        return "none", "no MEG coils", None
    if references_serve:
        return "reference", "", None
    plan, note = plan_expansion(recording, bads, origin=origin)
    if plan is not None:
        return "maxwell", "no reference coils that serve", plan
    return ("ssp" if unknown_coils(recording, picks) else "hfc"), f"no reference coils that serve; {note}", None


def reference_matrix(sample_CT: Array, recording: Recording, bads: Collection[str]) -> tuple[Array | None, str]:
    """Least-squares share of the reference coils in each MEG channel, subtracted.

    Weights are found twice; the second time without the seconds that fitted worst, so that an artefact of the helmet
    weighs little. A ridge in units of the references' own noise lets the weights vanish in a quiet room, where the
    little that references see of the brain would otherwise be taken for interference.

    Returns
    -------
    matrix_CC : array or None
        None where there are fewer than three good references, or the sample is too short for so many.
    note : str
        Median share of variance explained in each coil type.
    """
    references = [at for at in good_picks(recording, bads, "ref_meg") if sample_CT[at].std() > 0]
    if len(references) < MIN_REFERENCES:
        return None, f"no regression: {len(references)} good reference coils, {MIN_REFERENCES} needed"
    targets = good_picks(recording, bads, *COILS)
    given_CT, wanted_CT = centred(sample_CT[references]), centred(sample_CT[targets])
    held_out = _held_out(given_CT, wanted_CT, recording.sfreq)
    if held_out < 0:
        return (
            None,
            f"no regression: what {len(references)} references explain in one half of it, they do not in the other",
        )
    matrix_CC = np.eye(len(recording.ch_names))
    matrix_CC[np.ix_(targets, references)] = -_trimmed_weights(given_CT, wanted_CT, recording.sfreq)
    explained = _explained(recording, sample_CT, matrix_CC, bads)
    shares = ", ".join(f"{share:.0%} of {kind}" for kind, share in explained.items())
    note = f"{len(references)} reference coils regressed out ({shares} variance; {held_out:.0%} in halves not fitted)"
    return matrix_CC, note


def _trimmed_weights(given_CT: Array, wanted_CT: Array, sfreq: float) -> Array:
    """Weights without the seconds that fit them worst."""
    weights_CC = _ridge(given_CT, wanted_CT, sfreq)
    misfit_T = _standard(wanted_CT - weights_CC @ given_CT)
    seconds = np.array_split(np.arange(len(misfit_T)), max(len(misfit_T) // max(int(sfreq), 1), 1))
    misfit_W = np.array([misfit_T[second].mean() for second in seconds])
    limit = np.quantile(misfit_W, 1 - TRIMMED)
    kept = np.concatenate([second for second, misfit in zip(seconds, misfit_W, strict=True) if misfit <= limit])
    return _ridge(given_CT[:, kept], wanted_CT[:, kept], sfreq)


def _held_out(given_CT: Array, wanted_CT: Array, sfreq: float) -> float:
    """Share of variance that goes from each half with the weights of the other one, median channel.

    Many references and a short sample explain anything, by chance; that does not carry over.
    """
    middle = given_CT.shape[1] // 2
    left_CT = np.empty_like(wanted_CT)
    for fitted, judged in ((slice(None, middle), slice(middle, None)), (slice(middle, None), slice(None, middle))):
        weights_CC = _ridge(given_CT[:, fitted], wanted_CT[:, fitted], sfreq)
        left_CT[:, judged] = wanted_CT[:, judged] - weights_CC @ given_CT[:, judged]
    power_C = np.maximum((wanted_CT**2).sum(axis=1), np.finfo(float).tiny)
    return float(np.median(1 - (left_CT**2).sum(axis=1) / power_C))


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
    return _project(recording, bads, {kind: arriving_CH for kind in COILS}, f"fields to order {order}")


def ssp_matrix(
    sample_CT: Array,
    recording: Recording,
    bads: Collection[str],
    *,
    n_components: int = MAX_PROJECTED,
    empty_room: bool = False,
) -> tuple[Array | None, str]:
    """Project out the main components of interference, each coil type by itself.

    Components come from an empty room, or from the loudest fifth of the seconds, if they are at least twice as strong
    as the median second; each must explain a tenth of the variance there (Uusitalo and Ilmoniemi 1997, Med. Biol. Eng.
    Comput. 35:135). Without an empty room a strong rhythm may pass for interference, hence the few components.

    Parameters
    ----------
    sample_CT : array
        Band-passed signal of all channels of the recording.
    n_components : int
        The most to remove; never more than three.
    empty_room : bool
        Whether the sample is one.
    """
    found: dict[str, Array] = {}
    for kind in COILS:
        picks = good_picks(recording, bads, kind)
        if len(picks) < COILS_PER_FIELD:
            continue
        part_CT = centred(sample_CT[picks])
        part_CT = part_CT if empty_room else _loudest(part_CT, recording.sfreq)
        if not part_CT.size:
            continue
        vectors, values, _ = np.linalg.svd(part_CT @ part_CT.T)
        enough = values / values.sum() >= MIN_SHARE
        n_kept = min(int(enough.sum()), n_components, MAX_PROJECTED)
        found[kind] = np.zeros((len(recording.ch_names), n_kept))
        found[kind][picks] = vectors[:, :n_kept]
    if not any(vectors.shape[1] for vectors in found.values()):
        return None, "no projection: no second stands out, or no component explains a tenth of those that do"
    return _project(recording, bads, found, "components of the recording's loud seconds")


def good_picks(recording: Recording, bads: Collection[str], *kinds: str) -> Array:
    """Channels of some types that are not bad."""
    return np.array([at for at in recording.picks(*kinds) if recording.ch_names[at] not in bads], int)


def centred(signal_CT: Array) -> Array:
    """In double precision, without the mean of each channel."""
    signal_CT = np.asarray(signal_CT, np.float64)
    return signal_CT - signal_CT.mean(axis=1, keepdims=True)


def _standard(signal_CT: Array) -> Array:
    """Mean square over channels, each with the same weight, (T,)."""
    power_C1 = np.mean(signal_CT**2, axis=1, keepdims=True)
    return np.mean(signal_CT**2 / np.where(power_C1 > 0, power_C1, 1.0), axis=0)


def _ridge(given_CT: Array, wanted_CT: Array, sfreq: float) -> Array:
    """Weights (wanted, given) of a regression that shrinks with the share of noise in what is given."""
    power_C = np.mean(given_CT**2, axis=1)
    gram_CC = given_CT @ given_CT.T / given_CT.shape[1]
    shrunk_CC = gram_CC + RIDGE * np.diag(np.minimum(_noise_floor(given_CT, sfreq), power_C))
    return np.linalg.solve(shrunk_CC / power_C.mean(), given_CT @ wanted_CT.T / given_CT.shape[1] / power_C.mean()).T


def _noise_floor(signal_CT: Array, sfreq: float) -> Array:
    """Power of the white noise of coils, (C,): the quietest fifth of the spectrum, spread over the whole band."""
    freqs_F, psd_CF = welch_psd(signal_CT, sfreq)
    inside_F = (freqs_F > 1.0) & (freqs_F < 0.3 * sfreq)
    if not inside_F.any():
        return np.zeros(len(signal_CT))
    return np.asarray(np.quantile(psd_CF[:, inside_F], 0.2, axis=1) * 0.3 * sfreq)


def _sees_homogeneous(recording: Recording, picks: Array) -> bool:
    """Whether any coil answers to a homogeneous field; the answer of gradiometers is a rounding error."""
    return bool((~np.isin(recording.coil_C[picks], GRADIOMETERS)).any())


def _loudest(signal_CT: Array, sfreq: float) -> Array:
    """The loudest fifth of the seconds; nothing where they are hardly louder than the median second."""
    length = max(int(sfreq), 1)
    starts = np.arange(0, signal_CT.shape[1] - length + 1, length)
    power_T = _standard(signal_CT)
    power_W = np.array([power_T[start : start + length].mean() for start in starts])
    if not len(starts):
        return signal_CT[:, :0]
    loud = starts[power_W >= np.quantile(power_W, 1 - LOUD)]
    if power_W[np.isin(starts, loud)].mean() < MIN_LOUDNESS * np.median(power_W):
        return signal_CT[:, :0]
    return np.concatenate([signal_CT[:, start : start + length] for start in loud], axis=1)


def _project(
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


def _after(before_CC: Array | None, found: tuple[Array | None, str]) -> tuple[Array | None, str]:
    """The product with what was done before."""
    matrix_CC, note = found
    if matrix_CC is None or before_CC is None:
        return (before_CC if matrix_CC is None else matrix_CC), note
    return matrix_CC @ before_CC, note


def _explained(recording: Recording, sample_CT: Array, matrix_CC: Array, bads: Collection[str]) -> dict[str, float]:
    """Share of the variance that goes, median good channel of each coil type."""
    shares = {}
    for kind in COILS:
        picks = good_picks(recording, bads, kind)
        if len(picks):
            before_CT = centred(sample_CT[picks])
            after_CT = centred(matrix_CC[picks] @ sample_CT)
            power_C = np.maximum((before_CT**2).sum(axis=1), np.finfo(float).tiny)
            shares[kind] = float(np.median(1 - (after_CT**2).sum(axis=1) / power_C))
    return shares
