"""The real app in processes of its own, behind TLS: the numbers of one process, faults of a site, a killed server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.federation import federation, no_memory, set_up

from neuroloom.federated.client import forget
from neuroloom.federated.control import run_app
from neuroloom.federated.deploying import APP, deployed
from neuroloom.federated.deployment import federation as started
from neuroloom.federated.processes import FederationError, stop
from neuroloom.federated.server import STATE, last_state, serve
from neuroloom.federated.wire import digest

__all__ = ["federation", "no_memory", "set_up"]
ROOT = Path(__file__).parents[2]
HANGS = 900.0  # s after which a run would not end at all


def names(setup: Any) -> dict[str, Path]:
    return {file.site: path for file, path in zip(setup.files, setup.paths, strict=True)}


def labelled(setup: Any) -> dict[str, Path]:
    return {site.replace("/", "-"): path for site, path in names(setup).items()}


def numbers(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What has to be the same however the messages went."""
    kept = ("round", "site", "status", "loss", "validation", "update_norm", "started_from")
    return sorted(tuple(row[name] for name in kept) for row in result["rounds"])


def test_processes_behind_tls_find_what_one_process_finds(set_up: Callable[..., Any], tmp_path: Path) -> None:
    """Every loss, every norm, every score and every bit of the weights."""
    one, many = set_up("personal", name="one"), set_up("personal", name="many")
    here = serve(one.grid(), one.server)
    forget()
    there = deployed(tmp_path / "deployed", names(many), many.server)
    assert numbers(there) == numbers(here)
    assert there["scores"] == here["scores"]
    assert digest(last_state(many.server)) == digest(last_state(one.server))


def test_each_fault_of_a_site_is_named_and_the_rounds_go_on(set_up: Callable[..., Any], tmp_path: Path) -> None:
    """Not a number, huge, another shape, stale, an exception, killed by -9, and silent: one in each round."""
    setup, server_file = set_up("fedavg", rounds=8), tmp_path / "server.json"
    variables = {"PYTHONPATH": str(ROOT), "FAULTY_SLEEP": f"{HANGS:g}"}
    began = time.monotonic()
    with started(tmp_path / "parts", labelled(setup), app="tests.faulty:app", environment=variables) as parts:
        # in the first round sites load libraries, as they did just now, however busy this machine is
        wait = max(round(2 * (time.monotonic() - began)), 12)
        patient = setup.server.run.settings.model_copy(update={"timeout": wait})
        server = setup.server.model_copy(update={"run": setup.server.run.model_copy(update={"settings": patient})})
        server_file.write_text(server.model_dump_json())
        run = run_app(parts.superlink, APP, server_file=server_file, timeout=HANGS)
    assert run.completed, run.log
    result = json.loads((Path(setup.server.state) / "result.json").read_text())
    bad = {row["round"]: row for row in result["rounds"] if row["site"] not in ("s/north", "s/west")}
    assert {number: row["status"] for number, row in bad.items()} == {
        1: "refused",
        2: "refused",
        3: "refused",
        4: "refused",
        5: "failed",
        6: bad[6]["status"],
        7: "absent",
        8: bad[8]["status"],
    }
    assert bad[6]["status"] in ("absent", "failed")  # by which wait is over first
    reasons = {
        1: "not finite",
        2: "norm",
        3: "declared",
        4: "stale",
        5: "the disk of the hospital is full",
        7: f"{wait} s",
    }
    for number, reason in reasons.items():
        assert reason in bad[number]["reason"], number
    for site in ("s/north", "s/west"):
        used = [row["round"] for row in result["rounds"] if row["site"] == site and row["status"] == "used"]
        assert used == list(range(1, 9))


def test_a_killed_server_goes_on_and_a_site_joins_late(set_up: Callable[..., Any], tmp_path: Path) -> None:
    """kill -9 of the SuperLink with all its processes after two rounds; the third site comes for the last rounds."""
    setup = set_up("fedavg", rounds=4)
    server_file = tmp_path / "server.json"
    server_file.write_text(setup.server.model_dump_json())
    first = dict(list(labelled(setup).items())[:2])
    lost: list[BaseException] = []

    def run(superlink: Any) -> None:
        try:
            run_app(superlink, APP, server_file=server_file, timeout=HANGS)
        except FederationError as error:
            lost.append(error)

    with started(tmp_path / "first", first, environment={"OMP_NUM_THREADS": "1"}) as parts:
        thread = threading.Thread(target=run, args=(parts.superlink,))
        thread.start()
        limit = time.monotonic() + HANGS
        while done(setup) < 2 and time.monotonic() < limit:
            time.sleep(0.05)
        stop(parts.superlink, grace=0)  # kill -9 of it and of all that it started
        thread.join(60)
    assert lost
    before = done(setup)
    assert 2 <= before < 4
    result = deployed(tmp_path / "second", names(setup), setup.server)
    by_site = {site: [row["round"] for row in result["rounds"] if row["site"] == site] for site in names(setup)}
    assert by_site["s/north"] == by_site["s/south"] == [1, 2, 3, 4]
    assert by_site["s/west"] == list(range(before + 1, 5))
    assert set(result["scores"]) == {"s/north", "s/south", "s/west"}


def done(setup: Any) -> int:
    path = Path(setup.server.state) / STATE
    return int(json.loads(path.read_text())["done"]) if path.exists() else 0
