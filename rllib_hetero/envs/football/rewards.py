"""The reward for bringing the ball near the goal."""

from __future__ import annotations

import math

from rllib_hetero.envs.football.features import Raw

NUM_CHECKPOINTS = 10
CHECKPOINT_REWARD = 0.1
# Distances from the middle of the goal, the point (1, 0), at which a checkpoint is reached.
_DISTANCES = [0.99 - 0.8 / (NUM_CHECKPOINTS - 1) * k for k in range(NUM_CHECKPOINTS)]


class Checkpoints:
    """Each player's checkpoints of an episode, as the game's paper has them (Kurach et al., 2020).

    A player that has the ball collects 0.1 for each of ten distances to the goal that it has
    reached, each once in an episode. When the team scores, every player collects what is left, so
    that an early goal is not worth less.

    Args:
        num_agents: n.
    """

    def __init__(self, num_agents: int) -> None:
        self._collected = [0] * num_agents

    def collect(self, raw: Raw, scored: float) -> list[float]:
        """The n players' checkpoint rewards for a step.

        Args:
            raw: The observation after the step.
            scored: 1 if the team has scored in this step.
        """
        return [
            CHECKPOINT_REWARD * self._new(i, player, raw, scored == 1)
            for i, player in enumerate(raw["left_agent_controlled_player"])
        ]

    def _new(self, i: int, player: int, raw: Raw, scored: bool) -> int:
        before = self._collected[i]
        if scored:
            self._collected[i] = NUM_CHECKPOINTS
        elif raw["ball_owned_team"] == 0 and raw["ball_owned_player"] == player:
            x, y, _ = raw["ball"]
            distance = math.hypot(x - 1.0, y)
            reached = sum(distance <= d for d in _DISTANCES)
            self._collected[i] = max(before, reached)
        return self._collected[i] - before
