"""The app that the commands join, and what they have in common: how they fail, and whose results they mean."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import typer
from click import Command, Context, HelpFormatter
from typer.core import TyperArgument, TyperCommand, TyperGroup

DEFAULT = Path("config/config.yaml")
CLONE = Path(__file__).resolve().parents[3]
HELP = """NeuroLoom: raw EEG, MEG and fMRI to foundation models and back to science.

Every command exits with 0 where all went well, 1 where something failed or cannot be trusted, 2 where it was asked in a
wrong way; the message says what to do.
"""

ORDER = (
    *("init", "run", "index", "where", "doctor", "embed", "predict-bold", "import-weights"),
    *("verify", "lineage", "site-key", "join"),
)


class Ordered(TyperGroup):
    """Commands in the order in which a study needs them."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Names of the commands; one that the order does not know comes last."""
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def helps_of(callback: Any) -> dict[str, str]:
    """Help of each parameter of a command, from its annotations."""
    hints = get_type_hints(callback, include_extras=True)
    return {name: hint.__metadata__[0].help or "" for name, hint in hints.items() if hasattr(hint, "__metadata__")}


class Told(TyperCommand):
    """A command with help for its arguments, which typer 0.20 and click 8.5 lose between them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        helps = helps_of(inspect.unwrap(self.callback)) if self.callback else {}
        for param in self.params:
            if isinstance(param, TyperArgument) and not param.help:
                param.help = helps.get(param.name or "", "")

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Options alone: click writes arguments by itself once they have help."""
        Command.format_options(self, ctx, formatter)


app = typer.Typer(cls=Ordered, no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=HELP)
command = partial(app.command, cls=Told)


@contextmanager
def failing_plainly() -> Iterator[None]:
    """What is wrong with a study or a file is one paragraph and exit code 1, not a traceback."""
    from neuroloom.manifest import ArtifactError
    from neuroloom.quarantine import Quarantined, UnusableRecording
    from neuroloom.schema import ConfigError

    try:
        yield
    except (ConfigError, ArtifactError, UnusableRecording, Quarantined, OSError) as error:
        fail(str(error))


def fail(message: str) -> None:
    """End with exit code 1."""
    typer.echo(f"FAILED       {message}", err=True)
    sys.exit(1)


def config_file(config: Path) -> Path:
    """A config that is there; the default one may be that of the clone.

    Raises
    ------
    typer.BadParameter
        If there is no such file.
    """
    if config.is_file():
        return config
    if config == DEFAULT and (CLONE / DEFAULT).is_file():
        return CLONE / DEFAULT
    raise typer.BadParameter(f"{config}: there is no such file; name the config that was run")


def merged(config: Path) -> dict:
    """Values of a config, laid over the default one as Snakemake lays them.

    Raises
    ------
    typer.BadParameter
        If there is no such file.
    ConfigError
        If it is no YAML mapping.
    """
    import yaml
    from snakemake.utils import update_config

    from neuroloom.schema import ConfigError

    defaults = [path for path in (DEFAULT, CLONE / DEFAULT) if path.is_file()]
    values = yaml.safe_load(defaults[0].read_text()) if defaults else {}
    if config == DEFAULT and values:
        return values
    try:
        own = yaml.safe_load(config_file(config).read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{config}: no YAML ({error}); mend it") from None
    if not isinstance(own, dict):
        raise ConfigError(f"{config}: holds a {type(own).__name__}, not `key: value` lines; mend it")
    update_config(values, own)
    return values


def results_of(config: Path) -> Path:
    """Results of the study of a config, which is laid over the default one."""
    values = merged(config)
    return Path("results") / (values.get("study") or {}).get("name", "demo")


def main() -> None:
    """Entry point of the `neuroloom` command."""
    app()
