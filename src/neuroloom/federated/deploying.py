"""A run of the rounds in which server and sites are processes of their own, on this machine or told from it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroloom.federated.control import run_app
from neuroloom.federated.deployment import federation
from neuroloom.federated.processes import FederationError

if TYPE_CHECKING:
    from neuroloom.federated.server import ServerFile

APP = Path(__file__).parents[3] / "resources" / "federation"
LOG_LINES = 20


def deployed(folder: Path, site_files: Mapping[str, Path], server: ServerFile) -> dict[str, Any]:
    """Start a SuperLink and one SuperNode for each site behind TLS, run all rounds, and end all of it.

    Parameters
    ----------
    folder : Path
        Gets the files of the processes, anew for each try; the state of the rounds lies where `server` says.
    site_files : mapping
        Site -> its file.
    server : ServerFile

    Returns
    -------
    result : dict
        As `server.serve`.

    Raises
    ------
    FederationError
        If a process does not start, or the run fails, with the end of the log; started again, it goes on.
    """
    import torch

    from neuroloom.federated.server import RESULT
    from neuroloom.federated.site import site_label, write_json

    path = write_json(folder / "server-file.json", server)
    processes = Path(tempfile.mkdtemp(prefix="processes-", dir=folder))
    nodes = {site_label(site): file for site, file in site_files.items()}
    # sums of two threads are rounded otherwise than those of one: the same bits ask for as many as a simulation has
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with federation(processes, nodes, environment=threads) as parts:
        run = run_app(parts.superlink, APP, server_file=path)
    if not run.completed:
        end = "\n".join(run.log.splitlines()[-LOG_LINES:])
        raise FederationError(f"{server.run.name}: the run {run.status} ({run.details})\n{end}")
    found: dict[str, Any] = json.loads((Path(server.state) / RESULT).read_text())
    return found
