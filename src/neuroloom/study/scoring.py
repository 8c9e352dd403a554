"""The tables that say how well a simulated study was cleaned.

One has a row for each site and figure, with its bound. The other has the curves behind figures of EEG from the scanner.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from neuroloom.artifacts import Artifact, open_artifact
from neuroloom.bold.scores import score_bold
from neuroloom.config import BoldConfig, ConfigError, MeegConfig, RecordingRow
from neuroloom.records import ParcelSeries, Recording
from neuroloom.signals.scanner_scores import Curve
from neuroloom.signals.scores import BOUNDS, Bound, Score
from neuroloom.study.sensor_scores import score_sensors

COLUMNS = ["what", "figure", "modality", "site", "recordings", "mean", "worst", "unit", "bound", "judged", "met"]
CURVE_COLUMNS = ["what", "site", "recordings", "x", "x_unit", "mean", "worst", "unit", "bound"]
CURVES = {  # what -> the figure whose unit and bound it has; there is no bound for what was planted
    "scanner_r_second": "scanner_r",
    "scanner_r_without": "scanner_r",
    "cardiac_drop": "cardiac_worst",
    "cardiac_over_eeg": None,
}


def open_truth(folder: Path, recording: str) -> tuple[Artifact, pd.DataFrame]:
    """The truth store of a recording and its rows of the truth table, from its site's folder."""
    facts = pd.read_parquet(folder / "truth.parquet")
    return open_artifact(folder / "truth" / f"{recording}.zarr"), facts[facts["recording"] == recording]


def check_parcels(n_parcels: int, truth: Artifact) -> None:
    """Refuse BOLD in other parcels than the truth, which are compared one by one.

    Raises
    ------
    ConfigError
        With the atlas of the truth.
    """
    planted = int(truth.manifest["arrays"]["bold"]["shape"][0])
    if n_parcels != planted:
        raise ConfigError(
            f"{truth.path}: the truth has {planted} parcels, the BOLD that was preprocessed has {n_parcels}; "
            f"set preprocess.bold.atlas to template{planted}, or simulate.n_parcels to {n_parcels}"
        )


def score_recording(
    row: RecordingRow,
    *,
    ingested: Artifact,
    cleaned: Artifact,
    truth: Artifact,
    facts: pd.DataFrame,
    meeg: MeegConfig,
    bold: BoldConfig,
    rng: np.random.Generator,
) -> tuple[list[Score], list[Curve]]:
    """Scores of one recording, and the curves behind them.

    Parameters
    ----------
    row : RecordingRow
    ingested, cleaned, truth : Artifact
        Its stores.
    facts : DataFrame
        Rows of `truth.parquet` about it.
    meeg : MeegConfig
    bold : BoldConfig
        Of its preprocessing.
    rng : np.random.Generator
        Of the noise that the ceiling of BOLD is found with.
    """
    if row.modality == "bold":
        series = ParcelSeries.from_artifact(cleaned)
        check_parcels(len(series.bold_PV), truth)
        return score_bold(series, truth.read("bold"), snr=truth.attrs["snr"], config=bold, rng=rng), []
    before, after = Recording.from_artifact(ingested).load(), Recording.from_artifact(cleaned).load()
    return score_sensors(before, after, truth=truth, facts=facts, config=meeg)


def tabulate_scores(scores: Sequence[tuple[RecordingRow, list[Score]]]) -> pd.DataFrame:
    """Mean and worst recording by site, modality and figure, beside the bound, and whether it is met."""
    values = pd.DataFrame(
        [(row.site, row.modality, score.what, score.value) for row, found in scores for score in found],
        columns=["site", "modality", "what", "value"],
    ).dropna()
    lines: list[dict[str, Any]] = []
    for key, found in values.groupby(["what", "modality", "site"], sort=False):
        what, modality, site = cast("tuple[str, str, str]", key)
        lines.append(_line(what, modality, site, found=found["value"]))
    order = list(BOUNDS)
    if not lines:
        return pd.DataFrame(columns=COLUMNS)
    lines.sort(key=lambda line: (order.index(line["what"]), line["modality"], line["site"]))
    return pd.DataFrame(lines, columns=COLUMNS)


def tabulate_curves(curves: Sequence[tuple[RecordingRow, list[Curve]]]) -> pd.DataFrame:
    """Mean and worst recording by site at each second or harmonic; the worst is the lowest of each curve."""
    points = [
        (curve.what, row.site, curve.x_unit, x, value)
        for row, found in curves
        for curve in found
        for x, value in zip(curve.x_N, curve.value_N, strict=True)
    ]
    keys = ["what", "site", "x_unit", "x"]
    table = pd.DataFrame(points, columns=[*keys, "value"]).astype({"x": float, "value": float}).dropna()
    table = table.groupby(keys, sort=True)["value"].agg(recordings="count", mean="mean", worst="min").reset_index()
    bounds = table["what"].map(CURVES).map(BOUNDS)
    table["unit"] = [bound.unit if isinstance(bound, Bound) else "dB" for bound in bounds]
    table["bound"] = [bound.least if isinstance(bound, Bound) else np.nan for bound in bounds]
    return table[CURVE_COLUMNS]


def _line(what: str, modality: str, site: str, *, found: pd.Series) -> dict[str, Any]:
    bound = BOUNDS[what]
    mean, worst = float(found.mean()), float(found.min() if bound.is_floor else found.max())
    return {
        "what": what,
        "figure": bound.text,
        "modality": modality,
        "site": site,
        "recordings": len(found),
        "mean": mean,
        "worst": worst,
        "unit": bound.unit,
        "bound": f"{'at least' if bound.is_floor else 'at most'} {bound.least if bound.is_floor else bound.most:g}",
        "judged": bound.judged,
        "met": "yes" if bound.met(worst if bound.judged == "worst" else mean) else "NO",
    }
