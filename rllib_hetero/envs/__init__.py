"""Ready-made environments, by the name `config.environment(...)` takes.

Importing this package imports none of the environments' own packages; their creators do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rllib_hetero.envs.bimanual import make_bimanual
from rllib_hetero.envs.cooperative_mpe import make_cooperative_mpe
from rllib_hetero.envs.football import FootballTeamEnv, make_football
from rllib_hetero.envs.magent import make_magent
from rllib_hetero.envs.mamujoco import make_mamujoco
from rllib_hetero.envs.matrix_game import make_matrix_game
from rllib_hetero.envs.mpe import make_mpe
from rllib_hetero.envs.pettingzoo import PettingZooTeamEnv
from rllib_hetero.envs.smac import SMACTeamEnv, make_smac, make_smacv2
from rllib_hetero.envs.smax import make_smax
from rllib_hetero.envs.tuples import TupleTeamEnv
from rllib_hetero.runners.vector_env import VectorTeamEnv

ENVIRONMENTS: dict[
    str, Callable[[Any], FootballTeamEnv | PettingZooTeamEnv | SMACTeamEnv | VectorTeamEnv]
] = {
    "mpe": make_mpe,
    "cooperative_mpe": make_cooperative_mpe,
    "mamujoco": make_mamujoco,
    "matrix_game": make_matrix_game,
    "football": make_football,
    "magent": make_magent,
    "smax": make_smax,
    "smac": make_smac,
    "smacv2": make_smacv2,
    "bimanual": make_bimanual,
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
    "TupleTeamEnv",
    "make_bimanual",
    "make_cooperative_mpe",
    "make_football",
    "make_magent",
    "make_mamujoco",
    "make_matrix_game",
    "make_mpe",
    "make_smac",
    "make_smacv2",
    "make_smax",
    "register_environments",
]
