"""What QMIX, VDN and IQL are configured with."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.off_policy.greedy import GreedyConfig
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.modules.mixer import MIXER, TeamMixer
from rllib_hetero.modules.q_network import Q_NETWORK_DEFAULTS
from rllib_hetero.sharing import ParameterSharing
from rllib_hetero.team import Team

_DEFAULTS = {"hidden_sizes": [64, 64], "max_seq_len": 25}


class ValueDecompositionConfig(GreedyConfig):
    """Settings of Q-learning on stretches of episodes, with EPyMARL's defaults where it has them.

    Those of its QMIX, in transitions: 32 stretches of 25 steps in a minibatch, one update for each
    25 steps sampled, a replay of 5000 times 25. One network for all agents where their spaces are
    equal, else one for each; `config.multi_agent(parameter_sharing=...)` overrides.

    Attributes:
        mixer: What makes the agents' values the team's; a name in `modules.mixer.MIXERS`.
    """

    mixer: ClassVar[str]
    model_defaults = Q_NETWORK_DEFAULTS | _DEFAULTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.parameter_sharing = "auto"
        self.critic_lr = None
        self.grad_clip = 10.0
        self.train_batch_size_per_learner = 800
        self.training_intensity = 32.0
        self.num_steps_sampled_before_learning_starts = 800
        self.replay_buffer_config = {**self.replay_buffer_config, "capacity": 125_000}
        self.epsilon = [[0, 1.0], [50_000, 0.05]]
        self.tau = 1.0
        self.target_network_update_freq = 200
        self.double_q = True
        self.lambda_ = 0.0

    @override(GreedyConfig)
    def training(
        self, *, double_q: bool = NotProvided, lambda_: float = NotProvided, **kwargs: Any
    ) -> Self:
        """Sets the training settings; see `GreedyConfig.training` for those not named here.

        `train_batch_size_per_learner` counts transitions here, too. A minibatch is that many of
        them in stretches of `model_config["max_seq_len"]` steps, rounded down to whole ones. Those
        that end early with their episode are padded, and the padding is not counted in the loss.

        Args:
            double_q: Whether the next actions are those that the online networks value most; the
                targets value them. False: the targets choose as well.
            lambda_: Of TD(lambda) within a stretch, in [0, 1]. 0: one-step targets. What was
                explored is not corrected for.
        """
        super().training(**kwargs)
        return self.set_given(double_q=double_q, lambda_=lambda_)

    @property
    def sequences_per_update(self) -> int:
        """How many stretches a minibatch has."""
        return self.total_train_batch_size // self.max_seq_len

    @override(TeamConfig)
    def _sharing(self, team: Team) -> ParameterSharing:
        if self.parameter_sharing != "auto":
            return super()._sharing(team)
        return "full" if team.equal_spaces else "none"

    @override(OffPolicyConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_number(self, "lambda_", lambda x: 0 <= x <= 1, "in [0, 1]")
        if not isinstance(self.double_q, bool):
            self._value_error(
                f"`double_q` must be True or False, got {self.double_q!r}. Set it with "
                "config.training(double_q=...)."
            )
        if self.n_step != 1:
            self._value_error(
                f"{self.algo_class.__name__} looks further than one step by TD(lambda): replace "
                f"config.training(n_step={self.n_step!r}) by config.training(lambda_=...)."
            )
        if self.replay_buffer_config["alpha"] is not None:
            self._value_error(
                "Stretches of episodes are drawn uniformly: remove "
                "config.training(replay_buffer_config={'alpha': ...})."
            )
        self._validate_policies_to_train()
        self._validate_max_seq_len()

    def _validate_policies_to_train(self) -> None:
        wanted = self.policies_to_train
        if wanted is None or callable(wanted) or set(wanted) & set(self.layout.groups):
            return
        if self.mixer != "monotonic":  # Which has parameters of its own.
            self._value_error(
                f"`policies_to_train` names none of the policies, and {self.algo_class.__name__} "
                "has nothing else to train: name some of "
                f"{sorted(self.layout.groups)} in config.multi_agent(policies_to_train=[...])."
            )

    def _validate_max_seq_len(self) -> None:
        length = self.max_seq_len
        lower = "lower config.rl_module(model_config={'max_seq_len': ...})"
        if self.total_train_batch_size < length:
            self._value_error(
                f"A minibatch has {self.total_train_batch_size} transitions, and a stretch alone "
                f"`max_seq_len` {length}. Raise config.training(train_batch_size_per_learner=...), "
                f"or {lower}."
            )
        if self.rows_per_env < length:
            self._value_error(
                f"Stretches of `max_seq_len` {length} steps need more than the {self.rows_per_env} "
                "that the replay holds of each environment. Raise "
                f"config.training(replay_buffer_config={{'capacity': ...}}), or {lower}."
            )

    @property
    @override(TeamConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        # PyMARL's agent: a layer, then a GRU in the place of the second one.
        recurrent = self._given_model_config().get("recurrent") is not None
        sizes = {"hidden_sizes": [64]} if recurrent else {}
        return super()._model_config_auto_includes | _DEFAULTS | sizes

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        agents = len(self.layout.team.agents)
        return RLModuleSpec(
            module_class=TeamMixer,
            observation_space=self.layout.team.critic_space,
            action_space=gym.spaces.Box(-np.inf, np.inf, (agents,), np.float32),
            learner_only=True,
            model_config=self.model_config | {MIXER: self.mixer},
        )
