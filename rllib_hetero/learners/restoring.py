"""What a restored learner takes from the checkpoint, and what from its own config.

RLlib restores an optimiser together with its settings. The first update after a restore is then
made with the checkpoint's learning rate, whatever the config says, and only after that one is
the config's set. Under population-based training with a perturbation in every iteration, a
perturbed learning rate would never be used; and the rate that is logged, which is read after the
update, would not show it.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO
from ray.rllib.utils.typing import StateDict

ENV_STEPS = "env_steps_sampled"


class RestoringLearner(TorchLearner):
    """Takes weights and moments from the checkpoint, learning rates and Adam's epsilon from itself.

    A schedule goes on at the steps that the checkpoint was written at: with the same config, the
    rate is the checkpoint's.
    """

    _env_steps: int | None = None

    @override(Learner)
    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        super().after_gradient_based_update(timesteps=timesteps)
        self._env_steps = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)

    @override(Learner)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> StateDict:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._env_steps is not None:
            state[ENV_STEPS] = self._env_steps
        return state

    @override(Learner)
    def set_state(self, state: StateDict) -> None:
        if WEIGHTS_SEQ_NO in state:
            # RLlib keeps weights that are newer than the state's. Whoever restores an earlier
            # checkpoint wants all of it, not its optimisers under the later weights.
            self._weights_seq_no = 0
        if WEIGHTS_SEQ_NO in state or ENV_STEPS in state:
            self._env_steps = state.get(ENV_STEPS)
        super().set_state(state)

    @override(TorchLearner)
    def _set_optimizer_state(self, state: StateDict) -> None:
        epsilons = {
            optimizer: [group.get("eps") for group in optimizer.param_groups]
            for optimizer in self._named_optimizers.values()
        }
        super()._set_optimizer_state(state)
        for optimizer, before in epsilons.items():
            for group, epsilon in zip(optimizer.param_groups, before, strict=True):
                if epsilon is not None:
                    group["eps"] = epsilon
            schedule = self._optimizer_lr_schedules.get(optimizer)
            if schedule is not None:
                self._set_optimizer_lr(optimizer, lr=schedule.update(self._env_steps or 0))
