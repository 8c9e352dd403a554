"""The reference pages of the documentation as Markdown, made from the code that they are about.

A page says `<!-- generated: NAME -->` where one of `PAGES` belongs; `docs/hooks.py` puts it there in the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroloom.config import Config
from neuroloom.specs import SPECS, ArtifactSpec

if TYPE_CHECKING:
    import click

DEFAULTS = Path("config/config.yaml")
TABLES = Path("resources/tables.yaml")
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
Schema = Mapping[str, Any]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown; bars and line ends in cells are made harmless."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def config_page(defaults: Path = DEFAULTS) -> str:
    """Every key of the config: a table for each model, and the section of the default study with its comments.

    Parameters
    ----------
    defaults : Path
        The default config, whose top-level sections are shown as they are.
    """
    schema = Config.model_json_schema()
    shown: set[str] = set()
    blocks = yaml_sections(defaults.read_text())
    parts = []
    for name, section in schema["properties"].items():
        classes = [known for known in _classes(section, schema["$defs"]) if known not in shown]
        shown |= set(classes)
        tables = [_class_table(known, schema["$defs"][known]) for known in classes]
        parts += [f"## {name}\n", f"{section.get('description', '')}\n", *tables]
        parts += [f"In the default study:\n\n```yaml\n{blocks[name]}```\n"]
    return "\n".join(parts)


def yaml_sections(text: str) -> dict[str, str]:
    """Top-level sections of a YAML text by name, with comments."""
    starts = [(match[1], match.start()) for match in re.finditer(r"^(\w+):", text, re.MULTILINE)]
    ends = [at for _, at in starts[1:]] + [len(text)]
    return {name: text[at:end].rstrip() + "\n" for (name, at), end in zip(starts, ends, strict=True)}


def _class_table(name: str, definition: Schema) -> str:
    required = set(definition.get("required", ()))
    rows = [
        (f"`{key}`", type_of(value), _default(value, key in required), value.get("description", ""))
        for key, value in definition["properties"].items()
    ]
    told = definition.get("description", "").replace("\n\n", " ")
    heading = f"### {_title(name)} {{ #{_anchor(name)} }}\n\n{told}\n\n"
    return heading + markdown_table(("key", "holds", "default", "what it is"), rows)


def _default(value: Schema, required: bool) -> str:
    if required:
        return "needed"
    if "$ref" in value or isinstance(value.get("default"), dict):
        return "see there" if value.get("default") or "$ref" in value else "`{}`"
    return f"`{json.dumps(value.get('default'), ensure_ascii=False)}`"


def type_of(schema: Schema) -> str:
    """What a key may hold, in words, with links to the tables of nested models."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{_title(name)}](#{_anchor(name)})"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(type_of(option) for option in options))
    return _plain_type(schema)


def _plain_type(schema: Schema) -> str:
    kind = schema.get("type", "any")
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        return "list of " + ", ".join(dict.fromkeys(type_of(item) for item in items))
    if kind == "object":
        inner = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        values = [type_of(value) for value in inner if isinstance(value, dict)]
        return f"by name: {values[0]}" if values else "by name"
    limits = [f"{sign} {schema[limit]:g}" for limit, sign in LIMITS.items() if limit in schema]
    return " ".join([str(kind), *limits])


def _classes(schema: Any, definitions: Schema) -> Iterator[str]:
    """Names of the models that a schema leads to, outer ones first."""
    if isinstance(schema, list):
        for item in schema:
            yield from _classes(item, definitions)
    elif isinstance(schema, dict):
        if reference := schema.get("$ref"):
            name = reference.rsplit("/", 1)[-1]
            yield name
            yield from _classes(definitions[name], definitions)
        for key, value in schema.items():
            if key not in ("default", "discriminator"):
                yield from _classes(value, definitions)


def _title(name: str) -> str:
    module, _, own = name.rpartition("__")
    return f"{own} of {module.split('__')[1]}" if module.count("__") > 1 else own


def _anchor(name: str) -> str:
    return name.lower().replace("__", "-")


def artifacts_page() -> str:
    """Every kind of store: its arrays with dimensions, and the attributes that it has to have."""
    return "\n".join(_store(spec) for spec in SPECS.values())


def _store(spec: ArtifactSpec) -> str:
    rows = [
        (f"`{name}`", ", ".join(array.dims), array.dtype, "may be absent" if array.optional else "")
        for name, array in spec.arrays.items()
    ]
    attrs = ", ".join(f"`{name}`" for name in spec.attrs)
    read = f" Read in windows: `{spec.windowed}`." if spec.windowed else ""
    heading = f"### {spec.kind} {{ #store-{spec.kind} }}\n\nSchema `{spec.schema}`. Root attributes: {attrs}.{read}\n\n"
    return heading + markdown_table(("array", "dimensions", "dtype", ""), rows)


def described_tables(file: Path = TABLES) -> dict[str, dict[str, Any]]:
    """What stands in the tables of a study, by their names.

    Returns
    -------
    tables : dict
        `row` (what a row is), `rule` (that writes it) and `columns`: name -> (unit, what it is).
    """
    import yaml

    known = yaml.safe_load(file.read_text())
    tables = {}
    for name, table in known["tables"].items():
        told = {**known["columns"], **table.get("own", {})}
        tables[name] = {**table, "columns": {column: tuple(told[column]) for column in table["columns"]}}
    return tables


def tables_page(file: Path = TABLES) -> str:
    """Every table of a study: what a row is, the rule that writes it, its columns with units."""
    parts = []
    for name, table in described_tables(file).items():
        rows = [(f"`{column}`", *told) for column, told in table["columns"].items()]
        parts.append(f"### {name} {{ #table-{name} }}\n\nOne row: {table['row']}. Written by `{table['rule']}`.\n")
        parts.append(markdown_table(("column", "unit", "what it is"), rows))
    return "\n".join(parts)


def figures_page() -> str:
    """Every figure of the paper: what it shows and which tables it is drawn from."""
    from neuroloom.figures.gallery import FIGURES

    rows = [
        (drawing.number, f"`{name}`", drawing.title, _linked((*drawing.tables, *drawing.also)))
        for name, drawing in FIGURES.items()
    ]
    return markdown_table(("figure", "file", "shows", "drawn from"), rows)


def listings_page() -> str:
    """Every table of the paper: its title, its columns and which tables of the study it is made from."""
    from neuroloom.figures.listings import LISTINGS

    rows = [
        (
            f"`{name}`",
            listing.title,
            ", ".join(column.header for column in listing.columns),
            _linked(listing.tables),
        )
        for name, listing in LISTINGS.items()
    ]
    return markdown_table(("file", "shows", "columns", "made from"), rows)


def _linked(tables: Iterable[str]) -> str:
    return ", ".join(f"[{table}](tables.md#table-{table})" for table in tables)


def cli_page() -> str:
    """Every command with its help, its example and its options."""
    from typer.main import get_command

    from neuroloom.cli import app

    group: Any = get_command(app)
    return "\n".join(_command(command) for command in group.commands.values())


def _command(command: click.Command) -> str:
    told, example = _example(command.help or "")
    params: list[Any] = list(command.params)
    rows = [(f"`{_spelled(param)}`", param.help or "", _param_default(param)) for param in params]
    block = f"```bash\n{example}\n```\n" if example else ""
    return f"### neuroloom {command.name}\n\n{told}\n\n{block}\n" + markdown_table(("", "what it is", "default"), rows)


def _example(text: str) -> tuple[str, str]:
    """Help of a command without its example, and the example."""
    told, _, example = text.replace("\b", "").partition("Example:")
    return " ".join(told.split()), " ".join(example.split())


def _spelled(param: click.Parameter) -> str:
    if param.param_type_name == "argument":
        return (param.metavar or param.name or "").upper()
    return ", ".join([*param.opts, *param.secondary_opts])


def _param_default(param: click.Parameter) -> str:
    if param.required:
        return "needed"
    default = param.default
    return "" if default is None or default is False or callable(default) else f"`{default}`"


PAGES: dict[str, Callable[[], str]] = {
    "config": config_page,
    "artifacts": artifacts_page,
    "tables": tables_page,
    "figures": figures_page,
    "listings": listings_page,
    "cli": cli_page,
}
