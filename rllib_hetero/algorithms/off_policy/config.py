"""What the off-policy algorithms are configured with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.overlap import check_overlap
from rllib_hetero.algorithms.ranges import check_integer, check_number
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.layout import ModuleID
from rllib_hetero.replay import bytes_needed, check_memory, free_memory

REPLAY_DEFAULTS: dict[str, Any] = {
    # Environment steps over all learners; the oldest make room for the newest.
    "capacity": 1_000_000,
    # Draw in proportion to |TD error|^alpha (Schaul et al., 2016); None draws uniformly.
    "alpha": None,
    # Exponent of the weights that correct the loss for it.
    "beta": 0.4,
    # A folder for memory-mapped files; None keeps everything in memory.
    "folder": None,
}
"""Every key of `config.training(replay_buffer_config={...})`."""


class OffPolicyConfig(TeamConfig):
    """Settings of the off-policy algorithms, with HARL's defaults (JMLR 2024, Tables 5 and 7).

    An iteration samples `rollout_fragment_length` steps in every environment and then makes the
    updates that are due. How many that are follows from the sampled steps alone
    (`training_intensity`), not from the number of environments or runners.
    """

    actor_attributes: ClassVar[tuple[str, ...]] = ("exploration",)

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.lr = 5e-4
        self.critic_lr = 1e-3
        self.adam_epsilon = 1e-8
        self.grad_clip: float | None = None
        self.grad_clip_by = "global_norm"
        self.gamma = 0.99
        self.train_batch_size_per_learner = 1000
        self.rollout_fragment_length = 50
        self.num_steps_sampled_before_learning_starts = 10_000
        self.training_intensity = 50.0
        self.n_step = 1
        self.tau = 0.005
        self.target_network_update_freq: int | None = None
        self.td_huber_delta: float | None = None
        self.replay_buffer_config: dict[str, Any] = dict(REPLAY_DEFAULTS)
        self.replay_in_checkpoint: bool | None = None
        self.overlap = False

    @override(TeamConfig)
    def training(
        self,
        *,
        num_steps_sampled_before_learning_starts: int = NotProvided,
        training_intensity: float = NotProvided,
        n_step: int = NotProvided,
        tau: float = NotProvided,
        target_network_update_freq: int | None = NotProvided,
        td_huber_delta: float | None = NotProvided,
        replay_buffer_config: dict[str, Any] = NotProvided,
        replay_in_checkpoint: bool | None = NotProvided,
        overlap: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings.

        RLlib's own, in `kwargs`, keep their meaning: `lr` (the actors'; a number or a schedule
        over environment steps), `gamma`, `grad_clip`, and `train_batch_size_per_learner`, here the
        joint transitions of one minibatch; learners share `num_learners` times as many.

        Args:
            num_steps_sampled_before_learning_starts: Environment steps with uniformly random
                actions before the first update.
            training_intensity: Transitions drawn for updates per environment step sampled.
                Updates per step are `training_intensity` over the minibatch's transitions; what
                does not come out even is carried over. HARL's "train interval 50, update per
                train 1" with 20 environments and batch 1000 is 50.
            n_step: Rewards in a return before the critic takes over, at most. Returns end where
                episodes do.
            tau: How far a target network moves towards its own, in (0, 1].
            target_network_update_freq: After how many updates targets move. None: whenever the
                actors are updated.
            td_huber_delta: Where the critic's loss turns from squared to absolute. None: squared.
            replay_buffer_config: Keys of `REPLAY_DEFAULTS`; those not given keep their values.
            replay_in_checkpoint: Whether checkpoints hold the replay. None: while it is small
                (below 1 GB). A run resumed without it collects
                `num_steps_sampled_before_learning_starts` steps anew before its first update.
            overlap: Whether remote runners sample the steps of the next iteration while the
                updates of this one are made, with the policies of the iteration before. False:
                sampling and updates take turns.
        """
        super().training(**kwargs)
        if replay_buffer_config is not NotProvided:
            if not isinstance(replay_buffer_config, Mapping):
                self._value_error(
                    f"`replay_buffer_config` must be a dict of {sorted(REPLAY_DEFAULTS)}, got "
                    f"{replay_buffer_config!r}: config.training(replay_buffer_config={{...}})."
                )
            self.replay_buffer_config = {**self.replay_buffer_config, **replay_buffer_config}
        return self.set_given(
            num_steps_sampled_before_learning_starts=num_steps_sampled_before_learning_starts,
            training_intensity=training_intensity,
            n_step=n_step,
            tau=tau,
            target_network_update_freq=target_network_update_freq,
            td_huber_delta=td_huber_delta,
            replay_in_checkpoint=replay_in_checkpoint,
            overlap=overlap,
        )

    @property
    def num_envs(self) -> int:
        """Environments that are sampled from, over all runners."""
        return max(1, self.num_env_runners) * self.num_envs_per_env_runner

    @property
    def rows_per_env(self) -> int:
        """How many steps of each environment the replay holds."""
        return self.replay_buffer_config["capacity"] // self.num_envs

    @property
    def target_update_interval(self) -> int:
        """After how many updates targets move."""
        return self.target_network_update_freq or 1

    def exploration_of(self, module_id: ModuleID) -> Any:
        """How much the module's agents explore: a number, or a schedule over environment steps."""
        raise NotImplementedError

    def updates_due(self, env_steps: int) -> int:
        """How many updates belong to so many environment steps since learning could start."""
        return max(0, int(env_steps * self.training_intensity / self.total_train_batch_size))

    @override(TeamConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        self._validate_ranges()
        self._validate_replay()
        check_overlap(self)

    def _validate_ranges(self) -> None:
        for name in ("n_step", "train_batch_size_per_learner"):
            check_integer(self, name, 1)
        if self.target_network_update_freq is not None:
            check_integer(self, "target_network_update_freq", 1)
        check_integer(self, "num_steps_sampled_before_learning_starts", 0)
        check_number(self, "gamma", lambda x: 0 <= x <= 1, "in [0, 1]")
        check_number(self, "tau", lambda x: 0 < x <= 1, "in (0, 1]")
        check_number(self, "training_intensity", lambda x: x > 0, "> 0")
        if self.td_huber_delta is not None:
            check_number(self, "td_huber_delta", lambda x: x > 0, "> 0")
        if self.minibatch_size is not None:
            self._value_error(
                "`minibatch_size` has no meaning here: minibatches are drawn from the replay. "
                "Set their size with config.training(train_batch_size_per_learner=...)."
            )
        if self.batch_mode != "truncate_episodes":
            self._value_error(
                "Off-policy algorithms sample a fixed number of steps: remove "
                "config.env_runners(batch_mode=...)."
            )
        if not isinstance(self.rollout_fragment_length, int) or self.rollout_fragment_length < 1:
            self._value_error(
                "`rollout_fragment_length` is the steps of an iteration in each environment, an "
                f"integer of at least 1, got {self.rollout_fragment_length!r}. Set it with "
                "config.env_runners(rollout_fragment_length=50)."
            )

    def _validate_replay(self) -> None:
        given = self.replay_buffer_config
        unknown = set(given) - set(REPLAY_DEFAULTS)
        if unknown:
            self._value_error(
                f"Unknown keys {sorted(unknown)} in config.training(replay_buffer_config=...); it "
                f"reads {sorted(REPLAY_DEFAULTS)}."
            )
        capacity = given["capacity"]
        if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1:
            self._value_error(
                f"The replay's capacity must be an integer of at least 1, got {capacity!r}. Set it "
                "with config.training(replay_buffer_config={'capacity': 1_000_000})."
            )
        rows = self.rows_per_env
        mend = "Raise config.training(replay_buffer_config={'capacity': ...})"
        if capacity < self.total_train_batch_size:
            self._value_error(
                f"A minibatch has {self.total_train_batch_size} transitions, and the replay holds "
                f"only {capacity}. {mend}, or lower "
                "config.training(train_batch_size_per_learner=...)."
            )
        if rows < self.rollout_fragment_length:
            self._value_error(
                f"The replay has room for {rows} steps of each of the {self.num_envs} "
                f"environments, and a rollout alone has {self.rollout_fragment_length}. {mend}, or "
                "lower config.env_runners(rollout_fragment_length=...)."
            )
        if rows <= self.n_step:
            self._value_error(
                f"Returns of `n_step` {self.n_step} need more than the {rows} steps that the "
                f"replay holds of each environment. {mend}, or lower config.training(n_step=...)."
            )
        starts = self.num_steps_sampled_before_learning_starts
        if starts > capacity:
            self._value_error(
                f"Learning starts after {starts} steps, when a replay of capacity {capacity} has "
                f"already lost the first. {mend}, or lower "
                "config.training(num_steps_sampled_before_learning_starts=...)."
            )
        if given["alpha"] is not None:
            self._validate_priorities()
        if given["folder"] is None and self.num_learners == 0:
            # Remote learners may be on machines of another size.
            self._check_replay_memory()

    def _check_replay_memory(self) -> None:
        """Raises TeamError if a full replay would not fit into this machine's memory."""
        given = self.replay_buffer_config
        needed = bytes_needed(
            self.layout,
            given["capacity"],
            self.num_envs,
            prioritized=given["alpha"] is not None,
        )
        check_memory(needed, free_memory())

    def _validate_priorities(self) -> None:
        for key in ("alpha", "beta"):
            value = self.replay_buffer_config[key]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                self._value_error(
                    f"`{key}` of the replay must be a number in [0, 1], got {value!r}. Set it with "
                    f"config.training(replay_buffer_config={{{key!r}: ...}})."
                )

    @override(AlgorithmConfig)
    def build_learner_connector(
        self, input_observation_space: Any, input_action_space: Any, device: Any = None
    ) -> None:
        """None: fragments go into the learner's replay as they are."""
        return None
