"""Whether files can be trusted, and where they came from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroloom.cli.app import command, failing_plainly


@command()
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


@command()
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

    folder = study or find_study(path)
    if folder is None:
        raise typer.BadParameter(f"{path}: not in the results of a study that has records; name it with --study")
    with failing_plainly():
        journal = read_journal(folder)
        roots = find_outputs(journal, path)
        chain = trace(journal, roots)
    if not roots:
        raise typer.BadParameter(f"{path}: no record of {folder} knows it; name a file or folder of its results")
    for line in [json.dumps(to_dict(chain), indent=1)] if as_json else render(chain):
        typer.echo(line)
    for fault in chain.faults.values():
        typer.echo(f"FAILED       {fault.path}: {fault.message}", err=True)
    sys.exit(1 if chain.faults else 0)
