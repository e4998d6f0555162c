"""The actor of HADDPG, HATD3, MADDPG and MATD3: one action for each observation."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_hetero.functional import POLICY_FAMILIES, NoisyDeterministic
from rllib_hetero.modules.encoders import ENCODER_DEFAULTS, body_for
from rllib_hetero.modules.off_policy_actor import OffPolicyActor, TargetedActor

DETERMINISTIC_DEFAULTS: dict[str, Any] = {
    "hidden_sizes": [128, 128],  # [256, 256] in HARL's MA-MuJoCo.
    "activation": "relu",
    "layer_norm": False,
    # Whether inputs come in units of their own running mean and deviation, see `RunningNorm`.
    "input_norm": False,
    **ENCODER_DEFAULTS,
}
"""Every key of `config.rl_module(model_config={...})` that a `DeterministicActor` reads.

The values are those of HARL, Tables 5 and 7.
"""


class DeterministicActor(TargetedActor):
    """A deterministic policy.

    Box actions with finite bounds: a tanh mapped onto them, then `exploration`, the scale of the
    noise; see `NoisyDeterministic`. Discrete and MultiDiscrete actions: logits, of which a hard
    Gumbel-softmax action is a draw.

    Reference:
        Zhong et al., JMLR 2024, Algorithms 6 and 7.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = DETERMINISTIC_DEFAULTS | dict(self.model_config or {})
        self.dist = POLICY_FAMILIES["deterministic"](self.action_space)
        is_box = isinstance(self.dist, NoisyDeterministic)
        self.body = body_for(
            self.observation_space,
            model["hidden_sizes"],
            model,
            orthogonal=False,
        )
        self.memory = None
        self.head = nn.Linear(model["hidden_sizes"][-1], self.dist.size - is_box)
        self.add_exploration(is_box)
        self.add_target()

    @override(OffPolicyActor)
    def finish(self, x: Tensor) -> Tensor:
        if isinstance(self.dist, NoisyDeterministic):
            return self.dist.from_unit(torch.tanh(x))
        return x
