"""Random allowed actions, from a generator of our own: the environment's stays untouched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rllib_hetero.functional import num_choices
from rllib_hetero.spaces import is_mixed
from rllib_hetero.team import ACTION_MASK, AgentID, Team

_HUGE = 1e30  # Bounds beyond it are as good as infinite.


class RandomActions:
    """Draws the actions of those that act, as the team env runner would hand them over.

    Args:
        team: The team.
        seed: Equal seeds, agents and masks give equal actions.
    """

    def __init__(self, team: Team, seed: int) -> None:
        self._team = team
        self._rng = np.random.default_rng(seed)

    def __call__(
        self, acting: Iterable[AgentID], masks: Mapping[AgentID, np.ndarray]
    ) -> dict[AgentID, Any]:
        """Agent id to its action: an int for a Discrete, a new array for the others.

        Args:
            acting: Those that act.
            masks: Agent id to its allowed choices (p,) bool; all are allowed where it is missing.
        """
        return {a: self._draw(a, masks.get(a)) for a in acting}

    def _draw(self, agent: AgentID, mask: np.ndarray | None) -> Any:
        return self._team.moves[agent].decode_one(self.flat(agent, mask))

    def flat(self, agent: AgentID, mask: np.ndarray | None) -> Any:
        """An action of the agent's flat space, see `spaces.Moves`."""
        return self._of(self._team.moves[agent].flat, mask)

    def _of(self, space: Any, mask: np.ndarray | None) -> Any:
        if is_mixed(space):
            choices, numbers = space.spaces
            both = self._of(choices, mask), self._of(numbers, None)
            return np.concatenate(both, dtype=np.float32)
        if isinstance(space, Box):
            low, high = finite_bounds(space)
            return np.clip(self._rng.uniform(low, high), low, high).astype(space.dtype)
        parts = [
            self._rng.choice(np.flatnonzero(p) if p.any() else len(p))
            for p in components(space, mask)
        ]
        return int(parts[0]) if isinstance(space, Discrete) else np.array(parts, space.dtype)


def finite_bounds(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a Box, float64; where infinite, 1 away from the other bound, or from 0."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    has_low, has_high = np.abs(low) < _HUGE, np.abs(high) < _HUGE
    return (
        np.where(has_low, low, np.where(has_high, high - 1.0, -1.0)),
        np.where(has_high, high, np.where(has_low, low + 1.0, 1.0)),
    )


def components(space: Any, mask: np.ndarray | None) -> list[np.ndarray]:
    """The allowed choices of each component of a flat action space, bool."""
    space = space.spaces[0] if is_mixed(space) else space
    sizes = space.nvec if isinstance(space, MultiDiscrete) else np.array([space.n])
    if mask is None:
        mask = np.ones(int(sizes.sum()), bool)
    return np.split(mask, np.cumsum(sizes)[:-1])


def read_masks(team: Team, observations: Mapping[AgentID, Any]) -> dict[AgentID, np.ndarray]:
    """The action masks among observations, as (p,) bool; those that cannot be read are left out."""
    masks = {}
    for agent in team.masked & observations.keys():
        try:
            mask = np.asarray(observations[agent][ACTION_MASK]) > 0
        except (KeyError, TypeError, IndexError, ValueError):
            continue
        if mask.shape == (num_choices(team.moves[agent].flat),):
            masks[agent] = mask
    return masks
