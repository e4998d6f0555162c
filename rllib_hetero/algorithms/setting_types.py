"""Whether a setting is of the type, and in the range, that its fluent method asks for."""

from __future__ import annotations

import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

NumberOrSchedule = float | list[list[float]] | list[tuple[float, float]]
"""A number, or numbers over environment steps: [[0, a], [100_000, b]]."""

# RLlib's annotations are wrong here: half a CPU may be asked for. Or they say "a text" of words.
_ANNOTATIONS: dict[str, Any] = {
    "num_cpus_per_env_runner": float,
    "num_cpus_for_main_process": float,
    "max_num_env_runner_restarts": float,  # infinite by default
    "min_time_s_per_iteration": float,
    "num_cpus_per_learner": float | Literal["auto"],
    "custom_resources_per_env_runner": dict[str, float],
    "custom_resources_per_learner": dict[str, float],
    "custom_resources_for_main_process": dict[str, float],
    "rollout_fragment_length": int | Literal["auto"],
    "merge_env_runner_states": bool | Literal["training_only"],
    "model_config": dict | DefaultModelConfig,
    "policies_to_train": list[str] | set[str] | Callable,
    "evaluation_duration": int | Literal["auto"],
    "evaluation_duration_unit": Literal["episodes", "timesteps"],
    "framework": Literal["torch"],
    "log_level": Literal["DEBUG", "INFO", "WARN", "ERROR"],
    "placement_strategy": Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"],
}

LEAST: dict[str, float] = {
    "num_env_runners": 0,
    "num_envs_per_env_runner": 1,
    "num_cpus_per_env_runner": 0,
    "num_gpus_per_env_runner": 0,
    "num_learners": 0,
    "num_cpus_per_learner": 0,
    "num_gpus_per_learner": 0,
    "local_gpu_idx": 0,
    "custom_resources_per_env_runner": 0,
    "custom_resources_per_learner": 0,
    "custom_resources_for_main_process": 0,
    "episode_lookback_horizon": 0,
    "num_cpus_for_main_process": 0,
    "evaluation_num_env_runners": 0,
    "evaluation_interval": 0,
    "evaluation_duration": 1,
    "evaluation_auto_duration_min_env_steps_per_sample": 1,
    "evaluation_auto_duration_max_env_steps_per_sample": 1,
    "evaluation_unhealthy_workers_timeout_s": 0,
    "evaluation_error_after_n_consecutive_skips": 1,
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

MOST: dict[str, float] = {
    "num_env_runners": 1_000_000,
    "num_envs_per_env_runner": 1_000_000,
    "num_learners": 1_000_000,
    "evaluation_num_env_runners": 1_000_000,
    **dict.fromkeys(
        ("num_cpus_per_env_runner", "num_gpus_per_env_runner", "num_cpus_per_learner",
         "num_gpus_per_learner", "num_cpus_for_main_process"),
        1_000_000,
    ),
    "seed": 2**32 - 1,  # numpy's
}  # fmt: skip
"""The largest value of settings of which more would only end in the middle of the work."""

LARGEST_WHOLE = 2**63 - 1
"""Of any setting: counts are kept in 64 bits."""

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
    # What a dict without a range holds is for whom it is handed to.
    numbers = _numbers(value) if name in LEAST or not isinstance(value, Mapping) else []
    if any(math.isnan(x) for x in numbers) or (
        name not in MAY_BE_INFINITE and any(math.isinf(x) for x in numbers)
    ):
        return "must be a finite number"
    least = LEAST.get(name)
    if least is not None and any(x < least for x in numbers):
        return f"must be at least {least}"
    most = MOST.get(name, LARGEST_WHOLE if isinstance(value, Integral) else math.inf)
    if any(x > most for x in numbers):
        return f"must be at most {most:,}"
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
        key, inner = arguments or (Any, Any)
        return isinstance(value, Mapping) and all(
            fits(k, key) and fits(x, inner) for k, x in value.items()
        )
    if plain is Sequence:
        # A text is one, too: of agents whose names are letters.
        return isinstance(value, Sequence) and all(
            fits(x, arguments[0]) for x in value if arguments
        )
    if plain is list or (plain is tuple and (not arguments or arguments[-1] is ...)):
        whole = isinstance(value, list | tuple)
        return whole and all(fits(x, arguments[0]) for x in value if arguments)
    if plain is tuple:
        whole = isinstance(value, list | tuple) and len(value) == len(arguments)
        return whole and all(map(fits, value, arguments))
    if plain is set:
        return isinstance(value, set) and all(fits(x, arguments[0]) for x in value if arguments)
    if plain is Collection:
        return isinstance(value, Collection) and not isinstance(value, str)
    if plain is Callable:
        return callable(value)
    if plain in (type, DefaultModelConfig):
        return isinstance(value, plain)
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
        set: "a set",
        Sequence: "a list",
        Collection: "a collection",
        Callable: "a function",
        type: "a class",
    }
    return known.get(origin or annotation, getattr(annotation, "__name__", str(annotation)))


def _numbers(value: Any) -> list[float]:
    """The number, or the values of a schedule or a dict of numbers."""
    if isinstance(value, Integral) and abs(int(value)) > sys.float_info.max:
        return [math.copysign(sys.float_info.max, value)]  # float() would raise
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return [float(value)]
    if isinstance(value, Mapping):
        return [y for x in value.values() if isinstance(x, Real) for y in _numbers(x)]
    if isinstance(value, list | tuple):
        points = [p for p in value if isinstance(p, list | tuple) and len(p) == 2]
        return [float(y) for _, y in points if isinstance(y, Real)]
    return []
