"""What no line of the package, its scripts or its rules may do: run what a file says, or load weights that could."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*sorted((ROOT / "src").rglob("*.py")), *sorted((ROOT / "rules").glob("*.smk")), ROOT / "Snakefile"]
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"),
    *("torch.load", "torch.save", "torch.hub.load", "torch.package.PackageImporter"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "pandas.read_pickle"),
}
METHODS = {"to_pickle", "read_pickle"}
SHORT = {"np": "numpy", "pd": "pandas"}
OPTIONS = {"shell", "allow_pickle"}  # arguments that may only be False
SHELL = re.compile(r"^\s*(shell|run):|\bshell\(", re.MULTILINE)
NAMED = re.compile(r"\b(pickle|cPickle|dill|joblib|shelve|marshal)\b|\b(eval|exec|__import__)\(|\bos\.(system|popen)\b")


def find_forbidden(text: str) -> Iterator[str]:
    """What is forbidden in a piece of Python, with its line."""
    names = dict(SHORT)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
            yield from (f"{node.lineno}: import {alias.name}" for alias in node.names if _is_module(alias.name))
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            if _is_module(node.module or ""):
                yield f"{node.lineno}: from {node.module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            name = _name(node, names)
            if name in CALLS or name.rpartition(".")[2] in METHODS:
                yield f"{node.lineno}: {name}"
        elif isinstance(node, ast.Call):
            wrong = [key for key in node.keywords if key.arg in OPTIONS and not _is_false(key.value)]
            yield from (f"{node.lineno}: {key.arg}" for key in wrong)
            if _name(node.func, names).endswith("import_module") and not _is_own(node.args[0]):
                yield f"{node.lineno}: import_module of another package's names"


def _is_module(name: str) -> bool:
    return name.split(".")[0] in MODULES


def _name(node: ast.expr, names: dict[str, str]) -> str:
    """The dotted name of an expression, as it would be without `import ... as`."""
    if isinstance(node, ast.Attribute):
        inner = _name(node.value, names)
        return f"{inner}.{node.attr}" if inner else node.attr if node.attr in METHODS else ""
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_own(node: ast.expr) -> bool:
    """A module of this package: its name begins so, or is a variable that the module holds (`PUBLISHED`, `KINDS`)."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) else node
    return isinstance(node, ast.Name) or (isinstance(first, ast.Constant) and str(first.value).startswith("neuroloom."))


def find_in_rules(text: str) -> list[str]:
    """What is forbidden in a rule file, which is not quite Python."""
    return [found[0].strip() for pattern in (SHELL, NAMED) for found in pattern.finditer(text)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_forbidden_is_in(path: Path) -> None:
    text = path.read_text()
    found = list(find_forbidden(text)) if path.suffix == ".py" else find_in_rules(text)
    assert not found, "weights are safetensors, configs yaml.safe_load, and no file says what is run"


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "import cPickle as json",
        "from pickle import loads",
        "import dill",
        "from joblib import load",
        "import joblib\njoblib.load('x')",
        "def f():\n    import pickle",
        "import torch\ntorch.load('x.pt')",
        "import torch\ntorch.load('x.pt', weights_only=True)",
        "import torch as t\nt.load('x.pt')",
        "from torch import load\nload('x.pt')",
        "from torch import load as read\nread('x.pt')",
        "import torch\nread = torch.load\nread('x.pt')",
        "import torch\ntorch.save({}, 'x.pt')",
        "import numpy as np\nnp.load('x.npy', allow_pickle=True)",
        "import numpy as np\nnp.load('x.npy', allow_pickle=anything)",
        "import pandas as pd\npd.read_pickle('x')",
        "table.to_pickle('x')",
        "make().table.to_pickle('x')",
        "eval('1')",
        "exec('1')",
        "run = eval",
        "__import__(name)",
        "from importlib import import_module\nimport_module(f'{name}.x')",
        "import importlib\nimportlib.import_module('os')",
        "import os\nos.system('x')",
        "from os import system\nsystem('x')",
        "import os\nos.popen('x')",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "import subprocess\nsubprocess.Popen('x', shell=1)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.unsafe_load(text)",
        "from yaml import load\nload(text)",
    ],
)
def test_each_of_them_would_be_found(planted: str) -> None:
    assert list(find_forbidden(planted))


@pytest.mark.parametrize(
    "harmless",
    [
        "model.eval()",
        "import yaml\nyaml.safe_load(text)",
        "import json\njson.load(file)",
        "import numpy as np\nnp.load('x.npy', allow_pickle=False)",
        "import subprocess\nsubprocess.run(['x'], shell=False)",
        "import pickletools\npickletools.genops(data)",
        "import re\nre.compile('x')",
        "from importlib import import_module\nimport_module(f'neuroloom.models.{kind}')",
        '"""Nothing is pickled: pickle.loads and eval are only words here."""',
    ],
)
def test_what_only_looks_alike_is_left_alone(harmless: str) -> None:
    assert not list(find_forbidden(harmless))


@pytest.mark.parametrize(
    "planted",
    [
        'rule a:\n    shell:\n        "cat {input}"',
        'rule a:\n    run:\n        open("x")',
        "def f(wildcards):\n    shell('x')",
        "import pickle",
        "x = eval(config['x'])",
        "os.system(config['x'])",
    ],
)
def test_each_would_be_found_in_a_rule(planted: str) -> None:
    assert find_in_rules(planted)
