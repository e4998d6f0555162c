"""The setting `overlap`: remote runners sample while learners update."""

from __future__ import annotations

from typing import Any

from rllib_hetero.runners.team_env_runner import TeamEnvRunner


def check_overlap(config: Any) -> None:
    """Raises where runners are asked to sample during updates and cannot.

    Args:
        config: A team config with the setting `overlap`, checked in all else.
    """
    if not isinstance(config.overlap, bool):
        config._value_error(
            f"`overlap` must be True or False, got {config.overlap!r}. Set it with "
            "config.training(overlap=...)."
        )
    if not config.overlap:
        return
    if config.num_env_runners == 0:
        config._value_error(
            "With `overlap`, runners sample while updates are made, which takes processes of "
            "their own: set config.env_runners(num_env_runners=1) or more, or remove "
            "config.training(overlap=True)."
        )
    if not issubclass(config.env_runner_cls, TeamEnvRunner):
        config._value_error(
            "With `overlap`, a rollout under way must be sampled anew from a checkpoint, which the "
            "team env runner can: remove config.env_runners(env_runner_cls=...), or "
            "config.training(overlap=True)."
        )
    # The team env runner has no connectors whose states could be merged. To ask for them is
    # to wait for the rollout that is under way.
    config.merge_env_runner_states = False
