"""Reads a config file: YAML, or Python, which is executed."""

from __future__ import annotations

import re
import runpy
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_hetero.cli.ending import InputError

PYTHON = ".py"
YAML = (".yaml", ".yml")


class _Loader(yaml.SafeLoader):
    """Makes plain data only. Refuses a key given twice, and reads 3e-4 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen and key_node.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(str(key_node.value))
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML reads, wants a point in front of an exponent; nobody writes 3.0e-4.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse(text: str) -> Any:
    """The value of a piece of YAML."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        sections = parse(path.read_text())
    except OSError as problem:
        raise InputError(f"{path}: {problem.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise InputError(f"{path} is not YAML: {problem}") from None
    if sections is None:
        return {}
    if not isinstance(sections, dict):
        raise InputError(f"{path} must hold sections, such as `training:`")
    return {str(name): {} if values is None else values for name, values in sections.items()}


def run_python(path: Path) -> AlgorithmConfig:
    """Executes a Python file; returns a copy of its `config`, or what its `make_config()` returns.

    Raises:
        InputError: If it defines neither. What the file itself raises is passed on.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    names = runpy.run_path(str(path), run_name="rllib_hetero_config")
    config = names["make_config"]() if "make_config" in names else names.get("config")
    if not isinstance(config, AlgorithmConfig) or config.algo_class is None:
        raise InputError(
            f"{path} must define `config`, such as HAPPOConfig(), or a function `make_config()` "
            f"that returns it; got {type(config).__name__}."
        )
    return config.copy(copy_frozen=False)
