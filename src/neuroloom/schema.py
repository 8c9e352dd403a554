"""The base of every section of the config, and what a wrong one is told."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+$")]


class ConfigError(ValueError):
    """A config, a sheet or a command line that cannot be used; the message says where, what and what to do."""


class Frozen(BaseModel):
    """Base of every section: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def describe_errors(error: ValidationError) -> str:
    """One readable line per problem of a pydantic error."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        hint = "unknown key; see config/schema.json" if problem["type"] == "extra_forbidden" else problem["msg"]
        found = "" if problem["type"] in ("missing", "extra_forbidden") else f", found {problem['input']!r}"
        lines.append(f"{where}: {hint}{found}")
    return "\n  ".join([f"{len(lines)} problem(s)", *lines])
