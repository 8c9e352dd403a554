"""How far interference fell, and whether a known dipole kept its size: figures by coil type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuroloom.records import Array

COILS = ("mag", "grad")


def interference_drop(before_CT: Array, after_CT: Array, *, ch_types: Sequence[str]) -> dict[str, float]:
    """Power of interference before over after, dB, of the median channel of each coil type.

    Parameters
    ----------
    before_CT, after_CT : array
        Interference alone, as planted and as the matrix leaves it, without brain and noise.
    ch_types : sequence of str
        Of the channels; types other than `mag` and `grad` do not count.
    """
    drop_C = _db(np.mean(np.square(before_CT, dtype=np.float64), axis=1))
    drop_C = drop_C - _db(np.mean(np.square(after_CT, dtype=np.float64), axis=1))
    return {kind: float(np.median(drop_C[picks])) for kind, picks in _by_type(ch_types).items()}


def dipole_amplitude(signal_CT: Array, *, topography_C: Array, course_T: Array) -> float:
    """Least-squares amplitude of a dipole of known topography and course, 1 where the signal is their product.

    Of channels of one type, so that all have one unit. The course should have no part in common with the rest of the
    signal; what chance leaves of it falls with the length of the signal.
    """
    fitted_C = np.asarray(signal_CT, np.float64) @ course_T / (course_T @ course_T)
    return float(topography_C @ fitted_C / (topography_C @ topography_C))


def dipole_change(
    clean_CT: Array,
    cleaned_CT: Array,
    *,
    topography_C: Array,
    course_T: Array,
    ch_types: Sequence[str],
    matrix_CC: Array | None = None,
) -> dict[str, float]:
    """Share by which cleaning changed the amplitude of a planted dipole, by coil type; zero is none.

    Parameters
    ----------
    clean_CT : array
        Signal that never had interference.
    cleaned_CT : array
        The same with interference, and cleaned.
    topography_C, course_T : array
        Of the dipole; its amplitude is fitted to both.
    ch_types : sequence of str
    matrix_CC : array, optional
        What cleaned: the amplitude is then fitted with the topography as the matrix leaves it, which is what a source
        model that knows of the cleaning would use.
    """
    after_C = topography_C if matrix_CC is None else matrix_CC @ topography_C
    change = {}
    for kind, picks in _by_type(ch_types).items():
        before = dipole_amplitude(clean_CT[picks], topography_C=topography_C[picks], course_T=course_T)
        after = dipole_amplitude(cleaned_CT[picks], topography_C=after_C[picks], course_T=course_T)
        change[kind] = after / before - 1
    return change


def _by_type(ch_types: Sequence[str]) -> dict[str, Array]:
    found = {kind: np.flatnonzero(np.array(ch_types) == kind) for kind in COILS}
    return {kind: picks for kind, picks in found.items() if len(picks)}


def _db(power_C: Array) -> Array:
    return 10 * np.log10(np.maximum(power_C, np.finfo(float).tiny))
