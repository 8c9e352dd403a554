"""What could be known of simulated BOLD: how well true band power predicts it, and which parcels EEG can see.

The ceiling is ridge regression on a parcel's own true band powers through the haemodynamic response, fitted to other
people; so it falls short of 1 by the noise of the scanner and by how people differ. A parcel is visible where the best
spatial filter there can be, one that knows the true field of every source, hears it above all others and the amplifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from neuroloom.artifacts import Artifact
from neuroloom.records import Array
from neuroloom.study.scoring import check_parcels
from neuroloom.study.sources import GRID_RATE
from neuroloom.synthesis.linear import Sample, sums_of
from neuroloom.synthesis.metrics import correlation
from neuroloom.synthesis.pieces import Piece
from neuroloom.synthesis.power import in_band, response_at, share_in_band

PENALTY = 1.0
HEARD_BAND = (8.0, 13.0)  # Hz, alpha: what BOLD follows most
HEARD = 1.0  # power of the source over that of all else, behind the best filter
CEILING_COLUMNS = ["parcel", "ceiling", "snr", "group", "scan"]
VISIBLE, WEAK, INVISIBLE = "visible", "weak", "invisible"


def ceilings(pieces: Sequence[Piece], truths: Mapping[str, Artifact]) -> dict[str, Array]:
    """Correlation (P,) that true band power reaches in each scan, fitted to the scans of all other people.

    Parameters
    ----------
    pieces : sequence of Piece
        Whole scans.
    truths : mapping
        Scan -> truth of its BOLD.
    """
    samples = {piece.scan.name: _true_sample(piece, truths[piece.scan.name]) for piece in pieces}
    found = {}
    for piece in pieces:
        name, person = piece.scan.name, piece.scan.participant
        others = [samples[one.scan.name] for one in pieces if one.scan.participant != person]
        said_PN = sums_of(others).fit(PENALTY).mean(samples[name].feature_PKN)
        found[name] = correlation(piece.target_PN, said_PN)
    return found


def _true_sample(piece: Piece, truth: Artifact) -> Sample:
    """True power in each band through the response, as features, beside the target."""
    check_parcels(len(piece.target_PN), truth)
    bands_BPG = truth.read("power").astype(float)
    lag = float(truth.attrs["hrf_lag"])
    read = [response_at(one_PG, rate=GRID_RATE, time_V=piece.onset_N, lag=lag) for one_PG in bands_BPG]
    return Sample(np.stack([piece.filtered(one_PN) for one_PN in read], axis=1), piece.target_PN)


def signal_to_noise(truth: Artifact) -> Array:
    """Power of each source over that of all else behind the best spatial filter, (P,), in the alpha band.

    Parameters
    ----------
    truth : Artifact
        Of the EEG: sources, and what electrodes see of them.
    """
    source_PT, leadfield_CP = truth.read("source").astype(float), truth.read("leadfield").astype(float)
    sfreq = float(truth.attrs["sfreq"])
    # noise of the electrodes is white; the truth gives the signal of the typical channel over it
    noise = np.median(np.sqrt(np.mean((leadfield_CP @ source_PT) ** 2, axis=1))) / float(truth.attrs["snr"])
    heard_PT = in_band(source_PT, sfreq=sfreq, band=HEARD_BAND)
    leadfield_CP -= leadfield_CP.mean(axis=0)
    signal_CT = leadfield_CP @ heard_PT
    heard_noise = noise**2 * share_in_band(sfreq, HEARD_BAND)
    covariance_CC = np.cov(signal_CT) + heard_noise * np.eye(len(signal_CT))
    inverse_CC = np.linalg.inv(covariance_CC)
    part_P = heard_PT.var(axis=1) * np.einsum("cp,cd,dp->p", leadfield_CP, inverse_CC, leadfield_CP)
    return np.asarray(part_P / np.maximum(1 - part_P, 1e-9))


def parcel_groups(snr_SP: Array, site_S: Sequence[str], planted_P: Array) -> list[str]:
    """`visible` where EEG hears a parcel at every site, `invisible` where nothing was planted to hear, else `weak`.

    Parameters
    ----------
    snr_SP : array
        `signal_to_noise` of each scan.
    site_S : sequence of str
    planted_P : bool array
        Whose BOLD follows its source.
    """
    sites = sorted(set(site_S))
    typical_P = np.min([np.median(snr_SP[np.array(site_S) == site], axis=0) for site in sites], axis=0)
    return [
        INVISIBLE if not planted else VISIBLE if snr >= HEARD else WEAK
        for planted, snr in zip(planted_P, typical_P, strict=True)
    ]


def ceiling_table(
    pieces: Sequence[Piece], bold_truths: Mapping[str, Artifact], eeg_truths: Mapping[str, Artifact]
) -> pd.DataFrame:
    """One row for each scan and parcel: ceiling, snr and group.

    Parameters
    ----------
    pieces : sequence of Piece
        Whole scans.
    bold_truths, eeg_truths : mapping
        Scan -> truth.
    """
    reached = ceilings(pieces, bold_truths)
    names = [piece.scan.name for piece in pieces]
    snr_SP = np.stack([signal_to_noise(eeg_truths[name]) for name in names])
    planted_P = bold_truths[names[0]].read("visible").astype(bool)
    groups = parcel_groups(snr_SP, [piece.scan.site for piece in pieces], planted_P)
    rows = []
    for piece, snr_P in zip(pieces, snr_SP, strict=True):
        facts = {"parcel": piece.scan.parcels, "ceiling": reached[piece.scan.name], "snr": snr_P, "group": groups}
        rows.append(pd.DataFrame(facts).assign(scan=piece.scan.name))
    return pd.concat(rows, ignore_index=True)
