"""The `neuroloom` command. Heavy libraries are imported by the subcommands that need them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    pass

PUBLISHED = {
    "braintokenizer": ("neuroloom.tokenizers.braintokenizer", "BrainTokenizer"),
    "reve": ("neuroloom.models.reve", "REVE"),
    "brainomni": ("neuroloom.models.brainomni", "BrainOmni"),
    "labram": ("neuroloom.models.labram", "LaBraM"),
    "neurobolt": ("neuroloom.models.neurobolt", "NeuroBOLT"),
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="NeuroLoom: checked artifacts of brain recordings.",
)


@app.callback()
def commands() -> None:
    """NeuroLoom: checked artifacts of brain recordings."""


@app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(help="Stores, manifests, or folders that are searched for manifests.")],
) -> None:
    """Rehash artifacts against their manifests; exit code 1 where one cannot be trusted.

    Example: neuroloom verify results/demo
    """
    from neuroloom.manifest import ArtifactError
    from neuroloom.manifest import verify as verify_one
    from neuroloom.quarantine import Quarantined

    failed = 0
    for path in [manifest for given in paths for manifest in find_manifests(given)]:
        try:
            typer.echo(f"ok           {verify_one(path)[:12]}  {path}")
        except Quarantined as error:
            typer.echo(f"quarantined  {error.row.stage}: {error.reason}  {path}")
        except ArtifactError as error:
            failed += 1
            typer.echo(f"FAILED       {error}", err=True)
    sys.exit(1 if failed else 0)


@app.command()
def where(
    config: Annotated[Path, typer.Option(help="The config that was run.")] = Path("config/config.yaml"),
) -> None:
    """Say where the report of a study is.

    Example: neuroloom where --config config/smoke.yaml
    """
    import yaml

    name = ""
    for file in (Path("config/config.yaml"), config):
        name = (yaml.safe_load(file.read_text()).get("study") or {}).get("name", name)
    report = Path("results") / name / "report.html"
    typer.echo(f"Report: {report}" if report.exists() else f"No report yet: {report}; run snakemake first")


@app.command()
def site_key(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; nothing in it is overwritten.")],
    site: Annotated[str, typer.Argument(help="Name of the site.")],
) -> None:
    """Make the key that a site proves itself with in a federation; the .pub file goes to the server.

    Example: neuroloom site-key keys north
    """
    from neuroloom.federated.credentials import make_site_key
    from neuroloom.schema import ConfigError

    try:
        key = make_site_key(folder, site)
    except ConfigError as error:
        typer.echo(f"FAILED       {error}", err=True)
        sys.exit(1)
    typer.echo(f"Stays here: {key.private}")
    typer.echo(f"For the server: {key.public}")


@app.command()
def join(
    site_file: Annotated[Path, typer.Argument(help="What this site gives (docs/federation.md).")],
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

    try:
        read_site_file(site_file)
        for path in (authority, key):
            if not path.exists():
                raise ConfigError(f"{path}: there is no such file; docs/federation.md says where it comes from")
    except ConfigError as error:
        typer.echo(f"FAILED       {error}", err=True)
        sys.exit(1)
    words = [sys.executable, "-m", "neuroloom.federated.node", "neuroloom.federated.client:app"]
    words += ["--superlink", server, "--root-certificates", str(authority), "--auth-supernode-private-key", str(key)]
    words += ["--node-config", f"site-file={json.dumps(str(site_file.resolve()))}"]
    os.execve(sys.executable, words, {**os.environ, **OFFLINE, "FLWR_HOME": str(home.resolve())})  # noqa: S606


@app.command()
def import_weights(
    architecture: Annotated[
        Literal["braintokenizer", "reve", "brainomni", "labram", "neurobolt"],
        typer.Argument(help="What the weights are of."),
    ],
    path: Annotated[Path, typer.Argument(help="Published weights, .safetensors or .pt.")],
    out: Annotated[
        Path, typer.Argument(help="Folder to make; `weights` of a tokenizer or model in a config names it.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="Settings; default the model_cfg.json beside PATH, or those within PATH.")
    ] = None,
    seen: Annotated[
        list[str] | None,
        typer.Option(help="Study whose people the weights were trained on; repeat. Without any, all count as seen."),
    ] = None,
) -> None:
    """Import published weights: every tensor is used, none is missing.

    Example: neuroloom import-weights braintokenizer BrainTokenizer.pt weights/braintokenizer --seen tuab
    """
    from importlib import import_module

    from neuroloom.evaluation.contamination import EVERYONE, seen_datasets
    from neuroloom.provenance import file_digest
    from neuroloom.published import read_published, read_settings
    from neuroloom.schema import ConfigError
    from neuroloom.training.checkpoint import write_card

    place, name = PUBLISHED[architecture]
    try:
        state, settings = read_published(path), read_settings(path, config)
        try:
            model = getattr(import_module(place), name).from_official(state, settings)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        model.save(out)
        card = {"architecture": architecture, "imported_from": file_digest(path)}
        # whom the authors trained on does not stand in the file
        people = {"salt": "", "seen_subjects": seen_datasets(*(seen or [EVERYONE]))}
        write_card(out, {**card, **people})
    except (ConfigError, OSError) as error:
        typer.echo(f"FAILED       {error}", err=True)
        sys.exit(1)
    typer.echo(f"{architecture}: {sum(param.numel() for param in model.parameters()):,} parameters")
    typer.echo(f"Weights: {out}")


def find_manifests(path: Path) -> list[Path]:
    """The manifest of a store; all manifests below a folder that is none."""
    from neuroloom.manifest import SUFFIX, manifest_path

    if path.name.endswith((SUFFIX, ".zarr")) or manifest_path(path).exists():
        return [path]
    found = sorted(path.rglob(f"*{SUFFIX}"))
    if not found:
        raise typer.BadParameter(f"{path}: no manifest there; name a store, a manifest or a results folder")
    return found


def main() -> None:
    """Entry point of the `neuroloom` command."""
    app()
