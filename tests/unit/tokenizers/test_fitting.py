"""From stores to a tokenizer with its card, its tokens and the tables that it is judged by."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.contamination import check_contamination
from neuroloom.evaluation.splits import LeakError, split_subjects, to_json
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Events
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.base import load_tokenizer
from neuroloom.tokenizers.config import LipcotConfig
from neuroloom.tokenizers.fitting import copy_weights, fit_tokenizer, open_segments, write_unfitted
from neuroloom.tokenizers.judging import judge_tokenizer
from neuroloom.tokenizers.tokens import encode_device

from ...conftest import make_recording

SFREQ, WINDOW = 100.0, 4.0
CONFIG = LipcotConfig(order=4, vocabulary=6, step=2.0, n_init=1, max_iter=50)


def row_of(site: str, subject: str, task: str) -> RecordingRow:
    return RecordingRow(study="s", site=site, subject=subject, task=task, modality="eeg", path="x")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Two sites of three people; `still` is slow and `busy` is fast, so that tokens tell them apart."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    rows, manifests = [], {}
    for site in ("a", "b"):
        for subject in ("01", "02", "03"):
            # what a person is known by; it differs between channels, or the average reference would take it out
            rhythm_CT = 4e-6 * rng.standard_normal((6, 1)) * np.sin(rng.uniform(0.4, 2) * np.arange(4800))
            for task in ("still", "busy"):
                row = row_of(site, subject, task)
                recording = make_recording(rng, n_channels=6, sfreq=SFREQ, seconds=48.0)
                signal = recording.signal_CT + rhythm_CT
                if task == "busy":
                    strength_T = np.repeat(rng.uniform(0.3, 2.0, 12), round(WINDOW * SFREQ))
                    signal = signal + strength_T * np.diff(signal, prepend=0)
                events = Events(np.array([0.0]), np.array([24.0]), ["first half"])
                recording = replace(recording, signal_CT=signal.astype(np.float32), events=events)
                path = folder / f"{row.recording}.zarr"
                attrs = {**recording.attrs(), "recording": row.recording}
                write_artifact(path, "recording", arrays=recording.arrays(), attrs=attrs, window=round(WINDOW * SFREQ))
                rows.append(row)
                manifests[row.recording] = folder / f"{row.recording}.manifest.json"
    split = folder / "split.json"
    split.write_text(to_json(split_subjects(rows, n_folds=3, fold=0)))
    return {"rows": rows, "manifests": manifests, "split_file": split, "folder": folder}


@pytest.fixture(scope="module")
def fitted(study: dict) -> Path:
    folder = study["folder"] / "lipcot"
    keys = ("rows", "manifests", "split_file")
    common = {key: study[key] for key in keys}
    rng = np.random.default_rng(1)
    fit_tokenizer(config=CONFIG, sfreq=SFREQ, folder=folder, salt="s", threads=1, rng=rng, **common)
    return folder


@pytest.fixture(scope="module")
def tables(study: dict, fitted: Path) -> dict[str, pd.DataFrame]:
    tokenizer, tokens = load_tokenizer(fitted), []
    for site in ("a", "b"):
        paths = [path for name, path in study["manifests"].items() if name.startswith(f"s_{site}_")]
        corpus, _ = open_segments(paths, sfreq=SFREQ, stage="encode_tokens")
        facts = {"name": "lipcot", "kind": "lipcot", "fold": 0, "device": f"s-{site}-eeg", "overlap": 0.0}
        found = encode_device(tokenizer, corpus, **facts)
        write_artifact(fitted / f"{site}.zarr", "tokens", arrays=found.arrays(), attrs=found.attrs(), window=1)
        tokens.append(fitted / f"{site}.manifest.json")
    made = judge_tokenizer(
        folder=fitted,
        rows=study["rows"],
        manifests=list(study["manifests"].values()),
        tokens=tokens,
        split_file=study["split_file"],
        max_segments=3,
        n_permutations=40,
        rng=np.random.default_rng(2),
    )
    return dict(zip(("tokenizers", "probes", "usage", "atlas", "examples", "spectra"), made, strict=True))


def test_the_card_names_exactly_who_was_seen(study: dict, fitted: Path) -> None:
    card = json.loads((fitted / "card.json").read_text())
    people = {(row.site, row.subject) for row in study["rows"] if row.recording in card["data"]}
    assert len(card["seen_subjects"]) == len(people) == 4  # the two of fold 0 are not among them
    tested = [row for row in study["rows"] if row.recording not in card["data"]]
    assert not any(check_contamination(card, tested, allow_seen_subjects=False).values())
    with pytest.raises(LeakError):
        check_contamination(card, study["rows"], allow_seen_subjects=False)
    assert card["data"] == {name: open_artifact(study["manifests"][name]).digest for name in card["data"]}


def test_devices_are_judged_on_people_that_were_not_fitted_on(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["tokenizers"]
    assert list(table["device"]) == ["s-a-eeg", "s-b-eeg"]
    assert (table["n_participants"] == 1).all()
    assert (table["n_segments"] == 6).all()
    assert not table["held_out"].any()
    # LiPCoT keeps the spectrum and no phase
    assert (table["correlation"].abs() < 0.1).all()
    assert (table["spectral_db"] < 4).all()
    assert (table["bits_per_second"] == 6 * np.log2(6) / 2).all()
    assert (table["entropy_bits_per_second"] <= table["bits_per_second"]).all()


def test_probes_find_what_is_there_and_not_what_is_not(tables: dict[str, pd.DataFrame]) -> None:
    probes = tables["probes"].query("probe == 'linear' and metric == 'balanced_accuracy'")
    task = probes.query("target == 'task' and split == 'subject'")
    assert (task["score"] > 0.9).all()
    assert set(task["features"]) == {"histogram", "embedding"}
    # a label without meaning is at chance between people, and above it where windows of one person are on both sides
    coin = probes.query("target == 'coin'").groupby("split")["chance"].mean()
    assert coin["subject"] < 0.6 < coin["published"]
    assert set(probes["split"]) == {"subject", "published", "time", "site"}
    assert "majority" in set(tables["probes"]["probe"])


def test_usage_atlas_and_examples_are_of_the_tokens(tables: dict[str, pd.DataFrame]) -> None:
    usage = tables["usage"]
    assert usage.groupby("device")["count"].sum().to_dict() == {"s-a-eeg": 2 * 12 * 6 * 2, "s-b-eeg": 2 * 12 * 6 * 2}
    atlas = tables["atlas"]
    shares = atlas.groupby("code")["share"].first()
    assert shares.sum() == pytest.approx(1.0)
    assert atlas["frequency"].between(1, 45).all()
    assert set(tables["examples"]["device"]) == set(tables["spectra"]["device"]) == {"s-a-eeg", "s-b-eeg"}


def test_a_recording_that_cannot_be_tokenized_gets_a_row_and_the_others_go_on(study: dict, tmp_path: Path) -> None:
    recording = make_recording(np.random.default_rng(3), n_channels=4, sfreq=SFREQ, seconds=8.0)
    lost = replace(recording, loc_C12=np.full_like(recording.loc_C12, np.nan))
    write_artifact(tmp_path / "lost.zarr", "recording", arrays=lost.arrays(), attrs=lost.attrs(), window=400)
    paths = [tmp_path / "lost.manifest.json", next(iter(study["manifests"].values()))]
    corpus, table = open_segments(paths, sfreq=SFREQ, stage="encode_tokens")
    assert len(corpus) == 1
    assert table["recording"].tolist() == ["lost"]
    assert "no position" in table["reason"][0]
    with pytest.raises(UnusableRecording, match="none can be tokenized: no position"):
        open_segments(paths[:1], sfreq=SFREQ, stage="encode_tokens")


def test_a_fold_without_training_recordings_leaves_a_reason(study: dict, tmp_path: Path) -> None:
    common = {"config": CONFIG, "sfreq": SFREQ, "folder": tmp_path, "salt": "s", "threads": 1}
    with pytest.raises(UnusableRecording, match="train of fold 0: none can be tokenized") as error:
        fit_tokenizer(
            rows=study["rows"], manifests={}, split_file=study["split_file"], rng=np.random.default_rng(0), **common
        )
    write_unfitted(tmp_path, error.value)
    with pytest.raises(UnusableRecording, match="train of fold 0"):
        load_tokenizer(tmp_path)
    nothing = {"manifests": [], "tokens": [], "max_segments": 0, "n_permutations": 20, "rng": np.random.default_rng(0)}
    tables = judge_tokenizer(folder=tmp_path, rows=study["rows"], split_file=study["split_file"], **nothing)
    assert [len(table) for table in tables] == [0] * 6


def test_imported_weights_need_their_three_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model\.safetensors, config\.json, card\.json"):
        copy_weights(tmp_path, tmp_path / "out")
