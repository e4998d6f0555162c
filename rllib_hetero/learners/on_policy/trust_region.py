"""The sequential update whose neighbourhood is a KL ball: one natural-gradient step per agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.functional import (
    ClosedForm,
    LineSearchResult,
    Trial,
    conjugate_gradient,
    fisher_product,
    flat,
    largest_step,
    line_search,
    masked_mean,
    unflat,
)
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Minibatch, Rows
from rllib_hetero.learners.on_policy.on_policy_learner import POSITION, TOTAL
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.sequential import SequentialLearner
from rllib_hetero.reductions import sum_over_learners


class TrustRegionLearner(SequentialLearner):
    """One step per agent along the natural gradient, as far as the KL threshold allows.

    Of the batch every learner holds a share. The gradient, the Fisher products and what the line
    search measures are summed over learners, so that all of them take the same step.
    """

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        if module_id == CRITIC:  # Actors step without one.
            super().configure_optimizers_for_module(module_id, config)

    @override(SequentialLearner)
    def update_agent(self, module_id: ModuleID, rows: Rows, position: int) -> Iterator[Minibatch]:
        if self.should_module_be_updated(module_id):
            whole = self._units.take(rows, slice(None)) | {POSITION: position}
            whole[TOTAL] = sum_over_learners(whole[ACTIVE].sum())
            if whole[TOTAL] > 0:  # Somebody was alive.
                self._natural_step(module_id, whole)
        yield from ()  # Nothing for Adam.

    def _natural_step(self, module_id: ModuleID, rows: Rows) -> None:
        """HARL Algorithm 3, one pass of the loop over agents."""
        config = self.config.get_config_for_module(module_id)
        params = self.get_parameters(self.module[module_id])
        before = [p.detach().clone() for p in params]
        change = self._change(module_id, rows)
        start = self.objective(change, config, rows)
        gradient = sum_over_learners(_gradient(start, params))
        self.check_finite(gradient.norm(), module_id)
        # The ball is around the policy as it is before this step: with a shared module that is
        # not the one that sampled.
        centre = change.inputs.detach()
        fisher = fisher_product(
            change.inputs,
            lambda inputs: self._mean_kl(change.dist, centre, inputs, rows),
            params,
        )

        def product(v: Tensor) -> Tensor:
            return sum_over_learners(fisher(v)) + config.cg_damping * v

        direction, residual = conjugate_gradient(product, gradient, iterations=config.cg_iterations)
        # eq. 8. With damping the step is a little shorter than the threshold allows.
        beta = largest_step(direction, product(direction), config.kl_threshold)
        step = beta * direction
        expected = float(step.dot(gradient))

        @torch.no_grad()
        def try_fraction(fraction: float) -> Trial:
            for p, old, part in zip(params, before, unflat(step, params), strict=True):
                p.copy_(old + fraction * part)
            trial = self._change(module_id, rows)
            gain = self.objective(trial, config, rows) - start.detach()
            kl = self._mean_kl(trial.dist, centre, trial.inputs, rows)
            measured = sum_over_learners(torch.stack([gain, kl]))
            return Trial(*measured.tolist())

        result = line_search(
            try_fraction,
            expected,
            kl_threshold=config.kl_threshold,
            backtrack=config.backtrack_coeff,
            max_steps=config.line_search_steps,
            accept_ratio=config.accept_ratio,
        )
        if result.fraction == 0.0:
            with torch.no_grad():
                for p, old in zip(params, before, strict=True):
                    p.copy_(old)
        self._note_step(module_id, rows, change, result, expected, residual, gradient.norm())

    def _change(self, module_id: ModuleID, rows: Rows) -> PolicyChange:
        # cuDNN's recurrent layers cannot be differentiated twice.
        with torch.backends.cudnn.flags(enabled=False):
            inputs = self.forward(module_id, rows)[Columns.ACTION_DIST_INPUTS]
        return self.policy_change(module_id, rows, inputs)

    def _mean_kl(self, dist: ClosedForm, old: Tensor, new: Tensor, rows: Rows) -> Tensor:
        """This learner's share of the mean KL(old || new) over living samples."""
        return masked_mean(dist.kl(old, new), rows[ACTIVE], rows[TOTAL])

    def _note_step(
        self,
        module_id: ModuleID,
        rows: Rows,
        change: PolicyChange,
        result: LineSearchResult,
        expected: float,
        residual: Tensor,
        gradient_norm: Tensor,
    ) -> None:
        entropy = masked_mean(
            change.dist.entropy(change.inputs.detach()), rows[ACTIVE], rows[TOTAL]
        )
        self.notes.add(module_id, "entropy", entropy, over_learners="sum")
        for name, value in {
            "mean_kl": result.kl,
            "step_fraction": result.fraction,
            "expected_improvement": result.fraction * expected,
            "improvement": result.improvement,
            "rejected_updates": float(result.fraction == 0.0),
            "cg_residual": residual,
            "gradient_norm": gradient_norm,
        }.items():
            self.notes.add(module_id, name, torch.as_tensor(value))


def _gradient(objective: Tensor, params: list[Tensor]) -> Tensor:
    """[P] gradient; zeros for parameters that the objective does not depend on."""
    parts = torch.autograd.grad(objective, params, retain_graph=True, allow_unused=True)
    return flat(
        torch.zeros_like(p) if part is None else part for p, part in zip(params, parts, strict=True)
    )
