"""Learner connector: rewards in order of time, and what follows the rows that nothing follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.connectors.fragments_to_batch import critic_inputs
from rllib_hetero.functional import generalized_advantages
from rllib_hetero.layout import CRITIC, Layout, ModuleID
from rllib_hetero.runners.fragment import TeamFragment

FOLLOWING = "following"
"""The critic's entry of what follows: a `Following`."""


@dataclass(frozen=True)
class Following:
    """A batch on a grid of T steps and C environments, and F moments outside of it.

    Rows (B, ...) are ordered by environment, then time. The moments outside are the true final
    ones of episodes that were cut, and those behind the last rows; ordered likewise.

    Attributes:
        rewards: (T, C, n) of the agents.
        team_rewards: (T, C).
        terminated: (T, C) bool.
        cut: (T, C) bool: after this step, the next row is not what followed.
        valid: (T, C) bool, where there is a row.
        row: (F,) int64, which row each moment outside follows.
        observations: Module id to (F, n_m, d_m).
        active: Module id to (F, n_m) bool.
        masks: Id of each masked module to (F, n_m, p_m) bool.
        state: (F, s), what the critic sees.
    """

    rewards: Tensor
    team_rewards: Tensor
    terminated: Tensor
    cut: Tensor
    valid: Tensor
    row: Tensor
    observations: dict[ModuleID, Tensor]
    active: dict[ModuleID, Tensor]
    masks: dict[ModuleID, Tensor]
    state: Tensor

    def next_of(self, inside: Tensor, outside: Tensor) -> Tensor:
        """(B, ...) what belongs to the moment after each row; zeros where the episode ended.

        Args:
            inside: (B, ...) of the rows.
            outside: (F, ...) of the moments outside.
        """
        after = torch.cat([inside[1:], torch.zeros_like(inside[:1])])
        after[self.row] = outside
        after[self.to_rows(self.terminated)] = 0
        return after

    def td_lambda_targets(
        self,
        values: Tensor,
        after: Tensor,
        lives_on: Tensor,
        *,
        individual: bool,
        gamma: float,
        lambda_: float,
    ) -> Tensor:
        """(B, n) TD(lambda) targets of each agent's action values.

            y_t = r_t + gamma ((1 - lambda) Q'_{t+1} + lambda y_{t+1})

        Across a cut, and in the last step of an agent's life, lambda is 0.

        Args:
            values: (B, n) Q' of what was done.
            after: (B, n) Q' of what is done next, `next_of`.
            lives_on: (B, n) bool, whether an agent lives in the next moment.
            individual: Whether an agent's return is that of its own rewards, until it dies; else
                it is the team's.
            gamma: Discount.
            lambda_: Trace decay.
        """
        n = values.shape[1]
        cut = self.cut.unsqueeze(-1).expand(-1, -1, n)
        rewards = self.team_rewards.unsqueeze(-1).expand(-1, -1, n)
        if individual:
            rewards, after = self.rewards, after * lives_on
            cut = cut | ~self.to_grid(lives_on)
        # The recursion of generalised advantages is that of TD(lambda), less the value.
        advantages = generalized_advantages(
            *(x.flatten(1) for x in (rewards, self.to_grid(values), self.to_grid(after), cut)),
            gamma=gamma,
            lambda_=lambda_,
        )
        return self.to_rows(advantages.unflatten(1, (-1, n))) + values

    def to_grid(self, rows: Tensor) -> Tensor:
        """(T, C, ...) from rows (B, ...); 0 where there is no row."""
        grid = rows.new_zeros(*reversed(self.valid.shape), *rows.shape[1:])
        grid[self.valid.T] = rows
        return grid.transpose(0, 1)

    def to_rows(self, grid: Tensor) -> Tensor:
        """(B, ...) from (T, C, ...)."""
        return grid.transpose(0, 1)[self.valid.T]


class WhatFollows(ConnectorV2):
    """Adds a `Following` to the critic's part of the batch.

    Args:
        layout: Agents and modules.
        device: Where the tensors go.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        layout: Layout,
        device: Any = None,
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self._layout = layout
        self._device = device

    @override(ConnectorV2)
    def __call__(
        self, *, rl_module: Any, batch: dict, episodes: list[TeamFragment], **kwargs: Any
    ) -> dict:
        length = max(len(f.valid) for f in episodes)
        columns = np.cumsum([0, *(f.num_envs for f in episodes)])
        shape = (length, int(columns[-1]))
        rewards = np.zeros((*shape, len(self._layout.team.agents)), np.float32)
        terminated, valid = np.zeros(shape, bool), np.zeros(shape, bool)
        cut = np.ones(shape, bool)
        for f, first in zip(episodes, columns, strict=False):
            at = (slice(0, len(f.valid)), slice(first, first + f.num_envs))
            rewards[at], terminated[at], valid[at] = f.rewards, f.terminated, f.valid
            cut[at] = f.terminated | f.truncated
            cut[len(f.valid) - 1, at[1]] = True
        number = np.full(shape, -1, np.int64)
        number.T[valid.T] = np.arange(valid.sum())
        parts = [_outside(f, self._layout) for f in episodes]
        places = [
            (step, env + first) for (step, env, *_), first in zip(parts, columns, strict=False)
        ]
        row = np.concatenate([number[step, column] for step, column in places])
        order = np.argsort(row)

        def together(index: int) -> dict[ModuleID, Tensor]:
            names = parts[0][index]
            return {m: self._send(np.concatenate([p[index][m] for p in parts])[order])
                    for m in names}  # fmt: skip

        batch[CRITIC][FOLLOWING] = Following(
            rewards=self._send(rewards),
            team_rewards=self._send(self._layout.team.team_reward(rewards)),
            terminated=self._send(terminated),
            cut=self._send(cut),
            valid=self._send(valid),
            row=self._send(row[order]),
            observations=together(2),
            active=together(3),
            masks=together(4),
            state=self._send(np.concatenate([p[5] for p in parts])[order]),
        )
        return batch

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _outside(f: TeamFragment, layout: Layout) -> tuple[Any, ...]:
    """Step and environment of rows that the fragment's next row does not follow, and what does."""
    last = len(f.valid) - 1
    over = f.terminated | f.truncated | ~f.valid
    goes_on = np.nonzero(~over[last])[0]
    final = ~f.terminated[f.finals.step, f.finals.env] & f.valid[f.finals.step, f.finals.env]
    ends, x = np.nonzero(final)[0], f.finals

    def both(of_finals: dict, of_last: dict) -> dict:
        return {m: np.concatenate([of_finals[m][ends], of_last[m][goes_on]]) for m in of_finals}

    states = [
        critic_inputs(x.observations, x.state, layout)[ends],
        critic_inputs(f.last_observations, f.last_state, layout)[goes_on],
    ]
    return (
        np.concatenate([x.step[ends], np.full(len(goes_on), last)]),
        np.concatenate([x.env[ends], goes_on]),
        both(x.observations, f.last_observations),
        both(x.active, f.last_active),
        both(x.action_masks, f.last_action_masks),
        np.concatenate(states),
    )
