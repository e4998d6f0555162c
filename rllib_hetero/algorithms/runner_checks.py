"""Whether the runner that is to sample can do what the settings ask of it."""

from __future__ import annotations

import logging
import threading
from typing import Any

from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

from rllib_hetero.algorithms.checkpoint import connectors_of
from rllib_hetero.runners.stock_runner import StockTeamEnvRunner
from rllib_hetero.runners.team_env_runner import TeamEnvRunner
from rllib_hetero.spaces import is_mixed

logger = logging.getLogger(__name__)


def check_runner(config: Any) -> None:
    """Raises unless the env runner's class samples such a team with such settings.

    RLlib's stock runner becomes the one of it that knows teams.

    Args:
        config: Its layout is read from the environment already.

    Raises:
        ValueError: The first that does not fit, with the call that mends it.
    """
    if config.env_runner_cls is MultiAgentEnvRunner:
        config.env_runner_cls = StockTeamEnvRunner
    if not issubclass(config.env_runner_cls, MultiAgentEnvRunner):
        raise ValueError(
            f"`env_runner_cls` is {config.env_runner_cls.__name__}; use TeamEnvRunner (the "
            "default) or MultiAgentEnvRunner: config.env_runners(env_runner_cls=...)."
        )
    fast = issubclass(config.env_runner_cls, TeamEnvRunner)
    connectors = connectors_of(config)
    if connectors and not fast and not config.in_evaluation:
        logger.warning(
            "Checkpoints will hold the policies without your %s: `load_policies` will refuse "
            "them. Algorithm.from_checkpoint restores both.",
            " and ".join(connectors),
        )
    if connectors and fast:
        raise ValueError(
            "The team env runner has no env-to-module or module-to-env connectors. Use "
            "config.env_runners(env_runner_cls=MultiAgentEnvRunner) to run yours, or put "
            "the transformation into the environment."
        )
    if not fast:
        _check_stock_runner(config)
    if config.env_timeout_s is not None:
        _check_env_timeout(config, fast)


def _check_stock_runner(config: Any) -> None:
    """What RLlib's runner cannot do, or does not know."""
    if config.autoregressive:
        raise ValueError(
            "Agents act in sequence on the team env runner only: remove "
            "config.env_runners(env_runner_cls=...)."
        )
    if config.policy_family != "stochastic":
        raise ValueError(
            "How this algorithm explores is known to the team env runner only: remove "
            "config.env_runners(env_runner_cls=...)."
        )
    team = config.layout.team
    if team.absences:
        raise ValueError(
            "The environment says `absences = True`, and agents may be absent on the team env "
            "runner only: remove config.env_runners(env_runner_cls=...)."
        )
    mixed = [a for a, m in team.moves.items() if is_mixed(m.flat)]
    if mixed:
        raise ValueError(
            f"The actions of {mixed} are both choices and numbers, which the team env runner "
            "alone draws: remove config.env_runners(env_runner_cls=...)."
        )
    if config._rl_module_spec is None and config.model_config.get("recurrent"):
        raise ValueError(
            "Recurrent policies run on the team env runner only: remove "
            "config.env_runners(env_runner_cls=...), or set "
            "config.rl_module(model_config={'recurrent': None})."
        )


def _check_env_timeout(config: Any, fast: bool) -> None:
    seconds = config.env_timeout_s
    if (
        not isinstance(seconds, (int, float))
        or isinstance(seconds, bool)
        or not 0 < seconds < threading.TIMEOUT_MAX
    ):
        raise ValueError(
            f"`env_timeout_s` must be a number of seconds above 0, or None, got {seconds!r}. "
            "Set it with config.fault_tolerance(env_timeout_s=300)."
        )
    if not fast:
        raise ValueError(
            "`env_timeout_s` is kept by the team env runner only: remove "
            "config.env_runners(env_runner_cls=...), or "
            "config.fault_tolerance(env_timeout_s=...)."
        )
    # Evaluation without runners of its own is in the driver, and goes without a limit.
    if config.num_env_runners == 0 and not config.in_evaluation:
        raise ValueError(
            "`env_timeout_s` ends the process of an environment that hangs, which without "
            "remote runners is the driver: set config.env_runners(num_env_runners=1) or more, "
            "or remove config.fault_tolerance(env_timeout_s=...)."
        )


def check_num_learners(config: Any) -> None:
    """Raises ValueError where there are more learners than environments to share among them."""
    envs = max(1, config.num_env_runners) * config.num_envs_per_env_runner
    if config.num_learners > envs:
        raise ValueError(
            f"{config.num_learners} learners share the environments, whole ones each, but there "
            f"are only {envs}. Set config.env_runners(num_envs_per_env_runner=...) higher or "
            "config.learners(num_learners=...) lower."
        )
