"""Reference coils, which see the interference and not the brain, regressed out of MEG."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neuroloom.records import Array, Recording
from neuroloom.signals.coils import COILS, centred, explained_shares, good_picks, mean_power
from neuroloom.signals.filters import welch_psd

MIN_REFERENCES = 3
RIDGE = 5.0  # times the power of the references' own noise
TRIMMED = 0.05  # share of seconds that fit the references worst


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
    explained = explained_shares(recording, sample_CT, matrix_CC, bads)
    shares = ", ".join(f"{share:.0%} of {kind}" for kind, share in explained.items())
    note = f"{len(references)} reference coils regressed out ({shares} variance; {held_out:.0%} in halves not fitted)"
    return matrix_CC, note


def _trimmed_weights(given_CT: Array, wanted_CT: Array, sfreq: float) -> Array:
    """Weights without the seconds that fit them worst."""
    weights_CC = _ridge(given_CT, wanted_CT, sfreq)
    misfit_T = mean_power(wanted_CT - weights_CC @ given_CT)
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
