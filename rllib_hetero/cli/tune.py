"""The command `tune`."""

from __future__ import annotations

import argparse
from copy import copy
from typing import Any

from rllib_hetero.cli.ending import DONE, FAILED, InputError, after_signal, print_result
from rllib_hetero.cli.request import make_config
from rllib_hetero.cli.settings import keys_of, nearest
from rllib_hetero.reporting.lock import FolderInUseError
from rllib_hetero.tuning import Plan, Study, StudyResult, make_study, parse_space
from rllib_hetero.tuning.spaces import Space
from rllib_hetero_cli.parser import NOTHING


def run(args: argparse.Namespace) -> int:
    """Searches, prints the result line, and returns the exit code."""
    study = _study(args)
    try:
        study.check_folder(resume=args.resume)
    except ValueError as problem:
        raise InputError(str(problem)) from problem
    try:
        result = study.fit(resume=args.resume)
    except FolderInUseError as problem:
        raise InputError(str(problem)) from None
    print(result.table.read_text(), flush=True)
    print_result(_summary(result))
    if result.stopped_by is not None:
        return after_signal(result.stopped_by)
    return FAILED if _error(result) else DONE


def _study(args: argparse.Namespace) -> Study:
    configs = [
        make_config(_of_one(args, algo, env_config), remote=False)
        for algo in args.algo or [None]
        for env_config in args.env_config or [None]
    ]
    plan = Plan(
        seeds=args.seeds,
        num_samples=args.num_samples,
        env_steps=args.env_steps,
        scheduler=args.scheduler,
        search=args.search,
        metric=args.metric,
        mode=args.mode,
        checkpoint_every=args.checkpoint_every,
        max_failures=args.max_failures,
        max_concurrent=args.max_concurrent,
    )
    try:
        space = _space(args, configs)
        return make_study(configs, plan, args.out, space=space, fixed=_fixed(args))
    except (ValueError, ImportError) as problem:
        raise InputError(str(problem)) from problem


def _of_one(args: argparse.Namespace, algo: str | None, env_config: Any) -> argparse.Namespace:
    """The arguments of `train` for one algorithm and task."""
    one = copy(args)
    one.algo, one.env_config, one.seed = algo, env_config, None
    return one


def _space(args: argparse.Namespace, configs: list[Any]) -> Space | None:
    if args.space is None:
        return None
    if args.space == [NOTHING]:
        return {}
    space = parse_space(args.space)
    for config in configs:
        valid = keys_of(type(config), "training")
        for name in space:
            if name not in valid:
                raise InputError(
                    f"--space: {type(config).__name__} has no setting 'training.{name}'; "
                    f"{nearest(name, valid)}"
                )
    both = sorted(_fixed(args).intersection(space))
    if both:
        raise InputError(f"{both[0]!r} is both fixed by --set and searched by --space")
    return space


def _fixed(args: argparse.Namespace) -> set[str]:
    """The training settings that --set gives."""
    named = (text.partition("=")[0] for text in args.set)
    return {name.removeprefix("training.") for name in named if name.startswith("training.")}


def _error(result: StudyResult) -> str | None:
    errors = [trial.error for trial in result.trials if trial.error is not None]
    if errors:
        return errors[0]
    return None if result.best else "no trial has a value of the metric"


def _summary(result: StudyResult) -> dict[str, Any]:
    error = _error(result)
    ended = {"status": "done"} if error is None else {"status": "failed", "error": error}
    return {
        "trials": len(result.trials),
        "failed_trials": sum(trial.error is not None for trial in result.trials),
        "lost_env_steps": result.lost_env_steps,
        "best": [
            {
                "task": task,
                "algo": algo,
                "seeds": [trial.seed for trial in best.trials],
                "returns": [trial.final for trial in best.trials],
                "settings": [trial.setting for trial in best.trials],
                "checkpoints": [trial.checkpoint for trial in best.trials],
            }
            for (task, algo), best in result.best.items()
        ],
        "table": str(result.table),
        "csv": str(result.csv),
        **(ended if result.stopped_by is None else {"status": "stopped"}),
    }
