"""A study from a BIDS dataset to its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroloom.cli.app import CLONE, DEFAULT, command, config_file, failing_plainly, merged, results_of


@command()
def where(
    config: Annotated[Path, typer.Option(help="The config that was run.")] = DEFAULT,
) -> None:
    """Say where the report of a study is.

    Example: neuroloom where --config config/smoke.yaml
    """
    with failing_plainly():
        report = results_of(config) / "report.html"
    typer.echo(f"Report: {report}" if report.exists() else f"No report yet: {report}; run snakemake first")


@command()
def doctor(
    config: Annotated[Path, typer.Option(help="The config that was run.")] = DEFAULT,
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
    with failing_plainly():
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


@command()
def init(
    bids_root: Annotated[Path, typer.Argument(help="BIDS dataset: the folder with dataset_description.json.")],
    name: Annotated[
        str | None, typer.Option(help="Of the study, letters and digits; default: from the folder.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the config and the recordings sheet.")] = Path("config"),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Look at a BIDS dataset, and write a config and a recordings sheet that `neuroloom run` runs to a score.

    Example: neuroloom init /data/my_bids --name mine
    """
    from neuroloom.study.starting import write_study

    with failing_plainly():
        made = write_study(bids_root, name=name, folder=out, force=force)
    typer.echo(f"Sheet:  {made.sheet} ({made.n_recordings} recordings)")
    typer.echo(f"Config: {made.config} (read its comments: what was found, what was chosen)")
    for line in made.choices:
        typer.echo(f"  {line}")
    typer.echo(f"Next:   neuroloom run {made.config}")


@command()
def index(
    config: Annotated[Path, typer.Argument(help="Config of a study with bids_root.")],
) -> None:
    """Write the recordings sheet again from the BIDS dataset, and say what is new or gone.

    Example: neuroloom index config/mine.yaml
    """
    from neuroloom.config import parse_config
    from neuroloom.study.starting import index_again

    with failing_plainly():
        change = index_again(parse_config(merged(config)).study)
    for word, names in (("new", change.new), ("gone", change.gone)):
        for recording in names:
            typer.echo(f"{word:<12} {recording}")
    typer.echo(
        f"Sheet:  {change.sheet} ({change.n_recordings} recordings, {len(change.new)} new, {len(change.gone)} gone)"
    )


@command(context_settings={"allow_extra_args": True})
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Config, which is laid over the default one.")] = DEFAULT,
    cores: Annotated[str, typer.Option(help="Number of cores, or all.")] = "all",
    target: Annotated[str, typer.Option(help="Rule or file to make.")] = "all",
) -> None:
    """Run a study in the current folder, and say at the end what came out; what follows `--` goes to Snakemake.

    Example: neuroloom run config/mine.yaml --cores 4 -- --dry-run
    """
    from neuroloom.terminal.running import run_study

    with failing_plainly():
        file = config_file(config)
        results = results_of(config)
        code = run_study(file, clone=CLONE, results=results, cores=cores, target=target, more=context.args)
    sys.exit(1 if code else 0)
