"""What a prediction reaches by chance: BOLD with random phases, BOLD shifted in time, BOLD of somebody else.

Slow series correlate with each other: two unrelated ones of 47 volumes reach |r| > 0.5 in every twentieth draw. Each
null keeps what makes them slow, and takes away what relates them to the EEG of the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuroloom.evaluation.statistics import permutation_p
from neuroloom.records import Array
from neuroloom.synthesis.metrics import centred, coherence, correlation
from neuroloom.synthesis.predicted import Predicted

MEASURED = "measured"
PHASE, SHIFT, OTHER = "phase randomised", "circular shift", "other subject"
FEWEST_VOLUMES = 20  # below, a handful of phases and shifts decide
N_COHERENCES = 20  # draws, whose mean over parcels is steady


@dataclass(frozen=True)
class Null:
    """Correlations of the prediction with one kind of BOLD that it cannot know.

    Attributes
    ----------
    target : str
        Kind: `phase randomised`, `circular shift` or `other subject`.
    r_RP : array
        One row for each draw; none where the null does not exist.
    coherence_P : array
        Mean over a few draws.
    note : str
        Why there is no null, or empty.
    """

    target: str
    r_RP: Array
    coherence_P: Array
    note: str = ""

    @classmethod
    def missing(cls, target: str, n_parcels: int, note: str) -> Null:
        """A null that a scan does not have."""
        return cls(target, np.zeros((0, n_parcels)), np.full(n_parcels, np.nan), note)


def mates(scan: Predicted, scans: Sequence[Predicted]) -> list[Predicted]:
    """Scans of other participants with the same t_r: those of the same task, or of any where there is none.

    The same task matters: people who hear the same tones at the same times have something in common.
    """
    others = [
        other
        for other in scans
        if other.participant != scan.participant and np.isclose(other.t_r, scan.t_r, rtol=1e-3, atol=0.0)
    ]
    return [other for other in others if other.task == scan.task] or others


def draw_nulls(
    scan: Predicted, others: Sequence[Predicted], *, n_draws: int, min_shift: float, rng: np.random.Generator
) -> dict[str, Null]:
    """The three nulls of one scan, by their targets.

    Parameters
    ----------
    scan : Predicted
    others : sequence of Predicted
        Scans of other participants (`mates`).
    n_draws : int
        At most; there are only so many shifts, and so many others.
    min_shift : float
        s: BOLD is shifted by at least as much.
    rng : np.random.Generator
    """
    nulls = [
        _phase(scan, n_draws=n_draws, rng=rng),
        _shift(scan, min_shift=min_shift, n_draws=n_draws, rng=rng),
        _other(scan, others, n_draws=n_draws, rng=rng),
    ]
    return {null.target: null for null in nulls}


def _phase(scan: Predicted, *, n_draws: int, rng: np.random.Generator) -> Null:
    true_PV, predicted_PV = scan.bold_true_PV, scan.bold_pred_PV
    if scan.n_volumes < FEWEST_VOLUMES:
        return Null.missing(PHASE, len(true_PV), f"{scan.n_volumes} volumes are too few for random phases")
    few_RPV = phase_randomised(true_PV, n=min(n_draws, N_COHERENCES), rng=rng)
    coherence_P = coherence(few_RPV, predicted_PV, t_r=scan.t_r).mean(axis=0)
    return Null(PHASE, phase_null(true_PV, predicted_PV, n=n_draws, rng=rng), coherence_P)


def _shift(scan: Predicted, *, min_shift: float, n_draws: int, rng: np.random.Generator) -> Null:
    true_PV, predicted_PV = scan.bold_true_PV, scan.bold_pred_PV
    far_R = far_shifts(scan.n_volumes, min_shift=int(np.ceil(min_shift / scan.t_r)))
    if scan.n_volumes < FEWEST_VOLUMES or not len(far_R):
        note = f"{scan.n_volumes} volumes are too few for shifts of {min_shift:g} s and more"
        return Null.missing(SHIFT, len(true_PV), note)
    null_RP = shift_null(true_PV, predicted_PV, far_R=far_R, n=n_draws, rng=rng)
    few = [np.roll(true_PV, shift, axis=1) for shift in rng.permutation(far_R)[: N_COHERENCES // 2]]
    few += [np.roll(true_PV[:, ::-1], shift, axis=1) for shift in rng.permutation(scan.n_volumes)[: N_COHERENCES // 2]]
    return Null(SHIFT, null_RP, coherence(np.stack(few), predicted_PV, t_r=scan.t_r).mean(axis=0))


def _other(scan: Predicted, others: Sequence[Predicted], *, n_draws: int, rng: np.random.Generator) -> Null:
    # others come as they are: shifted as well, they would lose what the timing of a task has in common
    long = [other.bold_true_PV for other in others if min(other.n_volumes, scan.n_volumes) >= FEWEST_VOLUMES]
    if not long:
        note = f"nobody else has a scan of t_r {scan.t_r:g} s that shares {FEWEST_VOLUMES} volumes with this one"
        return Null.missing(OTHER, len(scan.parcels), note)
    chosen = [long[at] for at in rng.permutation(len(long))[:n_draws]]
    pairs = [cut(other_PV, scan.bold_pred_PV) for other_PV in chosen]
    coherences = [coherence(*pair, t_r=scan.t_r) for pair in pairs[:N_COHERENCES]]
    return Null(OTHER, np.stack([correlation(*pair) for pair in pairs]), np.mean(coherences, axis=0))


def cut(one_PV: Array, other_PV: Array) -> tuple[Array, Array]:
    """Two series from their start to the end of the shorter one."""
    n = min(one_PV.shape[-1], other_PV.shape[-1])
    return one_PV[..., :n], other_PV[..., :n]


def random_phases(n_volumes: int, *, n: int, rng: np.random.Generator) -> Array:
    """Factors of modulus one, complex (n, F), that give the Fourier terms of a real series random phases."""
    factors_RF = np.exp(2j * np.pi * rng.random((n, n_volumes // 2 + 1)))
    factors_RF[:, 0] = 1.0
    if n_volumes % 2 == 0:
        # the term of the highest frequency of a real series is real: a sign is all that it can change
        factors_RF[:, -1] = rng.choice((-1.0, 1.0), n)
    return factors_RF


def phase_randomised(bold_PV: Array, *, n: int, rng: np.random.Generator) -> Array:
    """BOLD with the spectrum of each parcel and the covariance of all parcels, at other times, (n, P, V).

    All parcels of a draw get the same random phases. Source: Theiler et al. 1992, Physica D 58:77; Prichard and Theiler
    1994, Phys Rev Lett 73:951 (several series at once).
    """
    n_volumes = bold_PV.shape[1]
    factors_RF = random_phases(n_volumes, n=n, rng=rng)
    return np.fft.irfft(np.fft.rfft(bold_PV)[None] * factors_RF[:, None], n_volumes)


def phase_null(true_PV: Array, predicted_PV: Array, *, n: int, rng: np.random.Generator) -> Array:
    """Correlations of the prediction with `n` phase-randomised copies of the measured BOLD, (n, P).

    Sums over frequencies in place of the copies themselves (Parseval), which a long scan would fill the memory with.
    """
    n_volumes = true_PV.shape[1]
    factors_RF = random_phases(n_volumes, n=n, rng=rng)
    cross_PF = _cross_spectrum(true_PV, predicted_PV)
    # of a real series, the terms of the negative frequencies are conjugates and not listed
    cross_PF[:, 1 : (n_volumes + 1) // 2] *= 2
    return factors_RF.real @ cross_PF.real.T + factors_RF.imag @ cross_PF.imag.T


def far_shifts(n_volumes: int, *, min_shift: int) -> Array:
    """Circular shifts by at least so many volumes, in both directions; empty for a short series."""
    least = max(min_shift, 1)
    return np.arange(least, n_volumes - least + 1)


def shift_null(true_PV: Array, predicted_PV: Array, *, far_R: Array, n: int, rng: np.random.Generator) -> Array:
    """Correlations of the prediction with the measured BOLD shifted in time, its end put before its start, (R, P).

    Correlations of all shifts have the mean zero. Where one is high by chance, so are its neighbours, and the far ones
    are low: against these alone, unrelated series of 47 volumes are called related in 7 to 15 % of cases at p < 0.05.
    The BOLD reversed in time has no relation at any shift, and joins them. Source: Lancaster et al. 2018, Phys Rep
    748:1 (time-shifted surrogates); Haufe et al. 2013, NeuroImage 64:120 (reversed series as a null).

    Parameters
    ----------
    true_PV, predicted_PV : array
    far_R : int array
        Shifts (`far_shifts`) of the BOLD as it is; reversed, it takes all shifts.
    n : int
        Draws at most: chosen from these without repetition.
    rng : np.random.Generator
    """
    null_RP = np.concatenate([_all_shifts(true_PV, predicted_PV)[far_R], _all_shifts(true_PV[:, ::-1], predicted_PV)])
    return rng.permutation(null_RP)[:n]


def _all_shifts(true_PV: Array, predicted_PV: Array) -> Array:
    """Correlations for all circular shifts, (V, P); row s goes with `np.roll(true_PV, s, axis=1)`."""
    n_volumes = true_PV.shape[1]
    return np.fft.irfft(_cross_spectrum(true_PV, predicted_PV), n_volumes).T * n_volumes


def _cross_spectrum(true_PV: Array, predicted_PV: Array) -> Array:
    """Cross-spectrum of the standardised series, (P, F); summed over all frequencies it is their correlation."""
    spectra = []
    for series_PV in (true_PV, predicted_PV):
        centred_PV, norm_P = centred(series_PV)
        spectra.append(np.fft.rfft(centred_PV / norm_P[:, None]))
    return spectra[0].conj() * spectra[1] / true_PV.shape[1]


def p_values(r_P: Array, null_RP: Array) -> Array:
    """One-sided p of each parcel, (1 + draws that reach r) / (1 + draws), (P,); NaN without a null."""
    return np.array([permutation_p(float(r), null_R) for r, null_R in zip(r_P, null_RP.T, strict=True)])
