"""From the command line of `train` to a config that is known to be good. Ray is not started."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

import yaml

from rllib_hetero import ALGORITHMS
from rllib_hetero.cli import config_file
from rllib_hetero.cli.ending import InputError
from rllib_hetero.cli.sampling import recommended
from rllib_hetero.cli.settings import (
    Settings,
    apply,
    check,
    current_dict,
    merge,
    nearest,
)
from rllib_hetero.envs import ENVIRONMENTS


def make_config(args: argparse.Namespace, *, remote: bool = True) -> Any:
    """The config: the file's, then --env, --env-config and --seed, then every --set.

    Unless the file is a Python one, how it samples is as recommended where nothing else is said.

    Args:
        args: Of `train`.
        remote: Whether env runners of their own are recommended; otherwise the driver samples.

    Raises:
        InputError: For whatever is wrong.
    """
    config, settings = _from_file(args)
    for section, key, value in _overrides(args.set):
        first, dot, _ = key.partition(".")
        if dot and first not in settings.get(section, {}):
            merge(settings, section, first, current_dict(config, first))
        merge(settings, section, key, value)
    check(type(config), settings)
    env = named_env(args.env) if args.env else None
    env = settings.get("environment", {}).get("env", env)
    if env is not None:
        config.environment(env)
    if args.config is None or args.config.suffix != config_file.PYTHON:
        settings["env_runners"] = recommended(config, env, settings, remote=remote)
    apply(config, settings)
    _validate(config)
    return config


def named_env(name: str) -> Any:
    """A registered name as it is; what "module:Class" names, imported.

    Raises:
        InputError: If there is no such thing.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        if name not in ENVIRONMENTS:
            raise InputError(
                f"--env: there is no environment {name!r}; {nearest(name, ENVIRONMENTS)}"
            )
        return name
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # modules of the working folder can be named
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise InputError(f"--env: {name!r} cannot be imported: {problem}") from None


def _from_file(args: argparse.Namespace) -> tuple[Any, Settings]:
    """The config to begin with, and the settings that are to be put into it."""
    path = args.config
    if path is None or path.suffix in config_file.YAML:
        sections = {} if path is None else config_file.read_yaml(path)
        algo = args.algo or sections.pop("algo", None)
        sections.pop("algo", None)
        if algo is None:
            raise InputError("no algorithm is named: give --algo, such as --algo HAPPO")
        config, settings = _algorithm(algo).get_default_config(), sections
        check(type(config), settings)
    elif path.suffix == config_file.PYTHON:
        config, settings = config_file.run_python(path), {}
        named = config.algo_class.__name__
        if args.algo and _algorithm(args.algo) is not config.algo_class:
            raise InputError(f"--algo {args.algo}: {path} is for {named}. Leave --algo out.")
    else:
        raise InputError(f"--config {path}: must end in .yaml, .yml or .py")
    if args.env:
        settings.get("environment", {}).pop("env", None)
    for key, value in (args.env_config or {}).items():
        merge(settings, "environment", f"env_config.{key}", value)
    if args.seed is not None:
        merge(settings, "debugging", "seed", args.seed)
    return config, settings


def _algorithm(name: Any) -> Any:
    by_name = {known.upper(): algorithm for known, algorithm in ALGORITHMS.items()}
    if str(name).upper() not in by_name:
        raise InputError(
            f"there is no algorithm {name!r}; {nearest(str(name).upper(), ALGORITHMS)}"
        )
    return by_name[str(name).upper()]


def _overrides(texts: list[str]) -> list[tuple[str, str, Any]]:
    found = []
    for text in texts:
        setting, equals, value = text.partition("=")
        section, dot, key = setting.partition(".")
        if not (equals and dot and key):
            raise InputError(f"--set {text}: write --set section.key=value")
        try:
            found.append((section, key, config_file.parse(value)))
        except yaml.YAMLError as problem:
            raise InputError(f"--set {text}: {problem}") from None
    return found


def _validate(config: Any) -> None:
    """Makes an environment, reads its team and checks all settings; on a copy."""
    try:
        config.copy(copy_frozen=False).validate()
    except (ValueError, TypeError, ImportError) as problem:
        raise InputError(str(problem)) from problem
