"""What the command line takes, and that nobody waits for its help."""

import argparse
import subprocess
import sys
from email.message import Message
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from rllib_hetero_cli import main, parser

ROOT = Path(__file__).parents[2]
ASKING = """
import sys
from rllib_hetero_cli import main

for arguments in (["--help"], ["train", "--help"], ["--version"], ["train", "--env-steps", "0"]):
    try:
        main(arguments)
    except SystemExit as end:
        print(end.code)
print(sorted({"ray", "torch", "numpy", "rllib_hetero"} & set(sys.modules)))
"""


def commands():
    groups = parser.make_parser()._actions
    (found,) = (g.choices for g in groups if isinstance(g, argparse._SubParsersAction))
    return found


def test_help_version_and_refusals_import_nothing_heavy():
    """A process of its own: here, all of it is imported already."""
    asked = subprocess.run(
        [sys.executable, "-c", ASKING],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ends = [line for line in asked.stdout.splitlines() if line in ("0", "2", "3")]
    assert ends == ["0", "0", "0", "2"], asked.stderr
    assert "--checkpoint-every" in asked.stdout
    assert asked.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", commands())
def test_help_tells_what_each_argument_is_and_its_default(name):
    for action in commands()[name]._actions:
        assert action.help, action.dest
        if action.default not in (None, False, argparse.SUPPRESS) and action.default != []:
            assert "default: " in action.help, action.dest
    assert "default: 1000000" in commands()["train"].format_help()


def test_the_names_in_the_help_are_those_of_the_library():
    from rllib_hetero.cli.commands import COMMANDS
    from rllib_hetero.reporting.report import METRIC
    from rllib_hetero.reporting.tracking import TRACKERS
    from rllib_hetero.tuning.schedulers import SCHEDULERS
    from rllib_hetero.tuning.searchers import SEARCHERS

    assert set(COMMANDS) == set(commands())
    assert tuple(TRACKERS) == parser.TRACKERS
    assert (SCHEDULERS, SEARCHERS) == (parser.SCHEDULERS, parser.SEARCHERS)
    assert METRIC == parser.METRIC


def test_the_version_is_the_packages(capsys):
    import rllib_hetero

    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"rllib_hetero {metadata.version('rllib_hetero')}\n"
    assert f'version = "{rllib_hetero.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_list_names_algorithms_environments_and_extras(capsys):
    from rllib_hetero import ALGORITHMS

    assert main(["list"]) == 0
    algorithms, environments, *extras = capsys.readouterr().out.splitlines()
    assert algorithms.split(maxsplit=1)[1].split(", ") == sorted(ALGORITHMS)
    assert "matrix_game" in environments
    assert any(line.split()[1:] == ["mpe", "installed"] for line in extras)


def test_an_extra_of_extras_is_installed_with_the_last_of_them(monkeypatch):
    from rllib_hetero import installing

    about = Message()
    for name in ("all", "there", "missing"):
        about["Provides-Extra"] = name
    about["Requires-Dist"] = 'numpy; extra == "there"'
    about["Requires-Dist"] = 'numpy<0;  extra == "missing"'
    about["Requires-Dist"] = 'rllib_hetero[there,missing]; extra == "all"'
    monkeypatch.setattr(
        metadata, "distribution", lambda name: SimpleNamespace(metadata=about, version="9")
    )
    assert installing.extras() == {"all": False, "there": True, "missing": False}
