"""What every off-policy team learner does: keep joint transitions, draw from them, move targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.core import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
)
from ray.rllib.utils.schedules.scheduler import Scheduler
from ray.rllib.utils.typing import StateDict
from torch import Tensor

from rllib_hetero.functional import td_loss
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.off_policy.drawing import PriorityDraws, UniformDraws
from rllib_hetero.learners.off_policy.gradient_step import GradientStep, Loss
from rllib_hetero.learners.off_policy.input_statistics import InputStatistics
from rllib_hetero.learners.seeding import as_seed
from rllib_hetero.learners.team_learner import TeamLearner
from rllib_hetero.reductions import counts_of_learners, sum_gradients, sum_over_learners
from rllib_hetero.replay import JointBatch, JointReplay
from rllib_hetero.replay.batches import PerModule
from rllib_hetero.replay.homes import blocks, first_column
from rllib_hetero.team import AgentID

NUM_UPDATES = "num_updates_lifetime"
REPLAY_ROWS, REPLAY_FILL, UPDATES = "replay_rows", "replay_fill", "updates"
_TINY = torch.finfo(torch.float32).tiny


class OffPolicyLearner(TeamLearner):
    """Base of the off-policy learners. Subclasses say what one update of the team is.

    A subclass implements `update_on`, a generator of gradient steps on one minibatch. Every
    learner draws the transitions *of all learners*, takes those that it is home to, and gradients
    are summed, so that the result is that of one learner. What is random follows from the seed and
    the number of updates made, the same on every learner and the same after a restore.

    Attributes:
        columns: Of all environments' columns, those that this learner is home to.
        replay: Their joint transitions.
        num_updates: How often the team has been updated.
    """

    num_updates = 0
    _td_errors: Tensor | None = None

    @override(TeamLearner)
    def build(self) -> None:
        super().build()
        config = self.config
        self.columns = blocks(config.num_envs, max(1, config.num_learners))[self.rank]
        self.replay = JointReplay(
            self._layout,
            capacity=config.rows_per_env * len(self.columns),
            num_columns=len(self.columns),
            folder=config.replay_buffer_config["folder"],
            device=self._device,
            **self.replay_settings(),
        )
        self._parameters_of = {
            m: [p for p in self.module[m].parameters() if p.requires_grad]
            for m in sorted(self.module.keys())
        }
        modules = {m: self.module[m].unwrapped() for m in self._parameters_of}
        self._statistics = InputStatistics(self._layout, modules, self._device)
        pairs = [p for m in self._parameters_of for p in self._target_pairs(m)]
        self._targets, self._online = [t for t, _ in pairs], [o for _, o in pairs]
        self._exploration = {
            m: Scheduler(fixed_value_or_schedule=config.exploration_of(m), framework="torch")
            for m in self._layout.groups
        }
        self._explore_as_scheduled(0)

    @property
    def critic(self) -> Any:
        """The critic's module."""
        return self.module[CRITIC].unwrapped()

    @property
    def rank(self) -> int:
        """This learner's number among those that share the environments."""
        return torch.distributed.get_rank() if self.config.num_learners > 1 else 0

    def _target_pairs(self, module_id: ModuleID) -> list[tuple[Tensor, Tensor]]:
        module = self.module[module_id].unwrapped()
        return module.target_pairs() if hasattr(module, "target_pairs") else []

    @override(TorchLearner)
    def get_parameters(self, module: Any) -> list[Tensor]:
        """Without the targets', which no gradient moves."""
        return [p for p in module.parameters() if p.requires_grad]

    # ---- the iteration ----------------------------------------------------------------------

    @override(Learner)
    def update(self, *args: Any, training_data: Any, num_updates: int, **kwargs: Any) -> Any:
        """Adds fragments to the replay, and makes some updates.

        Args:
            args: RLlib's other forms of data: none.
            training_data: `ReplayData`.
            num_updates: How many; may be 0.
            **kwargs: RLlib's, such as `timesteps`.

        Returns:
            The metrics, reduced.
        """
        for fragment in training_data.episodes:
            column = first_column(fragment, training_data.num_envs) - self.columns.start
            self.replay.add(fragment, column)
        self._statistics.add(training_data.episodes, self.is_trained)
        _, total = counts_of_learners(len(self.replay))
        self.metrics.log_value((ALL_MODULES, REPLAY_ROWS), total, window=1)
        fill = total / (self.config.rows_per_env * self.config.num_envs)
        self.metrics.log_value((ALL_MODULES, REPLAY_FILL), fill, window=1)
        self.metrics.log_value((ALL_MODULES, UPDATES), num_updates, window=1)
        if not num_updates:
            return self.metrics.reduce()  # RLlib's own expects at least one gradient step.
        return super().update(
            *args,
            training_data=training_data,
            num_updates=num_updates,
            **kwargs,
        )

    @override(Learner)
    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        super().before_gradient_based_update(timesteps=timesteps)
        self._explore_as_scheduled(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))

    @override(Learner)
    def _create_iterator_if_necessary(
        self, *, num_updates: int, **kwargs: Any
    ) -> Iterator[GradientStep]:
        config, draws = self.config, self.new_draws()
        for _ in range(num_updates):
            # All learners draw the same rows, and the same noise for them; each takes its own.
            drawn = draws.draw(self.seed_of_update(1), self.draws_per_update)
            own = drawn.own
            self._own = slice(None) if own.all() else torch.from_numpy(np.flatnonzero(own))
            self._noise = torch.Generator().manual_seed(as_seed(self.seed_of_update(2)))
            batch = self.take(drawn.indices)
            if drawn.weights is not None:
                batch.weights = drawn.weights.to(self._device)
            yield from self.update_on(batch)
            draws.learn(drawn, self._td_errors)
            if self.num_updates % config.target_update_interval == 0:
                with torch.no_grad():  # Or each target would remember all that it ever was.
                    torch._foreach_lerp_(self._targets, self._online, config.tau)
            self.num_updates += 1
        self._log_updates(num_updates)

    def update_on(self, batch: Any) -> Iterator[GradientStep]:
        """Yields the gradient steps of one update of the team.

        Args:
            batch: This learner's part of the minibatch.
        """
        raise NotImplementedError

    # ---- what is drawn: transitions, unless a subclass has it otherwise ---------------------

    def replay_settings(self) -> dict[str, Any]:
        """What else the replay is to keep: arguments of `JointReplay`."""
        return {"alpha": self.config.replay_buffer_config["alpha"]}

    def new_draws(self) -> UniformDraws:
        """How this iteration's minibatches are drawn; collective."""
        given = self.config.replay_buffer_config
        if given["alpha"] is None:
            return UniformDraws(self.num_drawable())
        return PriorityDraws(self.replay, given["beta"])

    def num_drawable(self) -> int:
        """How many there are to draw from in this learner's replay."""
        return len(self.replay)

    @property
    def draws_per_update(self) -> int:
        """How many all learners together draw for an update."""
        return self.config.total_train_batch_size

    def take(self, indices: np.ndarray) -> Any:
        """Those with these indices (b,), below `num_drawable`: part of a minibatch."""
        config = self.config
        return self.replay.take(indices, n_step=config.n_step, gamma=config.gamma)

    # ---- one gradient step ------------------------------------------------------------------

    @override(TorchLearner)
    def _update(
        self, batch: dict[ModuleID, Loss | None]
    ) -> tuple[Any, dict[ModuleID, Tensor], dict]:
        losses = {m: loss() for m, loss in batch.items() if loss is not None}
        parameters = [p for m in batch for p in self._parameters_of[m]]
        # Not `backward`: an actor's loss goes through the critic, whose weights need no gradient.
        gradients = torch.autograd.grad(list(losses.values()), parameters, allow_unused=True)
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        for m in batch:
            moved = [p for p in self._parameters_of[m] if p.grad is not None]
            sum_gradients(moved)
            self.postprocess_gradients_for_module(
                module_id=m,
                config=self.config.get_config_for_module(m),
                module_gradients_dict={p: p.grad for p in moved},
            )
            for _, optimizer in self.get_optimizers_for_module(m):
                optimizer.step()
        return {}, {m: loss.detach() for m, loss in losses.items()}, {}

    @override(TorchLearner)
    def compute_loss_for_module(
        self, *, module_id: ModuleID, config: Any, batch: Loss, fwd_out: Any
    ) -> Tensor:
        """The loss that the step brought along."""
        return batch()

    # ---- what updates are made of -----------------------------------------------------------

    def seed_of_update(self, key: int) -> tuple[int, ...]:
        """Seeds what is drawn for this update, by what it is for; the same on every learner."""
        return (self.config.update_order_seed, self.num_updates, key)

    def draw_normals(self, size: int) -> Tensor:
        """Standard normals (B, size), independent of how many learners share the minibatch."""
        shape = (self.config.total_train_batch_size, size)
        return torch.randn(shape, generator=self._noise)[self._own].to(self._device)

    def draw_gumbels(self, size: int) -> Tensor:
        """Standard Gumbel noise (B, size), as `draw_normals`."""
        shape = (self.config.total_train_batch_size, size)
        drawn = torch.empty(shape).exponential_(generator=self._noise)
        # A draw may be exactly 0.
        return -drawn.clamp(min=_TINY).log()[self._own].to(self._device)

    def policy_outputs(self, module_id: ModuleID, observations: Tensor) -> Tensor:
        """The distribution inputs (..., p) of a module for observations (..., d)."""
        out = self.module[module_id].forward_train({Columns.OBS: observations})
        return out[Columns.ACTION_DIST_INPUTS]

    def in_team_order(self, of_modules: PerModule) -> Tensor:
        """(..., n) of the agents in team order, from (..., n_m) of each module."""
        slots = (self._layout.slot_of[a] for a in self._layout.team.agents)
        return torch.stack([of_modules[m][..., k] for m, k in slots], dim=-1)

    def loss_of_values(self, batch: JointBatch, values: Tensor, target: Tensor) -> Tensor:
        """This learner's share of the mean squared (or Huber) error, summed over the critics.

        Args:
            batch: The minibatch.
            values: (K, B) of K critics.
            target: (B,) what all of them are fitted to.
        """
        errors = td_loss(values, target.expand_as(values), self.config.td_huber_delta).sum(0)
        if self.config.replay_buffer_config["alpha"] is not None:
            self._td_errors = (values.detach() - target).abs().mean(0)
        loss = (batch.weights * errors).sum() / self.config.total_train_batch_size
        self.notes.add(CRITIC, "loss", loss, over_learners="sum")
        mean_value = values.mean(0).sum() / self.config.total_train_batch_size
        self.notes.add(CRITIC, "mean_q", mean_value, over_learners="sum")
        return loss

    def alive(self, batch: JointBatch, agent: AgentID) -> Tensor:
        """In which of the batch's states the agent acts, (B,) of 0 and 1."""
        m, k = self._layout.slot_of[agent]
        return batch.active[m][:, k].to(torch.float32)

    def num_alive(self, batch: JointBatch, agent: AgentID) -> Tensor:
        """In how many states of all learners' minibatch the agent acts; at least 1."""
        return sum_over_learners(self.alive(batch, agent).sum()).clamp(min=1.0)

    def _explore_as_scheduled(self, env_steps: int) -> None:
        # A buffer of the actor: it reaches the runners with the weights, and is saved with them.
        for m, schedule in self._exploration.items():
            amount = self.module[m].unwrapped().exploration
            if amount is not None:
                amount.fill_(schedule.update(env_steps))

    # ---- metrics and state ------------------------------------------------------------------

    def _log_updates(self, num_updates: int) -> None:
        for m in self._parameters_of:
            self.notes.log(m)
        log = self.metrics.log_value
        rows = num_updates * self.config.total_train_batch_size // max(1, self.config.num_learners)
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED), rows, reduce="sum")
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), rows, reduce="lifetime_sum")
        log((ALL_MODULES, NUM_UPDATES), self.num_updates, window=1)

    @override(Learner)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> StateDict:
        state = super().get_state(components, not_components=not_components, **kwargs)
        return state | {NUM_UPDATES: self.num_updates}

    @override(Learner)
    def set_state(self, state: StateDict) -> None:
        super().set_state(state)
        self.num_updates = state.get(NUM_UPDATES, self.num_updates)
