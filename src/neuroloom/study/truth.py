"""What was planted in a simulated recording: a tidy table of facts and a `truth` artifact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.artifacts import write_artifact
from neuroloom.bold.parcels import Parcellation
from neuroloom.records import Array

WINDOW_S = 10.0


@dataclass(frozen=True)
class Fact:
    """One row of the truth table, without its recording.

    Attributes
    ----------
    kind : str
        `dead`, `flat`, `noisy`, `loose`, `bridged`, `noise`, `drift`, `line`, `line_freq`, `blink`, `muscle`,
        `gradient`, `cardiac`, `heartbeat`, `volume`, `clock_drift`, `slice_rate`, `interference_<kind>`, `motion`,
        `reference`, `snr`, `hrf_lag`, `alpha_peak`, `alpha_closed_gain`, `erd`, `bold_weight_<band>`, `invisible`.
    channel : str
        10-05 name, or that of a parcel; empty where the fact is about the whole recording.
    onset, duration : float
        s from the start of the recording, NaN where it lasts all the time.
    value : float
        Size: RMS, peak, frequency, ratio, or mm of framewise displacement.
    unit : str
        SI, or mm for motion; empty for ratios.
    """

    kind: str
    channel: str = ""
    onset: float = np.nan
    duration: float = np.nan
    value: float = np.nan
    unit: str = ""


def facts_table(recording: str, facts: Iterable[Fact]) -> pd.DataFrame:
    """Facts of one recording as rows: recording, kind, channel, onset, duration, value, unit."""
    table = pd.DataFrame([asdict(fact) for fact in facts])
    table.insert(0, "recording", recording)
    return table


def write_truth(
    folder: Path,
    recording: str,
    *,
    parcels: Parcellation,
    arrays: Mapping[str, Array | list[str]],
    attrs: Mapping[str, Any],
) -> None:
    """Write `<folder>/truth/<recording>.zarr` and its manifest.

    Parameters
    ----------
    folder : Path
        Of the site.
    recording : str
    parcels : Parcellation
        That hold the sources.
    arrays, attrs : dict
        As the `truth` artifact wants them; `sfreq` is the rate of the arrays along `time`.
    """
    path = folder / "truth" / f"{recording}.zarr"
    path.parent.mkdir(exist_ok=True)
    write_artifact(
        path,
        "truth",
        arrays={"parcel": parcels.names, "centroid": parcels.centroid_P3, **arrays},
        attrs={"recording": recording, "atlas": parcels.name, "atlas_sha256": parcels.sha256, **attrs},
        window=int(WINDOW_S * attrs["sfreq"]),
    )
