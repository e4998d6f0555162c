"""How the agents' actions are chosen: one vector step of all environments at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.functional import encode, mask_inputs
from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.modules.in_turn import turn_forward
from rllib_hetero.modules.stacked import stacked_forward
from rllib_hetero.runners.actions import sample_action
from rllib_hetero.runners.communication import communication
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.runners.memories import Memories
from rllib_hetero.runners.recorder import Recorder, StackArrays
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.team import AgentID


class Acting:
    """All agents at once: one pass for each stack of modules.

    Call `begin` for each rollout, then `act` for each of its steps.

    Args:
        layout: Agents and modules.
        modules: The actors.
        num_envs: E.
        device: Where the actors are.

    Attributes:
        memories: What recurrent actors remember, kept over rollouts.
    """

    def __init__(
        self, layout: Layout, modules: Mapping[ModuleID, Any], num_envs: int, device: Any
    ) -> None:
        self._layout = layout
        self._modules = modules
        self._num_envs = num_envs
        self._device = device
        self._dists = [layout.distribution(members[0]) for members in layout.stacks]
        self.memories = Memories(layout, modules, num_envs, device)

    def begin(
        self, num_steps: int, *, explore: bool, random: bool, rng: np.random.Generator | None
    ) -> None:
        """A rollout of at most `num_steps` begins.

        Args:
            num_steps: T.
            explore: Whether the modules' exploration pass is meant, or that of inference.
            random: Uniformly random actions in place of the policy's, from the action spaces'
                own generators. The policy is evaluated all the same; what is recorded of it for
                discrete actions is that all choices are alike.
            rng: Draws the noise; None acts greedily.
        """
        self._random = random
        self._noise = None if rng is None else self._draw_noise(rng, num_steps)
        self._forwards = [
            self._forward([self._modules[m] for m in members], explore)
            for members in self._layout.stacks
        ]

    def act(self, recorder: Recorder, t: int, env: VectorTeamEnv) -> None:
        """Writes the policies' parameters and the actions of step t into the recorder.

        The observations of this step are there already.
        """
        for i, arrays in enumerate(recorder.stacked):
            rows = self._rows(arrays.observations[t])
            memory = self._recall(recorder, t, i)
            out, memory = self._forwards[i](rows, memory)
            self.memories.move_on(i, memory, env.active)
            inputs = arrays.dist_inputs[t]
            inputs[...] = out.cpu().numpy().reshape(inputs.shape)
            if self._random:  # What is kept is the policy that acts.
                inputs[..., : sum(self._dists[i].choices)] = 0.0
            if arrays.masks is not None:
                # Also here: the one without the forbidden actions.
                inputs[...] = mask_inputs(self._dists[i], inputs, arrays.masks[t])
            noise = None if self._noise is None else self._noise[i][t]
            arrays.actions[t] = self._dists[i].act(inputs, noise)
        if self._random:
            for agent, (m, k) in self._layout.slot_of.items():
                recorder.actions[m][t, :, k] = self._at_random(agent, env)

    def _forward(self, modules: Sequence[Any], explore: bool) -> Any:
        return stacked_forward(modules, explore=explore)

    def _draw_noise(self, rng: np.random.Generator, num_steps: int) -> list[np.ndarray]:
        """Noise (T, M, E, n, ...) of each stack."""
        return [
            dist.noise(
                rng,
                (num_steps, len(members), self._num_envs, len(self._layout.groups[members[0]])),
            )
            for members, dist in zip(self._layout.stacks, self._dists, strict=True)
        ]

    def _rows(self, x: np.ndarray) -> Tensor:
        """(M, E * n, d) on the device, from (M, E, n, d)."""
        return torch.from_numpy(x.reshape(len(x), -1, x.shape[-1])).to(self._device)

    def _recall(self, recorder: Recorder, t: int, stack: int) -> Tensor | None:
        memory = self.memories.stacks[stack]
        if memory is not None:
            recorder.remember(t, stack, memory)
        return memory

    def _at_random(self, agent: AgentID, env: VectorTeamEnv) -> list[np.ndarray]:
        masks = env.masks.get(agent, itertools.repeat(None, self._num_envs))
        space = self._layout.team.moves[agent].flat
        return [sample_action(space, mask) for mask in masks]


class ActingInTurn(Acting):
    """One agent after another, each seeing what those before it have done.

    One pass for each agent and step. What a network makes of the observation alone is done for
    all agents together, before the first one acts. The context that an agent saw is part of its
    recorded observation, so that training has it exactly as acting had it.

    Attributes:
        order: The execution order; set it before `begin`.
    """

    order: Sequence[AgentID]

    def __init__(
        self, layout: Layout, modules: Mapping[ModuleID, Any], num_envs: int, device: Any
    ) -> None:
        super().__init__(layout, modules, num_envs, device)
        # Agent to (stack, module within it, agent within the module, index in the team).
        self._places = {
            agent: (i, j, k, layout.team.agents.index(agent))
            for i, members in enumerate(layout.stacks)
            for j, m in enumerate(members)
            for k, agent in enumerate(layout.groups[m])
        }

    def act(self, recorder: Recorder, t: int, env: VectorTeamEnv) -> None:
        """See `Acting.act`. Also completes the observations by their contexts."""
        size = self._layout.context_size
        for i, arrays in enumerate(recorder.stacked):
            rows = self._rows(arrays.observations[t][..., :-size])
            self._forwards[i].look(rows, self._recall(recorder, t, i))
        context = np.zeros((self._num_envs, size), np.float32)
        for agent in self.order:
            i, j, k, index = self._places[agent]
            arrays = recorder.stacked[i]
            arrays.observations[t, j, :, k, -size:] = context
            inputs = self._decide(i, j, k, arrays, context)
            if arrays.masks is not None:
                inputs = mask_inputs(self._dists[i], inputs, arrays.masks[t, j, :, k])
            arrays.dist_inputs[t, j, :, k] = inputs
            if self._random:
                actions = np.asarray(self._at_random(agent, env))
            else:
                noise = None if self._noise is None else self._noise[i][t, j, :, k]
                actions = self._dists[i].act(inputs, noise)
            arrays.actions[t, j, :, k] = actions
            message, alive = context[:, self._layout.messages[agent]], env.active[:, index]
            message[:, :-1] = encode(self._dists[i], actions)
            message[:, -1] = 1.0
            message *= alive[:, None]  # The dead say nothing.
        for i, forward in enumerate(self._forwards):
            self.memories.move_on(i, forward.memory, env.active)

    def communication(self, fragment: TeamFragment) -> dict[str, float]:
        """What the team would have had to send around in a fragment, see `communication`."""
        places = [self._layout.slot_of[agent] for agent in self.order]
        active = [fragment.active[m][..., k][fragment.valid] for m, k in places]
        sizes = [math.prod(self._layout.distribution(m).action_shape) for m, _ in places]
        return communication(np.stack(active, -1), np.asarray(sizes))

    def _decide(
        self, stack: int, module: int, agent: int, arrays: StackArrays, context: np.ndarray
    ) -> np.ndarray:
        rows = slice(agent, None, arrays.observations.shape[3])
        seen = torch.from_numpy(context).to(self._device)
        return self._forwards[stack].decide(module, rows, seen).cpu().numpy()

    def _forward(self, modules: Sequence[Any], explore: bool) -> Any:
        return turn_forward(modules, explore=explore)
