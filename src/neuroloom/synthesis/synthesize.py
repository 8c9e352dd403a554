"""One model of synthesis in one kind of split: fitted fold by fold, and what it says of every scan that is tested."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import check_contamination
from neuroloom.evaluation.splits import PARTS, Split, site_of, split_subjects, split_within
from neuroloom.evaluation.tasks import leave_site_out
from neuroloom.provenance import child_rng
from neuroloom.quarantine import Quarantined, UnusableRecording
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.synthesis.base import Context, fit_model
from neuroloom.synthesis.config import Division, SynthesizeConfig
from neuroloom.synthesis.fitted import save_fitted
from neuroloom.synthesis.pairs import Pair
from neuroloom.synthesis.pieces import Piece, nuisance, parts_of_scan, scaled, target_scale, whole_scan
from neuroloom.synthesis.predicted import Predicted
from neuroloom.synthesis.scans import Scan, open_scan
from neuroloom.training.checkpoint import CARD, read_card

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Synthesis:
    """What one model says.

    Attributes
    ----------
    scans : list of Predicted
        Those that were tested, in units of training.
    pieces : dict
        Scan -> what was predicted of it.
    connectivity_SPP : dict
        Scan -> correlation matrix, of models that say one besides their prediction.
    facts : list of dict
        Of each fold: its name, numbers of scans and people, what validation chose.
    seen : set of str
        Participants of the test whom the pretrained model has met.
    """

    scans: list[Predicted]
    pieces: dict[str, Piece]
    connectivity_SPP: dict[str, Array]
    facts: list[dict[str, Any]]
    seen: set[str]


def open_scans(
    pairs: Sequence[Pair], aligned: Mapping[str, Path], eeg: Mapping[str, Path]
) -> tuple[list[Scan], dict[str, str]]:
    """Scans that can be used, and why the others cannot.

    Parameters
    ----------
    pairs : sequence of Pair
    aligned, eeg : mapping
        Pair -> manifest of align_pair, and of the preprocessed EEG.
    """
    scans, left_out = [], {}
    for pair in pairs:
        try:
            scans.append(open_scan(aligned[pair.name], eeg[pair.name], pair))
        except (Quarantined, UnusableRecording) as error:
            left_out[pair.name] = str(error)
    labels = {tuple(scan.parcels) for scan in scans}
    if len(labels) > 1:
        raise ConfigError(f"scans have {len(labels)} sets of parcels: bring all to one atlas (preprocess.bold.atlas)")
    return scans, left_out


def divide(
    division: Division,
    rows: Sequence[RecordingRow],
    *,
    sheet: Sequence[RecordingRow],
    n_folds: int,
    folds: Sequence[int] | None,
) -> Iterator[Split]:
    """Splits of recordings, one for each fold.

    Parameters
    ----------
    division : str
        `subject`, `site` or `session`; parts of one scan need no split of recordings.
    rows : sequence of RecordingRow
        EEG of the pairs.
    sheet : sequence of RecordingRow
        All recordings, so that people are in the folds that the rest of the study has them in.
    n_folds : int
        That people are divided into.
    folds : sequence of int, optional
        Which are tested in turn; all where None.
    """
    counts = {"site": len({site_of(row) for row in rows}), "session": len({row.session for row in rows})}
    count = counts.get(division, n_folds)
    for fold in range(count) if folds is None else folds:
        if division == "subject":
            yield split_subjects(sheet, n_folds=n_folds, fold=fold)
        elif division == "site":
            yield leave_site_out(rows, fold=fold, asked="the synthesis", setting="synthesize.folds")
        else:
            yield split_within(rows, by="session", fold=fold)


def synthesize(
    *,
    model: Any,
    config: SynthesizeConfig,
    division: Division,
    pairs: Sequence[Pair],
    sheet: Sequence[RecordingRow],
    scans: Sequence[Scan],
    eeg: Mapping[str, Path],
    encoder: Path | None,
    n_folds: int,
    folds: Sequence[int] | None,
    seed: int,
    keep: Path | None = None,
) -> Synthesis:
    """Fit a model in each fold, and predict the scans that it has not seen.

    Parameters
    ----------
    model : one of `config.SynthesizerConfig`
    config : SynthesizeConfig
    division : str
        What is kept apart.
    pairs : sequence of Pair
        Of the scans.
    sheet : sequence of RecordingRow
        All recordings of the study.
    scans : sequence of Scan
    eeg : mapping
        Scan -> manifest of its EEG.
    encoder : Path, optional
        Folder of the pretrained model that `model` names.
    n_folds, folds
        As in `divide`.
    seed : int
    keep : Path, optional
        Folder that gets the fitted models (`fitted.save_fitted`).

    Raises
    ------
    ConfigError
        If there are too few people (sites, sessions, volumes) for the split.
    ContaminationError
        If the encoder has seen people of the test, and that is not allowed.
    """
    kept: dict[Any, Any] = {}
    predicted, pieces, connectivity, facts, seen = [], {}, {}, [], set()
    for name, parts in _parts(division, config, pairs, sheet, scans, n_folds, folds):
        if encoder is not None:
            known = division in ("session", "scan")
            seen |= _met(encoder, pairs, parts["test"], allowed=config.allow_seen_subjects or known)
        rng = child_rng(seed, f"synthesize/{division}/{name}/{model.kind}")
        context = Context(config, rng, eeg, encoder, kept)
        fitted = fit_model(model, parts, context)
        if keep is not None:
            row_of = {pair.name: pair.eeg for pair in pairs}
            used = [(piece.scan, row_of[piece.scan.name]) for part in PARTS[:2] for piece in parts[part]]
            save_fitted(fitted, keep, model=model, config=config, fold=name, trained=used, encoder=encoder)
        counts = {part: len({piece.scan.participant for piece in parts[part]}) for part in PARTS}
        facts.append({"fold": name, **{f"n_{part}": count for part, count in counts.items()}, **fitted.facts})
        logger.info("fold %s: %s", name, facts[-1])
        for piece in parts["test"]:
            pieces[piece.scan.name] = piece
            predicted.append(_predicted(piece, *fitted.predict(piece)))
            if hasattr(fitted, "connectivity"):
                connectivity[piece.scan.name] = fitted.connectivity(piece)
    return Synthesis(predicted, pieces, connectivity, facts, seen)


def _parts(
    division: Division,
    config: SynthesizeConfig,
    pairs: Sequence[Pair],
    sheet: Sequence[RecordingRow],
    scans: Sequence[Scan],
    n_folds: int,
    folds: Sequence[int] | None,
) -> Iterator[tuple[str, dict[str, list[Piece]]]]:
    """Name and pieces of each fold, in units of its training part."""
    if division == "scan":
        of_scan = [parts_of_scan(scan, config) for scan in scans]
        yield "end of scan", _scaled({part: [pieces[part] for pieces in of_scan] for part in PARTS})
        return
    whole = {scan.name: whole_scan(scan, config) for scan in scans}
    row_of = {pair.name: pair.eeg for pair in pairs}
    piece_of = {row_of[scan.name].recording: whole[scan.name] for scan in scans}
    rows = [row_of[scan.name] for scan in scans]
    for split in divide(division, rows, sheet=sheet, n_folds=n_folds, folds=folds):
        parts = {part: [piece_of[one] for one in split.recordings(part) if one in piece_of] for part in PARTS}
        if empty := [part for part in PARTS if not parts[part]]:
            raise ConfigError(
                f"split by {division}, fold {split.fold}: nobody with EEG and BOLD for {', '.join(empty)}; record more "
                "people, or ask fewer folds (synthesize.folds)"
            )
        yield split.fold, _scaled(parts)


def _scaled(parts: dict[str, list[Piece]]) -> dict[str, list[Piece]]:
    scale_P = target_scale(parts["train"])
    return {part: [scaled(piece, scale_P) for piece in pieces] for part, pieces in parts.items()}


def _met(encoder: Path, pairs: Sequence[Pair], tested: Sequence[Piece], *, allowed: bool) -> set[str]:
    names = {piece.scan.name for piece in tested}
    rows = [pair.eeg for pair in pairs if pair.name in names]
    found = check_contamination(read_card(encoder), rows, allow_seen_subjects=allowed, file=str(encoder / CARD))
    return {participant for participant, met in found.items() if met}


def _predicted(piece: Piece, mean_PN: Array, sd_PN: Array) -> Predicted:
    """The prediction in the band of the target, beside what was measured; NaN where that is."""
    scan, lost_P = piece.scan, ~np.isfinite(piece.target_PN).all(axis=1)
    banded_PN = np.array(piece.filtered(np.asarray(mean_PN, float)))
    banded_PN[lost_P] = np.nan
    return Predicted(
        scan=scan.name,
        participant=scan.participant,
        site=scan.site,
        task=scan.task,
        parcels=list(scan.parcels),
        centroid_P3=scan.centroid_P3,
        t_r=scan.t_r,
        onset_V=piece.onset_N,
        bold_true_PV=piece.target_PN,
        bold_pred_PV=banded_PN,
        bold_std_PV=np.where(lost_P[:, None], np.nan, sd_PN),
        nuisance_VM=nuisance(piece)[1],
    )
