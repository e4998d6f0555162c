"""What every on-policy team learner does: prepare the batch, step, train the critic.

RLlib's `Learner.update` stays in force: it loops over the minibatches that
`_create_iterator_if_necessary` yields and calls `_update` for each. Here that iterator is a
generator which reads like the papers' pseudocode, and `_update` steps one module at a time.
"""

from __future__ import annotations

from collections import defaultdict
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
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.typing import StateDict
from torch import Tensor

from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.errors import NonFiniteUpdateError
from rllib_hetero.functional import (
    approx_kl,
    clip_fraction,
    clipped_value_loss,
    distribution_for,
    error_moments,
    masked_mean,
    moments,
    policy_ratio,
    variance_ratio,
)
from rllib_hetero.learners.minibatches import Minibatch, Rows, Share, epochs
from rllib_hetero.reductions import (
    copy_from_first_learner,
    max_over_learners,
    sum_gradients,
    sum_over_learners,
)
from rllib_hetero.team import CRITIC, AgentID, Layout, ModuleID

CORRECTION = "correction"
"""Column: the compound ratio of the agents updated before, (b,)."""
TOTAL = "total"
"""Entry: sum of active masks of the minibatch over all learners, what losses divide by."""
RECORD = "record"
"""Entry: whether this step's statistics enter the metrics (the last epoch's do)."""


class TeamLearner(TorchLearner):
    """Base of the on-policy learners. Subclasses say in which order actors are stepped.

    A subclass implements `update_actors`, a generator of minibatches, and `surrogate`, the
    objective of one sample. Everything random is drawn from (seed, iteration), the same on
    every learner and the same after a restore.
    """

    @override(Learner)
    def build(self) -> None:
        super().build()
        self._layout: Layout = self.config.layout
        self._dists = {
            m: distribution_for(self._layout.action_space(m)) for m in self._layout.groups
        }
        self._statistics: dict[ModuleID, dict[tuple[str, str], list[Tensor]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for module_id in sorted(self.module.keys()):
            module = self.module[module_id]
            copy_from_first_learner([*module.parameters(), *module.buffers()])

    @override(TorchLearner)
    def _make_modules_ddp_if_necessary(self) -> None:
        """No DDP: gradients are summed explicitly, see `reductions.sum_gradients`."""

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        params = self.get_parameters(self.module[module_id])
        lr = config.lr if module_id != CRITIC or config.critic_lr is None else config.critic_lr
        self.register_optimizer(
            module_id=module_id,
            # eps as in HARL's configurations.
            optimizer=torch.optim.Adam(params, eps=config.adam_epsilon),
            params=params,
            lr_or_lr_schedule=lr,
        )

    @override(Learner)
    def set_state(self, state: StateDict) -> None:
        if WEIGHTS_SEQ_NO in state:
            # RLlib keeps weights that are newer than the state's. Whoever restores an earlier
            # checkpoint wants all of it, not its optimisers under the later weights.
            self._weights_seq_no = 0
        super().set_state(state)

    # ---- the iteration ----------------------------------------------------------------------

    @override(Learner)
    def _create_iterator_if_necessary(
        self,
        *,
        training_data: Any,
        row_offset: int = 0,
        num_rows: int | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = True,
        **kwargs: Any,
    ) -> Iterator[Minibatch]:
        batch = self._learner_connector(
            rl_module=self.module,
            batch={},
            episodes=training_data.episodes,
            shared_data={},
            metrics=self.metrics,
        )
        count = len(batch[CRITIC][Columns.OBS])
        self._share = Share(row_offset, count, count if num_rows is None else num_rows)
        self._epochs = num_epochs
        self._minibatch_size = minibatch_size and minibatch_size * max(1, self.config.num_learners)
        self._shuffle = shuffle_batch_per_epoch
        self._set_old_log_probs(batch)
        yield from self.update_actors(batch)
        yield from self._update_critic(batch[CRITIC])
        self._log_iteration(batch)

    def update_actors(self, batch: dict[ModuleID, Rows]) -> Iterator[Minibatch]:
        """Yields the minibatches of all actors' steps, in the algorithm's order.

        Args:
            batch: The team batch, see `FragmentsToTeamBatch` and `TeamAdvantages`.
        """
        raise NotImplementedError

    def surrogate(
        self, ratio: Tensor, advantages: Tensor, correction: Tensor | None, config: Any
    ) -> Tensor:
        """The objective of each sample, to be maximised. Shapes: (b,), or (b, n_m) at once.

        Args:
            ratio: New over old probability of the actions.
            advantages: The team's advantages.
            correction: Compound ratio of the agents updated before; None is 1.
            config: The settings of this module.

        Returns:
            The objective in the shape of `ratio`.
        """
        raise NotImplementedError

    def _update_critic(self, rows: Rows) -> Iterator[Minibatch]:
        """HARL Algorithm 4, last line: the critic is fitted after all actors."""
        normalizer = self.module[CRITIC].unwrapped().normalizer
        targets = rows[Columns.VALUE_TARGETS]
        old = normalizer.denormalize(rows[Columns.VF_PREDS])
        if self.config.value_norm:
            ones = torch.ones_like(targets)
            normalizer.update(sum_over_learners(moments(targets, ones)))
        data = {
            Columns.OBS: rows[Columns.OBS],
            Columns.VF_PREDS: rows[Columns.VF_PREDS],
            Columns.VALUE_TARGETS: normalizer.normalize(targets),
            ACTIVE: torch.ones_like(targets),
        }
        num_epochs = self.config.critic_num_epochs
        yield from self._steps(CRITIC, data, key=1_000_000, num_epochs=num_epochs)
        fit = sum_over_learners(error_moments(old, targets, torch.ones_like(targets)))
        self._note(CRITIC, "vf_explained_var", variance_ratio(fit))
        self._log_statistics(CRITIC)

    def _steps(
        self, module_id: ModuleID, data: Rows, *, key: int, num_epochs: int | None = None
    ) -> Iterator[Minibatch]:
        """The minibatches of one module's epochs on `data`, columns with rows on axis 0.

        `key` tells this agent's permutations from those of others.
        """
        if module_id != CRITIC and not self.should_module_be_updated(module_id):
            return
        num_epochs = self._epochs if num_epochs is None else num_epochs
        for epoch, index in epochs(
            self._share,
            num_epochs=num_epochs,
            minibatch_size=self._minibatch_size,
            shuffle=self._shuffle,
            seed=(*self._iteration_seed(), 1, key),
        ):
            rows = {name: column[index] for name, column in data.items()}
            rows[TOTAL] = sum_over_learners(rows[ACTIVE].sum())
            if rows[TOTAL] == 0:  # Nobody of this module was alive.
                continue
            rows[RECORD] = epoch == num_epochs - 1
            yield Minibatch(module_id, rows)

    # ---- one gradient step ------------------------------------------------------------------

    @override(TorchLearner)
    def _update(self, batch: dict[ModuleID, Rows]) -> tuple[Any, dict[ModuleID, Tensor], dict]:
        ((module_id, rows),) = batch.items()
        config = self.config.get_config_for_module(module_id)
        fwd_out = self.module[module_id].forward_train(rows)
        loss = self.compute_loss_for_module(
            module_id=module_id, config=config, batch=rows, fwd_out=fwd_out
        )
        optimizers = [o for _, o in self.get_optimizers_for_module(module_id)]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        params = self.get_parameters(self.module[module_id])
        sum_gradients(params)
        self.postprocess_gradients_for_module(
            module_id=module_id,
            config=config,
            module_gradients_dict={p: p.grad for p in params if p.grad is not None},
        )
        for optimizer in optimizers:
            optimizer.step()
        if rows[RECORD]:
            self._note(module_id, "loss", loss, over_learners="sum")
        return fwd_out, {module_id: loss.detach()}, {}

    @override(TorchLearner)
    def compute_loss_for_module(
        self, *, module_id: ModuleID, config: Any, batch: Rows, fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """This learner's share of the loss: shares add up to the loss on the whole minibatch."""
        if module_id == CRITIC:
            return self._critic_loss(config, batch, fwd_out[Columns.VF_PREDS])
        return self._actor_loss(module_id, config, batch, fwd_out[Columns.ACTION_DIST_INPUTS])

    def _actor_loss(self, module_id: ModuleID, config: Any, rows: Rows, inputs: Tensor) -> Tensor:
        dist, active, total = self._dists[module_id], rows[ACTIVE], rows[TOTAL]
        log_prob = dist.log_prob(inputs, rows[Columns.ACTIONS])
        ratio = policy_ratio(log_prob, rows[Columns.ACTION_LOGP])
        objective = self.surrogate(ratio, rows[Columns.ADVANTAGES], rows.get(CORRECTION), config)
        loss = -masked_mean(objective, active, total)
        if config.entropy_coeff or rows[RECORD]:
            entropy = masked_mean(dist.entropy(inputs), active, total)
            loss = loss - config.entropy_coeff * entropy
        if rows[RECORD]:
            log_ratio = log_prob.detach() - rows[Columns.ACTION_LOGP]
            clipped = clip_fraction(ratio.detach(), config.clip_param, active, total)
            self._note(module_id, "entropy", entropy, over_learners="sum")
            self._note(
                module_id, "mean_kl", approx_kl(log_ratio, active, total), over_learners="sum"
            )
            self._note(module_id, "clip_fraction", clipped, over_learners="sum")
        return loss

    def _critic_loss(self, config: Any, rows: Rows, values: Tensor) -> Tensor:
        errors = clipped_value_loss(
            values,
            rows[Columns.VF_PREDS],
            rows[Columns.VALUE_TARGETS],
            clip_param=config.vf_clip_param,
            huber_delta=config.vf_huber_delta,
        )
        return config.vf_loss_coeff * masked_mean(errors, rows[ACTIVE], rows[TOTAL])

    @override(TorchLearner)
    def postprocess_gradients_for_module(
        self, *, module_id: ModuleID, config: Any = None, module_gradients_dict: dict
    ) -> dict:
        """Clips gradients in place, and stops before a step that is not finite.

        Raises:
            NonFiniteUpdateError: If the gradient is NaN or infinite. No parameter has changed
                in this step.
        """
        params = list(module_gradients_dict)
        by_norm = config.grad_clip is not None and config.grad_clip_by == "global_norm"
        limit = config.grad_clip if by_norm else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(params, limit)
        if not torch.isfinite(norm):
            raise NonFiniteUpdateError(
                f"The gradient of module {module_id!r} is NaN or infinite in update "
                f"{self._weights_seq_no}; this step was not taken. The last checkpoint is "
                "untouched: restore it, and lower config.training(lr=...), or look for extreme "
                "rewards or observations in the environment."
            )
        if config.grad_clip is not None and not by_norm:
            self._get_clip_function()(
                module_gradients_dict,
                grad_clip=config.grad_clip,
                grad_clip_by=config.grad_clip_by,
            )
        self._note(module_id, "gradient_norm", norm)
        return module_gradients_dict

    # ---- policies ---------------------------------------------------------------------------

    def agent_rows(self, batch: dict[ModuleID, Rows], agent: AgentID) -> Rows:
        """One agent's columns (B, ...) of the team batch, with the team's advantages."""
        m, k = self._layout.slot_of[agent]
        rows = {name: column[:, k] for name, column in batch[m].items()}
        rows[Columns.ADVANTAGES] = batch[CRITIC][Columns.ADVANTAGES]
        return rows

    @torch.no_grad()
    def log_probs(self, module_id: ModuleID, rows: Rows) -> Tensor:
        """Log-probabilities (B,) of the actions in `rows` under the module as it is now."""
        out = self.module[module_id].forward_train(rows)
        return self._dists[module_id].log_prob(
            out[Columns.ACTION_DIST_INPUTS], rows[Columns.ACTIONS]
        )

    def _set_old_log_probs(self, batch: dict[ModuleID, Rows]) -> None:
        """Evaluates the policy that sampled, with the arithmetic of the learner.

        The runner's own numbers come from other batch shapes, perhaps another device. With
        these, ratios at the first step are exactly 1. How far the two are apart is logged.
        """
        for m, agents in self._layout.groups.items():
            sampled = batch[m][Columns.ACTION_LOGP]
            old = [self.log_probs(m, self.agent_rows(batch, a)) for a in agents]
            batch[m][Columns.ACTION_LOGP] = torch.stack(old, dim=1)
            gap = (sampled - batch[m][Columns.ACTION_LOGP]).abs() * batch[m][ACTIVE]
            self._note(m, "sampler_logp_gap", largest(gap), over_learners="max")

    def _iteration_seed(self) -> tuple[int, int]:
        """Seeds all that is drawn in this update; the same on every learner."""
        return (self.config.update_order_seed, self._weights_seq_no)

    # ---- metrics ----------------------------------------------------------------------------

    def _note(
        self, module_id: ModuleID, name: str, value: Tensor, *, over_learners: str = "same"
    ) -> None:
        """Keeps a scalar until `_log_statistics`.

        `over_learners` says what the learners' values are: the "same", shares of a "sum", or
        candidates for the "max". Every learner notes the same names in the same order.
        """
        self._statistics[module_id][name, over_learners].append(value.detach())

    def _log_statistics(self, module_id: ModuleID) -> None:
        """Logs what was noted since the last call: for each name the mean, or the largest."""
        for (name, over_learners), noted in self._statistics.pop(module_id, {}).items():
            values = torch.stack([v.float() for v in noted])
            if over_learners == "max":
                value = max_over_learners(values.max())
            elif over_learners == "sum":
                value = sum_over_learners(values.mean())
            else:
                value = values.mean()
            self.metrics.log_value((module_id, name), value.item(), window=1)

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

    @override(Learner)
    def _log_steps_trained_metrics(self, batch: Any) -> None:
        """See `_log_iteration`."""

    @override(Learner)
    def _log_metrics(self, batch: Any) -> None:
        """See `_log_iteration`."""


def largest(x: Tensor) -> Tensor:
    """The largest of numbers >= 0; 0 if there are none."""
    return x.max() if x.numel() else x.new_zeros(())


def permutation(agents: tuple[AgentID, ...], seed: tuple[int, ...]) -> list[AgentID]:
    """A random order of the agents, drawn from `seed`."""
    order = np.random.default_rng(seed).permutation(len(agents))
    return [agents[i] for i in order]
