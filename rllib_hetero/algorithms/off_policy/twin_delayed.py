"""What the algorithms after TD3 are configured with."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.off_policy.deterministic import DeterministicConfig
from rllib_hetero.algorithms.ranges import check_number


class TwinDelayedConfig(DeterministicConfig):
    """Settings of two critics, smoothed target actions and delayed actors."""

    num_critics = 2

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.policy_delay = 2
        self.target_noise = 0.2
        self.target_noise_clip = 0.5

    @override(DeterministicConfig)
    def training(
        self,
        *,
        target_noise: float = NotProvided,
        target_noise_clip: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `DeterministicConfig.training` for the others.

        Args:
            target_noise: Standard deviation of the noise on the targets' Box actions, in units of
                half the action's range.
            target_noise_clip: The largest size of that noise, in the same units.
        """
        super().training(**kwargs)
        return self.set_given(target_noise=target_noise, target_noise_clip=target_noise_clip)

    @override(DeterministicConfig)
    def validate(self) -> None:
        super().validate()
        check_number(self, "target_noise", lambda x: x >= 0, ">= 0")
        check_number(self, "target_noise_clip", lambda x: x >= 0, ">= 0")
