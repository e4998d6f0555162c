"""What every team learner is: its layout, explicit reductions, checked gradients, notes.

RLlib's `Learner.update` stays in force: it loops over the minibatches that
`_create_iterator_if_necessary` yields and calls `_update` for each. In a team learner that
iterator is a generator which reads like the papers' pseudocode, and `_update` steps one module at
a time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_hetero.layout import CRITIC, Layout, ModuleID
from rllib_hetero.learners.clipping import check_finite, clip_gradients
from rllib_hetero.learners.notes import Notes
from rllib_hetero.learners.restoring import RestoringLearner
from rllib_hetero.reductions import copy_from_first_learner
from rllib_hetero.threads import torch_threads


class TeamLearner(RestoringLearner):
    """Base of all learners. A family of them supplies the iterator, and what a step is.

    Everything random is drawn from (seed, iteration), the same on every learner and the same
    after a restore.

    Attributes:
        notes: What is logged of each module.
    """

    @override(Learner)
    def build(self) -> None:
        super().build()
        # RLlib's seeding asks PyTorch for deterministic algorithms, which by default also fills
        # all fresh memory, lest its content be used. Nothing here uses it; filling takes 7 %.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._layout: Layout = self.config.layout
        self._dists = {m: self._layout.distribution(m) for m in self._layout.groups}
        self.notes = Notes(self.metrics)
        self._parameters: dict[ModuleID, list[torch.nn.Parameter]] = {}
        for module_id in sorted(self.module.keys()):
            module = self.module[module_id]
            self._parameters[module_id] = self.get_parameters(module)
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
            optimizer=self.make_optimizer(params),
            params=params,
            lr_or_lr_schedule=lr,
        )

    @override(Learner)
    def update(self, *args: Any, **kwargs: Any) -> Any:
        with self.own_threads():
            return super().update(*args, **kwargs)

    def own_threads(self) -> AbstractContextManager[None]:
        """Gives torch as many threads as Ray reserves CPUs for whoever holds this learner.

        For an actor Ray has done so. Beside the driver, torch would take all cores of the
        machine, also those that runners, trials and other users are at work on.
        """
        if self.config.num_learners > 0:
            return nullcontext()
        return torch_threads(max(1, int(self.config.num_cpus_for_main_process)))

    def is_trained(self, module_id: ModuleID) -> bool:
        """Whether a module learns: the critic always, policies as `policies_to_train` says."""
        return module_id == CRITIC or self.should_module_be_updated(module_id)

    def parameters_of(self, module_id: ModuleID) -> list[torch.nn.Parameter]:
        """What a gradient moves of a module: modules of a team stay as they are built."""
        return self._parameters[module_id]

    def make_optimizer(self, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """A module's optimiser; its learning rate is set by RLlib."""
        # Fused: a step is many small matrices, and their operator calls are a good part of it.
        return torch.optim.Adam(params, eps=self.config.adam_epsilon, fused=True)

    # ---- gradients --------------------------------------------------------------------------

    @override(TorchLearner)
    def postprocess_gradients_for_module(
        self, *, module_id: ModuleID, config: Any = None, module_gradients_dict: dict
    ) -> dict:
        """Clips gradients in place, and stops before a step that is not finite.

        Raises:
            NonFiniteUpdateError: If the gradient is NaN or infinite. No parameter has changed
                in this step.
        """
        limit = self.gradient_limit(module_id, config)
        norm = clip_gradients(list(module_gradients_dict), limit, config.grad_clip_by)
        self.check_finite(norm, module_id)
        self.notes.add(module_id, "gradient_norm", norm)
        return module_gradients_dict

    def gradient_limit(self, module_id: ModuleID, config: Any) -> float | None:
        """What the module's gradients are clipped at; None: they are not."""
        return config.grad_clip

    def check_finite(self, gradient_norm: Tensor, module_id: ModuleID) -> None:
        """Raises NonFiniteUpdateError before a step along a gradient that is not finite."""
        check_finite(gradient_norm, module_id, self._weights_seq_no)

    def _iteration_seed(self) -> tuple[int, int]:
        """Seeds all that is drawn in this update; the same on every learner."""
        return (self.config.update_order_seed, self._weights_seq_no)

    # ---- metrics ----------------------------------------------------------------------------

    @override(Learner)
    def _set_slicing_by_batch_id(self, batch: Any, *, value: bool) -> Any:
        """Nothing: chunks are laid out by the time they get here."""
        return batch

    @override(Learner)
    def _log_steps_trained_metrics(self, batch: Any) -> None:
        """See `_log_iteration`."""

    @override(Learner)
    def _log_metrics(self, batch: Any) -> None:
        """See `_log_iteration`."""
