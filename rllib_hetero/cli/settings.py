"""The settings that a config file or `--set` may name, and their way into a config.

A setting is `section.key`: the section is a method of the config (`training`), the key one of its
arguments (`lr`).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from ray._common.deprecation import DEPRECATED_VALUE

from rllib_hetero.algorithms.arguments import arguments_of, check_argument, value_of
from rllib_hetero.cli.ending import InputError
from rllib_hetero.envs import ENVIRONMENTS

Settings = dict[str, dict[str, Any]]
"""Section to its keys and their values."""

SECTIONS = (
    "environment",
    "env_runners",
    "training",
    "multi_agent",
    "learners",
    "consensus",
    "other_agents",
    "rl_module",
    "evaluation",
    "fault_tolerance",
    "debugging",
    "reporting",
    "checkpointing",
    "framework",
    "resources",
)
"""All that there are; families have some of their own."""

NEEDS_PYTHON = frozenset({
    "action_space", "custom_evaluation_function", "custom_stats_cls_lookup", "env_runner_cls",
    "env_to_module_connector", "exploration_config", "learner_class", "learner_connector",
    "module_to_env_connector", "observation_fn", "observation_space",
    "off_policy_estimation_methods", "offline_eval_runner_class", "offline_loss_for_module_fn",
    "policies", "policy_mapping_fn", "rl_module_spec", "sample_collector",
})  # fmt: skip
"""Arguments that are Python objects. RLlib would import some of them from strings."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """What to say about an unknown name: the nearest valid one, or all of them."""
    known = sorted(valid)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}."


def keys_of(config_class: type, section: str) -> list[str]:
    """The arguments of a config's method; those it hands on to its parents included."""
    keys: dict[str, None] = {}
    for owner in config_class.__mro__:
        if section not in vars(owner):
            continue
        for name, parameter in inspect.signature(vars(owner)[section]).parameters.items():
            named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            deprecated = parameter.default == DEPRECATED_VALUE
            if named and not deprecated and name != "self" and not name.startswith("_"):
                keys[name] = None
    return list(keys)


def check(config_class: type, settings: Mapping[str, Any]) -> None:
    """Refuses what the config does not know, what text cannot say, and what has a wrong type.

    The config's methods would take some values apart before any of their settings is checked.

    Raises:
        InputError: It names the nearest valid name, or the setting.
    """
    default = config_class()
    for section, values in settings.items():
        if section not in SECTIONS:
            raise InputError(f"there is no section {section!r}; {nearest(section, SECTIONS)}")
        if not hasattr(config_class, section):
            raise InputError(f"{config_class.__name__} has no section {section!r}.")
        if not isinstance(values, Mapping):
            raise InputError(f"the section {section!r} must hold `key: value` lines")
        valid = keys_of(config_class, section)
        arguments = {a.name: a for a in arguments_of(config_class, (section,))}
        for key, value in values.items():
            _check_key(config_class, section, str(key), valid)
            if key == "env":
                _check_env(value)
            if key == "evaluation_config":
                _check_evaluation_config(config_class, value)
            try:
                check_argument(arguments[key], value, value_of(default, key), runner=None)
            except ValueError as problem:
                raise InputError(str(problem)) from None


def _check_key(config_class: type, section: str, key: str, valid: list[str]) -> None:
    if key not in valid:
        name = config_class.__name__
        elsewhere = [s for s in SECTIONS if key in keys_of(config_class, s)]
        hint = f"it belongs to {elsewhere[0]!r}." if elsewhere else nearest(key, valid)
        raise InputError(f"{name} has no setting '{section}.{key}'; {hint}")
    if key in NEEDS_PYTHON:
        raise InputError(
            f"'{section}.{key}' is a Python object, which text cannot give: set it in a Python "
            "config file (--config FILE.py)."
        )


def _check_env(name: Any) -> None:
    if not isinstance(name, str) or name not in ENVIRONMENTS:
        raise InputError(
            f"there is no environment {name!r}; {nearest(str(name), ENVIRONMENTS)} One of your own "
            "is named on the command line (--env module:Class) or in a Python config file."
        )


def _check_evaluation_config(config_class: type, values: Any) -> None:
    if not isinstance(values, Mapping):
        raise InputError("'evaluation.evaluation_config' must hold `key: value` lines")
    valid = {key for section in SECTIONS for key in keys_of(config_class, section)}
    for key, value in values.items():
        _check_key(config_class, "evaluation.evaluation_config", str(key), sorted(valid))
        if key == "env":
            _check_env(value)


def merge(settings: Settings, section: str, key: str, value: Any) -> None:
    """Puts a setting in, over one that is there. A dotted key goes into a dict: "a.b"."""
    place: Any = settings.setdefault(section, {})
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"'{section}.{key}': {parent!r} does not hold settings of its own")
    place[last] = value


def apply(config: Any, settings: Settings) -> None:
    """Calls the config's methods, in their order in `SECTIONS`."""
    for section in SECTIONS:
        if section not in settings:
            continue
        try:
            getattr(config, section)(**settings[section])
        except (TypeError, ValueError) as problem:
            raise InputError(f"section {section!r}: {problem}") from problem


def current_dict(config: Any, key: str) -> dict[str, Any]:
    """A dict that the config holds; empty where the key is not such a one."""
    value = getattr(config, {"model_config": "_model_config"}.get(key, key), None)
    return dict(value) if isinstance(value, Mapping) else {}
