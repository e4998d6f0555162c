"""What is done to a policy's actions before the environment sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from rllib_hetero.layout import Layout
from rllib_hetero.spaces import Moves, is_mixed
from rllib_hetero.team import AgentID

Transform = Callable[[np.ndarray], np.ndarray]


def action_transforms(layout: Layout, *, normalize: bool, clip: bool) -> dict[AgentID, Transform]:
    """By agent, what is done to its actions.

    Nothing where the policy itself draws within the space: what is recorded of such a policy is
    what the environment executed.

    Args:
        layout: Agents, modules, spaces.
        normalize: As in `action_transform`.
        clip: As in `action_transform`.
    """
    return {
        a: action_transform(
            layout.action_space(m),
            normalize=normalize and not layout.distribution(m).within_space,
            clip=clip and not layout.distribution(m).within_space,
        )
        for a, m in layout.module_of.items()
    }


def action_transform(space: gym.Space, *, normalize: bool, clip: bool) -> Transform:
    """RLlib's `normalize_actions` and `clip_actions` for a batch of one agent's actions.

    Args:
        space: The agent's flat action space. Choices pass unchanged.
        normalize: Map [-1, 1] to the bounds of the space, where these are finite, and clip to them.
        clip: Else, clip to the bounds.

    Returns:
        A function from (..., k) to (..., k).
    """
    if is_mixed(space):
        choices, numbers = space.spaces
        m = len(choices.nvec)  # type: ignore[attr-defined]
        inner = action_transform(numbers, normalize=normalize, clip=clip)
        return lambda x: np.concatenate([x[..., :m], inner(x[..., m:])], -1)
    if not isinstance(space, Box):
        return lambda x: x
    low, high = space.low, space.high
    if normalize and space.is_bounded():
        # Clipped last: rounding may lead a little out of the space.
        middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        return lambda x: np.clip(middle + half * x, low, high)
    if clip:
        return lambda x: np.clip(x, low, high)
    return lambda x: x


def sample_action(space: gym.Space, mask: np.ndarray | None = None) -> np.ndarray:
    """A uniformly random action of one agent.

    Args:
        space: The agent's flat action space; the randomness is its own.
        mask: (p,) bool, the allowed choices of a Discrete, or of a MultiDiscrete's components in
            order. None allows all.
    """
    if is_mixed(space):
        choices, numbers = space.spaces
        return np.concatenate([sample_action(choices, mask), numbers.sample()]).astype(np.float32)
    if mask is None:
        return space.sample()
    allowed = mask.astype(np.int8)
    if isinstance(space, MultiDiscrete):
        return space.sample(mask=tuple(np.split(allowed, np.cumsum(space.nvec)[:-1])))
    return space.sample(mask=allowed)


def random_action(moves: Moves, mask: np.ndarray | None = None) -> Any:
    """A uniformly random action of one agent, as its environment takes it.

    Args:
        moves: The agent's actions; the randomness is that of their flat space.
        mask: As of `sample_action`.
    """
    return moves.decode_one(sample_action(moves.flat, mask))
