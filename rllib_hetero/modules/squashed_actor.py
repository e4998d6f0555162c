"""The actor of HASAC and MASAC: a Gaussian squashed into the actions' bounds."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_hetero.functional import POLICY_FAMILIES, SquashedGaussian
from rllib_hetero.modules.encoders import ENCODER_DEFAULTS, body_for
from rllib_hetero.modules.off_policy_actor import OffPolicyActor

SQUASHED_DEFAULTS: dict[str, Any] = {
    "hidden_sizes": [256, 256],
    "activation": "relu",
    # The last hidden layer's; None: as the others.
    "last_activation": "tanh",
    "layer_norm": False,
    # Whether inputs come in units of their own running mean and deviation, see `RunningNorm`.
    "input_norm": False,
    **ENCODER_DEFAULTS,
}
"""Every key of `config.rl_module(model_config={...})` that a `SquashedActor` reads.

The values are those of HASAC's authors for Box actions.
"""

_LOG_STD_BOUNDS = (-20.0, 2.0)


class SquashedActor(OffPolicyActor):
    """A stochastic policy.

    Box actions with finite bounds: means and log standard deviations (within [-20, 2]) of the
    Gaussian before tanh, both functions of the observation; see `SquashedGaussian`. Discrete and
    MultiDiscrete actions: logits. It has no target network: the soft target takes the policy's
    own next actions. Nor an amount of exploration: that is its entropy.

    Reference:
        Haarnoja et al., "Soft Actor-Critic", ICML 2018; Liu et al., "Maximum Entropy
        Heterogeneous-Agent Reinforcement Learning", ICLR 2024.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = SQUASHED_DEFAULTS | dict(self.model_config or {})
        self.dist = POLICY_FAMILIES["squashed"](self.action_space)
        self.body = body_for(
            self.observation_space,
            model["hidden_sizes"],
            model,
            orthogonal=False,
            last_activation=model["last_activation"],
        )
        self.memory = None
        self.head = nn.Linear(model["hidden_sizes"][-1], self.dist.size)
        self.add_exploration(False)

    @override(OffPolicyActor)
    def finish(self, x: Tensor) -> Tensor:
        if not isinstance(self.dist, SquashedGaussian):
            return x
        mean, log_std = x.chunk(2, dim=-1)
        return torch.cat([mean, log_std.clamp(*_LOG_STD_BOUNDS)], dim=-1)
