"""The actor of MAAC: a choice, from normalised observations."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import nn

from rllib_hetero.functional import POLICY_FAMILIES
from rllib_hetero.modules.input_norm import InputNorm
from rllib_hetero.modules.networks import mlp
from rllib_hetero.modules.off_policy_actor import TargetedActor

CATEGORICAL_DEFAULTS: dict[str, Any] = {
    "hidden_sizes": [128, 128],
    "activation": "leaky_relu",
    "layer_norm": False,
    # Whether observations are normalised by running statistics.
    "input_norm": True,
}
"""Every key of `config.rl_module(model_config={...})` that a `CategoricalActor` reads.

The values are those of MAAC's authors.
"""


class CategoricalActor(TargetedActor):
    """Logits (..., p) of a Discrete's p actions from observations (..., d), and a target network.

    Attributes:
        input_norm: The statistics that the learner moves, the same for actor and target; None
            without.

    Reference:
        Iqbal and Sha, "Actor-Attention-Critic for Multi-Agent Reinforcement Learning", ICML 2019;
        layers as in the authors' code.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = CATEGORICAL_DEFAULTS | dict(self.model_config or {})
        self.dist = POLICY_FAMILIES["categorical"](self.action_space)
        (size,) = self.observation_space.shape
        first = [InputNorm(size)] if model["input_norm"] else []
        layers = mlp(
            size,
            model["hidden_sizes"],
            activation=model["activation"],
            layer_norm=model["layer_norm"],
            orthogonal=False,
        )
        self.body = nn.Sequential(*first, *layers)
        self.memory = None
        self.head = nn.Linear(model["hidden_sizes"][-1], self.dist.size)
        self.add_exploration(False)
        self.add_target()

    @property
    def input_norm(self) -> InputNorm | None:
        first = self.body[0]
        return first if isinstance(first, InputNorm) else None
