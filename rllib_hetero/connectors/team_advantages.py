"""Learner connector: advantages and value targets of the team, once per batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.connectors.critic_memory import CriticMemory
from rllib_hetero.connectors.estimates import TeamEstimates
from rllib_hetero.connectors.fragments_to_batch import ACTIVE, critic_inputs
from rllib_hetero.connectors.running_returns import RunningReturns
from rllib_hetero.errors import TeamError
from rllib_hetero.functional import moments, standardize
from rllib_hetero.layout import CRITIC, Layout
from rllib_hetero.modules.input_norm import moments_of
from rllib_hetero.modules.memory import state_size
from rllib_hetero.reductions import sum_over_learners
from rllib_hetero.runners.fragment import TeamFragment

ESTIMATES = "estimates"
"""The critic's entry from which advantages can be estimated again: `TeamEstimates`."""


class TeamAdvantages(ConnectorV2):
    """Generalised advantage estimation with the centralised critic.

    Adds to the critic's part of the batch `VF_PREDS` (B, K) in the critic's own (normalised)
    scale, `VALUE_TARGETS` (B, K) and `ADVANTAGES` (B, K) in returns, and `ESTIMATES`, which they
    were made from. K is 1, or n with a critic for each agent. A truncated episode is
    bootstrapped from the value of its true final state, a terminated one from nothing.

    With one critic all agents share the team's advantage (HARL, Proposition 9: one joint
    advantage estimator is enough).

    Args:
        layout: Agents and modules.
        gamma: Discount.
        lambda_: Trace decay of the estimator.
        standardize_advantages: Whether to standardise.
        max_seq_len: Most steps that a recurrent critic is trained through at once.
        reward_scaling: Whether rewards are divided by the running deviation of discounted returns,
            which the critic's `return_norm` keeps.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        layout: Layout,
        gamma: float,
        lambda_: float,
        standardize_advantages: bool = True,
        max_seq_len: int,
        reward_scaling: bool = False,
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self._layout = layout
        self._gamma = gamma
        self._lambda = lambda_
        self._standardize = standardize_advantages
        self._memory = CriticMemory(max_seq_len)
        self._returns = RunningReturns(gamma) if reward_scaling else None

    @override(ConnectorV2)
    def __call__(
        self, *, rl_module: Any, batch: dict, episodes: list[TeamFragment], **kwargs: Any
    ) -> dict:
        critic, data = rl_module[CRITIC].unwrapped(), batch[CRITIC]
        device = data[Columns.OBS].device
        finals, lasts = (x.to(device) for x in self._outside_states(episodes))
        with torch.no_grad():
            if state_size(critic):
                inside, after, last, data[Columns.STATE_IN] = self._memory.values(
                    critic, data[Columns.OBS], finals, lasts, episodes
                )
                predictions = torch.cat([inside, after, last])
            else:
                states = torch.cat([data[Columns.OBS], finals, lasts])
                predictions = critic.compute_values({Columns.OBS: states})
            if predictions.ndim == 1:
                predictions = predictions.unsqueeze(-1)
            values = critic.normalizer.denormalize(predictions).cpu()
        parts = values.split([len(data[Columns.OBS]), len(finals), len(lasts)])
        scale = self._reward_scale(critic, episodes)
        estimates = self._estimates(episodes, *parts, scale=scale, device=device)
        advantages = estimates.advantages()

        data[ESTIMATES] = estimates
        data[Columns.VF_PREDS] = predictions[: len(advantages)]
        data[Columns.VALUE_TARGETS] = advantages + parts[0].to(device)
        if self._standardize:
            advantages = standardize_over_learners(advantages, who_is_alive(batch, self._layout))
        data[Columns.ADVANTAGES] = advantages
        return batch

    def _reward_scale(self, critic: Any, fragments: list[TeamFragment]) -> float:
        """What rewards are multiplied by, these fragments' returns included."""
        if self._returns is None:
            return 1.0
        team, norm = self._layout.team, getattr(critic, "return_norm", None)
        if norm is None:
            raise TeamError(
                "`reward_scaling` keeps its statistics in the default critic, and this one is "
                f"{type(critic).__name__}: remove config.training(reward_scaling=True)."
            )
        returns = [self._returns.of(f, team.team_reward(f.rewards))[f.valid] for f in fragments]
        rows = torch.from_numpy(np.concatenate(returns)).to(norm.mean.device)
        norm.update(sum_over_learners(moments_of(rows[:, None], torch.ones_like(rows))))
        return float(norm.affine()[1])

    def _outside_states(self, fragments: list[TeamFragment]) -> tuple[Tensor, Tensor]:
        """True final states (K, s) of cut episodes, and states (C, s) after each last row."""
        finals = [
            critic_inputs(f.finals.observations, f.finals.state, self._layout) for f in fragments
        ]
        lasts = [critic_inputs(f.last_observations, f.last_state, self._layout) for f in fragments]
        return torch.from_numpy(np.concatenate(finals)), torch.from_numpy(np.concatenate(lasts))

    def _estimates(
        self,
        fragments: list[TeamFragment],
        values: Tensor,
        final_values: Tensor,
        last_values: Tensor,
        *,
        scale: float,
        device: torch.device,
    ) -> TeamEstimates:
        """The grid; values are those of rows (B, K), finals (F, K) and last states (C, K)."""
        length = max(f.valid.shape[0] for f in fragments)
        shape = (length, sum(f.num_envs for f in fragments))
        rewards = np.zeros(shape, np.float32)
        grid, next_values = (np.zeros((*shape, values.shape[-1]), np.float32) for _ in range(2))
        cut, valid = np.ones(shape, bool), np.zeros(shape, bool)
        places = []
        column = 0
        for f in fragments:
            places.append((slice(0, f.valid.shape[0]), slice(column, column + f.num_envs)))
            column += f.num_envs
        for f, place in zip(fragments, places, strict=True):
            rewards[place] = self._layout.team.team_reward(f.rewards) * scale
            cut[place] = f.terminated | f.truncated
            valid[place] = f.valid
        grid.swapaxes(0, 1)[valid.T] = values
        next_values[:-1] = grid[1:]
        final = 0
        for f, (t, envs) in zip(fragments, places, strict=True):
            if t.stop:
                cut[t.stop - 1, envs] = True
                next_values[t.stop - 1, envs] = last_values[envs]
            after = final + len(f.finals.step)
            next_values[f.finals.step, envs.start + f.finals.env] = final_values[final:after]
            next_values[t, envs][f.terminated] = 0.0
            final = after

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        return TeamEstimates(
            rewards=tensor(rewards),
            values=tensor(grid),
            next_values=tensor(next_values),
            cut=tensor(cut),
            valid=tensor(valid),
            gamma=self._gamma,
            lambda_=self._lambda,
        )


def who_is_alive(batch: dict, layout: Layout) -> Tensor:
    """(B, n) 1 where an agent is alive, in the team's order."""
    columns = []
    for agent in layout.team.agents:
        m, k = layout.slot_of[agent]
        columns.append(batch[m][ACTIVE][:, k])
    return torch.stack(columns, 1)


def standardize_over_learners(advantages: Tensor, alive: Tensor) -> Tensor:
    """Standardises each column of advantages over the whole batch and all learners; collective.

    Once per batch, never per minibatch. The team's one column weighs each row by how many
    agents were alive in it; an agent's own column counts the rows in which it was.

    Args:
        advantages: (B, K), K being 1 or n.
        alive: (B, n).

    Returns:
        (B, K).
    """
    weights = alive.sum(1, keepdim=True) if advantages.shape[1] == 1 else alive
    columns = list(zip(advantages.unbind(1), weights.unbind(1), strict=True))
    totals = sum_over_learners(torch.stack([moments(a, w) for a, w in columns]))
    return torch.stack(
        [standardize(a, total) for (a, _), total in zip(columns, totals, strict=True)], 1
    )
