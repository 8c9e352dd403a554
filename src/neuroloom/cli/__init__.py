"""The `neuroloom` command. Heavy libraries are imported by the subcommands that need them."""

from neuroloom.cli import federation, models, study, trust
from neuroloom.cli.app import app, main

__all__ = ["app", "federation", "main", "models", "study", "trust"]
