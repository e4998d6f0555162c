"""What every on-policy team learner does: prepare the batch, step, train the critic.

RLlib's `Learner.update` stays in force: it loops over the minibatches that
`_create_iterator_if_necessary` yields and calls `_update` for each. Here that iterator is a
generator which reads like the papers' pseudocode, and `_update` steps one module at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
)
from torch import Tensor

from rllib_hetero.connectors.fragments_to_batch import ACTION_MASK, ACTIVE, CHUNKS
from rllib_hetero.functional import (
    approx_kl,
    clip_fraction,
    clipped_value_loss,
    error_moments,
    mask_choices,
    masked_mean,
    moments,
    policy_ratio,
    variance_ratio,
)
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Minibatch, Rows
from rllib_hetero.learners.notes import largest
from rllib_hetero.learners.on_policy.epochs import Share, epochs
from rllib_hetero.learners.on_policy.halves import ACTORS_DONE, HalvedUpdate
from rllib_hetero.learners.on_policy.over_time import actor_outputs_over_time, critic_values
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.units import Chunks, SingleRows
from rllib_hetero.learners.receiving import ReceivingLearner
from rllib_hetero.learners.schedules import scheduled
from rllib_hetero.modules.input_norm import moments_of_those_there, running_norms
from rllib_hetero.reductions import (
    sum_gradients,
    sum_over_learners,
)
from rllib_hetero.team import AgentID

CORRECTION = "correction"
"""Column: the compound ratio of the agents updated before, (b,)."""
POSITION = "position"
"""Entry: the agent's place in the update order, from 1."""
TOTAL = "total"
"""Entry: sum of active masks of the minibatch over all learners, what losses divide by."""
RECORD = "record"
"""Entry: whether this step's statistics enter the metrics (the last epoch's do)."""


class OnPolicyLearner(ReceivingLearner, HalvedUpdate):
    """Base of the on-policy learners. Subclasses say in which order actors are stepped.

    A subclass implements `update_actors`, a generator of minibatches, and `surrogate`, the
    objective of one sample. Everything random is drawn from (seed, iteration), the same on
    every learner and the same after a restore.
    """

    # ---- the iteration ----------------------------------------------------------------------

    _env_steps = 0

    @override(Learner)
    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        super().before_gradient_based_update(timesteps=timesteps)
        self._env_steps = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)

    @override(Learner)
    def _create_iterator_if_necessary(
        self,
        *,
        training_data: Any,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = True,
        **kwargs: Any,
    ) -> Iterator[Minibatch]:
        batch = self._learner_connector(
            rl_module=self.module,
            batch={},
            episodes=self.fragments_of(training_data),
            shared_data={},
            metrics=self.metrics,
        )
        critic = batch[CRITIC]
        self._share = Share.of(len(critic[Columns.OBS]))
        self._units = Chunks(critic[CHUNKS]) if CHUNKS in critic else SingleRows(self._share.count)
        self._epochs = num_epochs
        self._num_minibatches = 1
        if minibatch_size is not None:
            size = minibatch_size * max(1, self.config.num_learners)
            self._num_minibatches = max(1, -(-self._share.total // size))
        self._shuffle = shuffle_batch_per_epoch
        self._set_old_policy(batch)
        yield from self.update_team(batch)
        self._log_iteration(batch)

    def update_team(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        """Yields the minibatches of all steps on a batch: the actors', then the critic's.

        Between them comes `ACTORS_DONE`, if actors are first: runners may sample from there on.

        Args:
            batch: The team batch, see `FragmentsToTeamBatch` and `TeamAdvantages`.
        """
        yield from self.update_actors(batch)
        # Not before: these were the statistics that the actors sampled with.
        for m in self._layout.groups:
            self._look(m, batch[m])
        yield ACTORS_DONE
        yield from self._update_critic(batch[CRITIC])
        self._look(CRITIC, batch[CRITIC])

    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        """Yields the minibatches of all actors' steps, in the algorithm's order.

        Args:
            batch: The team batch, see `FragmentsToTeamBatch` and `TeamAdvantages`.
        """
        raise NotImplementedError

    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        """The objective of each sample, to be maximised.

        Args:
            change: The samples under the old and the new policy.
            config: The settings of this module.

        Returns:
            The objective in the shape of `change.ratio`.
        """
        raise NotImplementedError

    def clip_limit(self, change: PolicyChange, config: Any) -> float | None:
        """How far from 1 the surrogate lets the ratio go; None if it does not clip."""
        return config.clip_param

    def _update_critic(self, rows: Rows) -> Iterator[Minibatch]:
        """HARL Algorithm 4, last line: the critic is fitted after all actors."""
        normalizer = self.module[CRITIC].unwrapped().normalizer
        targets, predictions = rows[Columns.VALUE_TARGETS], rows[Columns.VF_PREDS]
        ones = torch.ones_like(targets)
        old = normalizer.denormalize(predictions).expand_as(targets)
        if self.config.value_norm:
            normalizer.update(sum_over_learners(moments(targets, ones)))
        data = {
            Columns.OBS: rows[Columns.OBS],
            Columns.VF_PREDS: predictions,
            Columns.VALUE_TARGETS: normalizer.normalize(targets),
            ACTIVE: ones[:, 0],
        }
        if Columns.STATE_IN in rows:
            data[Columns.STATE_IN] = rows[Columns.STATE_IN]
        num_epochs = self.config.critic_num_epochs
        yield from self._steps({CRITIC: data}, key=1_000_000, num_epochs=num_epochs)
        fit = sum_over_learners(error_moments(old, targets, ones))
        self.notes.add(CRITIC, "vf_explained_var", variance_ratio(fit))
        self.notes.log(CRITIC)

    @torch.no_grad()
    def _look(self, module_id: ModuleID, rows: Rows) -> None:
        """Moves the running statistics of a module's inputs, if it has any and is trained."""
        module = self.module[module_id].unwrapped()
        norms = running_norms(getattr(module, "networks" if module_id == CRITIC else "body", None))
        if not norms or not self.is_trained(module_id):
            return
        seen = rows[Columns.OBS]
        there = torch.ones(seen.shape[:-1], device=seen.device)
        if module_id != CRITIC:
            seen, there = module.without_context(seen), rows[ACTIVE]
        moments = sum_over_learners(moments_of_those_there(seen, there))
        for norm in norms:
            norm.update(moments)

    def _steps(
        self,
        data: dict[ModuleID, Rows],
        *,
        key: int,
        num_epochs: int | None = None,
        position: int = 1,
    ) -> Iterator[Minibatch]:
        """The minibatches of the modules' epochs on `data`, columns with rows on axis 0.

        Modules that are given together step together, on the same rows. `key` tells this call's
        permutations from those of others; `position` is the agent's place in the order.
        """
        trained = [m for m in data if self.is_trained(m)]
        if not trained:
            return
        num_epochs = self._epochs if num_epochs is None else num_epochs
        for epoch, index in epochs(
            self._units.share,
            num_epochs=num_epochs,
            num_minibatches=self._num_minibatches,
            shuffle=self._shuffle,
            seed=(*self._iteration_seed(), 1, key),
        ):
            taken = {m: self._units.take(data[m], index) for m in trained}
            totals = sum_over_learners(torch.stack([taken[m][ACTIVE].sum() for m in trained]))
            for m, total in zip(trained, totals, strict=True):
                taken[m] |= {
                    TOTAL: total,
                    RECORD: epoch == num_epochs - 1,
                    POSITION: position,
                }
            # Without those of whom nobody was alive.
            living = {m: rows for m, rows in taken.items() if rows[TOTAL] > 0}
            if living:
                yield Minibatch(living)

    # ---- one gradient step ------------------------------------------------------------------

    @override(TorchLearner)
    def _update(self, batch: dict[ModuleID, Rows]) -> tuple[Any, dict[ModuleID, Tensor], dict]:
        if not batch:  # `ACTORS_DONE`
            return {}, {}, {}
        fwd_out = {m: self.forward(m, rows) for m, rows in batch.items()}
        losses = self.compute_losses(fwd_out=fwd_out, batch=batch)
        for m in batch:
            for p in self.parameters_of(m):
                p.grad = None
        sum(losses.values()).backward()  # type: ignore[union-attr]
        for m in batch:
            params = self.parameters_of(m)
            sum_gradients(params)
            self.postprocess_gradients_for_module(
                module_id=m,
                config=self.config.get_config_for_module(m),
                module_gradients_dict={p: p.grad for p in params if p.grad is not None},
            )
            for _, optimizer in self.get_optimizers_for_module(m):
                optimizer.step()
        for m, rows in batch.items():
            if rows[RECORD]:
                self.notes.add(m, "loss", losses[m], over_learners="sum")
        return fwd_out, {m: loss.detach() for m, loss in losses.items()}, {}

    def forward(self, module_id: ModuleID, rows: Rows) -> dict[str, Tensor]:
        """The training pass of a module: distribution inputs of an actor, values of the critic.

        Logits of actions that were not allowed come out masked.
        """
        module, state = self.module[module_id], rows.get(Columns.STATE_IN)
        if module_id == CRITIC:
            return {Columns.VF_PREDS: critic_values(module.unwrapped(), rows[Columns.OBS], state)}
        if state is None:
            inputs = module.forward_train(rows)[Columns.ACTION_DIST_INPUTS]
        else:
            inputs = actor_outputs_over_time(
                module, rows[Columns.OBS], state, rows[ACTIVE], self._layout
            )
        if ACTION_MASK in rows:
            inputs = mask_choices(self._dists[module_id], inputs, rows[ACTION_MASK])
        return {Columns.ACTION_DIST_INPUTS: inputs}

    @override(TorchLearner)
    def compute_loss_for_module(
        self, *, module_id: ModuleID, config: Any, batch: Rows, fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """This learner's share of the loss: shares add up to the loss on the whole minibatch."""
        if module_id == CRITIC:
            return self._critic_loss(config, batch, fwd_out[Columns.VF_PREDS])
        return self._actor_loss(module_id, config, batch, fwd_out[Columns.ACTION_DIST_INPUTS])

    def policy_change(self, module_id: ModuleID, rows: Rows, inputs: Tensor) -> PolicyChange:
        """What changes if the module's distribution inputs become `inputs`."""
        dist, old = self._dists[module_id], rows[Columns.ACTION_LOGP]
        # Whoever was not acting has ratio 1: what its row holds may be anything.
        log_prob = torch.where(rows[ACTIVE] > 0, dist.log_prob(inputs, rows[Columns.ACTIONS]), old)
        advantages = rows[Columns.ADVANTAGES]
        correction = rows.get(CORRECTION)
        return PolicyChange(
            ratio=policy_ratio(log_prob, old),
            log_ratio=log_prob.detach() - old,
            advantages=advantages,
            correction=torch.ones_like(advantages) if correction is None else correction,
            inputs=inputs,
            old_inputs=rows[Columns.ACTION_DIST_INPUTS],
            dist=dist,
            position=rows.get(POSITION, 1),
            num_agents=len(self._layout.team.agents),
        )

    def log_ratio(self, module_id: ModuleID, rows: Rows, inputs: Tensor) -> Tensor:
        """Log of new over old probability under distribution inputs (..., p); 0 if not acting."""
        change = self._dists[module_id].log_prob(inputs, rows[Columns.ACTIONS])
        return torch.where(rows[ACTIVE] > 0, change - rows[Columns.ACTION_LOGP], 0.0)

    def objective(self, change: PolicyChange, config: Any, rows: Rows) -> Tensor:
        """This learner's share of the mean surrogate, with the entropy bonus."""
        active, total = rows[ACTIVE], rows[TOTAL]
        value = masked_mean(self.surrogate(change, config), active, total)
        weight = scheduled(config.entropy_coeff, self._env_steps)
        if weight:
            entropy = masked_mean(change.dist.entropy(change.inputs), active, total)
            value = value + weight * entropy
        return value

    def _actor_loss(self, module_id: ModuleID, config: Any, rows: Rows, inputs: Tensor) -> Tensor:
        change = self.policy_change(module_id, rows, inputs)
        if rows[RECORD]:
            self._note_change(module_id, config, rows, change)
        return -self.objective(change, config, rows)

    @torch.no_grad()
    def _note_change(
        self, module_id: ModuleID, config: Any, rows: Rows, change: PolicyChange
    ) -> None:
        active, total = rows[ACTIVE], rows[TOTAL]
        statistics = {
            "entropy": masked_mean(change.dist.entropy(change.inputs), active, total),
            "mean_kl": approx_kl(change.log_ratio, active, total),
        }
        limit = self.clip_limit(change, config)
        if limit is not None:
            statistics["clip_fraction"] = clip_fraction(change.ratio, limit, active, total)
        for name, value in statistics.items():
            self.notes.add(module_id, name, value, over_learners="sum")

    def _critic_loss(self, config: Any, rows: Rows, values: Tensor) -> Tensor:
        """Values (..., K) against targets (..., J): K is 1, or J with a critic for each agent."""
        targets, num_critics = rows[Columns.VALUE_TARGETS], values.shape[-1]
        errors = clipped_value_loss(
            values.expand_as(targets),
            rows[Columns.VF_PREDS].expand_as(targets),
            targets,
            clip_param=config.vf_clip_param,
            huber_delta=config.vf_huber_delta,
        )
        # Critics are apart: each has the loss that it would have alone.
        per_row = num_critics * errors.mean(-1)
        return config.vf_loss_coeff * masked_mean(per_row, rows[ACTIVE], rows[TOTAL])

    # ---- policies ---------------------------------------------------------------------------

    def agent_rows(self, batch: dict[ModuleID, Rows], agent: AgentID) -> Rows:
        """One agent's columns (B, ...) of the team batch, with its advantages (B,)."""
        rows = self._columns_of(batch, agent)
        rows[Columns.ADVANTAGES] = self.of_agent(batch[CRITIC][Columns.ADVANTAGES], agent)
        return rows

    def _columns_of(self, batch: dict[ModuleID, Rows], agent: AgentID) -> Rows:
        m, k = self._layout.slot_of[agent]
        return {name: column[:, k] for name, column in batch[m].items()}

    def of_agent(self, x: Tensor, agent: AgentID) -> Tensor:
        """The agent's column of (B, K): its own if there is one for each agent, else the team's."""
        if x.shape[1] == 1:
            return x[:, 0]
        return x[:, self._layout.team.agents.index(agent)]

    def dist_inputs(self, module_id: ModuleID, rows: Rows) -> Tensor:
        """Distribution inputs (B, p) of flat rows under the module as it is now; no gradient."""
        # On a CPU, PyTorch rounds an LSTM differently where gradients are not wanted.
        with torch.set_grad_enabled(Columns.STATE_IN in rows):
            out = self.forward(module_id, self._units.take(rows, slice(None)))
        return self._units.put_back(out[Columns.ACTION_DIST_INPUTS].detach())

    def log_probs(self, module_id: ModuleID, rows: Rows) -> Tensor:
        """Log-probabilities (B,) of the actions in flat `rows` under the module as it is now."""
        inputs = self.dist_inputs(module_id, rows)
        return self._dists[module_id].log_prob(inputs, rows[Columns.ACTIONS])

    def _set_old_policy(self, batch: dict[ModuleID, Rows]) -> None:
        """Evaluates the policy that sampled, with the arithmetic of the learner.

        The runner's own numbers come from other batch shapes, perhaps another device. With
        these, ratios at the first step are exactly 1. How far the two are apart is logged.
        """
        for m, agents in self._layout.groups.items():
            rows, dist = batch[m], self._dists[m]
            sampled = rows[Columns.ACTION_LOGP]
            old = [self.dist_inputs(m, self._columns_of(batch, a)) for a in agents]
            rows[Columns.ACTION_DIST_INPUTS] = torch.stack(old, dim=1)
            rows[Columns.ACTION_LOGP] = dist.log_prob(
                rows[Columns.ACTION_DIST_INPUTS], rows[Columns.ACTIONS]
            )
            gap = (sampled - rows[Columns.ACTION_LOGP]).abs() * rows[ACTIVE]
            self.notes.add(m, "sampler_logp_gap", largest(gap), over_learners="max")

    # ---- metrics ----------------------------------------------------------------------------

    def _log_iteration(self, batch: dict[ModuleID, Rows]) -> None:
        """RLlib counts trained steps in every minibatch; a batch is trained on once."""
        steps = self._share.count
        log = self.metrics.log_value
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED), steps, reduce="sum")
        log((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), steps, reduce="lifetime_sum")
        for m in self._layout.groups:
            trained = int(batch[m][ACTIVE].sum())
            log((m, NUM_MODULE_STEPS_TRAINED), trained, reduce="sum")
            log((m, NUM_MODULE_STEPS_TRAINED_LIFETIME), trained, reduce="lifetime_sum")
