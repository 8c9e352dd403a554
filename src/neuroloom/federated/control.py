"""What whoever runs a federation asks of the SuperLink: to take sites, and to run an app.

The calls are Flower's Control interface (protobuf over HTTPS), as its `flwr` command makes them; that command takes a
second of imports for each.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from neuroloom.federated.processes import FederationError, Server, tail

if TYPE_CHECKING:
    from flwr.proto.run_pb2 import Run as WireRun
    from google.protobuf.message import Message

Answer = TypeVar("Answer", bound="Message")
LOOK_SECONDS = (0.3, 5.0)  # least and most between two looks whether a run has ended
LOOK_SHARE = 0.05  # of the time that it has run
CALL_SECONDS = 60.0
FRAME_BYTES = 4  # length of a message in a stream
COLOUR = re.compile(r"\x1b\[\d+m")
FINISHED = "finished"


@dataclass(frozen=True)
class EndedRun:
    """How a run ended.

    Attributes
    ----------
    run_id : int
    status : str
        `completed`, `failed` or `stopped`.
    details : str
        Why it failed.
    log : str
        Of the ServerApp.
    n_bytes : int
        Sent and received by the SuperNodes.
    """

    run_id: int
    status: str
    details: str
    log: str
    n_bytes: int

    @property
    def completed(self) -> bool:
        """Whether the ServerApp ran to its end."""
        return self.status == "completed"


def register_sites(superlink: Server, keys: Mapping[str, Path]) -> dict[str, int]:
    """Let the SuperNodes with these public keys take part; others are turned away.

    Parameters
    ----------
    superlink : Server
    keys : mapping
        Name of the site -> its public key, as OpenSSH writes it.

    Returns
    -------
    dict
        Name of the site -> node id.

    Raises
    ------
    FederationError
        If a key is registered already.
    """
    from cryptography.hazmat.primitives import serialization
    from flwr.proto.control_pb2 import RegisterNodeRequest, RegisterNodeResponse

    nodes = {}
    for site, path in keys.items():
        key = serialization.load_ssh_public_key(path.read_bytes())
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        request = RegisterNodeRequest(public_key=pem, name=site)
        nodes[site] = _call(superlink, "register-node", request, RegisterNodeResponse()).node_id
    return nodes


def run_app(superlink: Server, app: Path, *, server_file: Path, timeout: float = float("inf")) -> EndedRun:
    """Run an app on the federation, and wait for its end.

    Parameters
    ----------
    superlink : Server
    app : Path
        Folder with the `pyproject.toml` of a Flower app.
    server_file : Path
        What its ServerApp reads as `context.run_config["server-file"]`.
    timeout : float
        Seconds after which the run is stopped.

    Raises
    ------
    FederationError
        If it is not taken, or takes too long, or the SuperLink is lost.
    """
    run_id = _submit(superlink, app, {"server-file": str(server_file.resolve())})
    begin = time.monotonic()
    try:
        while (run := _look(superlink, run_id)).status.status != FINISHED:
            if (passed := time.monotonic() - begin) > timeout:
                raise FederationError(f"{app}: run {run_id} was stopped after {timeout:g} s\n{tail(superlink)}")
            time.sleep(min(max(passed * LOOK_SHARE, LOOK_SECONDS[0]), LOOK_SECONDS[1]))
    except BaseException:
        _end(superlink, run_id)
        raise
    end = run.status
    return EndedRun(run_id, end.sub_status, end.details, _log(superlink, run_id), run.bytes_sent + run.bytes_recv)


def _submit(superlink: Server, app: Path, config: Mapping[str, str]) -> int:
    from flwr.cli.build import build_fab_from_disk
    from flwr.common.serde import user_config_to_proto
    from flwr.proto.control_pb2 import StartRunRequest, StartRunResponse
    from flwr.proto.fab_pb2 import Fab

    content = build_fab_from_disk(app)
    fab = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
    request = StartRunRequest(fab=fab, override_config=user_config_to_proto(dict(config)))
    answer = _call(superlink, "start-run", request, StartRunResponse())
    if not answer.HasField("run_id"):
        raise FederationError(f"{app}: the SuperLink did not take the run: {answer.note}\n{tail(superlink)}")
    return answer.run_id


def _look(superlink: Server, run_id: int) -> WireRun:
    from flwr.proto.control_pb2 import ListRunsRequest, ListRunsResponse

    return _call(superlink, "list-runs", ListRunsRequest(run_id=run_id), ListRunsResponse()).run_dict[run_id]


def _end(superlink: Server, run_id: int) -> None:
    """Stop a run, if there still is somebody to tell."""
    from flwr.proto.control_pb2 import StopRunRequest, StopRunResponse

    with suppress(FederationError):
        _call(superlink, "stop-run", StopRunRequest(run_id=run_id), StopRunResponse())


def _log(superlink: Server, run_id: int) -> str:
    """The log of a run that has ended."""
    from flwr.proto.control_pb2 import StreamLogsRequest, StreamLogsResponse

    stream = _post(superlink, "stream-logs", StreamLogsRequest(run_id=run_id, after_timestamp=0.0))
    pieces = []
    while stream:
        size = int.from_bytes(stream[:FRAME_BYTES], "big")
        message, stream = stream[FRAME_BYTES : FRAME_BYTES + size], stream[FRAME_BYTES + size :]
        pieces.append(StreamLogsResponse.FromString(message).log_output)
    return COLOUR.sub("", "".join(pieces))


def _call(superlink: Server, call: str, request: Message, answer: Answer) -> Answer:
    """One question, one answer."""
    answer.ParseFromString(_post(superlink, call, request))
    return answer


def _post(superlink: Server, call: str, request: Message) -> bytes:
    import httpx

    context = ssl.create_default_context(cafile=str(superlink.authority))
    url = f"https://{superlink.address}/v1/control/{call}"
    kinds = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    try:
        with httpx.Client(verify=context, timeout=CALL_SECONDS, trust_env=False) as client:
            answer = client.post(url, content=request.SerializeToString(), headers=kinds).raise_for_status()
    except httpx.HTTPStatusError as error:
        raise FederationError(f"{url}: {error.response.text}\n{tail(superlink)}") from error
    except httpx.HTTPError as error:
        raise FederationError(f"{url}: no answer ({error}); is the SuperLink running?\n{tail(superlink)}") from error
    return answer.content
