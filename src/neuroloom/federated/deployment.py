"""Flower as separate processes: a SuperLink behind TLS and a gateway, a SuperNode per site, and runs of an app on them.

What is started here comes from the environment of this Python, fetches nothing and reports nothing (`processes`), and
is ended with everything that it started.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from neuroloom.federated.control import register_sites
from neuroloom.federated.credentials import ServerCredentials, make_authority, make_server_certificate, make_site_key
from neuroloom.federated.node import POLL_SECONDS
from neuroloom.federated.processes import (
    LOOPBACK,
    Server,
    Service,
    await_start,
    free_port,
    start,
    stop,
    terminated_like_interrupted,
)

CLIENT_APP = "neuroloom.federated.client:app"
IN_MEMORY = ":flwr-in-memory:"
TASK_POLL = "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"
TASK_SECONDS = 0.2  # between two looks for a task of a process beside
TAKEN = re.compile(r"SuperNode ID: (\d+)")


@dataclass(frozen=True)
class Federation:
    """A SuperLink, the gateway that sites reach it through, and their SuperNodes by name of the site."""

    superlink: Server
    gateway: Server
    supernodes: dict[str, Service]


def start_superlink(
    folder: Path,
    credentials: ServerCredentials,
    *,
    port: int | None = None,
    database: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start a SuperLink on loopback that takes registered SuperNodes only, and wait until it answers.

    Parameters
    ----------
    folder : Path
        Its working folder.
    credentials : ServerCredentials
    port : int, optional
        A free one where none is given.
    database : Path, optional
        Where it keeps keys and runs; one that was killed goes on with it. Without one, it keeps them in memory and is
        twice as fast.
    environment : mapping
        Variables for it and the ServerApp.

    Raises
    ------
    FederationError
        If it ends, or does not answer.
    """
    port = port or free_port()
    words = ["flower-superlink", "--host", LOOPBACK, "--port", str(port), "--enable-supernode-auth"]
    words += [
        "--disable-runtime-dependency-installation",
        "--database",
        str(database.resolve()) if database else IN_MEMORY,
    ]
    words += ["--ssl-certfile", str(credentials.certificate.resolve())]
    words += ["--ssl-keyfile", str(credentials.key.resolve())]
    words += ["--ssl-ca-certfile", str(credentials.authority.resolve())]
    variables = {TASK_POLL: str(TASK_SECONDS), **(environment or {})}
    return _start_server("superlink", words, folder, LOOPBACK, port, credentials, variables)


def start_gateway(
    folder: Path, superlink: Server, credentials: ServerCredentials, *, host: str = LOOPBACK, port: int | None = None
) -> Server:
    """Start the gateway that sites reach a SuperLink through, and wait until it answers.

    Parameters
    ----------
    folder : Path
        Its working folder.
    superlink : Server
    credentials : ServerCredentials
        For the name or address of `host`.
    host, port : str, int
        What it listens on; a free port where none is given.

    Raises
    ------
    FederationError
        If it ends, or does not answer.
    """
    port = port or free_port(host)
    words = ["python", "-m", "neuroloom.federated.gateway", "--host", host, "--port", str(port)]
    words += ["--superlink", superlink.address, "--authority", str(credentials.authority.resolve())]
    words += ["--certificate", str(credentials.certificate.resolve()), "--key", str(credentials.key.resolve())]
    return _start_server("gateway", words, folder, host, port, credentials)


def start_supernode(
    folder: Path,
    *,
    site: str,
    server: str,
    authority: Path,
    key: Path,
    site_file: Path,
    app: str | None = CLIENT_APP,
    poll: float = POLL_SECONDS,
    wrapper: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Service:
    """Start the SuperNode of a site; `await_taken` waits until the server has taken it.

    Parameters
    ----------
    folder : Path
        Its working folder.
    site : str
        Name of the site.
    server : str
        `host:port` of the gateway.
    authority, key : Path
        Certificate that the server is trusted by; private key of the site.
    site_file : Path
        What its ClientApp reads as `context.node_config["site-file"]`.
    app : str, optional
        The ClientApp that it runs, whatever code comes with a run (`node`). None: Flower's own SuperNode, which runs
        what it is sent, in a new Python for each message.
    poll : float
        Seconds between two looks for a message; Flower's own has 3.
    wrapper : sequence of str
        Words before the command, such as `ip netns exec <name>`.
    environment : mapping
        Variables for it and the ClientApp.
    """
    node = ["flower-supernode", "--host", LOOPBACK, "--port", str(free_port())]
    if app is not None:
        node = ["python", "-m", "neuroloom.federated.node", app, "--poll", str(poll)]
    words = [*wrapper, *node, "--superlink", server, "--root-certificates", str(authority.resolve())]
    words += ["--auth-supernode-private-key", str(key.resolve())]
    words += ["--node-config", f"site-file={json.dumps(str(site_file.resolve()))} site={json.dumps(site)}"]
    return start(site, words, folder, environment={TASK_POLL: str(TASK_SECONDS), **(environment or {})})


def await_taken(supernode: Service) -> int:
    """Wait until a SuperNode is taken by its server.

    Returns
    -------
    int
        Its node id.

    Raises
    ------
    FederationError
        If it ends, as it does with a key that is not registered, or takes too long; it is stopped then.
    """
    await_start(supernode, lambda: TAKEN.search(supernode.text()) is not None)
    return int(TAKEN.findall(supernode.text())[-1])


@contextmanager
def federation(
    folder: Path,
    sites: Mapping[str, Path],
    *,
    app: str | None = CLIENT_APP,
    hosts: Sequence[str] = (),
    poll: float = POLL_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Federation]:
    """A whole federation on this machine, with new credentials; all of it is ended on the way out, whatever happens.

    Parameters
    ----------
    folder : Path
        New or empty; gets `credentials`, `superlink`, `gateway` and a folder for each site in `sites`.
    sites : mapping
        Name of the site -> its site file.
    app : str, optional
        The ClientApp of the sites (`start_supernode`).
    hosts : sequence of str
        Further names of the server in its certificate.
    poll : float
        Seconds between two looks of a SuperNode.
    environment : mapping
        Variables for SuperLink and SuperNodes.

    Raises
    ------
    FederationError
        If a process does not start.
    """
    secret = folder / "credentials"
    server = make_server_certificate(secret, make_authority(secret), hosts=hosts)
    keys = {site: make_site_key(secret, site) for site in sites}
    with terminated_like_interrupted(), ExitStack() as stack:
        superlink = start_superlink(folder / "superlink", server, environment=environment)
        stack.callback(stop, superlink)
        gateway = start_gateway(folder / "gateway", superlink, server)
        stack.callback(stop, gateway)
        register_sites(superlink, {site: key.public for site, key in keys.items()})
        nodes = dict[str, Service]()
        stack.callback(lambda: stop(*nodes.values()))
        for site, site_file in sites.items():
            nodes[site] = start_supernode(
                folder / "sites" / site,
                site=site,
                server=gateway.address,
                authority=server.authority,
                key=keys[site].private,
                site_file=site_file,
                app=app,
                poll=poll,
                environment=environment,
            )
        for node in nodes.values():
            await_taken(node)
        yield Federation(superlink, gateway, nodes)


def _start_server(
    name: str,
    words: Sequence[str],
    folder: Path,
    host: str,
    port: int,
    credentials: ServerCredentials,
    environment: Mapping[str, str] | None = None,
) -> Server:
    service = start(name, words, folder, environment=environment)
    await_start(service, lambda: _answers(host, port, credentials.authority))
    return Server(**vars(service), address=f"{host}:{port}", authority=credentials.authority)


def _answers(host: str, port: int, authority: Path) -> bool:
    """Whether a server that the authority has signed listens there."""
    context = ssl.create_default_context(cafile=str(authority))
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0) as plain:
        context.wrap_socket(plain, server_hostname=host).close()
        return True
    return False
