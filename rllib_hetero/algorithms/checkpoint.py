"""Writes a checkpoint's policies in a form that needs neither Ray nor pickle to read."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.fs
import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE

from rllib_hetero.plain import as_plain, not_plain
from rllib_hetero.policies import FOLDER
from rllib_hetero.space_file import describe_space
from rllib_hetero.team import AgentID
from rllib_hetero.team_file import FORMAT, TEAM_FILE, agent_id

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

logger = logging.getLogger(__name__)


def export_policies(algo: Algorithm, path: str, filesystem: Any = None) -> None:
    """Writes `<path>/policies/`: `team.json` and one weights file per module.

    Args:
        algo: A team algorithm.
        path: The checkpoint's folder, or its URI.
        filesystem: The pyarrow filesystem of `path`; None infers it from a URI.
    """
    filesystem, folder = export_description(algo, path, filesystem)
    weights = algo.learner_group.get_state(
        components=[
            f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{m}" for m in algo.config.layout.groups
        ],
        inference_only=True,
    )[COMPONENT_LEARNER][COMPONENT_RL_MODULE]
    for m, state in weights.items():
        tensors = {name: torch.as_tensor(np.asarray(x)) for name, x in state.items()}
        with filesystem.open_output_stream(f"{folder}/{m}.pt") as file:
            torch.save(tensors, file)


def export_description(algo: Algorithm, path: str, filesystem: Any = None) -> tuple[Any, str]:
    """Writes `<path>/policies/team.json`; see `export_policies`.

    Returns:
        The pyarrow filesystem, and the folder on it.
    """
    if filesystem is None:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(path)
    folder = f"{path.rstrip('/')}/{FOLDER}"
    filesystem.create_dir(folder, recursive=True)
    layout = algo.config.layout
    spec = algo.config.get_multi_rl_module_spec(inference_only=True)
    lost = [
        part
        for m, s in spec.rl_module_specs.items()
        for part in not_plain(s.model_config, f"model_config of {m!r}")
    ]
    if lost and lost != getattr(algo, "_told_of", None):
        logger.warning(
            "`load_policies` will refuse the policies of this checkpoint: %s cannot be written as "
            "plain data. Algorithm.from_checkpoint restores everything.",
            " and ".join(lost),
        )
        algo._told_of = lost
    description = {
        "format": FORMAT,
        "algorithm": type(algo).__name__,
        "agents": list(layout.team.agents),
        "groups": {m: list(agents) for m, agents in layout.groups.items()},
        "observation_spaces": [
            describe_space(layout.team.observation_spaces[a]) for a in layout.team.agents
        ],
        "action_spaces": [describe_space(layout.team.action_spaces[a]) for a in layout.team.agents],
        "execution_order": _execution_order(algo.config),
        "agent_index": layout.agent_index,
        "policy_family": layout.policy_family,
        "masked": [a for a in layout.team.agents if a in layout.team.masked],
        "absences": layout.team.absences,
        "absent_memory": layout.absent_memory,
        "connectors": connectors_of(algo.config),
        "not_written": lost,
        "modules": {
            m: {
                "class": f"{s.module_class.__module__}:{s.module_class.__qualname__}",
                "model_config": s.model_config or {},
            }
            for m, s in spec.rl_module_specs.items()
        },
        "clip_actions": bool(algo.config.clip_actions),
        "normalize_actions": bool(algo.config.normalize_actions),
        "training_iteration": algo.training_iteration,
    }
    _write(
        filesystem, f"{folder}/{TEAM_FILE}", json.dumps(as_plain(description), indent=1).encode()
    )
    return filesystem, folder


def exported_agents(path: str, filesystem: Any = None) -> tuple[AgentID, ...] | None:
    """The agents of a checkpoint, in its order; None where it holds no policies.

    Args:
        path: The checkpoint's folder, or its URI.
        filesystem: As of `export_policies`.
    """
    if filesystem is None:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(path)
    file = f"{path.rstrip('/')}/{FOLDER}/{TEAM_FILE}"
    if filesystem.get_file_info(file).type != pyarrow.fs.FileType.File:
        return None
    with filesystem.open_input_stream(file) as stream:
        return tuple(agent_id(a) for a in json.loads(stream.read())["agents"])


def connectors_of(config: Any) -> list[str]:
    """Which of the user's connectors stand between environment and modules.

    They are code, with a state of their own: what is exported here is not complete without them.
    """
    names = ("env_to_module_connector", "module_to_env_connector")
    return [name for name in names if getattr(config, f"_{name}") is not None]


def _execution_order(config: Any) -> list | None:
    """In which order the agents are to act; None where all act at once."""
    if not config.layout.autoregressive:
        return None
    if config.execution_order == "random":
        return list(config.layout.team.agents)
    return config.execution_order_of(0)


def _write(filesystem: Any, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path) as file:
        file.write(content)
