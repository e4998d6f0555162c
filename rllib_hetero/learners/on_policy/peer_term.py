"""The peer term: what an agent's action did to the policies of those that acted after it.

[1] Li, Zhao, Wu, Pajarinen: Backpropagation Through Agents. AAAI 2024.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.core import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor

from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.functional import clipped_surrogate, masked_mean, peer_surrogate, reparameterized
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.minibatch import Rows
from rllib_hetero.learners.on_policy.on_policy_learner import TOTAL, OnPolicyLearner
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.reductions import sum_over_learners
from rllib_hetero.team import AgentID

CONTEXT = "context"
"""Output of a training pass: the context (..., c) as a leaf, for gradients to arrive at."""
EXPONENTIALS = "exponentials"
"""Column: standard exponential draws, the noise of discrete actions, (b, p)."""
FEEDBACK = "feedback"
"""Column: gradient of the product of the successors' ratios by the agent's action, (b, w)."""


class PeerTermLearner(OnPolicyLearner):
    """PPO's objective, corrected, and the peer term of [1].

    Whoever mixes this in gives every agent's rows their `CORRECTION` and `FEEDBACK`: the product
    of its successors' ratios, and the gradient of that product by the agent's action.
    """

    @override(OnPolicyLearner)
    def build(self) -> None:
        super().build()
        # Each message ends with the feature that says that there is one.
        self._actions_at: dict[AgentID, slice] = {
            agent: slice(s.start, s.stop - 1) for agent, s in self._layout.messages.items()
        }
        self._sent_at = torch.tensor(
            [s.stop - 1 for s in self._layout.messages.values() for _ in range(s.start, s.stop)]
        ).to(self._device)
        self._temperature = Scheduler(
            fixed_value_or_schedule=self.config.gumbel_temperature, framework=self.framework
        )

    @override(Learner)
    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        super().before_gradient_based_update(timesteps=timesteps)
        self._temperature.update(timestep=timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))

    def draw_exponentials(self, batch: dict[ModuleID, Rows]) -> None:
        """Adds `EXPONENTIALS` (B, n_m, p_m) to all modules: the same for any number of learners."""
        share = self._share
        for i, (m, agents) in enumerate(self._layout.groups.items()):
            rng = np.random.default_rng((*self._iteration_seed(), 3, i))
            shape = (share.total, len(agents), self._dists[m].size)
            drawn = rng.standard_exponential(shape, dtype=np.float32)
            own = drawn[share.offset : share.offset + share.count]
            batch[m][EXPONENTIALS] = torch.from_numpy(own).to(self._device)

    def forward_with_context(self, module_id: ModuleID, rows: Rows) -> dict[str, Tensor]:
        """The training pass of an actor, with its `CONTEXT` as a leaf that takes gradients."""
        size = self._layout.context_size
        context = rows[Columns.OBS][..., -size:].detach().requires_grad_()
        observations = torch.cat([rows[Columns.OBS][..., :-size], context], dim=-1)
        out = super().forward(module_id, rows | {Columns.OBS: observations})
        return out | {CONTEXT: context}

    def of_predecessors(self, slope: Tensor, context: Tensor) -> Tensor:
        """A gradient by the context, without the entries of those that had not acted: (..., c)."""
        return slope * context.detach()[..., self._sent_at]

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        # [1], the own terms of eq. 6: M >= 0 multiplies both sides of the minimum.
        return clipped_surrogate(
            change.ratio, change.advantages, config.clip_param, change.correction
        )

    @override(OnPolicyLearner)
    def objective(self, change: PolicyChange, config: Any, rows: Rows) -> Tensor:
        own = super().objective(change, config, rows)
        return own + self._peer_term(change, config, rows) if FEEDBACK in rows else own

    def _peer_term(self, change: PolicyChange, config: Any, rows: Rows) -> Tensor:
        """This learner's share of the mean peer term."""
        # [1], Algorithm 1, line 8: g(theta_i, epsilon).
        action = reparameterized(
            change.dist,
            change.inputs,
            rows[Columns.ACTIONS],
            rows[EXPONENTIALS],
            self._temperature.get_current_value(),
        )
        # [1], the peer terms of eq. 6.
        terms = peer_surrogate(
            change.ratio, change.advantages, config.clip_param, rows[FEEDBACK], action
        )
        return config.peer_coeff * masked_mean(terms, rows[ACTIVE], rows[TOTAL])

    @override(OnPolicyLearner)
    def _note_change(
        self, module_id: ModuleID, config: Any, rows: Rows, change: PolicyChange
    ) -> None:
        super()._note_change(module_id, config, rows, change)
        if FEEDBACK not in rows:
            return
        own = masked_mean(self.surrogate(change, config), rows[ACTIVE], rows[TOTAL])
        squares = [
            torch.autograd.grad(term, change.inputs, retain_graph=True)[0].square().sum()
            for term in (self._peer_term(change, config, rows), own)
        ]
        peer, own = sum_over_learners(torch.stack(squares))
        tiny = torch.finfo(own.dtype).tiny
        self.notes.add(module_id, "peer_to_own", (peer / own.clamp(min=tiny)).sqrt())
