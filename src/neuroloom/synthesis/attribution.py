"""Which bands, electrodes and lags go with a parcel: in the BOLD that was measured, and in what a model says.

Correlation of BOLD with the power of a band at an electrode some seconds before, in the band of the target. It asks
nothing of a model but its predictions, so that all can be held against what was measured; it is no weight, and power
that spreads over the head goes with a parcel wherever it is heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from neuroloom.records import Array
from neuroloom.study.sensors import head
from neuroloom.synthesis.baselines import common_signal
from neuroloom.synthesis.config import Bands
from neuroloom.synthesis.head_model import COMMON
from neuroloom.synthesis.metrics import correlation
from neuroloom.synthesis.nulls import MEASURED
from neuroloom.synthesis.pieces import Piece
from neuroloom.synthesis.power import electrode_power, grid_rate, lagged_at
from neuroloom.synthesis.predicted import Predicted

STEP_S = 2.0  # between lags


def attribution_table(
    pieces: Mapping[str, Piece], scans: Sequence[Predicted], *, model: str, bands: Bands, window: float
) -> pd.DataFrame:
    """Mean over scans of the correlation of BOLD with earlier power.

    Parameters
    ----------
    pieces : mapping
        Scan -> the piece that was predicted.
    scans : sequence of Predicted
    model : str
        Name of what predicted them.
    bands : dict
        Name -> Hz.
    window : float
        Longest lag, s.

    Returns
    -------
    table : DataFrame
        source (`measured`, or the model), parcel, band, electrode, x, y, z (m, head frame), lag (s), r.
    """
    lags = tuple(np.arange(0, window + 1e-9, STEP_S).tolist())
    found: dict[str, list[Array]] = {MEASURED: [], model: []}
    for scan in scans:
        earlier_KN = _earlier_power(pieces[scan.scan], bands, lags)
        for source, bold_PV in ((MEASURED, scan.bold_true_PV), (model, scan.bold_pred_PV)):
            found[source].append(correlation(bold_PV[:, None], earlier_KN[None]))
    places = head().montage.get_positions()["ch_pos"]
    index = pd.MultiIndex.from_product([scans[0].parcels, lags, bands, COMMON])
    index.names = ["parcel", "lag", "band", "electrode"]
    tables = []
    for source, r_SPK in found.items():
        r_PK = np.nanmean(np.stack(r_SPK), axis=0)
        tables.append(
            pd.DataFrame({"r": r_PK.ravel().astype(np.float32)}, index=index).reset_index().assign(source=source)
        )
    table = pd.concat(tables, ignore_index=True)
    for at, axis in enumerate("xyz"):
        table[axis] = table["electrode"].map({name: float(places[name][at]) for name in COMMON})
    return table


def _earlier_power(piece: Piece, bands: Bands, lags: tuple[float, ...]) -> Array:
    """Relative power of the common electrodes before each volume, (L * F * 19, N), in the band of the target."""
    sfreq = piece.scan.sfreq
    power_KG = electrode_power(common_signal(piece), sfreq=sfreq, bands=bands)
    return piece.filtered(lagged_at(power_KG, rate=grid_rate(sfreq), time_V=piece.onset_N, lags=lags))
