"""What every rule and script has, read from their source."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SMK = sorted((ROOT / "rules").glob("*.smk"))
RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
GENERATED = re.compile(r"^    rule:\n(.*?)(?=^\S|^ {4}\S|\Z)", re.MULTILINE | re.DOTALL)
TEXT = "".join(file.read_text() for file in SMK)
# a rule of a loop has the name of its script until there is something to draw
LOOPS = {re.search(r'"../src/(\w+)\.py"', body)[1]: textwrap.dedent(body) for body in GENERATED.findall(TEXT)}
LOOPS = {name: textwrap.indent(body, "    ") for name, body in LOOPS.items()}
TARGETS = {"figures"}  # rules that make nothing themselves
RULES = {name: body for name, body in RULE.findall(TEXT) if name not in TARGETS} | LOOPS
ORDER = [
    "name",
    "input",
    "output",
    "log",
    "benchmark",
    "wildcard_constraints",
    "priority",
    "group",
    "conda",
    "threads",
    "resources",
    "params",
    "message",
    "script",
]


def test_every_rule_is_found() -> None:
    assert len(RULES) == len(re.findall(r"^(?:rule|checkpoint) |^ +rule:", TEXT, re.MULTILINE)) - len(TARGETS) > 5
    assert set(LOOPS) == {"draw_figure", "write_table"}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_all_directives_in_order(name: str) -> None:
    found = re.findall(r"^    (\w+):", RULES[name], re.MULTILINE)
    assert found == [directive for directive in ORDER if directive in found]
    needed = set(ORDER) - {"input", "wildcard_constraints", "priority", "group"} - ({"name"} - {*found})
    assert needed <= set(found)
    assert re.match(r'    """[A-Z].*\."""\n', RULES[name]), "one line that says what it does"
    assert all(word in RULES[name] for word in ("mem_mb=", "runtime="))


@pytest.mark.parametrize("name", RULES)
def test_script_log_and_benchmark_have_the_name_of_the_rule(name: str) -> None:
    assert f'"../src/{name}.py"' in RULES[name]
    own = re.search(r'^ +f"(\w+_{\w+})"\n', RULES[name], re.MULTILINE)[1] if name in LOOPS else name
    assert f'f"{{LOGS}}/{own}/' in RULES[name]
    assert f'f"{{BENCHMARKS}}/{own}/' in RULES[name]
    assert (ROOT / "src" / f"{name}.py").exists()


@pytest.mark.parametrize("name", RULES)
def test_a_script_reads_every_parameter_it_is_given(name: str) -> None:
    """A parameter that nobody reads would rerun the rule for nothing; `source` is there to do just that."""
    block = re.search(r"^    params:\n((?:        .*\n)+)", RULES[name], re.MULTILINE)
    assert block, "params hand over the config section and the digest of the code"
    given = set(re.findall(r"^        (\w+)=", block[1], re.MULTILINE))
    assert "source" in given
    read = set(re.findall(r"snakemake\.params\.(\w+)", (ROOT / "src" / f"{name}.py").read_text()))
    assert read == given - {"source"}


def test_every_script_has_a_rule_and_is_thin() -> None:
    scripts = sorted((ROOT / "src").glob("*.py"))
    assert {script.stem for script in scripts} == set(RULES)
    for script in scripts:
        assert len(script.read_text().splitlines()) <= 30, script.name
        assert "snakemake.config" not in script.read_text()


def test_every_section_of_the_config_reaches_a_rule() -> None:
    text = TEXT
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    whole = re.search(r"params:\n\s+config=CONFIG\.model_dump\(\)", text)
    for section, values in config.items():
        if section in ("sources", "report"):
            assert f"CONFIG.{section}" in text or whole
            continue
        used = f"CONFIG.{section}.model_dump()" in text or f"CONFIG.{section}" in text
        assert used, section
        if section == "preprocess":
            assert all(f"CONFIG.preprocess.{part}.model_dump()" in text for part in values)


def test_no_run_rules_and_no_shell() -> None:
    for file in SMK:
        assert not re.search(r"^    (run|shell):", file.read_text(), re.MULTILINE), file.name


def test_the_snakefile_is_short_and_includes_every_file_in_order() -> None:
    text = (ROOT / "Snakefile").read_text()
    assert len(text.splitlines()) <= 60
    assert set(re.findall(r'include: "rules/(\w+)\.smk"', text)) == {file.stem for file in SMK}


@pytest.mark.parametrize("env", ["signal", "torch", "plot"])
def test_conda_pins_are_the_constraints(env: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = dict(line.split("==") for line in lines if "==" in line)
    pinned = yaml.safe_load((ROOT / "envs" / f"{env}.yaml").read_text())["dependencies"][-1]["pip"]
    pins = dict(pin.split("==") for pin in pinned)
    assert pins == {name: constraints.get(name) for name in pins}
