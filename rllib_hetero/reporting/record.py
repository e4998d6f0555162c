"""`run.json`: what a run was made with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import ray
import torch

from rllib_hetero.reporting.redaction import without_secrets

SETTINGS = (
    "seed",
    "update_order",
    "update_order_seed",
    "parameter_sharing",
    "agent_index",
    "model_config",
    "lr",
    "critic_lr",
    "adam_epsilon",
    "grad_clip",
    "gamma",
    "lambda_",
    "clip_param",
    "entropy_coeff",
    "vf_loss_coeff",
    "vf_clip_param",
    "vf_huber_delta",
    "value_norm",
    "standardize_advantages",
    "train_batch_size_per_learner",
    "minibatch_size",
    "num_epochs",
    "critic_num_epochs",
    "num_learners",
    "num_env_runners",
    "num_envs_per_env_runner",
)
"""Attributes of the config that are recorded, where it has them."""


def return_convention(config: Any) -> str:
    """How the team's return is counted, in words."""
    layout = getattr(config, "layout", None)
    if layout is None:
        return "team return as the algorithm reports it"
    if layout.team.reward_scheme == "individual":
        return "team return = sum over agents"
    return "shared reward counted once"


def record_of(algo: Any, *, env_steps: int) -> dict[str, Any]:
    """The settings and versions of a run, as plain data. What JSON does not know becomes text.

    No text holds a credential of the environment: see `without_secrets`.
    """
    config = algo.config
    layout = getattr(config, "layout", None)
    record = {
        "algorithm": type(algo).__name__,
        "env": config.env,
        "env_config": dict(config.env_config or {}),
        "target_env_steps": env_steps,
        "return_convention": return_convention(config),
        "modules": None if layout is None else {m: list(a) for m, a in layout.groups.items()},
        "config": {name: getattr(config, name) for name in SETTINGS if hasattr(config, name)},
        **versions_and_commit(),
    }
    return without_secrets(json.loads(json.dumps(record, default=repr, skipkeys=True)))


def write_record(record: dict[str, Any], path: Path) -> None:
    """Writes the file whole, or leaves the one that is there."""
    beside = path.with_name(path.name + ".partial")
    beside.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(beside, path)


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
