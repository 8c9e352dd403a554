"""`make test` runs the tests of every folder but those that need a cluster."""

import tomllib
from pathlib import Path


def test_every_folder_of_tests_is_named(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    files = (path.relative_to(repository) for path in (repository / "tests").rglob("test_*.py"))
    folders = {"/".join(path.parts[:2]) for path in files}
    assert folders - {"tests/slurm"} == set(settings["testpaths"])
