"""External interference out of MEG: reference coils, signal space separation, homogeneous fields or projections.

Each method is linear and does not change with time, so each is a matrix over all channels of the recording, found once
and multiplied with any length of signal. Which one an array allows is a matter of its coils (`choose_method`):
signal space separation where the helmet tells inner from outer fields, the reference coils where there are some.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.coils import COILS, explained_shares, good_picks
from neuroloom.signals.empty_room import EmptyRoom, room_matrix
from neuroloom.signals.maxwell import Expansion, maxwell_matrix, plan_expansion, unknown_coils
from neuroloom.signals.projections import MAX_PROJECTED, hfc_matrix, ssp_matrix
from neuroloom.signals.references import MIN_REFERENCES, reference_matrix

Method = Literal["maxwell", "reference", "hfc", "ssp", "none"]


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
    lost : dict
        Good channels that the matrix leaves as they were, because they were bad in the empty room -> reason.
    explained : dict
        Share of the sample's variance that goes, median channel of each coil type.
    """

    matrix_CC: Array | None
    method: Method
    note: str
    rebuilt: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
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
    room: Callable[[], EmptyRoom] | None = None,
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
        Most components of each coil type that `ssp` removes, where it learns them from the recording.
    origin, calibration, cross_talk
        See `maxwell_matrix`.
    room : callable, optional
        Returns the empty room, and is called only if it is needed: `ssp` learns from it, and `auto` prefers it to
        homogeneous fields. Where nothing stands out in it, it is as if there were none.

    Raises
    ------
    ValueError
        If the method is unknown, or the empty room is of another machine.
    """
    regressed_CC, regression = None, ""
    if method not in ("maxwell", "none") and len(recording.picks("ref_meg")):
        regressed_CC, regression = reference_matrix(sample_CT, recording, bads)
    chosen, why, plan = _choose(recording, bads, method, origin, references_serve=regressed_CC is not None)
    before = [why, regression]
    if room is not None and (chosen == "ssp" or (method == "auto" and chosen == "hfc")):
        measured = room()
        matrix_CC, note = room_matrix(measured, recording, bads, before_CC=regressed_CC)
        if matrix_CC is not None:
            fit = MagneticFit(_after(regressed_CC, matrix_CC), "ssp", _joined(*before, note), lost=measured.lost(bads))
            return _finished(fit, recording, sample_CT, bads)
        before.append(note)
    rebuilt: list[str] = []
    if chosen == "maxwell":
        files = {"calibration": calibration, "cross_talk": cross_talk}
        matrix_CC, note = maxwell_matrix(recording, bads, origin=origin, plan=plan, **files)
        if matrix_CC is not None:
            rebuilt = [recording.ch_names[at] for at in recording.picks(*COILS) if recording.ch_names[at] in bads]
    elif chosen == "hfc":
        matrix_CC, note = hfc_matrix(recording, bads, order=order, before_CC=regressed_CC)
        matrix_CC = _after(regressed_CC, matrix_CC)
    elif chosen == "ssp":
        left_CT = sample_CT if regressed_CC is None else regressed_CC @ sample_CT
        matrix_CC, note = ssp_matrix(left_CT, recording, bads, n_components=n_components)
        matrix_CC = _after(regressed_CC, matrix_CC)
    else:
        matrix_CC, note = (regressed_CC, "") if chosen == "reference" else (None, "")
        if chosen == "reference" and not regression:
            note = "no regression: no reference coils"
    return _finished(MagneticFit(matrix_CC, chosen, _joined(*before, note), rebuilt), recording, sample_CT, bads)


def _finished(fit: MagneticFit, recording: Recording, sample_CT: Array, bads: Collection[str]) -> MagneticFit:
    """In single precision, with what it explains; where nothing is done, the method is `none`."""
    if fit.matrix_CC is None:
        return MagneticFit(None, "none", fit.note)
    explained = explained_shares(recording, sample_CT, fit.matrix_CC, bads)
    return replace(fit, matrix_CC=fit.matrix_CC.astype(np.float32), explained=explained)


def choose_method(recording: Recording, bads: Collection[str], wanted: str) -> tuple[Method, str]:
    """Which method to take, and why.

    `auto` takes reference coils first, because they see the interference and not the brain; then signal space
    separation; then homogeneous fields, which cost brain signal where there are few coils (an empty room does better:
    see `fit_magnetic`); then projections.
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


def _after(before_CC: Array | None, matrix_CC: Array | None) -> Array | None:
    """The product with what was done before."""
    if matrix_CC is None or before_CC is None:
        return before_CC if matrix_CC is None else matrix_CC
    return matrix_CC @ before_CC


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
