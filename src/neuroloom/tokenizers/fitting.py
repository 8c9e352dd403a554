"""From the stores of a study to a fitted tokenizer with its card."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.artifacts import open_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import seen_subjects
from neuroloom.evaluation.splits import Split, from_json
from neuroloom.manifest import SUFFIX
from neuroloom.passes.mapping import CorpusMap
from neuroloom.quarantine import Quarantined, QuarantineRow, UnusableRecording
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.base import tokenizer_class
from neuroloom.tokenizers.config import BrainTokenizerConfig, LipcotConfig
from neuroloom.tokenizers.segments import Preparation, Segments
from neuroloom.training.checkpoint import CARD, SETTINGS, WEIGHTS, run_folder, write_card
from neuroloom.training.processes import set_threads

logger = logging.getLogger(__name__)
FILES = (WEIGHTS, SETTINGS, CARD)  # of a fitted tokenizer


def open_segments(
    manifests: Iterable[Path],
    *,
    sfreq: float,
    stage: str,
    limit: int = 0,
    preparation: Preparation = "brainomni",
    duration: float | None = None,
    over: CorpusMap = map,
) -> tuple[list[Segments], pd.DataFrame]:
    """Segments of the recordings that can be tokenized, and a quarantine row for each of the others.

    Parameters
    ----------
    manifests : iterable of Path
        Of preprocess_meeg; those that it quarantined are passed over, as they have their row already.
    sfreq : float
        Hz.
    stage : str
        Name of the rule, for the rows.
    limit : int
        Segments of one recording at most; 0 takes all.
    preparation, duration
        As in `Segments`.
    over : CorpusMap
        Takes the pass over the recordings, which finds the scale of each channel where the preparation wants it.

    Raises
    ------
    UnusableRecording
        If no recording is left.
    """
    options = {"sfreq": sfreq, "limit": limit, "preparation": preparation, "duration": duration}
    found = list(over(partial(_open_one, Path.cwd(), stage, options), manifests))
    corpus = [one for one in found if isinstance(one, Segments)]
    lost = [asdict(one) for one in found if isinstance(one, QuarantineRow)]
    for row in lost:
        logger.warning("left out: %s: %s", row["recording"], row["reason"])
    if not corpus:
        first = lost[0] if lost else {"reason": "all were quarantined before", "remedy": "see the quarantine table"}
        reason = f"none can be tokenized: {first['reason']}"
        raise UnusableRecording(f"{len(found)} recordings", reason, str(first["remedy"]))
    return corpus, pd.DataFrame(lost, columns=list(QuarantineRow.__dataclass_fields__)).astype("string")


def _open_one(base: Path, stage: str, options: Mapping[str, Any], manifest: Path) -> Segments | QuarantineRow | None:
    """Segments of a recording, or why there are none, which an earlier stage may have told.

    Paths are from `base`, also on a worker that started elsewhere.
    """
    try:
        return Segments(open_artifact(base / manifest, kind="recording"), **options)
    except Quarantined:
        return None
    except UnusableRecording as error:
        file = Path(error.file)
        shown = file.relative_to(base) if file.is_relative_to(base) else file
        return QuarantineRow(manifest.name.removesuffix(SUFFIX), stage, str(shown), error.reason, error.remedy)


def fit_tokenizer(
    *,
    config: LipcotConfig | BrainTokenizerConfig,
    sfreq: float,
    rows: Sequence[RecordingRow],
    manifests: Mapping[str, Path],
    split_file: Path,
    folder: Path,
    salt: str,
    threads: int,
    rng: np.random.Generator,
    over: CorpusMap = map,
) -> None:
    """Fit a tokenizer on the training part of a split and save it with its card.

    Parameters
    ----------
    config : LipcotConfig or BrainTokenizerConfig
    sfreq : float
        Rate of the cleaned recordings, Hz, where the config asks for no other.
    rows : sequence of RecordingRow
        The whole sheet.
    manifests : mapping
        Recording -> manifest of preprocess_meeg.
    split_file : Path
    folder : Path
        Gets model.safetensors, config.json and card.json.
    salt : str
        Of the hashed names of the people in the card.
    threads : int
    rng : np.random.Generator
    over : CorpusMap
        Takes passes over the corpus.

    Raises
    ------
    UnusableRecording
        If no recording of the training part can be used.
    """
    set_threads(threads)
    split = from_json(split_file.read_text(), file=str(split_file), rows=rows)
    if weights := getattr(config, "weights", None):
        copy_weights(Path(weights), folder)
        return
    sfreq = config.sfreq or sfreq
    parts = {part: _corpus(part, split, manifests, sfreq, over) for part in ("train", "validation")}
    tokenizer = tokenizer_class(config.kind)(config, sfreq)  # type: ignore[call-arg]
    settings = [config.model_dump(), sfreq, [one.digest for part in parts.values() for one in part]]
    with run_folder(folder, settings) as run:
        facts = tokenizer.fit(parts["train"], validation=parts["validation"], over=over, rng=rng, folder=run)
        tokenizer.save(folder)
    data = {segments.recording: segments.digest for part in parts.values() for segments in part}
    seen = [row for row in rows if row.recording in data]
    write_card(folder, card_of(kind=config.kind, fold=split.fold, facts=facts, data=data, seen=seen, salt=salt))


def card_of(
    *, kind: str, fold: str, facts: dict[str, Any], data: dict[str, str], seen: Sequence[RecordingRow], salt: str
) -> dict[str, Any]:
    """What is told of finished weights: what they are, and on which stores and people they were trained."""
    return {
        "architecture": kind,
        "fold": fold,
        "facts": facts,
        "data": data,
        "salt": salt,
        "seen_subjects": seen_subjects(seen, salt=salt),
    }


def copy_weights(source: Path, folder: Path) -> None:
    """Put imported weights (`neuroloom import-weights`) in the place of trained ones."""
    import shutil

    missing = [name for name in FILES if not (source / name).exists()]
    if missing:
        raise ConfigError(f"{source}: no {', '.join(missing)}; make the folder with neuroloom import-weights")
    for name in FILES:
        shutil.copy(source / name, folder / name)


def _corpus(part: str, split: Split, manifests: Mapping[str, Path], sfreq: float, over: CorpusMap) -> list[Segments]:
    chosen = [manifests[name] for name in split.recordings(part) if name in manifests]
    with nothing_to_validate_on(part, split):
        return open_segments(chosen, sfreq=sfreq, stage="fit_tokenizer", over=over)[0]
    return []


@contextmanager
def nothing_to_validate_on(part: str, split: Split) -> Iterator[None]:
    """Where a part of a split has no usable recording: for the validation a warning, else an error that names it."""
    try:
        yield
    except UnusableRecording as error:
        if part != "validation":
            raise UnusableRecording(f"{part} of fold {split.fold}", error.reason, error.remedy) from error
        logger.warning("nothing to validate on: %s", error)


def write_unfitted(folder: Path, error: UnusableRecording) -> None:
    """Say in place of a tokenizer why there is none, so that the rest of the study goes on."""
    facts = {"unusable": {"file": error.file, "reason": error.reason, "remedy": error.remedy}}
    (folder / SETTINGS).write_text(json.dumps(facts, indent=1) + "\n")
    (folder / CARD).write_text(json.dumps(facts, indent=1) + "\n")
    (folder / WEIGHTS).touch()
