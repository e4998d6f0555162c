"""Families of policies: which distribution lies over a module's outputs, by the action space.

The family is the algorithm's choice (`TeamConfig.policy_family`), and part of an exported policy.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym

from rllib_hetero.functional.distributions import Distribution, distribution_for

POLICY_FAMILIES: dict[str, Callable[[gym.Space], Distribution]] = {
    "stochastic": distribution_for,
}
"""By name, what gives the distribution of an action space."""
