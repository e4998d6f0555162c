"""Learner connector: advantages and value targets of the team, once per batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override

from rllib_hetero.connectors.fragments_to_batch import ACTIVE, critic_inputs
from rllib_hetero.functional import generalized_advantages, moments, standardize
from rllib_hetero.reductions import sum_over_learners
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.team import CRITIC, Layout


class TeamAdvantages(ConnectorV2):
    """Generalised advantage estimation with the centralised critic.

    Adds to the critic's part of the batch `VF_PREDS` (B,) in the critic's own (normalised)
    scale, `VALUE_TARGETS` (B,) and `ADVANTAGES` (B,) in returns. A truncated episode is
    bootstrapped from the value of its true final state, a terminated one from nothing.

    All agents share the team's advantage (HARL, Proposition 9: one joint advantage estimator
    is enough). It is standardised once, over the whole batch and all learners, each row
    weighted by how many agents were alive in it; never per minibatch.

    Args:
        layout: Agents and modules.
        gamma: Discount.
        lambda_: Trace decay of the estimator.
        standardize_advantages: Whether to standardise.
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
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self._layout = layout
        self._gamma = gamma
        self._lambda = lambda_
        self._standardize = standardize_advantages

    @override(ConnectorV2)
    def __call__(
        self, *, rl_module: Any, batch: dict, episodes: list[TeamFragment], **kwargs: Any
    ) -> dict:
        critic = rl_module[CRITIC].unwrapped()
        data = batch[CRITIC]
        device = data[Columns.OBS].device
        finals, lasts = self._outside_states(episodes)
        with torch.no_grad():
            states = torch.cat([data[Columns.OBS], *(x.to(device) for x in (finals, lasts))])
            predictions = critic.compute_values({Columns.OBS: states})
            values = critic.normalizer.denormalize(predictions).cpu()
        split = values.split([len(data[Columns.OBS]), len(finals), len(lasts)])
        advantages = self._estimate(episodes, *split).to(device)

        data[Columns.VF_PREDS] = predictions[: len(advantages)]
        data[Columns.VALUE_TARGETS] = advantages + split[0].to(device)
        if self._standardize:
            weights = sum(batch[m][ACTIVE].sum(-1) for m in self._layout.groups)
            total = sum_over_learners(moments(advantages, weights))
            advantages = standardize(advantages, total)
        data[Columns.ADVANTAGES] = advantages
        return batch

    def _outside_states(self, fragments: list[TeamFragment]) -> tuple[torch.Tensor, torch.Tensor]:
        """True final states (K, s) of cut episodes, and states (C, s) after each last row."""
        finals = [
            critic_inputs(f.finals.observations, f.finals.state, self._layout) for f in fragments
        ]
        lasts = [critic_inputs(f.last_observations, f.last_state, self._layout) for f in fragments]
        return torch.from_numpy(np.concatenate(finals)), torch.from_numpy(np.concatenate(lasts))

    def _estimate(
        self,
        fragments: list[TeamFragment],
        values: torch.Tensor,
        final_values: torch.Tensor,
        last_values: torch.Tensor,
    ) -> torch.Tensor:
        """Advantages (B,) in row order.

        Every environment of every fragment is one column of a (T, C) grid, shorter fragments
        padded, so that the recursion over time runs once whatever the number of runners.
        """
        length = max(f.valid.shape[0] for f in fragments)
        shape = (length, sum(f.num_envs for f in fragments))
        rewards, grid, next_values = (np.zeros(shape, np.float32) for _ in range(3))
        cut, valid = np.ones(shape, bool), np.zeros(shape, bool)
        places = []
        column = 0
        for f in fragments:
            places.append((slice(0, f.valid.shape[0]), slice(column, column + f.num_envs)))
            column += f.num_envs
        for f, place in zip(fragments, places, strict=True):
            rewards[place] = self._layout.team.team_reward(f.rewards)
            cut[place] = f.terminated | f.truncated
            valid[place] = f.valid
        grid.T[valid.T] = values
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
        advantages = generalized_advantages(
            *(torch.from_numpy(x) for x in (rewards, grid, next_values, cut)),
            gamma=self._gamma,
            lambda_=self._lambda,
        )
        return advantages.T[torch.from_numpy(valid.T)]
