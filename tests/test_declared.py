"""What the package imports is what it declares: in its dependencies, or in an extra."""

import ast
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on

ROOT = Path(__file__).parents[1]
OURS = {"rllib_hetero", "rllib_hetero_cli"}
INSTALLED_BY = {"yaml": "pyyaml"}
"""Modules of a distribution that has another name, but for - and _."""
BY_HAND = {"gfootball", "gfootball_engine", "pysc2", "smacv2"}
"""What is on no index that an extra could name it from; pages say how it is installed."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FOR_WORK = {"dev", "docs", "notebooks"}


def names(requirements):
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def imported(path):
    """The third-party modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found = [node.module]
        for name in found:
            module = name.partition(".")[0]
            if module not in sys.stdlib_module_names | OURS:
                yield module


def test_every_import_is_declared():
    declared = names(PROJECT["dependencies"])
    for extra in EXTRAS.keys() - FOR_WORK:
        declared |= names(EXTRAS[extra])
    used = {}
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for module in imported(path):
                used.setdefault(module, path.relative_to(ROOT))
    assert len(used) > 15  # it has looked
    missing = {
        module: str(path)
        for module, path in used.items()
        if module not in BY_HAND
        and canonicalize_name(INSTALLED_BY.get(module, module)) not in declared
    }
    assert not missing
