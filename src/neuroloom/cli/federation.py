"""What a hospital needs to take part in a federation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroloom.cli.app import command, failing_plainly


@command()
def site_key(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; nothing in it is overwritten.")],
    site: Annotated[str, typer.Argument(help="Name of the site.")],
) -> None:
    """Make the key that a site proves itself with in a federation; the .pub file goes to the server.

    Example: neuroloom site-key keys north
    """
    from neuroloom.federated.credentials import make_site_key

    with failing_plainly():
        key = make_site_key(folder, site)
    typer.echo(f"Stays here: {key.private}")
    typer.echo(f"For the server: {key.public}")


@command()
def join(
    site_file: Annotated[Path, typer.Argument(help="What this site gives (docs/how-to/federation.md).")],
    server: Annotated[str, typer.Option(help="host:port of the server's gateway.")],
    authority: Annotated[Path, typer.Option(help="Certificate that the server is trusted by.")],
    key: Annotated[Path, typer.Option(help="Private key of this site.")],
    home: Annotated[Path, typer.Option(help="Where Flower keeps its files.")] = Path("flower"),
) -> None:
    """Take part in a federation until it is ended: run the app that is installed here on this site's own recordings.

    Example: neuroloom join north.json --server server.example.org:9092 --authority authority.crt --key keys/north.key
    """
    import os

    from neuroloom.federated.processes import OFFLINE
    from neuroloom.federated.site import read_site_file
    from neuroloom.schema import ConfigError

    with failing_plainly():
        read_site_file(site_file)
        for path in (authority, key):
            if not path.exists():
                raise ConfigError(f"{path}: there is no such file; docs/how-to/federation.md says where it comes from")
    words = [sys.executable, "-m", "neuroloom.federated.node", "neuroloom.federated.client:app"]
    words += ["--superlink", server, "--root-certificates", str(authority), "--auth-supernode-private-key", str(key)]
    words += ["--node-config", f"site-file={json.dumps(str(site_file.resolve()))}"]
    os.execve(sys.executable, words, {**os.environ, **OFFLINE, "FLWR_HOME": str(home.resolve())})  # noqa: S606
