"""Which distribution lies over the actions of a space, unless the algorithm has another family."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Tuple

from rllib_hetero.functional.distributions import ClosedForm
from rllib_hetero.functional.mixed import Mixed
from rllib_hetero.functional.stochastic import Categorical, DiagGaussian, MultiCategorical


def distribution_for(space: gym.Space) -> ClosedForm:
    """The distribution of an action space.

    Args:
        space: Box of shape (k,) and a float dtype, Discrete or MultiDiscrete starting at 0, or a
            Tuple of such a MultiDiscrete and such a Box.

    Returns:
        `DiagGaussian`, `Categorical`, `MultiCategorical` or `Mixed`.

    Raises:
        ValueError: If the space is of another kind or shape.

    Example:
        >>> distribution_for(Discrete(5))
        Categorical(n=5)
    """
    if isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        return DiagGaussian(int(space.shape[0]))
    if isinstance(space, Discrete) and space.start == 0:
        return Categorical(int(space.n))
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1 and not np.any(space.start):
        return MultiCategorical(tuple(int(n) for n in space.nvec))
    if isinstance(space, Tuple) and len(space) == 2:
        choices, numbers = map(distribution_for, space)
        if isinstance(choices, MultiCategorical) and isinstance(numbers, DiagGaussian):
            return Mixed(choices, numbers)
    raise ValueError(
        f"No distribution for {space}: a float Box of shape (k,), a Discrete or a MultiDiscrete "
        "(both starting at 0) is needed."
    )


def num_choices(space: gym.Space) -> int:
    """How many entries the action mask of a space has: one for each choice of each component.

    Args:
        space: An action space.

    Returns:
        n of a Discrete, the sum of nvec of a MultiDiscrete (also of one in a Tuple), 0 for a Box.

    Raises:
        ValueError: If the space is none of these.
    """
    if isinstance(space, Box):
        return 0
    return sum(distribution_for(space).choices)


def refuse_mixed(dist: ClosedForm) -> ClosedForm:
    """The distribution itself.

    Raises:
        ValueError: If it is `Mixed`: of choices and numbers.
    """
    if isinstance(dist, Mixed):
        raise ValueError(
            "its actions are both choices and numbers, of which the off-policy methods draw one or "
            "the other. Wrap the environment so that it cuts the numbers into choices."
        )
    return dist
