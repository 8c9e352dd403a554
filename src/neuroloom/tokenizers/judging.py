"""Tokenizers side by side: what comes back on every device, and what tokens tell of task, person and site.

Each score stands beside its null: reconstruction beside that from another segment's codes, a probe beside shuffled
labels and the majority. `coin` is a label without meaning, drawn for each participant: what a split finds of it is
optimism.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.artifacts import open_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.probes import ProbeResult, identity_probe, linear_probe, missing_row, site_probe
from neuroloom.evaluation.readout import ProbeSettings
from neuroloom.evaluation.splits import (
    PARTS,
    LeakError,
    Split,
    device_of,
    from_json,
    participant_of,
    published_split,
    site_of,
    window_parts,
)
from neuroloom.evaluation.statistics import bootstrap_ci
from neuroloom.manifest import by_recording
from neuroloom.passes.mapping import CorpusMap
from neuroloom.quarantine import Quarantined, UnusableRecording
from neuroloom.records import Array
from neuroloom.tokenizers.base import TokenizerFolder
from neuroloom.tokenizers.scores import code_usage
from neuroloom.tokenizers.showing import atlas_table, example_tables
from neuroloom.tokenizers.tokenized import Asked, Tokenized, judge_recording
from neuroloom.tokenizers.tokens import TokenSet

FEWEST_NUMBERS = 5  # different ones; fewer are names of classes
MEASURES = ("correlation", "correlation_null", "spectral_db", "spectral_db_null")


def judge_devices(
    tested: Sequence[Tokenized], *, step: float, trained: Collection[str], rng: np.random.Generator
) -> pd.DataFrame:
    """One row for each device: what comes back of participants that were not trained on, and what it costs.

    Parameters
    ----------
    tested : sequence of Tokenized
        Recordings of the test.
    step : float
        Between two tokens of one latent, s.
    trained : collection of str
        Devices that have recordings in training or validation.
    rng : np.random.Generator

    Returns
    -------
    DataFrame
        dataset, device, held_out, n_recordings, n_participants, n_segments; correlation and spectral_db with interval
        over participants and null; usage and perplexity of each level; bits per second; encode_speed.
    """
    lines = [
        {
            "dataset": one.row.study,
            "device": device_of(one.row),
            "participant": participant_of(one.row),
            **asdict(one.reconstruction),
        }
        for one in tested
        if one.reconstruction
    ]
    frame = pd.DataFrame(lines)
    rows = []
    for device, part in frame.groupby("device", sort=True):
        members = [one for one in tested if device_of(one.row) == device]
        rows.append(
            {
                "dataset": part["dataset"].iloc[0],
                "device": device,
                "held_out": device not in trained,
                "n_recordings": len(part),
                "n_participants": part["participant"].nunique(),
                "n_segments": int(part["n_segments"].sum()),
                **_averages(part, rng),
                **_usage(members, step),
                "encode_speed": float(part["encode_speed"].median()),
            }
        )
    return pd.DataFrame(rows)


def _averages(part: pd.DataFrame, rng: np.random.Generator) -> dict[str, float]:
    row = {}
    for measure in MEASURES:
        people = part.groupby("participant", sort=True)[measure].mean().reset_index()
        row[measure] = float(people[measure].mean())
        if not measure.endswith("null"):
            interval = bootstrap_ci(partial(_mean_of, measure), people, rng=rng)
            row |= {f"{measure}_low": interval.low, f"{measure}_high": interval.high}
    return row


def _mean_of(column: str, table: pd.DataFrame) -> float:
    return float(table[column].mean())


def _usage(members: Sequence[Tokenized], step: float) -> dict[str, float]:
    n_latents = np.mean([one.n_latents for one in members])
    return code_usage(_counts(members), tokens_per_second=float(n_latents / step))


def _counts(members: Sequence[Tokenized]) -> list[Array]:
    """How often each code of each level occurs in some recordings."""
    return [np.sum(level, axis=0) for level in zip(*(one.counts for one in members), strict=True)]


@dataclass(frozen=True)
class _Windows:
    """All segments of a study as a probe takes them."""

    features: dict[str, Array]
    recordings_W: Array
    participants_W: Array
    sites_W: Array
    starts_W: Array
    labels: dict[str, Array]


def probe_tokens(
    tokenized: Sequence[Tokenized],
    *,
    split: Split,
    n_permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """What can be read off tokens by linear probes.

    Parameters
    ----------
    tokenized : sequence of Tokenized
        All recordings.
    split : Split
        That of the tokenizer: probes are fitted on its training part and tested on participants it never saw.
    n_permutations : int
        Of the labels, for chance.
    rng : np.random.Generator

    Returns
    -------
    DataFrame
        The rows of `evaluation.probes`, with `features` (`histogram` or `embedding`) and `split`: `subject`
        (participants apart), `published` (windows shuffled within participants), `time` and `site`.
    """
    windows = _gather(tokenized, split, rng)
    settings = ProbeSettings(n_permutations=n_permutations)
    parts_W = window_parts(split, windows.recordings_W)
    tables = []
    for name, features_WF in windows.features.items():
        found: list[tuple[str, ProbeResult]] = []
        for target, labels_W in windows.labels.items():
            chosen = _labelled(labels_W, windows.participants_W)
            common: dict[str, Any] = {
                "labels_W": labels_W[chosen],
                "participants_W": windows.participants_W[chosen],
                "recordings_W": windows.recordings_W[chosen],
                "target": target,
                "settings": settings,
                "rng": rng,
            }
            shuffled_W = published_split(windows.participants_W[chosen], rng=rng)
            found.append(("subject", _probe(features_WF[chosen], **common, parts=parts_W[chosen])))
            found.append(("published", _probe(features_WF[chosen], **common, parts=shuffled_W, within=True)))
        people: dict[str, Any] = {"participants_W": windows.participants_W, "rng": rng, "settings": settings}
        place: dict[str, Any] = {"recordings_W": windows.recordings_W, "starts_W": windows.starts_W}
        found.append(("time", identity_probe(features_WF, **people, **place)))
        found.append(("site", site_probe(features_WF, windows.sites_W, **people)))
        tables += [result.table.assign(features=name, split=kind) for kind, result in found]
    return pd.concat(tables, ignore_index=True)


def _probe(features_WF: Array, *, target: str, **options: Any) -> ProbeResult:
    """A probe, or a row that says why a label is too good to be true; the other targets go on."""
    try:
        return linear_probe(features_WF, target=target, **options)
    except LeakError as error:
        return ProbeResult(missing_row(target, str(error)))


def numbers_of(labels_W: Array) -> Array:
    """Labels as numbers, NaN where there is none, if all are numbers and more than a few differ; else as they are."""
    numbers_W = pd.to_numeric(pd.Series(labels_W), errors="coerce").to_numpy(np.float64)
    if np.isnan(numbers_W[labels_W != ""]).any() or len(np.unique(numbers_W[labels_W != ""])) < FEWEST_NUMBERS:
        return labels_W
    return numbers_W


def _known(labels_W: Array) -> Array:
    return np.isfinite(labels_W) if labels_W.dtype.kind == "f" else labels_W != ""


def _labelled(labels_W: Array, participants_W: Array) -> Array:
    """Segments with a label, of participants with enough of them for the published split."""
    known_W = _known(labels_W)
    people, counts = np.unique(participants_W[known_W], return_counts=True)
    return np.flatnonzero(known_W & np.isin(participants_W, people[counts >= 5]))


def _gather(tokenized: Sequence[Tokenized], split: Split, rng: np.random.Generator) -> _Windows:
    features: dict[str, list[Array]] = {}
    columns: dict[str, list[str]] = {name: [] for name in ("recording", "participant", "site", "task", "event")}
    starts: list[Array] = []
    labels: dict[str, list[str]] = {name: [] for one in tokenized for name in one.row.labels}
    for one in tokenized:
        for name, values in one.features.items():
            features.setdefault(name, []).append(values)
        n_segments, row = len(one.start_N), one.row
        facts = {"recording": row.recording, "participant": participant_of(row), "site": site_of(row), "task": row.task}
        for name, value in facts.items():
            columns[name] += [value] * n_segments
        columns["event"] += one.events
        for name in labels:
            labels[name] += [row.labels.get(name, "")] * n_segments
        starts.append(one.start_N)
    people_W = np.array(columns["participant"])
    parts = [sorted(set(people_W) & set(split.people(part))) for part in PARTS]
    parts.append(sorted(set(people_W) - set().union(*parts)))
    sides = {name: side for part in parts for name, side in zip(part, rng.permutation(len(part)) % 2, strict=True)}
    asked = {"task": np.array(columns["task"]), "event": np.array(columns["event"])}
    asked |= {name: np.array(values) for name, values in labels.items()}
    asked["coin"] = np.array(["heads" if sides[name] else "tails" for name in people_W])
    asked = {name: numbers_of(values) for name, values in asked.items()}
    return _Windows(
        features={name: np.concatenate(parts) for name, parts in features.items()},
        recordings_W=np.array(columns["recording"]),
        participants_W=people_W,
        sites_W=np.array(columns["site"]),
        starts_W=np.concatenate(starts),
        labels={name: values for name, values in asked.items() if len(np.unique(values[_known(values)])) > 1},
    )


def usage_table(tokenized: Sequence[Tokenized]) -> pd.DataFrame:
    """How often each code occurs: device, level, code, count."""
    lines = []
    for device in sorted({device_of(one.row) for one in tokenized}):
        members = [one for one in tokenized if device_of(one.row) == device]
        for level, count_K in enumerate(_counts(members), start=1):
            columns = {"device": device, "level": level, "code": np.arange(len(count_K)), "count": count_K}
            lines.append(pd.DataFrame(columns))
    return pd.concat(lines, ignore_index=True)


def judge_tokenizer(
    *,
    folder: Path,
    rows: Sequence[RecordingRow],
    manifests: Sequence[Path],
    tokens: Sequence[Path],
    split_file: Path,
    max_segments: int,
    n_permutations: int,
    rng: np.random.Generator,
    over: CorpusMap = map,
) -> tuple[pd.DataFrame, ...]:
    """All tables of one tokenizer.

    Parameters
    ----------
    folder : Path
        Of the fitted tokenizer.
    rows : sequence of RecordingRow
        The whole sheet.
    manifests : sequence of Path
        Of preprocess_meeg.
    tokens : sequence of Path
        Manifests of encode_tokens, one for each device.
    split_file : Path
    max_segments : int
        Segments of one recording that are reconstructed at most; 0 takes all.
    n_permutations : int
    rng : np.random.Generator
    over : CorpusMap
        Takes the pass over the recordings.

    Returns
    -------
    tokenizers, probes, usage, atlas, examples, spectra : DataFrame
        Empty where no recording of the training or of the test is left.
    """
    try:
        load = TokenizerFolder.at(folder).load
        tokenizer = load()
    except UnusableRecording:  # there was nothing to fit it on, and the quarantine table says why
        return (pd.DataFrame(),) * 6
    split = from_json(split_file.read_text(), file=str(split_file), rows=rows)
    asked = list(_asked(rows, manifests, tokens, split))
    if not any(one.tested for one in asked):
        return (pd.DataFrame(),) * 6
    tokenized = list(over(partial(judge_recording, load, max_segments), asked))
    tested = [one for one in tokenized if one.reconstruction]
    seen = {*split.train, *split.validation}
    trained = {device_of(row) for row in rows if row.recording in seen}
    devices = judge_devices(tested, step=tokenizer.step, trained=trained, rng=rng)
    probes = probe_tokens(tokenized, split=split, n_permutations=n_permutations, rng=rng)
    held_out = list(devices.loc[devices["held_out"], "device"])
    shown = example_tables(tokenizer, tested, held_out=held_out)
    return devices, probes, usage_table(tested), atlas_table(tokenizer, tested), *shown


def _asked(
    rows: Sequence[RecordingRow], manifests: Sequence[Path], tokens: Sequence[Path], split: Split
) -> Iterator[Asked]:
    """Each recording that has tokens."""
    sets: dict[str, tuple[Path, str]] = {}
    for path in tokens:
        with suppress(Quarantined):
            token_set = TokenSet.from_artifact(open_artifact(path, kind="tokens"))
            sets |= dict.fromkeys(token_set.recordings, (path.absolute(), token_set.digest))
    by_name = by_recording(manifests)
    for row in rows:
        if row.recording in sets:
            manifest = by_name[row.recording].absolute()
            yield Asked(row, manifest, *sets[row.recording], tested=row.recording in split.test)
