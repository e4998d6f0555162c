"""`run.json`: what a run was made with."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_hetero.errors import TeamError
from rllib_hetero.files import read_json, write_whole
from rllib_hetero.plain import as_plain, name_of
from rllib_hetero.reporting.names import env_id
from rllib_hetero.reporting.redaction import without_secrets

_ALWAYS = (
    "seed", "gamma", "minibatch_size", "num_learners", "num_env_runners", "num_envs_per_env_runner",
)  # fmt: skip
"""Settings of RLlib's that a reader looks for even where they are RLlib's own."""

_LARGEST = 16 * 2**20  # bytes of a record

_PARTS: dict[str, tuple[Any, Any, str]] = {
    "algorithm": (str, lambda x: 0 < len(x) <= 100, "a text of at most 100 characters"),
    "env": (str, lambda x: 0 < len(x) <= 1000, "a text of at most 1,000 characters"),
    "env_config": (dict, lambda x: True, "an object of settings"),
    "config": (
        dict,
        lambda x: isinstance(x.get("seed"), int | None) and not isinstance(x.get("seed"), bool),
        "an object of settings, with a whole number or null as `seed`",
    ),
    "target_env_steps": (int, lambda x: x >= 1, "a number of steps"),
}
"""Name to its kind, what it must be like, and that in words."""

_NO_SETTINGS = frozenset({
    "algo_class", "class", "env", "env_config",  # have places of their own in the record
    "layout", "policies", "batched_env", "batched_evaluation_env",  # follow from the environment
    "_is_frozen", "in_evaluation", "simple_optimizer",  # RLlib's own notes
})  # fmt: skip


def settings_of(config: Any) -> dict[str, Any]:
    """The settings that a config's training was made with, as plain data.

    These are all of the algorithm's own, and of RLlib's those that are not as RLlib or the
    algorithm has them. No list of names decides, so no setting can be forgotten.

    Args:
        config: Of any algorithm of RLlib's.
    """
    own_class: Any = type(config)
    ours, theirs = _defaults(own_class), _defaults(AlgorithmConfig)
    found = {}
    for name, value in vars(config).items():
        if name in _NO_SETTINGS:
            continue
        plain = _value(value)
        usual = name in theirs and plain == theirs[name]
        if usual and (name not in ours or plain == ours[name]):
            continue
        found[name.lstrip("_")] = plain
    if found.get("parameter_sharing") is None:
        # RLlib's own way of sharing: who acts by which module.
        found["policy_mapping_fn"] = _value(config.policy_mapping_fn)
    else:
        found.pop("policy_mapping_fn", None)
    if hasattr(config, "model_defaults") and config._rl_module_spec is None:
        # A dict or RLlib's dataclass; it need not be complete.
        given = found.get("model_config", {})
        found["model_config"] = {**as_plain(config.model_defaults), **given}
    found |= {name: as_plain(getattr(config, name)) for name in _ALWAYS if hasattr(config, name)}
    return dict(sorted(found.items()))


@functools.cache
def _defaults(config_class: type) -> dict[str, Any]:
    return {name: _value(value) for name, value in vars(config_class()).items()}


def _value(value: Any) -> Any:
    if isinstance(value, AlgorithmConfig):  # an evaluation's
        return {"class": name_of(type(value)), **settings_of(value)}
    return as_plain(value)


def return_convention(config: Any) -> str:
    """How the team's return is counted, in words."""
    layout = getattr(config, "layout", None)
    if layout is None:
        return "team return as the algorithm reports it"
    if layout.team.reward_scheme == "individual":
        return "team return = sum over agents"
    return "shared reward counted once"


def record_of(algo: Any, *, env_steps: int) -> dict[str, Any]:
    """The settings and versions of a run, as plain data: see `as_plain`.

    No text holds a credential of the environment: see `without_secrets`.
    """
    config = algo.config
    layout = getattr(config, "layout", None)
    record = {
        "algorithm": type(algo).__name__,
        "env": env_id(config.env),
        "env_config": dict(config.env_config or {}),
        "target_env_steps": env_steps,
        "return_convention": return_convention(config),
        "modules": None if layout is None else {m: list(a) for m, a in layout.groups.items()},
        "config": settings_of(config),
        **versions_and_commit(),
    }
    return without_secrets(as_plain(record))


def write_record(record: dict[str, Any], path: Path) -> None:
    """Writes the file whole, or leaves the one that is there."""
    write_whole(path, json.dumps(record, indent=2) + "\n")


def parsed_record(folder: Path) -> dict[str, Any]:
    """What a run's `run.json` says, which may be anybody's.

    Raises:
        FileNotFoundError: If it is missing.
        TeamError: If it is not what a run writes. The message says what is wrong.
    """
    path = folder / "run.json"
    record = read_json(path, most=_LARGEST)
    if not isinstance(record, dict):
        raise TeamError(f"{path} is not a run's record: it must be an object of names and values.")
    for name, (kind, good, what) in _PARTS.items():
        value = record.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or not good(value):
            raise TeamError(f"{path} is not a run's record: {name!r} must be {what}.")
    return record


def versions_and_commit() -> dict[str, Any]:
    """With what code a run is made."""
    import rllib_hetero

    return {
        "versions": {
            "rllib_hetero": rllib_hetero.__version__,
            "ray": ray.__version__,
            "torch": torch.__version__,
        },
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the package's own checkout, "-dirty" if changed; None if installed."""
    package = Path(__file__).resolve().parents[1]

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *args],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
