"""Each agent's own rewards, and how they spread over the whole replay."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.replay import JointBatch
from rllib_hetero.team import Team


class RewardScale:
    """Standardises agents' rewards by the mean and deviation of all that the replay holds.

    As MAAC's authors' code does. A mean that is taken off changes what the return of an episode
    of another length is: it is for episodes that end by the clock.

    Args:
        team: The agents; where they share one reward, each has it.
    """

    def __init__(self, team: Team) -> None:
        self._shared = team.reward_scheme == "shared"
        self._num_agents = len(team.agents)
        self._mean = torch.zeros(self._num_agents)
        self._deviation = torch.ones(self._num_agents)

    def measure(self, moments: Tensor) -> None:
        """Takes in the whole replay.

        Args:
            moments: (1 + 2 k,) float64, `JointReplay.reward_moments` of all learners, summed.
        """
        own = slice(0, 1) if self._shared else slice(1, None)
        mean, deviation = (x[own] for x in mean_and_deviation(moments))
        self._mean = mean.expand(self._num_agents)
        self._deviation = deviation.expand(self._num_agents)

    def of(self, batch: JointBatch) -> Tensor:
        """(B, n) each agent's rewards, as they are."""
        if self._shared:
            return batch.rewards[:, None].expand(-1, self._num_agents)
        assert batch.agent_rewards is not None
        return batch.agent_rewards

    def standardize(self, rewards: Tensor) -> Tensor:
        """(B, n) in units of the deviation, around the mean."""
        return (rewards - self._mean) / self._deviation


def mean_and_deviation(moments: Tensor) -> tuple[Tensor, Tensor]:
    """(k,) float32 means and deviations of rewards.

    Args:
        moments: (1 + 2 k,) float64, as `JointReplay.reward_moments` has them.
    """
    mean, second = (moments[1:] / moments[0].clamp(min=1.0)).chunk(2)
    deviation = (second - mean.square()).clamp(min=0.0).sqrt()
    # Of rewards that are all the same nothing is left; they are not blown up.
    deviation = torch.where(deviation > 1e-6 * (1.0 + mean.abs()), deviation, 1.0)
    return mean.float(), deviation.float()
