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
    paths: Annotated[list[Path], typer.Argument(help="Files or stores of a study, its folder, or all results.")],
) -> None:
    """Rehash files and stores against their records and manifests; exit code 1 where one cannot be trusted.

    Example: neuroloom verify results/demo
    """
    from neuroloom.manifest import ArtifactError
    from neuroloom.schema import ConfigError
    from neuroloom.verification import verify_path

    failed = 0
    for path in paths:
        try:
            verdict = verify_path(path)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None
        except ArtifactError as error:
            failed += 1
            typer.echo(f"FAILED       {error}", err=True)
            continue
        failed += len(verdict.faults)
        for row in verdict.quarantined:
            typer.echo(f"quarantined  {row.stage}: {row.reason}  {row.recording}")
        for fault in verdict.faults:
            typer.echo(f"FAILED       {fault}", err=True)
        typer.echo(f"{'NOT OK' if verdict.faults else 'ok':<12} {path}: {verdict}")
    sys.exit(1 if failed else 0)


@app.command()
def lineage(
    path: Annotated[Path, typer.Argument(help="Figure, table, store, weights, report, image; or a folder of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    study: Annotated[Path | None, typer.Option(help="Folder of the study, where PATH is a copy from it.")] = None,
) -> None:
    """Follow a file back to its source files, and check each on the way; exit code 1 where the chain does not hold.

    Example: neuroloom lineage results/demo/figures/cleaning_curves.png
    """
    from neuroloom.journal import find_study, read_journal
    from neuroloom.lineage import find_outputs, render, to_dict, trace
    from neuroloom.manifest import ArtifactError

    folder = study or find_study(path)
    if folder is None:
        raise typer.BadParameter(f"{path}: not in the results of a study that has records; name it with --study")
    try:
        journal = read_journal(folder)
        roots = find_outputs(journal, path)
        chain = trace(journal, roots)
    except (ArtifactError, OSError) as error:
        typer.echo(f"FAILED       {error}", err=True)
        sys.exit(1)
    if not roots:
        raise typer.BadParameter(f"{path}: no record of {folder} knows it; name a file or folder of its results")
    for line in [json.dumps(to_dict(chain), indent=1)] if as_json else render(chain):
        typer.echo(line)
    for fault in chain.faults.values():
        typer.echo(f"FAILED       {fault.path}: {fault.message}", err=True)
    sys.exit(1 if chain.faults else 0)


@app.command()
def where(
    config: Annotated[Path, typer.Option(help="The config that was run.")] = Path("config/config.yaml"),
) -> None:
    """Say where the report of a study is.

    Example: neuroloom where --config config/smoke.yaml
    """
    report = results_of(config) / "report.html"
    typer.echo(f"Report: {report}" if report.exists() else f"No report yet: {report}; run snakemake first")


@app.command()
def doctor(
    config: Annotated[Path, typer.Option(help="The config that was run.")] = Path("config/config.yaml"),
    mend: Annotated[
        bool, typer.Option("--mend", help="Clear it away: nothing that is finished, and no store.")
    ] = False,
) -> None:
    """Explain what an interrupted run left here; exit code 0: nothing is wrong, 1: something is, 2: a run is alive.

    Example: neuroloom doctor --config config/smoke.yaml --mend
    """
    from neuroloom.doctor import examine, find_processes, remove

    here = Path()
    if alive := find_processes(here):
        typer.echo(f"alive        Snakemake or jobs of it are at work here: process {', '.join(alive)}")
        typer.echo("Nothing is wrong. To start anew, wait for them, or end them, and ask again", err=True)
        sys.exit(2)
    findings = examine(here, results_of(config))
    for finding in findings:
        typer.echo(f"{'WRONG' if finding.is_wrong else 'ok':<12} {finding.text}")
    doomed = [path for finding in findings for path in finding.remove]
    for path in doomed:
        typer.echo(f"{'removing' if mend else 'to remove':<12} {path}")
    if mend:
        remove(doomed)
    elif doomed:
        typer.echo("To remove these: make repair, or neuroloom doctor --mend")
    sys.exit(any(finding.is_wrong and not (mend and finding.remove) for finding in findings))


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


def results_of(config: Path) -> Path:
    """Results of the study of a config, which is laid over the default one where that is here."""
    import yaml

    default, name = Path("config/config.yaml"), "demo"
    if config != default and not config.is_file():
        raise typer.BadParameter(f"{config}: there is no such file; name the config that was run")
    for file in (default, config):
        if file.is_file():
            name = (yaml.safe_load(file.read_text()).get("study") or {}).get("name", name)
    return Path("results") / name


def main() -> None:
    """Entry point of the `neuroloom` command."""
    app()
