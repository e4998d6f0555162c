"""Preallocated time-major arrays that one call of `sample()` fills."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from rllib_hetero.functional import Density
from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.runners.fragment import Finals, PerModule, TeamFragment
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.spaces import decoded, row_dtype
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID


class StackArrays(NamedTuple):
    """Arrays of the modules of one stack, (T, M, E, n, ...).

    The masks are None for modules without. The packed states (W, M, E, n, S) are None where no
    module is recurrent, and otherwise as wide as the largest module's.
    """

    observations: np.ndarray
    actions: np.ndarray
    dist_inputs: np.ndarray
    masks: np.ndarray | None
    states: np.ndarray | None


class Seen(NamedTuple):
    """What the team of one environment sees at one moment, or of several: then K comes first.

    Attributes:
        observations: Module id to (n_m, d_m).
        active: Module id to (n_m,) bool.
        masks: Id of each masked module to (n_m, p_m) bool.
        state: (s,) or None.
    """

    observations: PerModule
    active: PerModule
    masks: PerModule
    state: np.ndarray | None


class Recorder:
    """Holds the arrays of one fragment while it is sampled.

    Args:
        layout: Agents, modules, spaces.
        num_steps: T, the most steps that will be recorded.
        num_envs: E.
        state_sizes: Id of each recurrent module to the size of its packed state.
        max_seq_len: States are recorded before every so many steps.
    """

    def __init__(
        self,
        layout: Layout,
        num_steps: int,
        num_envs: int,
        *,
        state_sizes: Mapping[ModuleID, int],
        max_seq_len: int,
    ) -> None:
        self._layout = layout
        team = layout.team
        shape = (num_steps, num_envs)
        self.observations: PerModule = {}
        self.actions: PerModule = {}
        self.dist_inputs: PerModule = {}
        self.masks: PerModule = {}
        self.states: PerModule = {}
        self._max_seq_len = max_seq_len
        # One array per stack, (T, M, E, n, ...); each module's own is a view of it.
        self.stacked: list[StackArrays] = []
        for members in layout.stacks:
            width = layout.observation_space(members[0]).shape[0]
            dist = layout.distribution(members[0])
            per_step = (len(members), num_envs, len(layout.groups[members[0]]))
            lead = (num_steps, *per_step)
            masked = layout.masked(members[0])
            state_size = max(state_sizes.get(m, 0) for m in members)
            chunks = self._num_chunks(num_steps)
            arrays = StackArrays(
                observations=one_hot_filled(layout, members[0], lead, width),
                actions=np.empty((*lead, *dist.action_shape), dist.action_dtype),
                dist_inputs=np.empty((*lead, dist.size), np.float32),
                masks=np.empty((*lead, sum(dist.choices)), bool) if masked else None,
                states=np.empty((chunks, *per_step, state_size), np.float32)
                if state_size
                else None,
            )
            self.stacked.append(arrays)
            for i, m in enumerate(members):
                self.observations[m] = arrays.observations[:, i]
                self.actions[m] = arrays.actions[:, i]
                self.dist_inputs[m] = arrays.dist_inputs[:, i]
                if arrays.masks is not None:
                    self.masks[m] = arrays.masks[:, i]
                if arrays.states is not None and m in state_sizes:
                    self.states[m] = arrays.states[:, i, ..., : state_sizes[m]]
        self.active = np.empty((*shape, len(team.agents)), bool)
        self.rewards = np.zeros((*shape, len(team.agents)), np.float32)
        self.state = None
        if team.state_rows is not None:
            self.state = np.empty((*shape, *team.state_rows.shape), row_dtype(team.state_rows))
        self.terminated = np.zeros(shape, bool)
        self.truncated = np.zeros(shape, bool)
        self.valid = np.ones(shape, bool)
        self._finals: list[tuple[int, int, Seen]] = []
        self._columns_of = {
            m: [team.agents.index(a) for a in agents] for m, agents in layout.groups.items()
        }
        # Views by agent, made once: (agent, (T, E, d_i) view of its module's array).
        self._agent_views = [
            (a, self.observations[m][:, :, k, : team.row_spaces[a].shape[0]])
            for a, (m, k) in layout.slot_of.items()
        ]
        self._mask_views = [
            (a, self.masks[m][:, :, k]) for a, (m, k) in layout.slot_of.items() if m in self.masks
        ]

    def observe(self, t: int, env: VectorTeamEnv) -> None:
        """Writes what the team sees before step t."""
        for agent, view in self._agent_views:
            view[t] = env.observations[agent]
        for agent, view in self._mask_views:
            view[t] = env.masks[agent]
        if self.state is not None:
            self.state[t] = env.state
        self.active[t] = env.active

    def seen(self, t: int, e: int) -> dict[AgentID, Any]:
        """Copies of what those saw who acted in step t of environment e, as it returned them."""
        acting, spaces = self._acting(t, e), self._layout.team.row_spaces
        seen: dict[AgentID, Any] = {
            a: decoded(spaces[a], view[t, e].copy()) for a, view in self._agent_views if a in acting
        }
        for a, view in self._mask_views:
            if a in acting:
                seen[a] = {OBSERVATIONS: seen[a], ACTION_MASK: view[t, e].copy()}
        return seen

    def acted(self, t: int, e: int) -> dict[AgentID, Any]:
        """Copies of the actions of step t of environment e, as the policies drew them.

        They are of the environment's spaces, but for bounds: nothing is clipped or stretched.
        """
        acting, moves = self._acting(t, e), self._layout.team.moves
        return {
            a: moves[a].decode_one(self.actions[m][t, e, k].copy())
            for a, (m, k) in self._layout.slot_of.items()
            if a in acting
        }

    def _acting(self, t: int, e: int) -> set[AgentID]:
        agents = self._layout.team.agents
        return {a for a, acts in zip(agents, self.active[t, e], strict=True) if acts}

    def remember(self, t: int, stack: int, memory: torch.Tensor) -> None:
        """Keeps a stack's packed states (M, E * n, S) before step t, if a sequence begins there."""
        states = self.stacked[stack].states
        if states is not None and t % self._max_seq_len == 0:
            states[t // self._max_seq_len] = memory.cpu().numpy().reshape(states.shape[1:])

    def add_final(self, t: int, e: int, env: VectorTeamEnv) -> None:
        """Keeps the true final observation of an episode cut at step t."""
        self._finals.append((t, e, self._current(e, env)))

    def cut_before_failure(self, t: int, e: int) -> None:
        """Environment e failed in step t: drops the step, ends its episode at t - 1.

        The observation before the failed step is true, so the episode so far is whole data: it
        is treated as cut there, and its value bootstrapped.
        """
        self.valid[t, e] = False
        if t == 0 or not self.valid[t - 1, e]:
            return
        if self.terminated[t - 1, e] or self.truncated[t - 1, e]:
            return
        self.truncated[t - 1, e] = True
        seen = Seen(
            observations={m: x[t, e].copy() for m, x in self.observations.items()},
            active={m: self.active[t, e, columns] for m, columns in self._columns_of.items()},
            masks={m: x[t, e].copy() for m, x in self.masks.items()},
            state=None if self.state is None else self.state[t, e].copy(),
        )
        self._finals.append((t - 1, e, seen))

    def finish(self, num_steps: int, env: VectorTeamEnv) -> TeamFragment:
        """The fragment of the first `num_steps` steps."""
        t = slice(0, num_steps)
        module_active = {
            m: self.active[t][:, :, columns] for m, columns in self._columns_of.items()
        }
        actions = {m: x[t] for m, x in self.actions.items()}
        dist_inputs = {m: x[t] for m, x in self.dist_inputs.items()}
        last = self._stack([self._current(e, env) for e in range(env.num_envs)])
        return TeamFragment(
            observations={m: x[t] for m, x in self.observations.items()},
            actions=actions,
            dist_inputs=dist_inputs,
            log_probs=log_probs_of(self._layout, dist_inputs, actions),
            active=module_active,
            rewards=self.rewards[t],
            state=None if self.state is None else self.state[t],
            terminated=self.terminated[t],
            truncated=self.truncated[t],
            valid=self.valid[t],
            finals=self._stack_finals(num_steps),
            last_observations=last.observations,
            last_active=last.active,
            last_state=last.state,
            action_masks={m: x[t] for m, x in self.masks.items()},
            last_action_masks=last.masks,
            states={m: x[: self._num_chunks(num_steps)] for m, x in self.states.items()},
        )

    def _num_chunks(self, num_steps: int) -> int:
        return math.ceil(num_steps / self._max_seq_len)

    def _current(self, e: int, env: VectorTeamEnv) -> Seen:
        """What the team of environment e sees now."""
        observations = {
            m: one_hot_filled(self._layout, m, (len(agents),), self.observations[m].shape[-1])
            for m, agents in self._layout.groups.items()
        }
        for agent, (m, k) in self._layout.slot_of.items():
            row = env.observations[agent][e]
            observations[m][k, : row.shape[0]] = row
        return Seen(
            observations=observations,
            active={m: env.active[e, columns] for m, columns in self._columns_of.items()},
            masks={
                m: np.stack([env.masks[a][e] for a in self._layout.groups[m]]) for m in self.masks
            },
            state=None if env.state is None else env.state[e].copy(),
        )

    def _stack(self, seen: list[Seen]) -> Seen:
        """Moments one after another, possibly none; shapes are those of the recorded arrays."""

        def stack(parts: list[Any], like: np.ndarray) -> np.ndarray:
            return np.array(parts, like.dtype).reshape(len(parts), *like.shape[2:])

        return Seen(
            observations={
                m: stack([x.observations[m] for x in seen], like)
                for m, like in self.observations.items()
            },
            active={
                m: np.array([x.active[m] for x in seen], bool).reshape(len(seen), len(columns))
                for m, columns in self._columns_of.items()
            },
            masks={m: stack([x.masks[m] for x in seen], like) for m, like in self.masks.items()},
            state=None if self.state is None else stack([x.state for x in seen], self.state),
        )

    def _stack_finals(self, num_steps: int) -> Finals:
        kept = [f for f in self._finals if f[0] < num_steps]
        seen = self._stack([f[2] for f in kept])
        return Finals(
            step=np.array([f[0] for f in kept], np.int64),
            env=np.array([f[1] for f in kept], np.int64),
            observations=seen.observations,
            active=seen.active,
            state=seen.state,
            action_masks=seen.masks,
        )


def log_probs_of(layout: Layout, dist_inputs: PerModule, actions: PerModule) -> PerModule:
    """Log-probabilities (T, E, n_m) of those modules whose distribution has a density.

    One vectorised pass for a whole fragment instead of one per step.
    """
    dists = {m: layout.distribution(m) for m in layout.groups}
    return {
        m: dist.log_prob(torch.from_numpy(dist_inputs[m]), torch.from_numpy(actions[m])).numpy()
        for m, dist in dists.items()
        if isinstance(dist, Density)
    }


def one_hot_filled(layout: Layout, module_id: str, lead: tuple[int, ...], width: int) -> np.ndarray:
    """An observation array (*lead, width) whose last axis of `lead` is the agent axis.

    The one-hot features of a shared module are written here, once, and never again.
    """
    array = np.zeros((*lead, width), layout.row_dtype(module_id))
    n = layout.index_size(module_id)
    if n:
        end = width - layout.context_size
        array[..., end - n : end] = np.eye(n)
    return array
