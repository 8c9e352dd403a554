"""The base of every section of the config, and what a wrong one is told."""

from __future__ import annotations

import reprlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+$", max_length=64)]
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 120, 120


class ConfigError(ValueError):
    """A config, a sheet or a command line that cannot be used; the message says where, what and what to do."""


class Frozen(BaseModel):
    """Base of every section: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def shown(value: Any) -> str:
    """A value as it is shown in an error: YAML that refers to itself over and over would print as gigabytes."""
    return SHORT.repr(value)


def describe_errors(error: ValidationError) -> str:
    """One readable line per problem of a pydantic error."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        hint = "unknown key; see config/schema.json" if problem["type"] == "extra_forbidden" else problem["msg"]
        found = "" if problem["type"] in ("missing", "extra_forbidden") else f", found {shown(problem['input'])}"
        lines.append(f"{where}: {hint}{found}")
    return "\n  ".join([f"{len(lines)} problem(s)", *lines])
