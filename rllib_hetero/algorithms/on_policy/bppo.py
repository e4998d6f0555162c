"""BPPO: bidirectional proximal policy optimisation.

Agents act in sequence, and learn backwards through their actions: whoever acts later tells those
before how its policy would have liked their actions to be.

[1] Li, Zhao, Wu, Pajarinen: Backpropagation Through Agents. AAAI 2024.
    Theorem 1, Corollary 1.1, eq. 6, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.autoregressive import AutoregressiveConfig
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.algorithms.setting_types import NumberOrSchedule
from rllib_hetero.functional import finite, finite_exp
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Minibatch, Rows
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION, OnPolicyLearner
from rllib_hetero.learners.on_policy.peer_term import CONTEXT, FEEDBACK, PeerTermLearner
from rllib_hetero.learners.on_policy.sequential import SequentialLearner
from rllib_hetero.learners.on_policy.simultaneous import SimultaneousLearner
from rllib_hetero.team import AgentID

SCHEMES = ("sequential", "simultaneous")
"""What `update_scheme` may be."""


class BPPOConfig(AutoregressiveConfig):
    """Configures BPPO.

    ```python
    from rllib_hetero import BPPOConfig

    config = (
        BPPOConfig()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_envs_per_env_runner=50)
        .training(train_batch_size_per_learner=10_000, num_epochs=15)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("BPPO", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        paper="Li et al., AAAI 2024",
        update="one agent after another, in reverse of the order of acting",
        correction="product of successors' ratios, and its gradient by the agent's action",
        step="clipped, Adam epochs",
        autoregressive=True,
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or BPPO)
        self.update_scheme = "sequential"
        self.peer_coeff = 1.0
        self.gumbel_temperature: NumberOrSchedule = 1.0

    @override(AutoregressiveConfig)
    def training(
        self,
        *,
        update_scheme: str = NotProvided,
        peer_coeff: float = NotProvided,
        gumbel_temperature: NumberOrSchedule = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `AutoregressiveConfig.training` for the others.

        Args:
            update_scheme: "sequential" (Algorithm 1 of [1]: the last to act is updated first) or
                "simultaneous" (its ablation: all step together, on each other's ratios as they
                are at that step).
            peer_coeff: Weight of the peer term. 1 is [1]; 0 leaves it out.
            gumbel_temperature: Temperature > 0 of the Gumbel-softmax through which gradients pass
                a discrete action, a number or a schedule over environment steps such as
                [[0, 1.0], [1_000_000, 0.05]]. Lower: less biased, noisier.
        """
        super().training(**kwargs)
        return self.set_given(
            update_scheme=update_scheme,
            peer_coeff=peer_coeff,
            gumbel_temperature=gumbel_temperature,
        )

    @override(AutoregressiveConfig)
    def validate(self) -> None:
        super().validate()
        if self.update_scheme not in SCHEMES:
            self._value_error(
                f"`update_scheme` is {self.update_scheme!r}; use one of {SCHEMES}: "
                "config.training(update_scheme=...)."
            )
        check_number(self, "peer_coeff", lambda x: x >= 0, ">= 0")
        self._validate_temperature()

    def _validate_temperature(self) -> None:
        Scheduler.validate(
            fixed_value_or_schedule=self.gumbel_temperature,
            setting_name="gumbel_temperature",
            description="temperature",
        )
        given = self.gumbel_temperature
        values = [value for _, value in given] if isinstance(given, (list, tuple)) else [given]
        if not all(isinstance(x, (int, float)) and x > 0 for x in values):
            self._value_error(
                f"`gumbel_temperature` is {given!r}, but must be positive all the time. Mend it "
                "with config.training(gumbel_temperature=...)."
            )

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        sequential = self.update_scheme == "sequential"
        return BPPOLearner if sequential else SimultaneousBPPOLearner


class BPPO(OnPolicyAlgorithm):
    """Agents act in sequence and improve in reverse, hearing from those that acted after them."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> BPPOConfig:
        return BPPOConfig()


class BPPOLearner(PeerTermLearner, SequentialLearner):
    """[1], Algorithm 1.

    Kept for the team while agents are updated one after another: M, the product of the ratios of
    those already updated, as `CORRECTION`; and its gradient by all actions in the context, as
    `FEEDBACK`, of which each agent is given its own action's entries.

    The gradient is that of the new policies; the ratios' denominators are the densities that
    the samples were drawn with, and are numbers. Theorem 1 has it so. (If both sides of
    Corollary 1.1's fraction were differentiated, a successor that has not moved would have
    nothing to tell.) An action's effect by way of third agents' actions is no part of it: their
    actions are integrated over in Theorem 1.
    """

    @override(SequentialLearner)
    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        if self.config.peer_coeff:
            self.draw_exponentials(batch)
            team = batch[CRITIC]
            # [1], Algorithm 1, line 6.
            shape = (len(team[Columns.OBS]), self._layout.context_size)
            team[FEEDBACK] = team[Columns.OBS].new_zeros(shape)
        yield from super().update_actors(batch)

    @override(SequentialLearner)
    def update_order(self, batch: dict[ModuleID, Rows]) -> Iterator[AgentID]:
        """[1], Algorithm 1, line 7: the last to act is the first to be updated."""
        # The batch was sampled with the weights before this update, which is counted already.
        yield from reversed(self.config.execution_order_of(self._weights_seq_no - 1))

    @override(OnPolicyLearner)
    def agent_rows(self, batch: dict[ModuleID, Rows], agent: AgentID) -> Rows:
        rows = super().agent_rows(batch, agent)
        if FEEDBACK in batch[CRITIC]:
            rows[FEEDBACK] = batch[CRITIC][FEEDBACK][:, self._actions_at[agent]]
        return rows

    @override(SequentialLearner)
    def account_for(self, module_id: ModuleID, rows: Rows, team: Rows) -> None:
        if FEEDBACK not in team:
            super().account_for(module_id, rows, team)
            return
        taken = self._units.take(rows, slice(None))
        out = self.forward_with_context(module_id, taken)
        change = self.policy_change(module_id, taken, out[Columns.ACTION_DIST_INPUTS])
        # [1], Algorithm 1, line 12, for all predecessors at once.
        (slope,) = torch.autograd.grad(change.ratio.sum(), out[CONTEXT], materialize_grads=True)
        slope = self._units.put_back(self.of_predecessors(slope, out[CONTEXT]))
        ratio = self._units.put_back(change.ratio.detach())
        # Lines 9 and 15: grad(r M) = r grad M + M grad r, then M <- r M.
        team[FEEDBACK] = ratio[:, None] * team[FEEDBACK] + team[CORRECTION][:, None] * slope
        team[CORRECTION] = ratio * team[CORRECTION]


class SimultaneousBPPOLearner(PeerTermLearner, SimultaneousLearner):
    """The ablation of [1] (Figure 11): all agents step together.

    M and its gradient are those of the successors' ratios at this very step. Successors that take
    no step on a minibatch (frozen, or dead in all of it) count as ratios of 1, without gradient.
    """

    @override(SimultaneousLearner)
    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        if self.config.peer_coeff:
            self.draw_exponentials(batch)
        yield from super().update_actors(batch)

    @override(OnPolicyLearner)
    def forward(self, module_id: ModuleID, rows: Rows) -> dict[str, Tensor]:
        if module_id == CRITIC:
            return super().forward(module_id, rows)
        return self.forward_with_context(module_id, rows)

    @override(Learner)
    def compute_losses(
        self, *, fwd_out: dict[ModuleID, dict], batch: dict[ModuleID, Rows]
    ) -> dict[ModuleID, Tensor]:
        if CRITIC not in batch:
            self._hear_successors(fwd_out, batch)
        return super().compute_losses(fwd_out=fwd_out, batch=batch)

    def _hear_successors(self, fwd_out: dict[ModuleID, dict], batch: dict[ModuleID, Rows]) -> None:
        """Sets `CORRECTION` and, unless the peer term is left out, `FEEDBACK`."""
        contexts = {m: fwd_out[m][CONTEXT] for m in batch}
        log_ratios = {
            m: self.log_ratio(m, rows, fwd_out[m][Columns.ACTION_DIST_INPUTS])
            for m, rows in batch.items()
        }
        # Summed over successors; an entry of the last axis says whose action it is about.
        successors = [x.detach()[..., None] * contexts[m].detach() for m, x in log_ratios.items()]
        log_product = torch.cat(successors, dim=-2).sum(-2)
        for m, rows in batch.items():
            # Where a message says that there is one, it multiplies by 1.
            sent = [self._actions_at[a].stop for a in self._layout.groups[m]]
            rows[CORRECTION] = finite_exp(log_product[..., sent])
        if not self.config.peer_coeff:
            return
        # grad of prod_j r_j is prod_j r_j times the sum of grad log r_j.
        slopes = torch.autograd.grad(
            [x.sum() for x in log_ratios.values()],
            list(contexts.values()),
            retain_graph=True,
            materialize_grads=True,  # zeros where a module of the user's ignores its context
        )
        masked = [
            self.of_predecessors(g, c) for g, c in zip(slopes, contexts.values(), strict=True)
        ]
        slope = torch.cat(masked, dim=-2).sum(-2)
        for m, rows in batch.items():
            acted = [slope[..., self._actions_at[a]] for a in self._layout.groups[m]]
            rows[FEEDBACK] = finite(rows[CORRECTION][..., None] * torch.stack(acted, dim=-2))
