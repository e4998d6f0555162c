"""Turns what a user gave to `config.environment(...)` into a function that makes it."""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import gymnasium as gym
from ray.rllib.utils.from_config import from_config
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_hetero.errors import TeamError

_WRAP = (
    "config.environment(lambda env_config: PettingZooTeamEnv(parallel_env(**env_config))), with "
    "PettingZooTeamEnv from rllib_hetero"
)


def env_creator(env: Any, *, names: Iterable[str] = ()) -> Callable[[Any], Any]:
    """The creator of an environment: called with an `EnvContext`, returns the environment.

    Args:
        env: A name registered with Ray, a class, a function, or a class's path "module.Class".
        names: Those of the ready-made environments, to be told where a name is unknown.

    Raises:
        TeamError: If it is none of these.
    """
    if isinstance(env, str):
        if _global_registry.contains(ENV_CREATOR, env):
            return _global_registry.get(ENV_CREATOR, env)
        if "." in env:
            return lambda context: from_config(env, context)
        raise TeamError(_no_such_name(env, names))
    if isinstance(env, ModuleType):
        raise TeamError(
            f"The environment is the module {env.__name__}. Give what makes one: {_WRAP}."
        )
    if is_pettingzoo(env) or (callable(getattr(env, "step", None)) and not isinstance(env, type)):
        kind = f"the class {env.__name__}" if isinstance(env, type) else "an instance"
        wanted = (
            f"Wrap a PettingZoo parallel environment: {_WRAP}."
            if is_pettingzoo(env)
            else "Runners make their own: give its class, or a function of the env_config, to "
            "config.environment(...)."
        )
        raise TeamError(f"The environment is {kind} of {_family(env)}. {wanted}")
    if not callable(env):
        raise TeamError(
            f"The environment is {env!r}. config.environment(...) takes a registered name, a "
            "class, or a function of the env_config."
        )
    return env


def make_env(env: Any, context: Any, *, names: Iterable[str] = ()) -> Any:
    """Makes an environment; what its code raises comes with what was called.

    Args:
        env: As of `env_creator`.
        context: The `EnvContext`.
        names: As of `env_creator`.

    Raises:
        TeamError: If it cannot be made. Those of this library, and what an import raises, are
            raised as they are.
    """
    create = env_creator(env, names=names)
    try:
        made = create(context)
    except (TeamError, ImportError):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise TeamError(
            f"The environment cannot be made: {type(error).__name__}: {error} "
            f"({os.path.basename(frame.filename)}, line {frame.lineno}). What is given to "
            "config.environment(...) is called with one argument, the env_config "
            f"({dict(context)})."
        ) from error
    if made is None:
        raise TeamError(
            "The function given to config.environment(...) returned None, no environment: return "
            "it."
        )
    return made


def is_pettingzoo(env: Any) -> bool:
    """Whether it is a PettingZoo environment, or a class of them."""
    cls = env if isinstance(env, type) else type(env)
    return any(c.__module__.split(".")[0] == "pettingzoo" for c in cls.__mro__)


def _family(env: Any) -> str:
    if is_pettingzoo(env):
        return "PettingZoo"
    return type(env).__name__ if not isinstance(env, type) else env.__module__


def _no_such_name(name: str, names: Iterable[str]) -> str:
    if name in gym.registry:
        return (
            f"{name!r} is a gymnasium environment of a single agent. Teams are RLlib's "
            "MultiAgentEnv, or PettingZoo parallel environments in rllib_hetero.PettingZooTeamEnv."
        )
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return (
        f"There is no environment {name!r}. {hint}Ready-made are {', '.join(sorted(names))}; "
        "one of your own is registered with ray.tune.registry.register_env(name, function), or "
        "given to config.environment(...) as a class or function."
    )
