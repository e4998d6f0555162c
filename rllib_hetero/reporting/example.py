"""What the scripts in `tuned_examples/` share: RLlib's command line, training, a demo."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ray.rllib.examples.utils import (
    add_rllib_example_script_args,
    run_rllib_example_script_experiment,
)
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from ray.tune.result import TRAINING_ITERATION

from rllib_hetero.reporting.demo import show
from rllib_hetero.reporting.run import free_folder, run_training

DEMO_STEPS = 200_000


def example_parser(**defaults: Any) -> argparse.ArgumentParser:
    """RLlib's example arguments and ours. By default the script trains without Tune.

    Args:
        defaults: Defaults other than RLlib's, by attribute name.
    """
    parser = add_rllib_example_script_args()
    ours = parser.add_argument_group("rllib_hetero")
    ours.add_argument("--env-steps", type=int, default=None, help="environment steps to train for")
    ours.add_argument("--seed", type=int, default=0)
    ours.add_argument("--out", type=Path, default=None, help="default: results/<run>/")
    ours.add_argument(
        "--tune", dest="no_tune", action="store_false", help="run under Tune, as RLlib's examples"
    )
    ours.add_argument(
        "--demo",
        action="store_true",
        help=f"train for {DEMO_STEPS:,} steps, film an episode, compare with random actions",
    )
    # What stops the training is --env-steps, unless these are given.
    parser.set_defaults(stop_reward=None, stop_iters=None, stop_timesteps=None)
    # Tune's next level prints the whole config with every result.
    parser.set_defaults(no_tune=True, verbose=1)
    parser.set_defaults(**defaults)
    return parser


def run_example(
    config: Any, args: argparse.Namespace, *, env_steps: int = 1_000_000, demo_episodes: int = 50
) -> Any:
    """Trains as the arguments say.

    Args:
        config: The example's config; changed by `args`.
        args: From `example_parser`.
        env_steps: How long to train, unless --env-steps or --demo says otherwise.
        demo_episodes: How many episodes --demo compares over.

    Returns:
        A `RunResult`; with --tune what RLlib's example runner returns.

    Raises:
        SystemExit: If an argument needs --tune, or if a demo did not beat random actions.
    """
    config.debugging(seed=args.seed)
    target = args.env_steps or args.stop_timesteps or (DEMO_STEPS if args.demo else env_steps)
    if not args.no_tune:
        return _run_under_tune(config, args, target)
    _refuse_what_needs_tune(args)
    _apply(config, args)
    result = run_training(
        config,
        env_steps=target,
        out=args.out or free_folder(config),
        checkpoint_every=args.checkpoint_freq or None,
    )
    if args.demo and not show(config, result, episodes=demo_episodes):
        raise SystemExit("The trained policies did not beat random actions.")
    return result


def _run_under_tune(config: Any, args: argparse.Namespace, target: int) -> Any:
    stop = {NUM_ENV_STEPS_SAMPLED_LIFETIME: target}
    if args.stop_iters is not None:
        stop[TRAINING_ITERATION] = args.stop_iters
    if args.stop_reward is not None:
        stop[f"{ENV_RUNNER_RESULTS}/{EPISODE_RETURN_MEAN}"] = args.stop_reward
    args.algo = config.algo_class.__name__
    return run_rllib_example_script_experiment(config, args, stop=stop)


def _refuse_what_needs_tune(args: argparse.Namespace) -> None:
    given = {
        "--num-samples": args.num_samples > 1,
        "--max-concurrent-trials": args.max_concurrent_trials is not None,
        "--wandb-key": args.wandb_key is not None,
        "--stop-iters": args.stop_iters is not None,
        "--stop-reward": args.stop_reward is not None,
        "--as-test": args.as_test or args.as_release_test,
    }
    for flag, used in given.items():
        if used:
            raise SystemExit(f"{flag} needs --tune.")


def _apply(config: Any, args: argparse.Namespace) -> None:
    """What RLlib's example runner sets itself under Tune."""
    runners = {
        name: getattr(args, name)
        for name in ("num_env_runners", "num_envs_per_env_runner")
        if getattr(args, name) is not None
    }
    learners = {
        name: getattr(args, name)
        for name in ("num_learners", "num_cpus_per_learner", "num_gpus_per_learner")
        if getattr(args, name) is not None
    }
    config.env_runners(**runners).learners(**learners)
    if args.evaluation_interval:
        config.evaluation(
            evaluation_num_env_runners=args.evaluation_num_env_runners,
            evaluation_interval=args.evaluation_interval,
            evaluation_duration=args.evaluation_duration,
            evaluation_duration_unit=args.evaluation_duration_unit,
            evaluation_parallel_to_training=args.evaluation_parallel_to_training,
        )
    if args.log_level is not None:
        config.debugging(log_level=args.log_level)
