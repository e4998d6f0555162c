"""The centralised critic: one value for the team, seen from the state."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override

from rllib_hetero.modules.actor import MODEL_DEFAULTS
from rllib_hetero.modules.networks import linear, mlp
from rllib_hetero.modules.value_norm import ValueNorm


class TeamCritic(TorchRLModule, ValueFunctionAPI):
    """V(s) of the team's return. Only the learner has it; runners carry actors alone.

    The network works on normalised values; `compute_values` gives that scale, and `normalizer`
    goes between it and returns. With `value_norm=False` the normaliser stays the identity.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = MODEL_DEFAULTS | dict(self.model_config or {})
        hidden = list(model.get("critic_hidden_sizes") or model["hidden_sizes"])
        (in_size,) = self.observation_space.shape
        self.body = mlp(
            in_size, hidden, activation=model["activation"], layer_norm=model["layer_norm"]
        )
        self.head = linear(hidden[-1], 1, gain=1.0)
        self.normalizer = ValueNorm()

    @override(ValueFunctionAPI)
    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """Normalised values (B,) of the states `batch[Columns.OBS]` (B, s)."""
        return self.head(self.body(batch[Columns.OBS])).squeeze(-1)

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        return {Columns.VF_PREDS: self.compute_values(batch)}
