"""The discounted sum of an episode's rewards so far, along every environment."""

from __future__ import annotations

import numpy as np

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
        self._kept: dict[tuple[int, int], tuple[int, float]] = {}

    def of(self, fragment: TeamFragment, rewards: np.ndarray) -> np.ndarray:
        """(T, E) G of each step.

        Args:
            fragment: Where the rewards come from.
            rewards: (T, E) the team's.
        """
        now = self._at_start(fragment)
        out = np.zeros(rewards.shape)
        over = fragment.terminated | fragment.truncated | ~fragment.valid
        for t, r in enumerate(rewards):
            now = self._gamma * now + np.where(fragment.valid[t], r, 0.0)
            out[t] = now
            now = np.where(over[t], 0.0, now)
        if fragment.source is not None:
            worker, number = fragment.source
            for e, value in enumerate(now):
                self._kept[worker, fragment.first_env + e] = (number, float(value))
        return out

    def _at_start(self, fragment: TeamFragment) -> np.ndarray:
        start = np.zeros(fragment.num_envs)
        if fragment.source is None or fragment.continues is None:
            return start
        worker, number = fragment.source
        for e in fragment.continues.nonzero()[0].tolist():
            before, value = self._kept.get((worker, fragment.first_env + e), (None, 0.0))
            if before == number - 1:
                start[e] = value
        return start
