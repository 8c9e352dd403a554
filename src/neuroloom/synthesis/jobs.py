"""What the scripts of the stage call: from manifests to predictions, scores, ceilings and images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from neuroloom.artifacts import Artifact, open_artifact
from neuroloom.config import RecordingRow
from neuroloom.provenance import child_rng
from neuroloom.quarantine import Quarantined, QuarantineRow, UnusableRecording, write_quarantine
from neuroloom.schema import ConfigError
from neuroloom.synthesis.attribution import attribution_table
from neuroloom.synthesis.ceiling import CEILING_COLUMNS, ceiling_table
from neuroloom.synthesis.config import BANDS, Division, SynthesizeConfig
from neuroloom.synthesis.pairs import Pair, find_pairs
from neuroloom.synthesis.pieces import whole_scan
from neuroloom.synthesis.predictions import Predictions
from neuroloom.synthesis.scans import Scan
from neuroloom.synthesis.scoring import score_predictions
from neuroloom.synthesis.synthesize import open_scans, synthesize

logger = logging.getLogger(__name__)
ENDING = ".manifest.json"


def opened(
    rows: Sequence[RecordingRow], aligned: Sequence[Path], eeg: Sequence[Path]
) -> tuple[list[Pair], list[Scan], dict[str, Path]]:
    """Pairs of the sheet, the scans of them that can be used, and the manifests of their EEG by pair."""
    pairs = find_pairs(rows)
    by_pair = {path.name.removesuffix(ENDING): path for path in aligned}
    eeg_by_pair = {path.name.removesuffix(f"_eeg{ENDING}"): path for path in eeg}
    scans, left_out = open_scans([pair for pair in pairs if pair.name in by_pair], by_pair, eeg_by_pair)
    for name, reason in left_out.items():
        logger.warning("%s is left out: %s", name, reason)
    if not scans:
        reason = f"none of {len(pairs)} can be used, the first because {next(iter(left_out.values()), 'there is none')}"
        raise UnusableRecording("pairs of EEG and BOLD", reason, "see the quarantine table")
    return pairs, scans, eeg_by_pair


@contextmanager
def left_out(output: Any, model: str) -> Iterator[None]:
    """Where there is nobody to train on or to test, empty tables and a quarantine manifest instead of a failure."""
    try:
        yield
    except (ConfigError, UnusableRecording) as error:
        logger.warning("%s is left out: %s", model, error)
        for folder in (output.store, output.fitted):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for path in (Path(name) for name in output if str(name).endswith(".parquet")):
            pd.DataFrame().to_parquet(path)
        row = QuarantineRow(model, "synthesize_bold", "pairs of EEG and BOLD", str(error), "see the quarantine table")
        write_quarantine(Path(output.manifest), row)


def predict_scans(
    *,
    model: str,
    division: Division,
    config: SynthesizeConfig,
    rows: Sequence[RecordingRow],
    aligned: Sequence[Path],
    eeg: Sequence[Path],
    encoder: Path | None,
    folds: tuple[int, Sequence[int] | None],
    seed: int,
    keep: Path | None = None,
) -> tuple[Predictions, pd.DataFrame]:
    """Fit a model in each fold of a split, and predict the scans that it has not seen.

    Parameters
    ----------
    model : str
        Of `config.models`.
    division : str
        What is kept apart.
    config : SynthesizeConfig
    rows : sequence of RecordingRow
        The whole sheet.
    aligned, eeg : sequence of Path
        Manifests of the pairs and of their EEG.
    encoder : Path, optional
        Folder of the pretrained model that the settings name.
    folds : tuple
        How many parts people are divided into, and which are tested in turn (all where None).
    seed : int
    keep : Path, optional
        Folder that gets the fitted models.

    Returns
    -------
    predictions : Predictions
    attribution : DataFrame
        `attribution.attribution_table` of the model that is exported, empty for the others.
    """
    pairs, scans, eeg_by_pair = opened(rows, aligned, eeg)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)  # of kinds that are not kept it stays empty
    settings = config.models[model]
    found = synthesize(
        model=settings,
        config=config,
        division=division,
        pairs=pairs,
        sheet=rows,
        scans=scans,
        eeg=eeg_by_pair,
        encoder=encoder,
        n_folds=folds[0],
        folds=folds[1],
        seed=seed,
        keep=keep,
    )
    facts = {"model": model, "kind": settings.kind, "split": division, "folds": found.facts, "seen": sorted(found.seen)}
    goes_with = pd.DataFrame()
    if model == config.export:
        asked: dict[str, Any] = {"model": model, "bands": BANDS, "window": config.window}
        goes_with = attribution_table(found.pieces, found.scans, **asked).assign(split=division)
    return Predictions(found.scans, facts, found.connectivity_SPP), goes_with


def score_scans(
    predictions: Predictions, *, config: SynthesizeConfig, ceiling: Sequence[str], seed: int
) -> dict[str, pd.DataFrame]:
    """Scores with their nulls; see `scoring.score_predictions`.

    Parameters
    ----------
    predictions : Predictions
    config : SynthesizeConfig
    ceiling : sequence of str
        Path of the table of `find_ceiling`, or nothing where no truth is known.
    seed : int
    """
    facts: dict[str, Any] = {name: predictions.facts[name] for name in ("model", "kind", "split")}
    groups, attainable = {}, None
    if ceiling:
        table = pd.read_parquet(ceiling[0])
        first = table[table["scan"] == predictions.scans[0].scan]
        groups = {str(name): list(part["parcel"]) for name, part in first.groupby("group")}
        attainable = {str(name): part["ceiling"].to_numpy() for name, part in table.groupby("scan", sort=False)}
    tables = score_predictions(
        predictions.scans,
        groups=groups,
        ceiling=attainable,
        n_draws=config.n_draws,
        rng=child_rng(seed, f"score/{facts['model']}/{facts['split']}"),
        min_shift=config.least_gap,
        connectivity=predictions.connectivity_SPP,
    )
    more: dict[str, Any] = {"fold": "all", "seed": 0, "seen": bool(predictions.facts["seen"])}
    return {kind: table.assign(**facts, **more) for kind, table in tables.items()}


def find_ceiling(
    *,
    config: SynthesizeConfig,
    rows: Sequence[RecordingRow],
    aligned: Sequence[Path],
    eeg: Sequence[Path],
    simulated: Path,
) -> pd.DataFrame:
    """Ceiling and visibility of each scan and parcel of a simulated study; see `ceiling.ceiling_table`."""
    try:
        _, scans, _ = opened(rows, aligned, eeg)
    except UnusableRecording:
        return pd.DataFrame(columns=CEILING_COLUMNS)
    pieces = [whole_scan(scan, config) for scan in scans]
    bold, field = ({scan.name: _truth(simulated, scan, modality) for scan in scans} for modality in ("bold", "eeg"))
    return ceiling_table(pieces, bold, field)


def _truth(simulated: Path, scan: Scan, modality: str) -> Artifact:
    return open_artifact(simulated / scan.site / "truth" / f"{scan.name}_{modality}{ENDING}", kind="truth")


def export_bold(
    artifact: Artifact, *, rows: Sequence[RecordingRow], bold: Sequence[Path], folder: Path, voxel_mm: float
) -> None:
    """Predicted BOLD of each scan as a 4-D image with a sidecar, in a folder for each site.

    Parameters
    ----------
    artifact : Artifact
        `predictions`.
    rows : sequence of RecordingRow
    bold : sequence of Path
        Manifests of the preprocessed BOLD, which say atlas and space.
    folder : Path
    voxel_mm : float
    """
    from neuroloom.bold.parcels import Parcellation, load_atlas
    from neuroloom.records import ParcelSeries
    from neuroloom.synthesis.export import entities_of, resampled, write_bold_image

    @cache
    def fitted(atlas: str) -> Parcellation:
        return resampled(load_atlas(atlas), voxel_mm)

    predictions = Predictions.from_artifact(artifact)
    row_of = {pair.name: pair.bold for pair in find_pairs(rows)}
    manifest_of = {path.name.removesuffix(ENDING): path for path in bold}
    for scan in predictions.scans:
        row = row_of[scan.scan]
        try:
            series = ParcelSeries.from_artifact(open_artifact(manifest_of[row.recording], kind="bold"))
        except Quarantined:
            continue
        write_bold_image(
            scan.bold_pred_PV,
            scan.bold_std_PV,
            parcellation=fitted(series.atlas),
            t_r=scan.t_r,
            space=series.space,
            folder=folder / row.site,
            entities=entities_of(row),
            description=f"BOLD predicted from EEG by {predictions.facts['model']}, in SDs of training",
            unit="1",
            start_time=float(scan.onset_V[0]),
        )
