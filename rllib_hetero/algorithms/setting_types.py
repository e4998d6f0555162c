"""Whether a setting is of the type, and in the range, that its fluent method asks for."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

# RLlib's annotations are wrong here: half a CPU may be asked for.
_ANNOTATIONS: dict[str, Any] = {
    "num_cpus_per_env_runner": float,
    "num_cpus_for_main_process": float,
    "max_num_env_runner_restarts": float,  # infinite by default
    "min_time_s_per_iteration": float,
}

LEAST: dict[str, float] = {
    "num_env_runners": 0,
    "num_envs_per_env_runner": 1,
    "num_cpus_per_env_runner": 0,
    "num_gpus_per_env_runner": 0,
    "num_learners": 0,
    "num_cpus_per_learner": 0,
    "num_gpus_per_learner": 0,
    "num_cpus_for_main_process": 0,
    "evaluation_num_env_runners": 0,
    "evaluation_interval": 0,
    "evaluation_duration": 1,
    "rollout_fragment_length": 1,
    "sample_timeout_s": 0,
    "evaluation_sample_timeout_s": 0,
    "max_requests_in_flight_per_env_runner": 1,
    "lr": 0,
    "critic_lr": 0,
    "adam_epsilon": 0,
    "train_batch_size_per_learner": 1,
    "minibatch_size": 1,
    "num_epochs": 1,
    "critic_num_epochs": 1,
    "metrics_num_episodes_for_smoothing": 1,
    "min_time_s_per_iteration": 0,
    "min_train_timesteps_per_iteration": 0,
    "min_sample_timesteps_per_iteration": 0,
    "max_num_env_runner_restarts": 0,
    "delay_between_env_runner_restarts_s": 0,
    "num_consecutive_env_runner_failures_tolerance": 0,
    "env_runner_health_probe_timeout_s": 0,
    "env_runner_restore_timeout_s": 0,
    "seed": 0,
}
"""The smallest value of each setting that is a number, where not its algorithm says it."""

MAY_BE_NONE = frozenset({"grad_clip", "sample_timeout_s", "minibatch_size", "lr"})
"""RLlib's settings that may be None although that is not their default. Its types say it of all."""

MAY_BE_INFINITE = frozenset({"max_num_env_runner_restarts"})


def problem_with_setting(name: str, value: Any, annotation: Any, *, ours: bool) -> str | None:
    """Why a setting cannot be what it is, in words; None if it can.

    Args:
        name: Its name.
        value: What it is set to; not its default.
        annotation: Its type in the method's signature.
        ours: Whether it is of this library, whose types say where None is meant.
    """
    annotation = _ANNOTATIONS.get(name, annotation)
    if value is None and not ours and name not in MAY_BE_NONE:
        return f"must be {in_words(annotation)}"
    if not fits(value, annotation):
        # RLlib's types say of every setting that it may be None.
        none = " or None" if ours and fits(None, annotation) else ""
        return f"must be {in_words(annotation)}{none}"
    numbers = list(_numbers(value))
    if name not in MAY_BE_INFINITE and not all(math.isfinite(x) for x in numbers):
        return "must be a finite number"
    least = LEAST.get(name)
    if least is not None and any(x < least for x in numbers):
        return f"must be at least {least}"
    return None


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type, as a signature names it. What is not known here fits."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, a) for a in arguments)
    if origin is typing.Literal:
        return value in arguments
    if annotation in (None, type(None)):
        return value is None
    plain = origin or annotation
    if plain is bool:
        return isinstance(value, bool | np.bool_)
    if plain is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if plain is float:
        return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if plain is str:
        return isinstance(value, str)
    if plain in (dict, Mapping):
        return isinstance(value, Mapping)
    if plain in (list, tuple, Sequence):
        whole = isinstance(value, list | tuple)
        inner = arguments[:1] if plain is not tuple else ()
        return whole and all(fits(x, inner[0]) for x in value if inner)
    if plain is Collection:
        return isinstance(value, Collection) and not isinstance(value, str)
    if plain is Callable:
        return callable(value)
    if plain is type:
        return isinstance(value, type)
    return True


def in_words(annotation: Any) -> str:
    """A type as in "a whole number or a text"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        words = dict.fromkeys(in_words(a) for a in arguments if a is not type(None))
        return " or ".join(words)
    if origin is typing.Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    known = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a text",
        dict: "a dict",
        Mapping: "a dict",
        list: "a list",
        tuple: "a list",
        Sequence: "a list",
        Collection: "a collection",
        Callable: "a function",
        type: "a class",
    }
    return known.get(origin or annotation, str(annotation))


def _numbers(value: Any) -> list[float]:
    """The number, or the values of a schedule of numbers."""
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return [float(value)]
    if isinstance(value, list | tuple):
        points = [p for p in value if isinstance(p, list | tuple) and len(p) == 2]
        return [float(y) for _, y in points if isinstance(y, Real)]
    return []
