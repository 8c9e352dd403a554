"""Where passes over a corpus run: the order of results, what is under way, and what is refused before there is work."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401  its part of the config has to be there before it is changed
import pytest
import torch

from neuroloom.manifest import read_manifest
from neuroloom.passes.config import Placement
from neuroloom.passes.mapping import ClusterError, corpus_map, in_order, installed
from neuroloom.passes.mapping import _check_worker as check_worker
from neuroloom.provenance import child_rng, file_digest
from neuroloom.quarantine import Quarantined, QuarantineRow, UnusableRecording, write_quarantine
from neuroloom.tokenizers.base import kind_of
from neuroloom.tokenizers.fitting import write_unfitted


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One worker in a process of its own, on the loopback interface."""
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as found,
    ):
        yield found


def at(address: str) -> Placement:
    return Placement(scheduler="address", address=address)


def later_is_faster(item: float) -> float:
    time.sleep(0.2 - item)
    return item


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    items = [0.0, 0.1, 0.15, 0.05]
    with corpus_map(Placement(threads=threads)) as over:
        assert list(over(later_is_faster, items)) == items


def test_no_more_results_than_asked_for_wait_to_be_taken() -> None:
    submitted: list[int] = []

    def submit(function: Callable[[int], int], item: int) -> Future[int]:
        submitted.append(item)
        future: Future[int] = Future()
        future.set_result(function(item))
        return future

    found = in_order(submit, abs, range(20), ahead=3)
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(submitted) == 5 + 3
    assert list(found) == [*range(5, 20)]


def test_a_pass_computes_with_one_thread_and_gives_the_others_back() -> None:
    with corpus_map(Placement(threads=2)) as over:
        found = over(lambda _: torch.get_num_threads(), range(3))
        assert [next(found) for _ in range(3)] == [1, 1, 1]  # who counts does not ask for the end
        assert torch.get_num_threads() == 2


def test_an_error_stops_the_pass() -> None:
    done: list[float] = []
    with corpus_map(Placement(threads=2)) as over, pytest.raises(ZeroDivisionError):
        list(over(lambda item: done.append(1 / item), [1, 0, *[1] * 50]))
    assert len(done) < 10


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9", "127.0.0.1"])
def test_a_scheduler_that_cannot_be_reached_is_told_before_there_is_work(address: str) -> None:
    started = time.monotonic()
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ClusterError, match=rf"dask.address {address}: no Dask scheduler .* set dask.scheduler: threads"),
        corpus_map(at(address)),
    ):
        pass
    assert time.monotonic() - started < 10


def test_processes_that_train_together_keep_to_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with corpus_map(at("tcp://127.0.0.1:9")) as over:
        assert list(over(abs, [-1])) == [1]


def test_an_address_has_to_be_named() -> None:
    with pytest.raises(ValueError, match="scheduler: address needs an address"):
        Placement(scheduler="address")


def test_a_cluster_gives_results_in_order_from_another_process(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SCHEDULER", cluster.scheduler_address)
    with corpus_map(at("${MY_SCHEDULER:-tcp://127.0.0.1:9}")) as over:
        found = list(over(partial(child_rng, 1), map(str, range(20))))
        assert next(over(os.readlink, ["/proc/self"])) != str(os.getpid())
    assert [rng.random() for rng in found] == [child_rng(1, str(item)).random() for item in range(20)]


def test_a_task_reads_files_by_itself(cluster: Any) -> None:
    with corpus_map(at(cluster.scheduler_address)) as over:
        assert list(over(file_digest, [Path(__file__)])) == [file_digest(Path(__file__))]


def test_why_a_recording_is_unusable_comes_back_whole(cluster: Any, tmp_path: Path) -> None:
    row = QuarantineRow("r", "ingest_meeg", "r.edf", "it is cut off", "fetch it again")
    write_quarantine(tmp_path / "r.manifest.json", row)
    unusable = UnusableRecording("3 recordings", "none has a position", "give a montage")
    write_unfitted(tmp_path, unusable)
    with corpus_map(at(cluster.scheduler_address)) as over:
        with pytest.raises(Quarantined, match=r"r\.edf: it is cut off\. fetch it again") as quarantined:
            next(over(read_manifest, [tmp_path / "r.manifest.json"]))
        with pytest.raises(UnusableRecording, match=str(unusable)) as error:
            next(over(kind_of, [tmp_path]))
    assert quarantined.value.row == row
    assert (error.value.file, error.value.reason, error.value.remedy) == (
        unusable.file,
        unusable.reason,
        unusable.remedy,
    )


def test_a_worker_with_other_code_is_refused() -> None:
    wanted = {**dict(installed("neuroloom.manifest")), "numpy": "1.0", "code": "0123456789ab"}
    message = r"worker on .* has code [0-9a-f]{12}, not 0123456789ab; numpy [0-9.]+, not 1\.0\. Start workers from"
    with pytest.raises(ClusterError, match=message):
        check_worker("neuroloom.manifest", tuple(sorted(wanted.items())))
    check_worker("neuroloom.manifest", installed("neuroloom.manifest"))


def test_a_recording_that_kills_workers_is_told(cluster: Any) -> None:
    with (
        corpus_map(at(cluster.scheduler_address)) as over,
        pytest.raises(ClusterError, match="workers died at one recording, most often for want of memory"),
    ):
        list(over(os._exit, [1]))


def test_tls_and_its_certificates_come_from_the_config_of_dask() -> None:
    from distributed import LocalCluster
    from distributed.security import Security

    security = Security.temporary()
    options = {"n_workers": 1, "processes": False, "host": "127.0.0.1", "dashboard_address": ":0"}
    with LocalCluster(security=security, protocol="tls://", **options) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with pytest.raises(ClusterError, match="no Dask scheduler can be used there"), corpus_map(at(address)):
            pass
        parts = security.get_tls_config_for_role("client")
        files = {"ca-file": parts["ca_file"], "client.cert": parts["cert"], "client.key": parts["key"]}
        with (
            dask.config.set({f"distributed.comm.tls.{name}": value for name, value in files.items()}),
            corpus_map(at(address)) as over,
        ):
            assert list(over(abs, [-1])) == [1]
