"""The command `evaluate`. Ray is not started, nothing is unpickled."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from rllib_hetero.cli.ending import DONE, InputError, print_result
from rllib_hetero.cli.request import named_env
from rllib_hetero.envs import ENVIRONMENTS
from rllib_hetero.errors import TeamError
from rllib_hetero.policies import load_policies
from rllib_hetero.reporting.evaluation import evaluate
from rllib_hetero.reporting.names import env_id
from rllib_hetero.reporting.record import parsed_record
from rllib_hetero.reporting.redaction import HIDDEN


def run(args: argparse.Namespace) -> int:
    """Plays, prints the result line, and returns the exit code."""
    checkpoint = args.checkpoint.resolve()
    if (checkpoint / "checkpoint").is_dir():
        checkpoint = checkpoint / "checkpoint"
    env, env_config = _environment(args, checkpoint)
    start = time.perf_counter()
    try:
        played = evaluate(
            load_policies(checkpoint),
            env,
            env_config,
            episodes=args.episodes,
            seed=args.seed,
            explore=args.explore,
        )
    except (FileNotFoundError, ImportError, ValueError) as problem:
        raise InputError(str(problem)) from problem
    print_result(
        {
            "checkpoint": str(checkpoint),
            "env": env_id(env),
            "env_config": env_config,
            "episodes": args.episodes,
            "seed": args.seed,
            "explore": args.explore,
            "return_mean": float(np.mean(played.returns)),
            "return_std": float(np.std(played.returns)),
            "return_min": min(played.returns),
            "return_max": max(played.returns),
            "episode_len_mean": float(np.mean(played.lengths)),
            "metrics": {name: float(np.mean(x)) for name, x in played.metrics.items()},
            "seconds": round(time.perf_counter() - start, 1),
            "status": "done",
        }
    )
    return DONE


def _environment(args: argparse.Namespace, checkpoint: Path) -> tuple[Any, dict[str, Any]]:
    """What to play on: as the command line says, else as the run's record beside the checkpoint."""
    if args.env:
        return named_env(args.env), args.env_config or {}
    try:
        known = parsed_record(checkpoint.parent)
    except FileNotFoundError:
        raise InputError(
            f"{checkpoint.parent / 'run.json'} is missing, so name the environment: --env and "
            "--env-config"
        ) from None
    except TeamError as problem:
        raise InputError(str(problem)) from None
    if known["env"] not in ENVIRONMENTS:
        raise InputError(
            f"the run was trained on {known['env']!r:.200}, which is no ready-made environment, "
            "and is not imported because a file says so: name it with --env module:Class"
        )
    env_config = known["env_config"] | (args.env_config or {})
    hidden = [name for name, value in env_config.items() if HIDDEN in json.dumps(value)]
    if hidden:
        raise InputError(
            f"the run's record does not tell {', '.join(hidden)} of its env_config, as it may be a "
            "credential: give it with --env-config"
        )
    return known["env"], env_config
