"""Heterogeneous multi-agent reinforcement learning on Ray RLlib.

Importing this package registers its algorithms and environments with Ray, so that they can be
named by string: `tune.Tuner("HAPPO", ...)`, `config.environment("mpe", ...)`.
"""

import os

from ray.tune.registry import register_trainable

from rllib_hetero.algorithms.decentralised.f2a2_coma import F2A2COMA, F2A2COMAConfig
from rllib_hetero.algorithms.decentralised.f2a2_ddpg import F2A2DDPG, F2A2DDPGConfig
from rllib_hetero.algorithms.decentralised.f2a2_isac import F2A2ISAC, F2A2ISACConfig
from rllib_hetero.algorithms.decentralised.f2a2_sac import F2A2SAC, F2A2SACConfig
from rllib_hetero.algorithms.decentralised.f2a2_td3 import F2A2TD3, F2A2TD3Config
from rllib_hetero.algorithms.decentralised.networked_ac import NetworkedAC, NetworkedACConfig
from rllib_hetero.algorithms.off_policy.had3qn import HAD3QN, HAD3QNConfig
from rllib_hetero.algorithms.off_policy.haddpg import HADDPG, HADDPGConfig
from rllib_hetero.algorithms.off_policy.hasac import HASAC, HASACConfig
from rllib_hetero.algorithms.off_policy.hatd3 import HATD3, HATD3Config
from rllib_hetero.algorithms.off_policy.iql import IQL, IQLConfig
from rllib_hetero.algorithms.off_policy.maac import MAAC, MAACConfig
from rllib_hetero.algorithms.off_policy.maddpg import MADDPG, MADDPGConfig
from rllib_hetero.algorithms.off_policy.masac import MASAC, MASACConfig
from rllib_hetero.algorithms.off_policy.matd3 import MATD3, MATD3Config
from rllib_hetero.algorithms.off_policy.qmix import QMIX, QMIXConfig
from rllib_hetero.algorithms.off_policy.vdn import VDN, VDNConfig
from rllib_hetero.algorithms.on_policy.a2po import A2PO, A2POConfig
from rllib_hetero.algorithms.on_policy.armappo import ARMAPPO, ARMAPPOConfig
from rllib_hetero.algorithms.on_policy.bppo import BPPO, BPPOConfig
from rllib_hetero.algorithms.on_policy.coma import COMA, COMAConfig
from rllib_hetero.algorithms.on_policy.coppo import CoPPO, CoPPOConfig
from rllib_hetero.algorithms.on_policy.haa2c import HAA2C, HAA2CConfig
from rllib_hetero.algorithms.on_policy.happo import HAPPO, HAPPOConfig
from rllib_hetero.algorithms.on_policy.hatrpo import HATRPO, HATRPOConfig
from rllib_hetero.algorithms.on_policy.maa2c import MAA2C, MAA2CConfig
from rllib_hetero.algorithms.on_policy.mappo import MAPPO, MAPPOConfig
from rllib_hetero.checking import Finding, Report, check_env
from rllib_hetero.envs import PettingZooTeamEnv, TupleTeamEnv, register_environments
from rllib_hetero.errors import (
    MissingExtraError,
    NonFiniteUpdateError,
    TeamDataError,
    TeamError,
)
from rllib_hetero.known_messages import QUIET, hide
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.sequential import SequentialLearner
from rllib_hetero.learners.on_policy.trust_region import TrustRegionLearner
from rllib_hetero.policies import TeamPolicies, load_policies
from rllib_hetero.programs import export_programs
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import Team

__version__ = "0.1.0.dev0"

_ON_POLICY = (HAPPO, HATRPO, HAA2C, A2PO, BPPO, CoPPO, MAPPO, MAA2C, COMA, ARMAPPO)
_OFF_POLICY = (HADDPG, HATD3, HAD3QN, HASAC, MADDPG, MATD3, MASAC, MAAC, QMIX, VDN, IQL)
_DECENTRALISED = (F2A2COMA, F2A2DDPG, F2A2TD3, F2A2SAC, F2A2ISAC, NetworkedAC)

ALGORITHMS = {a.__name__: a for a in (*_ON_POLICY, *_OFF_POLICY, *_DECENTRALISED)}
"""Every algorithm by the name it is registered under."""

for _name, _algorithm in ALGORITHMS.items():
    register_trainable(_name, _algorithm)
register_environments()
if os.environ.get(QUIET) == "1":
    hide()

__all__ = [
    "A2PO",
    "ALGORITHMS",
    "ARMAPPO",
    "BPPO",
    "COMA",
    "F2A2COMA",
    "F2A2DDPG",
    "F2A2ISAC",
    "F2A2SAC",
    "F2A2TD3",
    "HAA2C",
    "HAD3QN",
    "HADDPG",
    "HAPPO",
    "HASAC",
    "HATD3",
    "HATRPO",
    "IQL",
    "MAA2C",
    "MAAC",
    "MADDPG",
    "MAPPO",
    "MASAC",
    "MATD3",
    "QMIX",
    "VDN",
    "A2POConfig",
    "ARMAPPOConfig",
    "BPPOConfig",
    "COMAConfig",
    "CoPPO",
    "CoPPOConfig",
    "F2A2COMAConfig",
    "F2A2DDPGConfig",
    "F2A2ISACConfig",
    "F2A2SACConfig",
    "F2A2TD3Config",
    "Finding",
    "HAA2CConfig",
    "HAD3QNConfig",
    "HADDPGConfig",
    "HAPPOConfig",
    "HASACConfig",
    "HATD3Config",
    "HATRPOConfig",
    "IQLConfig",
    "MAA2CConfig",
    "MAACConfig",
    "MADDPGConfig",
    "MAPPOConfig",
    "MASACConfig",
    "MATD3Config",
    "MissingExtraError",
    "NetworkedAC",
    "NetworkedACConfig",
    "NonFiniteUpdateError",
    "Outcome",
    "PettingZooTeamEnv",
    "PolicyChange",
    "QMIXConfig",
    "Report",
    "SequentialLearner",
    "Team",
    "TeamDataError",
    "TeamError",
    "TeamPolicies",
    "TrustRegionLearner",
    "TupleTeamEnv",
    "VDNConfig",
    "VectorTeamEnv",
    "check_env",
    "export_programs",
    "load_policies",
]
