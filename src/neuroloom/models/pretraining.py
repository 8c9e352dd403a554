"""From the stores of a study to a pretrained model with its curve and its card."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.config import RecordingRow
from neuroloom.evaluation.splits import Split, from_json
from neuroloom.manifest import by_recording
from neuroloom.models.base import Corpus, Encoder, model_class
from neuroloom.models.config import BrainOmniConfig, ReveConfig, parse_model
from neuroloom.passes.config import Placement
from neuroloom.passes.mapping import CorpusMap, corpus_map
from neuroloom.provenance import child_rng
from neuroloom.quarantine import UnusableRecording
from neuroloom.tokenizers.base import load_tokenizer
from neuroloom.tokenizers.fitting import (
    card_of,
    copy_weights,
    nothing_to_validate_on,
    open_segments,
    write_unfitted,
)
from neuroloom.tokenizers.tokens import TokenSet, open_token_sets
from neuroloom.training.checkpoint import read_card, run_folder, write_card
from neuroloom.training.processes import is_first, set_threads

METRICS = "metrics.parquet"


def pretrain_or_say_why(*, folder: Path, **given: Any) -> None:
    """Pretrain a model (`pretrain_model`); where there is nothing to train it on, its folder says so."""
    try:
        pretrain_model(folder=folder, **given)
    except UnusableRecording as error:
        if is_first(os.environ):
            write_unfitted(folder, error)
            write_no_curve(folder)


def pretrain_from(settings: Mapping[str, Any]) -> None:
    """Pretrain a model as its rule says, in words of JSON: what each task of `srun` does on its own (`run_tasks`)."""
    plain = dict(settings)
    with corpus_map(Placement(**plain.pop("dask"))) as over:
        pretrain_or_say_why(
            config=parse_model(plain.pop("config")),
            rows=[RecordingRow(**row) for row in plain.pop("rows")],
            manifests=by_recording(plain.pop("manifests")),
            tokenizer=next((Path(path).parent for path in plain.pop("tokenizer")), None),
            tokens=[Path(path) for path in plain.pop("tokens")],
            split_file=Path(plain.pop("split_file")),
            folder=Path(plain.pop("folder")),
            rng=child_rng(plain.pop("seed"), plain.pop("entity")),
            over=over,
            **plain,
        )


def pretrain_model(
    *,
    config: ReveConfig | BrainOmniConfig,
    sfreq: float,
    rows: Sequence[RecordingRow],
    manifests: Mapping[str, Path],
    tokenizer: Path | None,
    tokens: Sequence[Path],
    split_file: Path,
    folder: Path,
    salt: str,
    threads: int,
    rng: np.random.Generator,
    over: CorpusMap = map,
) -> None:
    """Pretrain a model on the training part of a split and save it with its curve and card.

    A run that was killed leaves its checkpoints beside the model, and goes on from there.

    Parameters
    ----------
    config : ReveConfig or BrainOmniConfig
    sfreq : float
        Rate of the cleaned recordings, Hz, where neither config nor tokenizer ask for another.
    rows : sequence of RecordingRow
        The whole sheet.
    manifests : mapping
        Recording -> manifest of preprocess_meeg.
    tokenizer : Path or None
        Folder of the fitted tokenizer that the config names.
    tokens : sequence of Path
        Manifests of its encode_tokens.
    split_file : Path
    folder : Path
        Gets model.safetensors, config.json, card.json and metrics.parquet.
    salt : str
        Of the hashed names of the people in the card.
    threads : int
    rng : np.random.Generator
    over : CorpusMap
        Takes the pass over the recordings that finds the scale of their channels.

    Raises
    ------
    UnusableRecording
        If no recording of the training part can be used.
    """
    set_threads(threads)
    split = from_json(split_file.read_text(), file=str(split_file), rows=rows)
    if config.weights:
        if is_first(os.environ):
            copy_weights(Path(config.weights), folder)
            write_no_curve(folder)
        return
    seed = int(rng.integers(2**31))
    reader = load_tokenizer(tokenizer) if tokenizer else None
    kind: type[Encoder] = model_class(config.kind)
    rate = reader.sfreq if reader else getattr(config, "sfreq", None) or sfreq
    model = kind.create(config, sfreq=rate, tokenizer=reader, seed=seed)
    asked = [row for row in rows if row.modality in config.modalities]
    fewer = _share(asked, split, config.share)
    sets = open_token_sets(tokens)
    parts = {
        part: _corpus(part, split, chosen, manifests, model, sets if tokenizer else None, over)
        for part, chosen in (("train", fewer), ("validation", asked))
    }
    data = _digests(parts)
    settings = [config.model_dump(), seed, rate, data]
    with run_folder(folder, settings) as run:
        facts = model.pretrain(parts["train"], parts["validation"], rng=rng, folder=run)
        if not is_first(os.environ):
            return
        model.save(folder)
        shutil.move(run / METRICS, folder / METRICS)
    names = {name for part in parts.values() for name in part.recordings}
    seen = [row for row in rows if row.recording in names]
    card = card_of(kind=config.kind, fold=split.fold, facts=facts, data=data, seen=seen, salt=salt)
    card["recordings"] = {part: len(corpus.recordings) for part, corpus in parts.items()}
    if tokenizer:
        card["upstream"] = [_upstream(tokenizer)]
    write_card(folder, card)


def _share(rows: Sequence[RecordingRow], split: Split, share: float) -> list[RecordingRow]:
    """A share of the training recordings, at least one; a smaller share is part of a larger one."""
    rng = child_rng(0, f"share of fold {split.fold}")  # the same for all models
    trained = [row for row in rows if row.recording in split.train]
    chosen = rng.permutation(len(trained))[: max(round(share * len(trained)), 1)]
    return [trained[at] for at in sorted(chosen)]


def _corpus(
    part: str,
    split: Split,
    rows: Sequence[RecordingRow],
    manifests: Mapping[str, Path],
    model: Encoder,
    tokens: Sequence[TokenSet] | None,
    over: CorpusMap,
) -> Corpus:
    """Recordings of a part: their signals, or their tokens for a model that reads these."""
    names = {row.recording for row in rows} & set(split.recordings(part))
    with nothing_to_validate_on(part, split):
        if tokens is not None:
            kept = names & {name for one in tokens for name in one.recordings}
            if not kept:
                raise UnusableRecording(f"{len(names)} recordings", "none has tokens", "see the quarantine table")
            return Corpus(tokens=tokens, recordings=frozenset(kept))
        chosen = [manifests[name] for name in sorted(names) if name in manifests]
        found = open_segments(
            chosen,
            sfreq=model.sfreq,
            stage="pretrain_model",
            preparation=model.preparation,
            duration=getattr(model.config, "segment", None),
            over=over,
        )[0]
        return Corpus(segments=found, recordings=frozenset(one.recording for one in found))
    return Corpus()


def _digests(parts: Mapping[str, Corpus]) -> dict[str, str]:
    """Digests of the stores that are read: of recordings, or of devices' tokens."""
    segments = {one.recording: one.digest for part in parts.values() for one in part.segments}
    return segments | {one.device: one.digest for part in parts.values() for one in part.tokens}


def _upstream(folder: Path) -> dict[str, Any]:
    """Whom the tokenizer under a model has seen: the model has seen them, too."""
    card = read_card(folder)
    return {name: card[name] for name in ("architecture", "salt", "seen_subjects") if name in card}


def write_no_curve(folder: Path) -> None:
    """An empty curve, of a model that was not trained here."""
    import pandas as pd

    pd.DataFrame({"step": pd.Series(dtype="int64")}).to_parquet(folder / METRICS)


if __name__ == "__main__":
    pretrain_from(json.loads(Path(sys.argv[1]).read_text()))
