"""Heterogeneous multi-agent reinforcement learning on Ray RLlib.

Importing this package registers its algorithms and environments with Ray, so that they can be
named by string: `tune.Tuner("HAPPO", ...)`, `config.environment("mpe", ...)`.
"""

from ray.tune.registry import register_trainable

from rllib_hetero.algorithms.happo import HAPPO, HAPPOConfig
from rllib_hetero.algorithms.mappo import MAPPO, MAPPOConfig
from rllib_hetero.envs import PettingZooTeamEnv, register_environments
from rllib_hetero.errors import (
    MissingExtraError,
    NonFiniteUpdateError,
    TeamDataError,
    TeamError,
)
from rllib_hetero.policies import TeamPolicies, load_policies
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import Team

__version__ = "0.1.0.dev0"

ALGORITHMS = {"HAPPO": HAPPO, "MAPPO": MAPPO}
"""Every algorithm by the name it is registered under."""

for _name, _algorithm in ALGORITHMS.items():
    register_trainable(_name, _algorithm)
register_environments()

__all__ = [
    "ALGORITHMS",
    "HAPPO",
    "MAPPO",
    "HAPPOConfig",
    "MAPPOConfig",
    "MissingExtraError",
    "NonFiniteUpdateError",
    "Outcome",
    "PettingZooTeamEnv",
    "Team",
    "TeamDataError",
    "TeamError",
    "TeamPolicies",
    "VectorTeamEnv",
    "load_policies",
]
