"""The documentation: it builds without a warning, asks nothing of a network, and names nothing that is not there."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from neuroloom.config import Config, parse_config
from neuroloom.reference import described_tables, type_of, yaml_sections
from neuroloom.specs import SPECS

from .blocks import blocks_of
from .conftest import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "config/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


class Fetched(HTMLParser):
    """Addresses that a browser asks for when it opens a page; links that a reader may follow are none."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "a" or named.get("rel") in ("canonical", "prev", "next"):
            return
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]


def test_pages_ask_nothing_of_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text())
        away = [address for address in parser.addresses if re.match(r"(https?:)?//", address)]
        assert not away, f"{page.name}: {away}"
        assert 'class="mermaid"' not in page.read_text(), f"{page.name}: mermaid is fetched from a network"


def test_every_page_is_in_the_navigation_and_every_mark_is_filled(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        made = site / page.relative_to(ROOT / "docs").with_suffix(".html")
        assert made.exists(), page
        assert "<!-- generated" not in made.read_text(), page


def test_reference_holds_every_key_store_command_and_figure(site: Path) -> None:
    from typer.main import get_command

    from neuroloom.cli import app
    from neuroloom.figures.gallery import FIGURES

    reference = {page.stem: page.read_text() for page in (site / "reference").glob("*.html")}
    models = Config.model_json_schema()
    for name, definition in models["$defs"].items():
        assert f'id="{name.lower().replace("__", "-")}"' in reference["config"], name
        for key in definition["properties"]:
            assert f"<code>{key}</code>" in reference["config"], f"{name}.{key}"
    for kind in SPECS:
        assert f'id="store-{kind}"' in reference["stores"]
    commands: dict = get_command(app).commands  # type: ignore[attr-defined]
    for name in commands:
        assert f"neuroloom {name}" in reference["cli"]
    for name in FIGURES:
        assert f"<code>{name}</code>" in reference["figures"]


def test_figures_are_drawn_from_tables_that_are_described() -> None:
    from neuroloom.figures.gallery import FIGURES

    wanted = {table for drawing in FIGURES.values() for table in (*drawing.tables, *drawing.also)}
    assert wanted <= set(described_tables(ROOT / "resources/tables.yaml"))


def test_the_readme_names_the_rule_of_every_figure() -> None:
    from neuroloom.figures.gallery import FIGURES

    rows = re.findall(r"^\| (\d) [^|]+\|([^|]+)\|", (ROOT / "README.md").read_text(), re.MULTILINE)
    told = {(int(number), name) for number, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {(drawing.number, name) for name, drawing in FIGURES.items()}


def test_types_are_told_in_words() -> None:
    assert type_of({"type": "number", "exclusiveMinimum": 0}) == "number > 0"
    assert type_of({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}) == '`"a"` or null'
    assert type_of({"$ref": "#/$defs/neuroloom__bold__config__C"}) == "[C of bold](#neuroloom-bold-config-c)"


def test_sections_of_a_config_come_with_their_comments() -> None:
    text = "# head\nstudy:\n  name: a  # of it\n\nsimulate:\n  x: 1\n"
    assert yaml_sections(text) == {"study": "study:\n  name: a  # of it\n", "simulate": "simulate:\n  x: 1\n"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_yaml_are_yaml(page: Path) -> None:
    for _, text in blocks_of(page, "yaml"):
        assert isinstance(yaml.safe_load(text), dict), text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_a_config_are_valid_over_the_default(page: Path) -> None:
    for _, text in blocks_of(page, "yaml"):
        values = yaml.safe_load(text)
        if set(values) <= set(Config.model_fields):
            default = yaml.safe_load((ROOT / "config/config.yaml").read_text())
            update_config(default, values)
            parse_config(default)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_python_are_python(page: Path) -> None:
    for _, text in blocks_of(page, "python"):
        if not re.search(r"^(rule|module|use rule|configfile)\b", text, re.MULTILINE):  # Snakemake's own words
            compile(text, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_are_there(page: Path) -> None:
    from typer.main import get_command

    from neuroloom.cli import app

    commands: dict = get_command(app).commands  # type: ignore[attr-defined]
    for line in re.findall(r"^(?:\w+=\S+ )*neuroloom ([^\n#]+)", page.read_text(), re.MULTILINE):
        name, *words = line.split(" -- ")[0].split()
        if name.startswith("-"):
            continue
        assert name in commands, line
        options = {option for param in commands[name].params for option in (*param.opts, *param.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= {*options, "--help"}, line


def test_targets_of_make_are_there() -> None:
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        told = set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE))
        assert told <= known, f"{page.name}: {told - known}"


def test_pages_that_files_name_are_there() -> None:
    """Code, profiles and the change log send readers to pages by their paths."""
    files = [*ROOT.glob("*.md"), ROOT / "Snakefile", *(ROOT / "rules").rglob("*.smk"), *(ROOT / "src").rglob("*.py")]
    files += [*(ROOT / "profiles").rglob("*.yaml"), *(ROOT / "config").glob("*.*"), *(ROOT / "docs").rglob("*.md")]
    for file in files:
        for name in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text()):
            assert (ROOT / name).exists(), f"{file.relative_to(ROOT)} names {name}"


def test_links_of_the_readme_lead_to_files() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("http") or (ROOT / target).exists(), f"{page.name}: {target}"


def test_the_catalogue_is_told_how_the_workflow_is_used() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"]["conda"] is True
    assert list((ROOT / "envs").glob("*.yaml"))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250
