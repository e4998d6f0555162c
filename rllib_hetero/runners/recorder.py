"""Preallocated time-major arrays that one call of `sample()` fills."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from rllib_hetero.functional import distribution_for
from rllib_hetero.runners.fragment import Finals, PerModule, TeamFragment
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.team import Layout


class StackArrays(NamedTuple):
    """Arrays of the modules of one stack, (T, M, E, n, ...)."""

    observations: np.ndarray
    actions: np.ndarray
    dist_inputs: np.ndarray


class Recorder:
    """Holds the arrays of one fragment while it is sampled.

    Args:
        layout: Agents, modules, spaces.
        num_steps: T, the most steps that will be recorded.
        num_envs: E.
    """

    def __init__(self, layout: Layout, num_steps: int, num_envs: int) -> None:
        self._layout = layout
        team = layout.team
        shape = (num_steps, num_envs)
        self.observations: PerModule = {}
        self.actions: PerModule = {}
        self.dist_inputs: PerModule = {}
        # One array per stack, (T, M, E, n, ...); each module's own is a view of it.
        self.stacked: list[StackArrays] = []
        for members in layout.stacks:
            width = layout.observation_space(members[0]).shape[0]
            dist = distribution_for(layout.action_space(members[0]))
            lead = (num_steps, len(members), num_envs, len(layout.groups[members[0]]))
            arrays = StackArrays(
                observations=one_hot_filled(layout, members[0], lead, width),
                actions=np.empty((*lead, *dist.action_shape), dist.action_dtype),
                dist_inputs=np.empty((*lead, dist.size), np.float32),
            )
            self.stacked.append(arrays)
            for i, m in enumerate(members):
                self.observations[m] = arrays.observations[:, i]
                self.actions[m] = arrays.actions[:, i]
                self.dist_inputs[m] = arrays.dist_inputs[:, i]
        self.active = np.empty((*shape, len(team.agents)), bool)
        self.rewards = np.zeros((*shape, len(team.agents)), np.float32)
        self.state = None
        if team.state_space is not None:
            self.state = np.empty((*shape, *team.state_space.shape), np.float32)
        self.terminated = np.zeros(shape, bool)
        self.truncated = np.zeros(shape, bool)
        self.valid = np.ones(shape, bool)
        self._finals: list[tuple[int, int, PerModule, np.ndarray | None]] = []
        # Views by agent, made once: (agent, (T, E, d_i) view of its module's array).
        self._agent_views = [
            (a, self.observations[m][:, :, k, : team.observation_spaces[a].shape[0]])
            for a, (m, k) in layout.slot_of.items()
        ]

    def observe(self, t: int, env: VectorTeamEnv) -> None:
        """Writes what the team sees before step t."""
        for agent, view in self._agent_views:
            view[t] = env.observations[agent]
        if self.state is not None:
            self.state[t] = env.state
        self.active[t] = env.active

    def add_final(self, t: int, e: int, env: VectorTeamEnv) -> None:
        """Keeps the true final observation of an episode cut at step t."""
        state = None if env.state is None else env.state[e].copy()
        self._finals.append((t, e, self._current(e, env), state))

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
        observations = {m: x[t, e].copy() for m, x in self.observations.items()}
        state = None if self.state is None else self.state[t, e].copy()
        self._finals.append((t - 1, e, observations, state))

    def finish(self, num_steps: int, env: VectorTeamEnv) -> TeamFragment:
        """The fragment of the first `num_steps` steps."""
        t = slice(0, num_steps)
        module_active = {
            m: self.active[t][:, :, [self._layout.team.agents.index(a) for a in agents]]
            for m, agents in self._layout.groups.items()
        }
        # One vectorised pass for the whole fragment instead of one per step.
        log_probs = {
            m: distribution_for(self._layout.action_space(m))
            .log_prob(torch.from_numpy(self.dist_inputs[m][t]), torch.from_numpy(x[t]))
            .numpy()
            for m, x in self.actions.items()
        }
        last = [self._current(e, env) for e in range(env.num_envs)]
        return TeamFragment(
            observations={m: x[t] for m, x in self.observations.items()},
            actions={m: x[t] for m, x in self.actions.items()},
            dist_inputs={m: x[t] for m, x in self.dist_inputs.items()},
            log_probs=log_probs,
            active=module_active,
            rewards=self.rewards[t],
            state=None if self.state is None else self.state[t],
            terminated=self.terminated[t],
            truncated=self.truncated[t],
            valid=self.valid[t],
            finals=self._stack_finals(num_steps),
            last_observations={m: np.stack([x[m] for x in last]) for m in self._layout.groups},
            last_state=None if env.state is None else env.state.copy(),
        )

    def _current(self, e: int, env: VectorTeamEnv) -> PerModule:
        """What the agents of environment e see now: module id to (n_m, d_m)."""
        observations = {
            m: one_hot_filled(self._layout, m, (len(agents),), self.observations[m].shape[-1])
            for m, agents in self._layout.groups.items()
        }
        for agent, (m, k) in self._layout.slot_of.items():
            row = env.observations[agent][e]
            observations[m][k, : row.shape[0]] = row
        return observations

    def _stack_finals(self, num_steps: int) -> Finals:
        kept = [f for f in self._finals if f[0] < num_steps]
        k = len(kept)
        return Finals(
            step=np.array([f[0] for f in kept], np.int64),
            env=np.array([f[1] for f in kept], np.int64),
            observations={
                m: np.array([f[2][m] for f in kept], np.float32).reshape(k, *x.shape[2:])
                for m, x in self.observations.items()
            },
            state=None
            if self.state is None
            else np.array([f[3] for f in kept], np.float32).reshape(k, *self.state.shape[2:]),
        )


def one_hot_filled(layout: Layout, module_id: str, lead: tuple[int, ...], width: int) -> np.ndarray:
    """An observation array (*lead, width) whose last axis of `lead` is the agent axis.

    The one-hot features of a shared module are written here, once, and never again.
    """
    array = np.zeros((*lead, width), np.float32)
    n = len(layout.groups[module_id])
    if n > 1:
        array[..., width - n :] = np.eye(n, dtype=np.float32)
    return array
