"""What is left of a repeated artefact after its average is gone: a few waveforms, each with a few maps.

The optimal basis set of Niazy et al. (2005, NeuroImage 28:720) takes the leading principal components of the residue of
a channel. Below 70 Hz those are the brain's own rhythms. So waveforms are looked for only among those of the averages
themselves (an artefact that changes with the head's position is a new mixture of them) and their derivatives (one that
comes early or late), over all channels at once. What a repetition holds of a waveform is then taken out only in the
combinations of channels in which it is stronger than the brain, by Wiener's filter over channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuroloom.records import Array

N_WAVEFORMS, N_SLOPES = 4, 2
MIN_SHARE = 1e-3  # of the largest waveform, below which another one is numerical noise
MARGIN = 4.0  # by which the brain may be stronger at the artefact's frequencies than beside them: rhythms are lines
RIDGE = 0.02  # of a channel's power, added to the brain's covariance
SURROGATES = (1, 2)  # shifts in frequency, in multiples of `shift`


@dataclass(frozen=True)
class ResidueBasis:
    """Waveforms to fit to the residue of one repetition.

    Attributes
    ----------
    wave_KJ : array
        Orthonormal, over the samples of one repetition; K may be 0.
    filter_KCC : array
        What to take out of the channels of what they hold of each waveform.
    """

    wave_KJ: Array
    filter_KCC: Array

    @classmethod
    def none(cls, n_channels: int, length: int) -> ResidueBasis:
        """No components."""
        return cls(np.zeros((0, length)), np.zeros((0, n_channels, n_channels)))

    def gain(self, residue_CJ: Array) -> Array:
        """How much of each waveform belongs to the artefact in one repetition, (C, K)."""
        return np.einsum("kcd,dk->ck", self.filter_KCC, residue_CJ @ self.wave_KJ.T)


def fit_residue(
    mean_CJ: Array, residue_ECJ: Array, *, shift: float, least: float, most: float = np.inf
) -> ResidueBasis:
    """Find the components of the residue that belong to the artefact.

    Parameters
    ----------
    mean_CJ : array
        Average artefact.
    residue_ECJ : array
        Some repetitions less their average.
    shift : float
        Cycles in a repetition by which surrogates are shifted in frequency: far enough to leave the artefact's own
        lines, near enough to see the brain at the same strength.
    least : float
        Cycles in a repetition from which the artefact begins; slower things are the brain's or the electrodes'.
    most : float
        Cycles in a repetition at which it ends.
    """
    rms_C = np.sqrt(np.mean(residue_ECJ**2, axis=(0, 2), dtype=np.float64))
    scale_C1 = np.where(rms_C > 0, 1 / np.where(rms_C > 0, rms_C, 1), 0.0)[:, None]  # a noisy channel must not lead
    candidate_KJ = _candidates(mean_CJ * scale_C1, least, most)
    if not len(candidate_KJ):
        return ResidueBasis.none(len(mean_CJ), mean_CJ.shape[1])
    score_ECK = residue_ECJ @ candidate_KJ.T * scale_C1
    flat_NK = score_ECK.reshape(-1, len(candidate_KJ))
    wave_KJ = np.linalg.eigh(flat_NK.T @ flat_NK)[1][:, ::-1].T @ candidate_KJ
    filters = [
        wiener_filter((residue_ECJ @ wave_J) * scale_C1.T, _brain(residue_ECJ * scale_C1, wave_J, wave_KJ, shift))
        for wave_J in wave_KJ
    ]
    kept = [at for at, filter_CC in enumerate(filters) if filter_CC.any()]
    if not kept:
        return ResidueBasis.none(len(mean_CJ), mean_CJ.shape[1])
    back_C1 = np.where(scale_C1 > 0, 1 / np.where(scale_C1 > 0, scale_C1, 1), 0.0)
    return ResidueBasis(wave_KJ[kept], np.stack([back_C1 * filters[at] * scale_C1.T for at in kept]))


def wiener_filter(found_EC: Array, brain_EC: Array) -> Array:
    """Matrix (C, C) that gives the artefact's part of channel values in which artefact and brain are mixed.

    Channels are combined so that the brain is white with variance 1. Directions whose variance is beyond what as many
    repetitions of noise can reach (Marchenko & Pastur 1967) hold artefact, and are taken out as far as they do.

    Parameters
    ----------
    found_EC, brain_EC : array
        Artefact and brain in some repetitions, and the brain alone in others.
    """
    alive = int(found_EC.any(axis=0).sum())
    white_CC, back_CC = whitener(brain_EC.T @ brain_EC / len(brain_EC))
    white_EC = found_EC @ white_CC
    power_C, turn_CC = np.linalg.eigh(white_EC.T @ white_EC / len(found_EC))
    edges = [(1 + np.sqrt(alive / len(found_EC))) ** 2, (1 + np.sqrt(alive / len(brain_EC))) ** 2]
    share_C = np.where(power_C > MARGIN * edges[0] * edges[1], 1 - MARGIN / np.maximum(power_C, MARGIN), 0.0)
    return back_CC @ (turn_CC * share_C) @ turn_CC.T @ white_CC


def whitener(power_CC: Array) -> tuple[Array, Array]:
    """Symmetric matrices that make signals of a covariance white, and that take this back."""
    alive = max(int((np.diag(power_CC) > 0).sum()), 1)  # channels that are left out are zero
    ridge = RIDGE * max(float(np.trace(power_CC)) / alive, 1e-300)
    size_C, axes_CC = np.linalg.eigh(power_CC + ridge * np.eye(len(power_CC)))
    root_C = np.sqrt(np.maximum(size_C, ridge))
    return axes_CC / root_C @ axes_CC.T, axes_CC * root_C @ axes_CC.T


def _candidates(mean_CJ: Array, least: float, most: float) -> Array:
    """Orthonormal waveforms (K, J): the leading ones of the averages, and their derivatives; nothing slow."""
    spectrum_CF = np.fft.rfft(mean_CJ, axis=1)
    spectrum_CF[:, : int(np.ceil(least))] = 0
    spectrum_CF[:, np.arange(spectrum_CF.shape[1]) > most] = 0
    fast_CJ = np.fft.irfft(spectrum_CF, n=mean_CJ.shape[1], axis=1)
    strength_N, wave_NJ = np.linalg.svd(fast_CJ, full_matrices=False)[1:]
    # averages of few components have no more waveforms than that; the others would be arbitrary
    wave_KJ = wave_NJ[:N_WAVEFORMS][strength_N[:N_WAVEFORMS] > MIN_SHARE * max(strength_N[0], 1e-300)]
    slope_KJ = np.gradient(wave_KJ[:N_SLOPES], axis=1)
    slope_KJ /= np.maximum(np.linalg.norm(slope_KJ, axis=1, keepdims=True), 1e-300)
    size_K, both_KJ = np.linalg.svd(np.concatenate([wave_KJ, slope_KJ]), full_matrices=False)[1:]
    return both_KJ[size_K > MIN_SHARE * size_K.max(initial=0.0)]


def _brain(residue_ECJ: Array, wave_J: Array, wave_KJ: Array, shift: float) -> Array:
    """What the channels hold (E, C) of waveforms with nearly the same spectrum that are not the artefact's."""
    turn_J = 2 * np.pi * shift * np.arange(len(wave_J)) / len(wave_J)
    values = []
    for carrier_J in (part(turn_J * times) for times in SURROGATES for part in (np.cos, np.sin)):
        other_J = wave_J * carrier_J
        other_J = other_J - (other_J @ wave_KJ.T) @ wave_KJ
        values.append(residue_ECJ @ (other_J / np.linalg.norm(other_J)))
    return np.concatenate(values)
