"""The discounted sum of an episode's rewards so far, along every environment."""

from __future__ import annotations

import numpy as np

from rllib_hetero.connectors.carried import Carried
from rllib_hetero.runners.fragment import TeamFragment


class RunningReturns:
    """Goes on from one fragment to the next, as episodes do.

        G_t = gamma G_{t-1} + r_t

    Where a fragment does not follow the last one of its runner (after a restore, or where one was
    lost), and behind the end of an episode, it begins at 0.

    Args:
        gamma: Discount.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._carried: Carried[float] = Carried()

    def of(self, fragment: TeamFragment, rewards: np.ndarray) -> np.ndarray:
        """(T, E) G of each step.

        Args:
            fragment: Where the rewards come from.
            rewards: (T, E) the team's.
        """
        now = np.zeros(fragment.num_envs)
        for e, value in self._carried.before(fragment).items():
            now[e] = value
        out = np.zeros(rewards.shape)
        over = fragment.terminated | fragment.truncated | ~fragment.valid
        for t, r in enumerate(rewards):
            now = self._gamma * now + np.where(fragment.valid[t], r, 0.0)
            out[t] = now
            now = np.where(over[t], 0.0, now)
        self._carried.keep(fragment, now.tolist())
        return out
