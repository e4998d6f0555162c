"""Ready-made environments, by the name `config.environment(...)` takes.

Importing this package imports none of the environments' own packages; their creators do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rllib_hetero.envs.cooperative_mpe import make_cooperative_mpe
from rllib_hetero.envs.mamujoco import make_mamujoco
from rllib_hetero.envs.matrix_game import make_matrix_game
from rllib_hetero.envs.mpe import make_mpe
from rllib_hetero.envs.pettingzoo import PettingZooTeamEnv
from rllib_hetero.envs.smax import make_smax
from rllib_hetero.runners.vector_env import VectorTeamEnv

ENVIRONMENTS: dict[str, Callable[[Any], PettingZooTeamEnv | VectorTeamEnv]] = {
    "mpe": make_mpe,
    "cooperative_mpe": make_cooperative_mpe,
    "mamujoco": make_mamujoco,
    "matrix_game": make_matrix_game,
    "smax": make_smax,
}
"""Name to creator, which takes the `env_config`."""


def register_environments() -> None:
    """Makes the environments known to RLlib under their names. Calling it again is harmless."""
    from ray.tune import register_env

    for name, creator in ENVIRONMENTS.items():
        register_env(name, creator)


__all__ = [
    "ENVIRONMENTS",
    "PettingZooTeamEnv",
    "make_cooperative_mpe",
    "make_mamujoco",
    "make_matrix_game",
    "make_mpe",
    "make_smax",
    "register_environments",
]
