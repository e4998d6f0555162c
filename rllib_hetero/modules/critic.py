"""The centralised critic: a value for the team, or one for each agent, seen from the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.spaces import Box
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_hetero.modules.actor import MODEL_DEFAULTS
from rllib_hetero.modules.encoders import body_for
from rllib_hetero.modules.input_norm import RunningNorm
from rllib_hetero.modules.memory import memory_from
from rllib_hetero.modules.networks import linear
from rllib_hetero.modules.value_norm import ValueNorm

NUM_CRITICS = "num_critics"
"""Key of the critic's `model_config`: 1, or the number of agents."""
RETURN_NORM = "return_norm"
"""Key of the critic's `model_config`: whether it keeps the scale of returns, see `return_norm`."""


class TeamCritic(TorchRLModule, ValueFunctionAPI):
    """V(s) of the team's return. Only the learner has it; runners carry actors alone.

    The networks work on normalised values; `compute_values` gives that scale, and `normalizer`
    goes between it and returns. With `value_norm=False` the normaliser stays the identity. With
    `reward_scaling`, `return_norm` keeps the deviation of discounted returns.

    Feed-forward, states (B, s) give values (B,). Recurrent (`critic_recurrent`), sequences
    (N, L, s) and `Columns.STATE_IN` (N, S) give values (N, L). With `num_critics` = n > 1 there
    are n networks that share nothing but the normaliser, and values have one more axis, (n).
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = MODEL_DEFAULTS | dict(self.model_config or {})
        count = model.get(NUM_CRITICS, 1)
        self.networks = nn.ModuleList(
            ValueNetwork(self.observation_space, model) for _ in range(count)
        )
        self.normalizer = ValueNorm()
        self.return_norm = RunningNorm(1) if model.get(RETURN_NORM) else None

    @override(ValueFunctionAPI)
    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Normalised values (B,), (N, L), or with (n) behind, of `batch[Columns.OBS]`."""
        return self.compute_values_and_state(batch)[0]

    def compute_values_and_state(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """As `compute_values`, and the memory's states by name (N, S) after the last step."""
        states = batch.get(Columns.STATE_IN, {})
        before = {name: s.chunk(len(self.networks), dim=-1) for name, s in states.items()}
        values, after = [], []
        for i, network in enumerate(self.networks):
            value, state = network(batch[Columns.OBS], {name: s[i] for name, s in before.items()})
            values.append(value)
            after.append(state)
        out = values[0] if len(values) == 1 else torch.stack(values, dim=-1)
        return out, {name: torch.cat([s[name] for s in after], dim=-1) for name in after[0]}

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        values, state = self.compute_values_and_state(batch)
        return {Columns.VF_PREDS: values} | ({Columns.STATE_OUT: state} if state else {})

    @override(TorchRLModule)
    def get_initial_state(self) -> dict[str, Tensor]:
        """Name to zeros (S,), those of all networks in a row; empty if feed-forward."""
        states = [n.initial_state() for n in self.networks]  # type: ignore[operator]
        return {name: torch.cat([s[name] for s in states]) for name in states[0]}


class ValueNetwork(nn.Module):
    """One value function: body, memory if asked for, and a head of one number.

    Args:
        space: Of the states (s,).
        model: The whole `model_config`.
    """

    def __init__(self, space: Box, model: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = list(model.get("critic_hidden_sizes") or model["hidden_sizes"])
        self.body = body_for(space, hidden, model, orthogonal=True)
        self.memory = memory_from(model, "critic_recurrent", hidden[-1])
        features = hidden[-1] if self.memory is None else self.memory.size
        self.head = linear(features, 1, gain=1.0)

    def forward(
        self, states: Tensor, memory: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Values (...) of states (..., s), and what is remembered after the last."""
        out, after = self.body(states), {}
        if self.memory is not None:
            out, after = self.memory(out, memory)
        return self.head(out).squeeze(-1), after

    def initial_state(self) -> dict[str, Tensor]:
        """Name to zeros (S,); empty if feed-forward."""
        return {} if self.memory is None else self.memory.initial_state()
