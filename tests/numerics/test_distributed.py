"""Passes over a corpus give the same bits in threads, in processes of a Dask cluster, and where workers are killed."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.config import RecordingRow
from neuroloom.evaluation.splits import split_subjects, to_json
from neuroloom.passes.config import Placement
from neuroloom.passes.mapping import CorpusMap, corpus_map
from neuroloom.provenance import file_digest
from neuroloom.tokenizers.base import TokenizerFolder
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig, LipcotConfig
from neuroloom.tokenizers.fitting import fit_tokenizer, open_segments
from neuroloom.tokenizers.judging import judge_tokenizer
from neuroloom.tokenizers.segments import Segments
from neuroloom.tokenizers.tokens import encode_device
from neuroloom.training.checkpoint import write_card

from ..conftest import make_recording

SFREQ, WINDOW = 100.0, 4.0
LIPCOT = LipcotConfig(order=8, vocabulary=12, step=2.0, n_init=2, max_iter=50)
NETWORK = BrainTokenizerConfig(
    window_length=64, n_filters=4, ratios=(4, 2), embed_dim=16, num_heads=2, n_latents=4, codebook_size=16
)
FACTS = {"name": "mine", "fold": 0, "device": "s-a-eeg", "overlap": 0.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two recordings of each of six people, of different lengths."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    rows, manifests = [], {}
    for at in range(12):
        row = RecordingRow(study="s", site="a", subject=f"{at // 2}", task="ab"[at % 2], modality="eeg", path="x")
        recording = make_recording(rng, n_channels=12, sfreq=SFREQ, seconds=60.0 + 4 * at)
        attrs = {**recording.attrs(), "recording": row.recording}
        store = folder / f"{row.recording}.zarr"
        write_artifact(store, "recording", arrays=recording.arrays(), attrs=attrs, window=round(WINDOW * SFREQ))
        rows.append(row)
        manifests[row.recording] = folder / f"{row.recording}.manifest.json"
    split = folder / "split.json"
    split.write_text(to_json(split_subjects(rows, n_folds=3, fold=0)))
    return {"rows": rows, "manifests": manifests, "split_file": split, "folder": folder}


@pytest.fixture(scope="module")
def network(study: dict[str, Any]) -> Path:
    torch.manual_seed(3)
    folder = study["folder"] / "network"
    BrainTokenizer(NETWORK, SFREQ).eval().save(folder)
    write_card(folder, {"architecture": "braintokenizer"})
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as found:
        yield found


def everything(study: dict[str, Any], network: Path, folder: Path, over: CorpusMap) -> dict[str, Any]:
    """Digests of a fitted tokenizer and its tokens, of a network's tokens, of the scale of channels, and scores."""
    given = {name: study[name] for name in ("rows", "manifests", "split_file")}
    rng = np.random.default_rng(1)
    fit_tokenizer(config=LIPCOT, sfreq=SFREQ, folder=folder, salt="s", threads=1, rng=rng, over=over, **given)
    found: dict[str, Any] = {"tokenizer": file_digest(folder / "model.safetensors")}
    paths = list(study["manifests"].values())
    corpus, _ = open_segments(paths, sfreq=SFREQ, stage="encode_tokens", over=over)
    for kind, place in (("lipcot", folder), ("braintokenizer", network)):
        load = TokenizerFolder.at(place).load
        tokens = encode_device(load(), corpus, kind=kind, load=load, over=over, **FACTS)
        store = folder / f"{kind}.zarr"
        made = write_artifact(store, "tokens", arrays=tokens.arrays(), attrs=tokens.attrs(), window=1)
        found[kind] = made["digest"]
    scaled, _ = open_segments(paths, sfreq=SFREQ, stage="pretrain_model", preparation="reve", over=over)
    found["scale"] = [[values.tobytes() for values in one._scale or ()] for one in scaled]
    tables = judge_tokenizer(
        folder=folder,
        rows=study["rows"],
        manifests=paths,
        tokens=[folder / "lipcot.manifest.json"],
        split_file=study["split_file"],
        max_segments=3,
        n_permutations=20,
        rng=np.random.default_rng(2),
        over=over,
    )
    tables[0].pop("encode_speed")  # seconds
    return found | {"tables": [table.to_csv() for table in tables]}


@pytest.fixture(scope="module")
def expected(study: dict[str, Any], network: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return everything(study, network, tmp_path_factory.mktemp("expected"), map)


def test_threads_change_nothing(study: dict[str, Any], network: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    with corpus_map(Placement(threads=3)) as over:
        assert everything(study, network, tmp_path, over) == expected


def test_two_processes_change_nothing(
    study: dict[str, Any], network: Path, expected: dict[str, Any], cluster: Any, tmp_path: Path
) -> None:
    with corpus_map(Placement(scheduler="address", address=cluster.scheduler_address)) as over:
        assert everything(study, network, tmp_path, over) == expected


def test_a_worker_that_is_killed_in_every_pass_changes_nothing(
    study: dict[str, Any], network: Path, expected: dict[str, Any], cluster: Any, tmp_path: Path
) -> None:
    killed: list[tuple[int, bool]] = []

    def killing(over: CorpusMap) -> CorpusMap:
        def mapped(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            results = iter(over(function, items))
            yield next(results)
            killed.append(kill_a_worker(cluster))
            yield from results

        return mapped

    with corpus_map(Placement(scheduler="address", address=cluster.scheduler_address)) as over:
        assert everything(study, network, tmp_path, killing(over)) == expected
    assert len({pid for pid, _ in killed}) == 8  # three of the fit, and open, encode, encode, open, judge
    assert any(busy for _, busy in killed)


def kill_a_worker(cluster: Any) -> tuple[int, bool]:
    """Kill -9 a worker, one that has something to do if there is one: its process, and whether it had."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        pids, tasks = client.run(os.getpid, on_error="ignore"), client.processing()
        busy = [address for address in pids if tasks.get(address)]
        pid = pids[(busy or list(pids))[0]]
        os.kill(pid, signal.SIGKILL)
        return pid, bool(busy)


def test_stores_opened_in_threads_leave_the_codecs_of_writing(study: dict[str, Any]) -> None:
    """Those of reading write the chunks of a shard in the order in which threads end: equal tokens in other bytes."""
    import zarr

    before = zarr.config.get("codec_pipeline.path")
    with corpus_map(Placement(threads=4)) as over:
        for _ in range(10):
            list(over(open_signal, study["manifests"].values()))
    assert zarr.config.get("codec_pipeline.path") == before


def open_signal(manifest: Path) -> Any:
    return open_artifact(manifest)["signal"]


def test_what_travels_is_small(study: dict[str, Any]) -> None:
    """A recording goes to a worker as places and numbers: what it weighs does not grow with its signal."""
    from distributed.protocol import serialize

    segments, _ = open_segments(study["manifests"].values(), sfreq=SFREQ, stage="encode_tokens")
    signals = sum(one.n_channels * one.n_times * len(one) * 4 for one in segments)
    frames = [frame for one in segments for frame in serialize(one)[1]]
    assert isinstance(segments[0], Segments)
    assert sum(len(frame) for frame in frames) < signals / 10
    assert max(len(frame) for frame in frames) < 16_000
