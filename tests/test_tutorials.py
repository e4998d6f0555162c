"""The tutorials run from their first cell to their last, and hold the pictures they promise."""

import importlib.util
import os
import tempfile
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")  # of the extra `notebooks`
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def outputs_of(notebook):
    return [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]


def pictures(notebook):
    """How many its cells show."""
    return sum("image/png" in o.get("data", {}) for o in outputs_of(notebook))


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "execute_tutorials.py"
    spec = importlib.util.spec_from_file_location("execute_tutorials", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "path",
    [
        # The other one's searches start processes: its claims are those of the tests of Tune.
        pytest.param(path, marks=() if path.stem == "first_team" else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
)
def test_a_tutorial_runs(script, path, tmp_path, monkeypatch):
    """Its last cells assert what it claims."""
    saved = nbformat.read(path, as_version=4)
    assert pictures(saved) >= 1 and not any(o.get("name") == "stderr" for o in outputs_of(saved))
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        for name, value in {
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "disabled",
            "MPLBACKEND": "Agg",  # As machines without a screen often have it.
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }.items():
            monkeypatch.setenv(name, value)
        fresh = script.executed(path, tmp_path)
    assert pictures(fresh) == pictures(saved)


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["first_team", "laptop_to_tune"]
