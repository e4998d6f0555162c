"""What each command takes. Nothing here imports Ray, torch or the library."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from rllib_hetero_cli.values import count, json_object, seeds

ENV_STEPS = 1_000_000
CHECKPOINTS = 20  # in a run, unless --checkpoint-every says otherwise
NOTHING = "none"  # what --space takes to search nothing

# As the library has them, which a test compares: they are in the help, before it is imported.
TRACKERS = ("tensorboard", "wandb", "mlflow")
SCHEDULERS = ("asha", "pbt")
SEARCHERS = ("random", "optuna")
METRIC = "env_runners/episode_return_mean"

_DEFAULT = "; default: %(default)s"


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands. What it returns names its command in `command`."""
    parser = argparse.ArgumentParser(
        prog="rllib-hetero",
        description="Trains, tunes, resumes, evaluates and compares multi-agent policies.",
        epilog="Exit codes: 0 done, 1 `check` found errors, 2 bad input, 3 failed, "
        "128 + n after signal n.",
    )
    parser.add_argument("--version", action=_Version, help="print the version and end")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--all-warnings", action="store_true",
        help="show what Ray and RLlib warn of in every run, too; default: what is new only",
    )  # fmt: skip
    for name, (text, add_arguments) in COMMANDS.items():
        add_arguments(commands.add_parser(name, help=text, parents=[common]))
    return parser


class _Version(argparse.Action):
    """Looks the version up only if it is asked for."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, nargs=0)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            version = metadata.version("rllib_hetero")
        except metadata.PackageNotFoundError:  # a checkout that is on the path, not installed
            from rllib_hetero import __version__ as version
        print(f"rllib_hetero {version}")
        parser.exit()


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--algo", help="HAPPO, MAPPO, ...; `rllib-hetero list` names all")
    _add_task(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="one setting, over the file's: training.lr=3e-4; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--env-steps", type=count, default=ENV_STEPS, metavar="STEPS",
        help="how long to train" + _DEFAULT,
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the run's folder; default: results/<run>/"
    )
    parser.add_argument("--seed", type=int, help="default: the config's, which is none")
    _add_checkpoint_every(parser)
    parser.add_argument(
        "--track", action="append", default=[], choices=TRACKERS,
        help="also send the numbers there; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--video-every", type=count, metavar="ITERATIONS", help="film an episode; default: never"
    )


def _tune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--algo", action="append", help="HAPPO, MAPPO, ...; repeatable")
    _add_task(parser, action="append")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="one setting of all trials, over the file's: env_runners.num_env_runners=2",
    )  # fmt: skip
    parser.add_argument(
        "--space", action="append", metavar="KEY=RANGE",
        help="search this instead of the algorithm's default space: lr=loguniform(1e-4, 1e-3), "
        f"num_epochs=[5, 10]; repeatable. {NOTHING}: only compare",
    )  # fmt: skip
    parser.add_argument(
        "--num-samples", type=count, default=1, metavar="N",
        help="settings to draw; for PBT, the size of the population" + _DEFAULT,
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=seeds, default=(1,), metavar="1,2,3",
        help="each drawing is trained with every one; default: 1",
    )  # fmt: skip
    parser.add_argument(
        "--scheduler", choices=SCHEDULERS,
        help="ends or perturbs trials early; default: none, all are trained to the end",
    )  # fmt: skip
    parser.add_argument(
        "--search", choices=SEARCHERS, default="random", help="how settings are drawn" + _DEFAULT
    )
    parser.add_argument("--metric", default=METRIC, help="what trials are compared by" + _DEFAULT)
    parser.add_argument(
        "--mode", choices=("max", "min"), default="max",
        help="whether more of it is better, or less" + _DEFAULT,
    )  # fmt: skip
    parser.add_argument(
        "--env-steps",
        type=count,
        default=ENV_STEPS,
        metavar="STEPS",
        help="of each trial" + _DEFAULT,
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the study's folder"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the study that is there")
    parser.add_argument(
        "--max-concurrent", type=count, metavar="TRIALS",
        help="how many run at once; default: as many as there is room for",
    )  # fmt: skip
    parser.add_argument(
        "--max-failures", type=int, default=2, metavar="N", help="restarts of a trial" + _DEFAULT
    )
    parser.add_argument(
        "--checkpoint-every", type=count, metavar="ITERATIONS",
        help="iterations between checkpoints of a trial; default: a twentieth of it",
    )  # fmt: skip


def _resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run's folder, train's --out")
    parser.add_argument(
        "--env-steps", type=count, metavar="STEPS",
        help="in all; default: what the run was started with",
    )  # fmt: skip
    _add_checkpoint_every(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of a run")
    parser.add_argument(
        "--episodes", type=count, default=100, metavar="N", help="how many to play" + _DEFAULT
    )
    parser.add_argument("--seed", type=int, default=0, help="the first episode's" + _DEFAULT)
    parser.add_argument("--explore", action="store_true", help="as in training; default: greedy")
    parser.add_argument("--env", help="default: what the run was trained on, from its run.json")
    parser.add_argument(
        "--env-config", type=json_object, metavar="JSON", help="its settings, over those of the run"
    )


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN",
        help="folders of runs; those of one algorithm with unlike settings are shown apart",
    )  # fmt: skip
    parser.add_argument(
        "--label", nargs="+", action="append", default=[], metavar=("NAME", "RUN"),
        help="runs to show as seeds of one setting, and what to call it; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the folder to write into"
    )
    parser.add_argument("--metric", default=METRIC, help="a column of progress.csv" + _DEFAULT)
    parser.add_argument(
        "--points", type=count, default=50, metavar="N",
        help="of a curve in marl_eval.json; pictures have all" + _DEFAULT,
    )  # fmt: skip
    parser.add_argument(
        "--resamples", type=count, default=2000, metavar="N", help="of the bootstrap" + _DEFAULT
    )


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help='a registered name ("mpe"), or "module:Class" to import')
    parser.add_argument(
        "env_config", nargs="?", type=json_object, default={}, metavar="JSON",
        help="its configuration; default: {}",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=1000, help="length of the first rollout" + _DEFAULT
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="roughly how long it may take" + _DEFAULT
    )
    parser.add_argument("--seed", type=int, default=0, help="of resets and actions" + _DEFAULT)
    parser.add_argument(
        "--num-envs", type=int, default=3, metavar="N", help="environments side by side" + _DEFAULT
    )
    parser.add_argument(
        "--stochastic", action="store_true", help="equal seeds need not give equal episodes"
    )


def _add_task(parser: argparse.ArgumentParser, **kwargs: Any) -> None:
    """--env, --env-config (kwargs are for it) and --config."""
    parser.add_argument("--env", help='a ready-made one ("mpe"), or "module:Class" to import')
    parser.add_argument(
        "--env-config", type=json_object, metavar="JSON", **kwargs,
        help='its settings: \'{"scenario": "simple_spread"}\''
        + ("; repeatable, a task each" if kwargs else ""),
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="sections as .yaml, or a .py, which is executed"
    )


def _add_checkpoint_every(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint-every", type=count, metavar="STEPS",
        help=f"environment steps between checkpoints; default: {CHECKPOINTS} in a run",
    )  # fmt: skip


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "train": ("train an algorithm on an environment", _train),
    "tune": ("search settings of algorithms, on tasks, over seeds", _tune),
    "resume": ("go on with a run; unpickles its checkpoint, so only one you trust", _resume),
    "evaluate": ("play episodes with a checkpoint's policies", _evaluate),
    "report": ("learning curves and a table of several runs", _report),
    "list": ("what there is: algorithms, environments, extras", lambda parser: None),
    "check": ("check an environment before it is trained on", _check),
}
"""Command to its line in the help, and what adds its arguments."""
