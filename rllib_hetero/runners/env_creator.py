"""Turns what a user gave to `config.environment(...)` into a function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.rllib.env.utils import _gym_env_creator
from ray.tune.registry import ENV_CREATOR, _global_registry


def env_creator(env: Any) -> Callable[[Any], Any]:
    """The creator of an environment: called with an `EnvContext`, returns the environment.

    Args:
        env: A name registered with Ray, a class, or a string that RLlib can import.
    """
    if isinstance(env, str) and _global_registry.contains(ENV_CREATOR, env):
        return _global_registry.get(ENV_CREATOR, env)
    if callable(env):
        return env
    return lambda context: _gym_env_creator(context, env)
