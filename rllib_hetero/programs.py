"""Trained policies as `torch.export` programs, which need nothing but torch to act."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from ray.rllib.core import Columns
from torch import Tensor, nn

from rllib_hetero.errors import TeamError
from rllib_hetero.functional.masks import mask_logits
from rllib_hetero.modules.memory import initial_state, pack, unpack
from rllib_hetero.plain import as_plain
from rllib_hetero.policies import read_policies
from rllib_hetero.spaces import Rows
from rllib_hetero.team import AgentID
from rllib_hetero.team_file import TeamFile

PROGRAMS_FILE = "programs.json"
FORMAT = 1


def export_programs(
    checkpoint: str | Path, folder: str | Path, *, trusted: bool = False
) -> dict[AgentID, Path]:
    """Writes each agent's greedy policy as a program of its own, for any number of rows at once.

    A program takes `observation` (B, d) float32; `action_mask` (B, p) bool, where its agent was
    trained with masks; and `memory` (B, S) float32, where its policy remembers. It returns a dict
    of `action`, (B, ...) as `TeamPolicies.act` gives it to the environment, `dist_inputs` (B, P),
    the parameters of the policy after masking, and the `memory` (B, S) after the step.
    `programs.json` beside them says which file is whose, what it takes, and what is remembered
    when an episode begins.

    Args:
        checkpoint: As of `load_policies`.
        folder: Where the files go; made if it is not there.
        trusted: As of `load_policies`.

    Returns:
        Agent id to its program's file.

    Raises:
        FileNotFoundError: As `load_policies`.
        TeamError: As `load_policies`; for agents that act in sequence, which have to be told what
            others did; and where observations are no vectors, or actions no Box (k,), Discrete or
            MultiDiscrete from 0.
    """
    told, modules = read_policies(checkpoint, device="cpu", trusted=trusted)
    layout = told.layout
    if layout.autoregressive:
        raise TeamError(
            "Agents that act in sequence must be told each other's actions, which single programs "
            "are not: let them act with load_policies(path).act(observations)."
        )
    other = [
        a
        for a in layout.team.agents
        if isinstance(layout.team.row_spaces[a], Rows) or not layout.team.moves[a].plain
    ]
    if other:
        raise TeamError(
            f"Programs take vectors, and give actions that are one array; those of {other} are of "
            "other kinds: let them act with load_policies(path).act(observations)."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files, programs = {}, []
    for i, agent in enumerate(layout.team.agents):
        policy = AgentPolicy(modules[layout.module_of[agent]], told, agent)
        files[agent] = folder / f"{i}.pt2"
        torch.export.save(policy.program(), files[agent])
        programs.append({"agent": agent, "file": files[agent].name} | policy.described())
    text = json.dumps(as_plain({"format": FORMAT, "programs": programs}), indent=1)
    (folder / PROGRAMS_FILE).write_text(text)
    return files


class AgentPolicy(nn.Module):
    """One agent's greedy policy, from its observation to the action that is executed.

    Args:
        module: Its actor.
        told: What the checkpoint says of the team.
        agent: Whose policy it is.
    """

    index: Tensor | None
    low: Tensor
    high: Tensor

    def __init__(self, module: Any, told: TeamFile, agent: AgentID) -> None:
        super().__init__()
        layout = told.layout
        m, k = layout.slot_of[agent]
        self.module = module.requires_grad_(False)
        self._dist = layout.distribution(m)
        self._size = layout.team.row_spaces[agent].shape[0]
        self._masked = agent in layout.team.masked
        self._start = initial_state(module)
        # As `action_transform`, with the bounds as part of the program.
        space: Any = layout.action_space(m)
        bounded = isinstance(space, Box) and not self._dist.within_space
        self._normalize = bounded and told.normalize_actions and space.is_bounded()
        self._clip = bounded and (told.clip_actions or self._normalize)
        low, high = (space.low, space.high) if bounded else (np.zeros(1), np.zeros(1))
        self.register_buffer("low", torch.from_numpy(np.array(low)), persistent=False)
        self.register_buffer("high", torch.from_numpy(np.array(high)), persistent=False)
        n = layout.index_size(m)
        one_hot = torch.eye(n)[k : k + 1] if n else None
        self.register_buffer("index", one_hot, persistent=False)

    def described(self) -> dict[str, Any]:
        """What it takes, for `programs.json`."""
        return {
            "observation_size": self._size,
            "mask_size": sum(self._dist.choices) if self._masked else 0,
            "initial_memory": self._start.tolist(),
        }

    def program(self) -> torch.export.ExportedProgram:
        """It, traced with rows left open."""
        rows = torch.export.Dim("rows", min=1, max=2**20)
        given = {"observation": torch.zeros(2, self._size)}
        if self._masked:
            given["action_mask"] = torch.ones(2, sum(self._dist.choices), dtype=torch.bool)
        if len(self._start):
            given["memory"] = self._start.repeat(2, 1)
        with torch.no_grad():
            self(**given)  # Constants that are made once must not be made while it is traced.
            return torch.export.export(
                self, (), given, dynamic_shapes={name: {0: rows} for name in given}
            )

    def forward(
        self,
        observation: Tensor,
        action_mask: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> dict[str, Tensor]:
        x, result = observation, {}
        if self.index is not None:
            x = torch.cat([x, self.index.expand(x.shape[0], -1)], -1)
        # The underscored pass: the public one walks over the module to set its mode.
        if memory is None:
            inputs = self.module._forward_inference({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
        else:
            batch = {Columns.OBS: x[:, None], Columns.STATE_IN: unpack(memory, self.module)}
            out = self.module._forward_inference(batch)
            inputs = out[Columns.ACTION_DIST_INPUTS][:, 0]
            result["memory"] = pack(out[Columns.STATE_OUT])
        if action_mask is not None:
            p = sum(self._dist.choices)  # An epsilon may lie behind the choices' values.
            inputs = torch.cat([mask_logits(inputs[:, :p], action_mask), inputs[:, p:]], -1)
        return {"action": self._executed(self._dist.mode(inputs)), "dist_inputs": inputs} | result

    def _executed(self, action: Tensor) -> Tensor:
        if self._normalize:
            middle, half = 0.5 * self.low + 0.5 * self.high, 0.5 * self.high - 0.5 * self.low
            action = middle + half * action
        return action.clamp(self.low, self.high) if self._clip else action
