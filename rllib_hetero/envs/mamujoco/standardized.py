"""Observations of the HARL authors: the state with a one-hot of the agent, standardized."""

from __future__ import annotations

import numpy as np


def standardized(x: np.ndarray) -> np.ndarray:
    """Of mean 0 and deviation 1 over the last axis."""
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def standardized_observations(state: np.ndarray, num_agents: int) -> np.ndarray:
    """(E, n, s + n) float32 of the n agents, from the states (E, s) float32."""
    shape = (len(state), num_agents)
    states = np.broadcast_to(state[:, None], (*shape, state.shape[1]))
    names = np.broadcast_to(np.eye(num_agents, dtype=np.float32), (*shape, num_agents))
    return standardized(np.concatenate([states, names], axis=2))
