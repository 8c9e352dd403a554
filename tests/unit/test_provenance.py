import subprocess
import sys
from pathlib import Path

import pytest

from neuroloom import provenance
from neuroloom.provenance import child_rng, config_digest, file_digest, source_digest


def test_seed_and_name_make_the_generator() -> None:
    first = child_rng(1, "sub-01").standard_normal(4)
    assert (first == child_rng(1, "sub-01").standard_normal(4)).all()
    assert (first != child_rng(1, "sub-02").standard_normal(4)).any()
    assert (first != child_rng(2, "sub-01").standard_normal(4)).any()


def test_config_digest_ignores_the_order_of_keys() -> None:
    assert config_digest({"a": 1, "b": 2}) == config_digest({"b": 2, "a": 1}) != config_digest({"a": 1, "b": 3})


def test_file_digest_covers_all_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert file_digest(tmp_path / "a", tmp_path / "b") != file_digest(tmp_path / "a")


def digest_of(folder: Path) -> str:
    code = "from neuroloom.provenance import source_digest; print(source_digest('neuroloom.one'))"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout


@pytest.fixture
def package(tmp_path: Path, repository: Path) -> Path:
    """A copy of the package's provenance module beside two modules, of which one imports the other."""
    folder = tmp_path / "neuroloom"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "provenance.py").write_text((repository / "src/neuroloom/provenance.py").read_text())
    (folder / "one.py").write_text("from neuroloom import two\n")
    (folder / "two.py").write_text("x = 1\n")
    return tmp_path


def test_source_digest_follows_imports(package: Path) -> None:
    before = digest_of(package)
    (package / "neuroloom" / "two.py").write_text("x = 20\n")  # Python looks for another size or second
    assert digest_of(package) != before


@pytest.mark.parametrize(
    "line", ["from neuroloom.two import x", "import neuroloom.two as y", "def f():\n    from neuroloom import two"]
)
def test_source_digest_follows_imports_of_all_kinds(package: Path, line: str) -> None:
    (package / "neuroloom" / "one.py").write_text(f"{line}\n")
    before = digest_of(package)
    (package / "neuroloom" / "two.py").write_text("x = 20\n")
    assert digest_of(package) != before


def test_source_digest_is_the_same_in_every_process(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets have another order in each."""
    (package / "neuroloom" / "two.py").write_text("def f(x):\n    return x in {'a', 'b', 'c', 'd', ('e', 'f')}\n")
    found = set()
    for seed in "123":
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        found.add(digest_of(package))
    assert len(found) == 1


def test_source_digest_leaves_settings_to_the_parameters(package: Path) -> None:
    (package / "neuroloom" / "config.py").write_text("x = 1\n")
    (package / "neuroloom" / "one.py").write_text("from neuroloom import two\nfrom neuroloom.config import x\n")
    before = digest_of(package)
    (package / "neuroloom" / "config.py").write_text("x = 20\n")
    assert digest_of(package) == before


def test_source_digest_ignores_comments_and_layout(package: Path) -> None:
    before = digest_of(package)
    (package / "neuroloom" / "two.py").write_text("# why\nx  =  1\n")
    assert digest_of(package) == before
    (package / "neuroloom" / "two.py").write_text("def f(x):\n    return x + 1\n")
    before = digest_of(package)
    (package / "neuroloom" / "two.py").write_text("# why\n\n\ndef f(\n    x\n):\n    # because\n    return (x  +  1)\n")
    assert digest_of(package) == before


def test_source_digest_of_an_unknown_module_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        source_digest("neuroloom.no_such")


def test_an_edited_resource_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resources/page").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "src/neuroloom/provenance.py"))
    (tmp_path / "resources/page/a.css").write_text("a")
    (tmp_path / "resources/style").write_text("b")
    before = [provenance.resource_digest(name) for name in ("page", "style")]
    (tmp_path / "resources/page/a.css").write_text("c")
    after = [provenance.resource_digest(name) for name in ("page", "style")]
    assert before[0] != after[0]
    assert before[1] == after[1]
