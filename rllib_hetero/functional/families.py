"""Families of policies: which distribution lies over a module's outputs, by the action space.

The family is the algorithm's choice (`TeamConfig.policy_family`), and part of an exported policy.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym

from rllib_hetero.functional.by_space import distribution_for
from rllib_hetero.functional.deterministic import deterministic_for
from rllib_hetero.functional.distributions import Distribution
from rllib_hetero.functional.greedy import greedy_for
from rllib_hetero.functional.squashed import squashed_for
from rllib_hetero.functional.stochastic import categorical_for

POLICY_FAMILIES: dict[str, Callable[[gym.Space], Distribution]] = {
    "stochastic": distribution_for,
    "categorical": categorical_for,
    "deterministic": deterministic_for,
    "squashed": squashed_for,
    "greedy": greedy_for,
}
"""By name, what gives the distribution of an action space."""
