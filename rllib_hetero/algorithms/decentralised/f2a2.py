"""What the five F2A2 algorithms are configured with.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from torch import nn
from typing_extensions import Self

from rllib_hetero.algorithms.decentralised.config import ReplayingConfig
from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.ranges import check_number, check_schedule
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.consensus.shared_part import trainable
from rllib_hetero.functional import num_choices
from rllib_hetero.functional.joint_gradient import RESAMPLED, JointGradient
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents.critics import CRITICS, AgentCritic
from rllib_hetero.modules.asked_critic import ASKED_DEFAULTS, NUM_AGENTS, AskedQCritic
from rllib_hetero.modules.attention_critic import (
    ATTENTION_DEFAULTS,
    OBSERVATION_SIZES,
    VALUED_AGENTS,
    AttentionCritic,
    check_heads,
)
from rllib_hetero.modules.categorical_actor import CATEGORICAL_DEFAULTS, CategoricalActor
from rllib_hetero.modules.critic import NUM_CRITICS
from rllib_hetero.modules.own_critic import OwnQCritic

OTHER_AGENTS_DEFAULTS: dict[str, Any] = {
    # Whether other agents' policies are predicted; else they are sent.
    "model": True,
    # First trajectories that are kept to make characters of, and their longest. (The paper's
    # 1000 take ten times the memory, of each member.)
    "trajectories": 100,
    "trajectory_length": 25,
    # Of these, how many an update encodes.
    "trajectories_per_update": 32,
    # Steps before the present one that a mental state is made of.
    "history": 5,
    # Newest joint steps that are learned from, and how many (agent, step) pairs in an update.
    "recent_steps": 1200,
    "batch_size": 1200,
    # The models are updated with every so many updates of the member.
    "update_interval": 1,
    # None: the actors'.
    "lr": None,
    "memory_size": 64,
    "hidden_size": 128,
}
"""Every setting of `config.other_agents(...)`, with [1]'s values (Appendix G) but where it says."""


class F2A2Config(ReplayingConfig):
    """Settings of agents that learn apart along the joint gradient of actor and critic.

    The defaults are those of [1] for the cooperative particle games (Appendix G), but for the
    weights of the joint gradient: it does not give any.

    Attributes:
        critics: The kinds of critics that may be chosen; the first is the default.
        num_critics: How many there are.
    """

    policy_family = "categorical"
    critics: ClassVar[tuple[str, ...]] = ("joint", "attention")
    num_critics: ClassVar[int] = 1
    model_defaults = ASKED_DEFAULTS | ATTENTION_DEFAULTS | CATEGORICAL_DEFAULTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.lr = 1e-3
        self.critic_lr = None
        self.grad_clip = 0.5
        self.critic_grad_clip: float | None = 10.0
        # Four updates of 1024 transitions for each 100 steps.
        self.train_batch_size_per_learner = 1024
        self.training_intensity = 40.96
        self.num_steps_sampled_before_learning_starts = 1024
        self.rollout_fragment_length = 25
        self.critic = self.critics[0]
        self.alpha1 = 1.0
        self.alpha2 = 1.0
        self.critic_alpha1 = 0.01
        self.actor_alpha2 = 0.01
        self.critic_resampled = "coincident"
        self.joint: bool | str = True
        self.importance_clip = 1.0
        self.attention_reg = 1e-3
        self.standardize_rewards = False
        self.other_agents_config: dict[str, Any] = dict(OTHER_AGENTS_DEFAULTS)

    @override(ReplayingConfig)
    def training(
        self,
        *,
        joint: bool | str = NotProvided,
        alpha1: float = NotProvided,
        alpha2: float = NotProvided,
        critic_alpha1: float = NotProvided,
        actor_alpha2: float = NotProvided,
        critic_resampled: str = NotProvided,
        importance_clip: float = NotProvided,
        critic: str = NotProvided,
        critic_grad_clip: float | None = NotProvided,
        attention_reg: float = NotProvided,
        standardize_rewards: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `OffPolicyConfig.training` for those not named here.

        `grad_clip` is the actors'.

        Args:
            joint: Whether actor and critic are each given some of the other's objective, by the
                weights `critic_alpha1` and `actor_alpha2`. False: [1]'s ablation "w/o-JOINT".
                "paper": as [1] prints it, with `alpha1` and `alpha2` for both and errors of all
                resampled actions; for those who want to see what that does. It did not learn in
                any of our runs.
            alpha1: Weight of the actor's objective.
            alpha2: Weight of the critic's objective.
            critic_alpha1: `alpha1` in the critic's loss. Values come out too high by up to
                critic_alpha1 / (2 alpha2 (1 - gamma)).
            actor_alpha2: `alpha2` in the actor's loss.
            critic_resampled: Of which resampled actions the critic's errors count: "coincident",
                those that make the joint action that was replayed, whose target is theirs;
                "paper", all; "off", none.
            importance_clip: Where importance ratios are cut, [1]'s epsilon.
            critic: "joint", a network from the state and all actions; "attention", MAAC's. What an
                algorithm does not have it refuses.
            critic_grad_clip: What the norm of a critic's gradient is clipped at; None: not at all.
            attention_reg: Weight of the penalty on the squares of attention logits.
            standardize_rewards: Whether each agent's rewards are standardised by their mean and
                deviation over its replay. For episodes that end by the clock: a mean that is taken
                off makes longer ones better or worse.
        """
        super().training(**kwargs)
        return self.set_given(
            joint=joint,
            alpha1=alpha1,
            alpha2=alpha2,
            critic_alpha1=critic_alpha1,
            actor_alpha2=actor_alpha2,
            critic_resampled=critic_resampled,
            importance_clip=importance_clip,
            critic=critic,
            critic_grad_clip=critic_grad_clip,
            attention_reg=attention_reg,
            standardize_rewards=standardize_rewards,
        )

    def other_agents(
        self,
        *,
        model: bool = NotProvided,
        trajectories: int = NotProvided,
        trajectory_length: int = NotProvided,
        trajectories_per_update: int = NotProvided,
        history: int = NotProvided,
        recent_steps: int = NotProvided,
        batch_size: int = NotProvided,
        update_interval: int = NotProvided,
        lr: Any = NotProvided,
        memory_size: int = NotProvided,
        hidden_size: int = NotProvided,
    ) -> Self:
        """Sets how an agent gets to know what the others would do ([1], section 5.2).

        Args:
            model: Each agent predicts the others' policies from what they see and have done.
                False: policies are sent with each exchange, and the traffic counts them.
            trajectories: How many trajectories from the start are kept to make characters of.
            trajectory_length: The longest of these trajectories, in steps.
            trajectories_per_update: How many of these trajectories an update of the models encodes.
            history: Steps before the present one that a mental state is made of.
            recent_steps: The newest joint steps, which the models learn from.
            batch_size: (agent, step) pairs of an update, of all others together.
            update_interval: The models are updated with every so many updates of the member.
            lr: The models' learning rate, or schedule; None: the actors'.
            memory_size: Units of the models' recurrent networks.
            hidden_size: Units of the models' prediction networks.
        """
        given = {
            "model": model,
            "trajectories": trajectories,
            "trajectory_length": trajectory_length,
            "trajectories_per_update": trajectories_per_update,
            "history": history,
            "recent_steps": recent_steps,
            "batch_size": batch_size,
            "update_interval": update_interval,
            "lr": lr,
            "memory_size": memory_size,
            "hidden_size": hidden_size,
        }
        given = {name: value for name, value in given.items() if value is not NotProvided}
        self.other_agents_config = self.other_agents_config | given
        return self

    # ---- what follows from the settings -----------------------------------------------------

    @property
    def joint_gradient(self) -> JointGradient:
        """The weights in force."""
        if self.joint == "paper":
            return JointGradient.literal(self.alpha1, self.alpha2)
        if not self.joint:
            return JointGradient.separate(self.alpha1, self.alpha2)
        return JointGradient(
            self.alpha1,
            self.alpha2,
            self.critic_alpha1,
            self.actor_alpha2,
            self.critic_resampled,
        )

    @property
    @override(ReplayingConfig)
    def reads_others(self) -> bool:
        return CRITICS[self.critic].reads_others

    @property
    def models_others(self) -> bool:
        """Whether other agents' policies are predicted."""
        return self.other_agents_config["model"]

    def of_member(self, name: str, module_id: ModuleID) -> Any:
        """A setting that may be one value for all, or a dict by module id."""
        value = getattr(self, name)
        return value[module_id] if isinstance(value, Mapping) else value

    @override(ReplayingConfig)
    def replay_settings(self) -> dict[str, Any]:
        return super().replay_settings() | {"keep_dist_inputs": True}

    @override(OffPolicyConfig)
    def exploration_of(self, module_id: ModuleID) -> float:
        return 0.0  # Policies are stochastic.

    # ---- networks ---------------------------------------------------------------------------

    @property
    @override(TeamConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {"activation": "leaky_relu"}

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=CategoricalActor)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return self.get_member_class()

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        return self.member_critic_spec(next(iter(self.layout.groups)))

    def member_critic_spec(self, module_id: ModuleID) -> RLModuleSpec:
        """A member's copy of the critic."""
        team = self.layout.team
        model = self.model_config | {NUM_CRITICS: self.num_critics}
        if self.critic == "own":
            return RLModuleSpec(
                module_class=OwnQCritic,
                observation_space=self.layout.observation_space(module_id),
                action_space=self.layout.action_space(module_id),
                learner_only=True,
                model_config=model,
            )
        if self.critic == "attention":
            # Encoders and heads of others are copied only where they are to be shared.
            alone = self.shared in ("attention", "none")
            own = [team.agents.index(a) for a in self.layout.groups[module_id]]
            sizes = [team.row_spaces[a].shape[0] for a in team.agents]
            return RLModuleSpec(
                module_class=AttentionCritic,
                observation_space=box(sum(sizes)),
                action_space=gym.spaces.MultiDiscrete(
                    [num_choices(team.moves[a].flat) for a in team.agents]
                ),
                learner_only=True,
                model_config=model
                | {OBSERVATION_SIZES: sizes, VALUED_AGENTS: own if alone else None},
            )
        size = team.critic_space.shape[0] + len(team.agents)
        return RLModuleSpec(
            module_class=AskedQCritic,
            observation_space=box(size),
            action_space=box(self.layout.joint_size),
            learner_only=True,
            model_config=model | {NUM_AGENTS: len(team.agents)},
        )

    def new_agent_critic(self, module_id: ModuleID) -> AgentCritic:
        """A member's critic, with networks of its own."""
        module = self.member_critic_spec(module_id).build()
        critic = CRITICS[self.critic](module, self.layout, module_id)
        if self.critic == "attention":
            module.speak_for(critic.indices)
        return critic

    # ---- what is shared ---------------------------------------------------------------------

    @override(ReplayingConfig)
    def is_shared(self, name: str) -> bool:
        if callable(self.shared):
            return bool(self.shared(name))
        part, rest = name.split(".", 1)
        return {
            "none": False,
            "critic": part == "critic",
            "attention": part == "critic" and CRITICS[self.critic].serves_all(rest),
            "actor_and_critic": True,
        }[self.shared]

    @override(ReplayingConfig)
    def parameters_of(self, module_id: ModuleID) -> Mapping[str, nn.Parameter]:
        actor = self.get_multi_rl_module_spec()[module_id].build()
        return trainable({"actor": actor, "critic": self.new_agent_critic(module_id).module})

    # ---- bad input --------------------------------------------------------------------------

    @override(ReplayingConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        for name in ("alpha1", "alpha2", "importance_clip"):
            check_number(self, name, lambda x: x > 0, "> 0")
        for name in ("critic_alpha1", "actor_alpha2", "attention_reg"):
            check_number(self, name, lambda x: x >= 0, ">= 0")
        if self.critic_grad_clip is not None:
            check_number(self, "critic_grad_clip", lambda x: x > 0, "> 0, or None")
        for name, choices in (
            ("joint", (True, False, "paper")),
            ("critic_resampled", RESAMPLED),
            ("critic", self.critics),
            ("standardize_rewards", (True, False)),
        ):
            if getattr(self, name) not in choices:
                self._value_error(
                    f"`{name}` is {getattr(self, name)!r}; use one of {choices}: "
                    f"config.training({name}=...)."
                )
        if self.n_step != 1:
            self._value_error(
                f"F2A2's targets look one step ahead: remove config.training(n_step={self.n_step})."
            )
        if self.td_huber_delta is not None:
            self._value_error(
                "F2A2's critics are fitted by squared errors: remove "
                "config.training(td_huber_delta=...)."
            )
        if self.shared == "attention" and self.critic != "attention":
            self._value_error(
                f"A critic of the kind {self.critic!r} has no attention to share: use "
                "config.consensus(shared='critic'), or config.training(critic='attention')."
            )
        if self.critic == "attention":
            model = dict(self.model_defaults) | self.model_config
            try:
                check_heads(model["attention_size"], model["num_attention_heads"])
            except ValueError as error:
                self._value_error(str(error))
        self._validate_other_agents()
        self._validate_shared_part()

    @override(ReplayingConfig)
    def _validate_shared_part(self) -> None:
        # Copies of a critic of all are made alike, and are not small where agents are many.
        if self.critic == "own" or self.shared not in ("critic", "attention"):
            super()._validate_shared_part()

    def _validate_other_agents(self) -> None:
        settings = self.other_agents_config
        if not isinstance(settings["model"], bool):
            self._value_error(
                f"`model` must be True or False, got {settings['model']!r}: "
                "config.other_agents(model=...)."
            )
        for name, value in settings.items():
            if name in ("model", "lr"):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                self._value_error(
                    f"`{name}` must be an integer of at least 1, got {value!r}: "
                    f"config.other_agents({name}=...)."
                )
        if settings["lr"] is not None:
            check_schedule("lr", settings["lr"], least=0.0, method="other_agents")

    def check_of_members(self, name: str, good: Any, wanted: str) -> None:
        """Raises unless a setting is a good number, or a dict of such by module id."""
        value = getattr(self, name)
        members = list(self.layout.groups)
        if isinstance(value, Mapping) and set(value) != set(members):
            self._value_error(
                f"`{name}` names {sorted(map(str, value))}, the modules are {members}. Give one "
                f"entry for each: config.training({name}={{...}})."
            )
        values = value.values() if isinstance(value, Mapping) else [value]
        for x in values:
            if not isinstance(x, (int, float)) or isinstance(x, bool) or not good(x):
                self._value_error(
                    f"`{name}` is {value!r}, but must be {wanted}, or a dict of such by module "
                    f"id: config.training({name}=...)."
                )


def box(size: int) -> gym.spaces.Box:
    """Any (size,) numbers."""
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
