"""The actor: one agent's (or one sharing group's) policy network."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import nn
from typing_extensions import Self

from rllib_hetero.functional import DiagGaussian, Mixed, distribution_for
from rllib_hetero.functional.masks import mask_logits
from rllib_hetero.modules.context import CONTEXT_SIZE, context_from
from rllib_hetero.modules.encoders import ENCODER_DEFAULTS, body_for
from rllib_hetero.modules.memory import memory_from
from rllib_hetero.modules.networks import linear
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS

MODEL_DEFAULTS: dict[str, Any] = {
    "hidden_sizes": [128, 128],
    # None: as the actors'.
    "critic_hidden_sizes": None,
    "activation": "relu",
    # True, "all", "hidden" or False: where, see `mlp`.
    "layer_norm": True,
    # Whether inputs come in units of their own running mean and deviation, see `RunningNorm`.
    "input_norm": False,
    "actor_head_gain": 0.01,
    # HARL's bounded Gaussian: std = sigmoid(log_std / std_x) * std_y, 0.3655 at the start.
    "std_x": 1.0,
    "std_y": 0.5,
    # None, "gru" or "lstm": a memory between the hidden layers and the head.
    "recurrent": None,
    "critic_recurrent": None,
    # None: as many units as the last hidden layer has.
    "recurrent_size": None,
    # Length of the sequences that a recurrent network is trained on.
    "max_seq_len": 10,
    # Autoregressive teams: whether predecessors' actions go through a network of their own.
    "action_projection": True,
    **ENCODER_DEFAULTS,
}
"""Every key of `config.rl_module(model_config={...})` that the default modules read."""


class TeamActor(TorchRLModule):
    """A feed-forward or recurrent policy.

    Box actions: an unbounded Gaussian whose mean is a function of the observation and whose
    standard deviation is a parameter of its own, within (0, std_y). Discrete and MultiDiscrete
    actions: categorical logits. Both: the logits, the means, the log standard deviations.

    Feed-forward, it maps observations (..., d) to `Columns.ACTION_DIST_INPUTS` (..., p).
    Recurrent, it maps sequences (B, L, d) and states `Columns.STATE_IN` (B, S) to (B, L, p) and
    `Columns.STATE_OUT` (B, S). In an autoregressive team the last c of the d features are the
    context, the predecessors' actions; memory does not see them.

    Any RLModule that does the same can stand in its place
    (`config.rl_module(rl_module_spec=...)`) if its outputs are in RLlib's layout, (mean, log std)
    or concatenated logits, its states are vectors, and it is deterministic.
    """

    @override(TorchRLModule)
    def setup(self) -> None:
        model = MODEL_DEFAULTS | dict(self.model_config or {})
        hidden = list(model["hidden_sizes"])
        self._context_size = model.get(CONTEXT_SIZE, 0)
        dist = distribution_for(self.action_space)
        normal = dist.of_numbers if isinstance(dist, Mixed) else dist
        num_stds = normal.dim if isinstance(normal, DiagGaussian) else 0
        self.body = body_for(
            self.observation_space, hidden, model, orthogonal=True, cut=self._context_size
        )
        self.memory = memory_from(model, "recurrent", hidden[-1])
        features = hidden[-1] if self.memory is None else self.memory.size
        self.context = context_from(model, features)
        features = features if self.context is None else self.context.size
        self.head = linear(features, dist.size - num_stds, gain=model["actor_head_gain"])
        self.std_logit = None
        if num_stds:
            self._std_x, self._std_y = model["std_x"], model["std_y"]
            self.std_logit = nn.Parameter(torch.full((num_stds,), float(self._std_x)))

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        observations, mask = batch[Columns.OBS], None
        if isinstance(observations, dict):
            # The stock runner's: everyone else masks outside.
            observations, mask = observations[OBSERVATIONS], observations[ACTION_MASK]
        outputs = {}
        out = self.body(self.without_context(observations))
        if self.memory is not None:
            out, outputs[Columns.STATE_OUT] = self.memory(out, batch[Columns.STATE_IN])
        if self.context is not None:
            out = self.context(out, observations[..., -self._context_size :])
        out = self.head(out)
        log_std = self.constants()
        if log_std is not None:
            out = torch.cat([out, log_std.expand(*out.shape[:-1], -1)], dim=-1)
        if mask is not None:
            out = mask_logits(out, mask > 0)
        outputs[Columns.ACTION_DIST_INPUTS] = out
        return outputs

    @override(TorchRLModule)
    def get_initial_state(self) -> dict[str, torch.Tensor]:
        """Name to zeros (S,); empty for a feed-forward policy."""
        return {} if self.memory is None else self.memory.initial_state()

    def without_context(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., d - c): the part of the input (..., d) that is known before anyone acts."""
        return inputs[..., : -self._context_size] if self._context_size else inputs

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        """What becomes of the head's output before the constants follow: nothing."""
        return x

    def constants(self) -> torch.Tensor | None:
        """(k,) log standard deviation of the Gaussian; None for discrete actions."""
        if self.std_logit is None:
            return None
        return torch.log(torch.sigmoid(self.std_logit / self._std_x) * self._std_y)

    @override(TorchRLModule)
    def train(self, mode: bool = True) -> Self:
        # RLlib switches before every training pass, which walks over all parts.
        return self if mode == self.training else super().train(mode)

    # For the stock env runner, which samples through RLlib's distribution classes.
    @override(TorchRLModule)
    def get_inference_action_dist_cls(self) -> type:
        if self.std_logit is not None:
            return TorchDiagGaussian
        if hasattr(self.action_space, "nvec"):
            return TorchMultiCategorical.get_partial_dist_cls(
                input_lens=[int(n) for n in self.action_space.nvec]
            )
        return TorchCategorical

    get_exploration_action_dist_cls = get_inference_action_dist_cls
    get_train_action_dist_cls = get_inference_action_dist_cls
