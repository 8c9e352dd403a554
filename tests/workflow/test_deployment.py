"""A federation of separate processes with a toy app: who takes part, who does not, and that nothing is left running."""

import importlib
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from neuroloom.federated.control import EndedRun, register_sites, run_app
from neuroloom.federated.credentials import ServerCredentials, make_authority, make_site_key
from neuroloom.federated.deployment import (
    CLIENT_APP,
    Federation,
    await_taken,
    federation,
    start_gateway,
    start_superlink,
    start_supernode,
)
from neuroloom.federated.processes import FederationError, Server, Service, await_start, free_port, start, stop

VALUES = {
    "demo/north": (1.0, 10),
    "demo/south": (2.0, 20),
    "west": (4.0, 30),
}  # what a site adds in a round, and its weight
STEP = sum(value * weight for value, weight in VALUES.values()) / sum(weight for _, weight in VALUES.values())
NEAR, FAR = "198.18.77.1", "198.18.77.2"  # of the range that is set aside for tests of networks
FAR_VALUE = 100.0
PYPROJECT = """
[project]
name = "toyapp"
version = "0.1.0"
dependencies = ["flwr==1.41.0"]
[tool.flwr.app]
publisher = "neuroloom"
[tool.flwr.app.components]
serverapp = "toyapp.server:app"
clientapp = "toyapp.client:app"
[tool.flwr.app.config]
server-file = ""
"""
CLIENT = """
import json
import os
from pathlib import Path
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    site = json.loads(Path(str(context.node_config["site-file"])).read_text())
    arrays = {name: Array(array.numpy() + site["value"]) for name, array in message.content["arrays"].items()}
    metrics = MetricRecord({"num-examples": site["weight"], "process": os.getpid()})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)
"""
INTRUDER = """
from pathlib import Path
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    site_file = Path(str(context.node_config["site-file"]))
    site_file.with_suffix(".stolen").write_text(site_file.read_text())
    raise RuntimeError("this code is not of the site")
"""
SERVER = """
import json
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from neuroloom.federated.prompt import PromptGrid

app = ServerApp()

@app.main()
def main(grid, context):
    file = Path(str(context.run_config["server-file"]))
    wanted = json.loads(file.read_text())
    n_sites = wanted["n_sites"]
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n_sites, min_available_nodes=n_sites)
    arrays = ArrayRecord({"weights": Array(np.zeros(3, np.float32))})
    result = strategy.start(PromptGrid(grid), arrays, num_rounds=wanted["rounds"], timeout=120.0)
    metrics = {number: dict(record) for number, record in result.train_metrics_clientapp.items()}
    weights = result.arrays["weights"].numpy().tolist()
    file.with_suffix(".result").write_text(json.dumps({"weights": weights, "rounds": metrics}))
"""


def write_app(folder: Path, client: str = CLIENT) -> Path:
    (folder / "toyapp").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    for name, text in (("__init__", ""), ("client", client), ("server", SERVER)):
        (folder / "toyapp" / f"{name}.py").write_text(text)
    return folder


def left_running(folder: Path) -> list[str]:
    """Processes whose FLWR_HOME lies in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLWR_HOME", "").startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


class Sites:
    """A running federation of three sites, and how to ask something of it."""

    def __init__(self, folder: Path, running: Federation, app: Path) -> None:
        self.folder, self.running, self.app = folder, running, app
        self.credentials = folder / "federation" / "credentials"

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.app)}

    def run(
        self, name: str, *, rounds: int = 1, n_sites: int = 3, app: Path | None = None, timeout: float = 600.0
    ) -> tuple[EndedRun, dict[str, Any]]:
        server_file = self.folder / f"{name}.json"
        server_file.write_text(json.dumps({"rounds": rounds, "n_sites": n_sites}))
        run = run_app(self.running.superlink, app or self.app, server_file=server_file, timeout=timeout)
        assert run.completed, run.log
        return run, json.loads(server_file.with_suffix(".result").read_text())

    def node(self, site: str, *, key: Path, server: str | None = None, wrapper: tuple[str, ...] = ()) -> Service:
        site_file = self.folder / f"{site}.json"
        if not site_file.exists():
            site_file.write_text(json.dumps({"value": FAR_VALUE, "weight": 1}))
        return start_supernode(
            self.folder / "federation" / "sites" / site,
            site=site,
            server=server or self.running.gateway.address,
            authority=self.running.gateway.authority,
            key=key,
            site_file=site_file,
            app="toyapp.client:app",
            wrapper=wrapper,
            environment=self.environment(),
        )

    def plain_node(self, name: str, *words: str) -> Service:
        """Flower's own SuperNode."""
        words = ("--superlink", self.running.gateway.address, "--port", str(free_port()), *words)
        return start(name, ["flower-supernode", "--isolation", "process", *words], self.folder / "federation" / name)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("deployment")
    app = write_app(folder / "app")
    files = {}
    for site, (value, weight) in VALUES.items():
        files[site] = folder / f"{Path(site).name}.json"
        files[site].write_text(json.dumps({"value": value, "weight": weight}))
    with federation(
        folder / "federation", files, app="toyapp.client:app", hosts=[NEAR], environment={"PYTHONPATH": str(app)}
    ) as running:
        yield Sites(folder, running, app)
    assert left_running(folder) == []


def test_sites_train_together(sites: Sites) -> None:
    run, result = sites.run("together", rounds=3)
    assert list(result["rounds"]) == ["1", "2", "3"]
    assert len({metrics["process"] for metrics in result["rounds"].values()}) == 1  # what a site loads, it keeps
    assert result["weights"] == pytest.approx([3 * STEP] * 3, rel=1e-6)
    assert "Received 3 results and 0 failures" in run.log
    assert run.n_bytes > 3 * 3 * 2 * 12  # rounds, sites, there and back, three values


def test_a_site_runs_its_own_code_and_not_what_is_sent(sites: Sites, tmp_path: Path) -> None:
    _, result = sites.run("intruder", app=write_app(tmp_path / "app", INTRUDER))
    assert result["weights"] == pytest.approx([STEP] * 3, rel=1e-6)
    assert not list(sites.folder.glob("*.stolen"))
    unpacked = {path.relative_to(sites.folder / "federation").parts[0] for path in sites.folder.rglob("apps/*/toyapp")}
    assert unpacked == {"superlink"}


def test_strangers_are_turned_away(sites: Sites) -> None:
    """A key that is not registered, no key, no TLS, a server of another authority: none takes part in the next run."""
    gateway, superlink = sites.running.gateway, sites.running.superlink
    unknown = sites.node("unknown", key=make_site_key(sites.credentials, "unknown").private)
    keyless = sites.plain_node("keyless", "--root-certificates", str(gateway.authority))
    untrusting = sites.plain_node("untrusting", "--auth-supernode-private-key", str(sites.credentials / "unknown.key"))
    unencrypted = sites.plain_node("unencrypted", "--insecure")
    try:
        with pytest.raises(FederationError, match=r"exit code 1(.|\n)*Failed to activate SuperNode"):
            await_taken(unknown)
        with pytest.raises(FederationError, match=r"exit code 1(.|\n)*404 Not Found(.|\n)*register-node"):
            await_taken(keyless)
        with pytest.raises(FederationError, match=r"exit code 1(.|\n)*CERTIFICATE_VERIFY_FAILED"):
            await_taken(untrusting)
        await_start(unencrypted, lambda: unencrypted.text().count("Connection attempt failed, retrying") >= 2)
        run, result = sites.run("strangers")
        assert "SuperNode ID" not in unencrypted.text()
    finally:
        stop(unknown, keyless, untrusting, unencrypted, grace=0)
    assert "No SuperNode found with the given public key" in superlink.text()
    assert "Sampled 3 nodes (out of 3)" in run.log
    assert result["weights"] == pytest.approx([STEP] * 3, rel=1e-6)


def test_a_site_with_no_way_but_to_the_gateway(sites: Sites) -> None:
    """In a network of its own a site trains, and reaches neither the SuperLink nor anything to fetch from."""
    key = make_site_key(sites.credentials, "island")
    files = [sites.credentials / name for name in ("server.crt", "server.key", "authority.crt")]
    with network_namespace() as wrapper:
        gateway = start_gateway(
            sites.folder / "federation" / "ferry", sites.running.superlink, ServerCredentials(*files), host=NEAR
        )
        register_sites(sites.running.superlink, {"island": key.public})
        island = sites.node("island", key=key.private, server=gateway.address, wrapper=wrapper)
        try:
            await_taken(island)
            assert reached(wrapper, gateway.address) == "reached"
            assert "refused" in reached(wrapper, sites.running.superlink.address)
            assert "unreachable" in reached(wrapper, "192.0.2.1:443")
            _, result = sites.run("island_too", n_sites=4)
        finally:
            stop(island)  # it takes leave through the gateway
            stop(gateway)
    total = sum(value * weight for value, weight in VALUES.values()) + FAR_VALUE
    assert result["weights"] == pytest.approx([total / (60 + 1)] * 3, rel=1e-6)


def test_a_run_that_takes_too_long_is_stopped(sites: Sites) -> None:
    with pytest.raises(FederationError, match=r"stopped after 4 s"):
        sites.run("waits_for_a_hundred_sites", n_sites=100, timeout=4.0)


def test_a_killed_site_is_missed_and_comes_back_as_itself(sites: Sites) -> None:
    before = await_taken(sites.running.supernodes["west"])
    stop(sites.running.supernodes["west"], grace=0)
    run, result = sites.run("without_west", n_sites=2)
    asked = re.findall(r"Sampled \d nodes \(out of ([23])\)", run.log)
    assert len(asked) == 1, run.log  # 2 where the server missed it before it asked, as on a slow machine
    assert f"Received 2 results and {int(asked[0]) - 2} failures" in run.log, run.log
    assert result["weights"] == pytest.approx([(1.0 * 10 + 2.0 * 20) / 30] * 3, rel=1e-6)
    sites.running.supernodes["west"] = sites.node("west", key=sites.credentials / "west.key")
    assert await_taken(sites.running.supernodes["west"]) == before
    _, result = sites.run("comeback")
    assert result["weights"] == pytest.approx([STEP] * 3, rel=1e-6)


@pytest.mark.parametrize("call", ["control/list-runs", "runtime/acquire-task"])
def test_the_gateway_shows_what_supernodes_call_and_nothing_else(sites: Sites, call: str) -> None:
    """Without the gateway, these are answered to whoever asks."""
    assert answer(sites.running.superlink, call) == 200
    assert answer(sites.running.gateway, call) == 404
    assert answer(sites.running.gateway, f"fleet/..%2F{call}") == 404
    assert answer(sites.running.gateway, "fleet/register-node") == 404
    assert answer(sites.running.gateway, "fleet/pull-messages") == 401  # no signature


def test_what_is_sent_to_sites_holds_no_code(repository: Path) -> None:
    content = build_fab_from_disk(repository / "resources" / "federation")
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        assert bundle.namelist() == ["pyproject.toml", ".info/CONTENT"]
        components = tomllib.loads(bundle.read("pyproject.toml").decode())["tool"]["flwr"]["app"]["components"]
    for name, kind in (("clientapp", ClientApp), ("serverapp", ServerApp)):
        module, attribute = components[name].split(":")
        assert isinstance(getattr(importlib.import_module(module), attribute), kind)
    assert components["clientapp"] == CLIENT_APP


def test_an_interrupted_federation_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    started = []

    def interrupted() -> None:
        with federation(Path("here"), {}):
            started.extend(left_running(tmp_path))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(started) == 3  # SuperLink, what it started, gateway
    assert left_running(tmp_path) == []


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    wrong = ServerCredentials(authority.certificate, tmp_path / "server.key", authority.certificate)
    with pytest.raises(FederationError, match=r"superlink ended at its start with exit code 1(.|\n)*ssl-keyfile"):
        start_superlink(tmp_path / "superlink", wrong)


@contextmanager
def network_namespace() -> Iterator[tuple[str, ...]]:
    """A network namespace that is linked to this one, and to nothing else: the words that run a command in it."""
    name = f"neuroloom{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    link = ["ip", "link", "add", "neuroloom0", "type", "veth", "peer", "name", "neuroloom1", "netns", name]
    made = [
        ["ip", "netns", "add", name],
        link,
        ["ip", "address", "add", f"{NEAR}/30", "dev", "neuroloom0"],
        ["ip", "link", "set", "neuroloom0", "up"],
        [*inside, "ip", "address", "add", f"{FAR}/30", "dev", "neuroloom1"],
        [*inside, "ip", "link", "set", "neuroloom1", "up"],
        [*inside, "ip", "link", "set", "lo", "up"],
    ]
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces are made by root, with the ip command")
    try:
        for words in made:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{' '.join(words)}: {done.stderr.strip()}")
        yield inside
    finally:
        subprocess.run(["ip", "link", "delete", "neuroloom0"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def reached(wrapper: tuple[str, ...], address: str) -> str:
    """What comes of a connection from within a network namespace."""
    host, port = address.rsplit(":", 1)
    program = (
        "import socket, sys\n"
        "try:\n    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close(); print('reached')\n"
        "except OSError as error:\n    print(str(error).lower())"
    )
    words = [*wrapper, sys.executable, "-c", program, host, port]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def answer(server: Server, call: str) -> int:
    """HTTP status of an empty call."""
    context = ssl.create_default_context(cafile=str(server.authority))
    headers = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    request = urllib.request.Request(f"https://{server.address}/v1/{call}", b"", headers)
    try:
        with urllib.request.urlopen(request, context=context, timeout=60) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
