"""The actor of HAD3QN, QMIX, VDN and IQL: the agent's own action values."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import nn

from rllib_hetero.functional import POLICY_FAMILIES
from rllib_hetero.modules.dueling import DuelingHead
from rllib_hetero.modules.encoders import ENCODER_DEFAULTS, body_for
from rllib_hetero.modules.memory import memory_from
from rllib_hetero.modules.off_policy_actor import TargetedActor

Q_NETWORK_DEFAULTS: dict[str, Any] = {
    "hidden_sizes": [128, 128],  # [64] and a memory of 64 in PyMARL's QMIX.
    "activation": "relu",
    "layer_norm": False,
    # Whether inputs come in units of their own running mean and deviation, see `RunningNorm`.
    "input_norm": False,
    # Value and advantage from networks of their own: HAD3QN.
    "dueling": False,
    "dueling_hidden_sizes": [128],
    "dueling_activation": "hardswish",
    # None, "gru" or "lstm": a memory between the hidden layers and the head.
    "recurrent": None,
    # None: as many units as the last hidden layer has.
    "recurrent_size": None,
    # Length of the sequences that a recurrent network is trained on.
    "max_seq_len": 10,
    **ENCODER_DEFAULTS,
}
"""Every key of `config.rl_module(model_config={...})` that a `QNetwork` reads.

The values are those of HARL, Tables 5 and 8, with `dueling` for HAD3QN.
"""


class QNetwork(TargetedActor):
    """Values Q(o, a) of a Discrete's n actions, then `exploration`, the epsilon to explore with.

    See `EpsilonGreedy`. Recurrent, it is PyMARL's agent: layers, a GRU, a linear head.

    Reference:
        Zhong et al., JMLR 2024, Algorithm 8; Rashid et al., "QMIX", ICML 2018, section 4.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = Q_NETWORK_DEFAULTS | dict(self.model_config or {})
        self.dist = POLICY_FAMILIES["greedy"](self.action_space)
        (n,) = self.dist.choices
        self.body = body_for(
            self.observation_space,
            model["hidden_sizes"],
            model,
            orthogonal=False,
        )
        self.memory = memory_from(model, "recurrent", model["hidden_sizes"][-1])
        features = model["hidden_sizes"][-1] if self.memory is None else self.memory.size
        if model["dueling"]:
            self.head = DuelingHead(
                features,
                n,
                hidden_sizes=model["dueling_hidden_sizes"],
                activation=model["dueling_activation"],
            )
        else:
            self.head = nn.Linear(features, n)
        self.add_exploration()
        self.add_target()
