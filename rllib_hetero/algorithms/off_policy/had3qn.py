"""HAD3QN: heterogeneous-agent dueling double deep Q-networks.

[1] Zhong, Kuba, Feng, Hu, Ji, Yang: Heterogeneous-Agent Reinforcement Learning.
    Journal of Machine Learning Research 25 (2024). Appendix I, Algorithm 8, Tables 5 and 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from gymnasium.spaces import MultiDiscrete
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rllib_hetero.algorithms.off_policy.greedy import GreedyConfig
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.layout import CRITIC
from rllib_hetero.learners.off_policy.gradient_step import GradientStep
from rllib_hetero.learners.off_policy.local_targets import LocalTargetsLearner
from rllib_hetero.learners.off_policy.off_policy_learner import OffPolicyLearner
from rllib_hetero.modules.joint_q import (
    JOINT_CRITIC,
    JOINT_CRITICS,
    JOINT_Q_DEFAULTS,
    JointQCritic,
    check_joint_size,
)
from rllib_hetero.orders import arrange, problem_with
from rllib_hetero.replay import JointBatch


class HAD3QNConfig(GreedyConfig):
    """Configures HAD3QN. Actions must be Discrete.

    ```python
    from rllib_hetero import HAD3QNConfig

    config = (
        HAD3QNConfig()
        .environment(
            "mpe", env_config={"scenario": "simple_spread", "continuous_actions": False}
        )
        .env_runners(num_envs_per_env_runner=20)
        .training(epsilon=0.05, gamma=0.95)
    )
    algo = config.build_algo()
    print(algo.train()["learners"]["__all_modules__"]["replay_rows"])
    ```

    ```python
    from ray import tune

    tune.Tuner("HAD3QN", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="off-policy",
        paper="Zhong et al., JMLR 2024",
        update="one agent after another, random order",
        correction="predecessors' best actions in Q",
        step="regression on a joint Q, dueling networks",
        actions=("Discrete",),
        recurrent=False,
    )

    # Without memories, and always dueling.
    model_defaults = JOINT_Q_DEFAULTS
    ORDERS: ClassVar[tuple[str, ...]] = ("random", "cyclic", "reverse")
    """The rules that `update_order` may name."""
    FITTED_ACTIONS: ClassVar[tuple[str, ...]] = ("replayed", "greedy", "all")
    """What `fitted_actions` may be."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or HAD3QN)
        self.gamma = 0.95
        self.update_order: str | list = "random"
        self.fitted_actions = "replayed"
        self.joint_critic = "exact"

    @override(GreedyConfig)
    def training(
        self,
        *,
        update_order: str | list = NotProvided,
        fitted_actions: str = NotProvided,
        joint_critic: str = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `GreedyConfig.training` for those not named here.

        Args:
            update_order: "random" (drawn for each update, from the seed), "cyclic" (the
                environment's order), "reverse" (its reverse), or a list of all agents.
            fitted_actions: Which of its actions' values an agent fits in an update: "replayed",
                what it did (the paper); "greedy", what it and those after it value most (the
                authors' code); "all" that are allowed, beside what the others did.
            joint_critic: "exact", a network with one output for each joint action (the paper), or
                "one_hot", one with the actions as inputs, for teams with too many of them.
        """
        super().training(**kwargs)
        return self.set_given(
            update_order=update_order, fitted_actions=fitted_actions, joint_critic=joint_critic
        )

    @property
    def nvec(self) -> list[int]:
        """The agents' numbers of actions, in team order."""
        layout = self.layout
        return [
            n for a in layout.team.agents for n in layout.distribution(layout.module_of[a]).choices
        ]

    @override(GreedyConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        agents = self.layout.team.agents
        problem = problem_with(self.update_order, self.ORDERS, agents, "update_order")
        if problem:
            self._value_error(problem)
        for name, choices in (
            ("fitted_actions", self.FITTED_ACTIONS),
            ("joint_critic", tuple(JOINT_CRITICS)),
        ):
            if getattr(self, name) not in choices:
                self._value_error(
                    f"`{name}` is {getattr(self, name)!r}; use one of {choices}: "
                    f"config.training({name}=...)."
                )
        if self.joint_critic == "exact":
            check_joint_size(self.nvec)

    @property
    @override(TeamConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return super()._model_config_auto_includes | {"dueling": True}

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        return RLModuleSpec(
            module_class=JointQCritic,
            observation_space=self.layout.team.critic_space,
            action_space=MultiDiscrete(self.nvec),
            learner_only=True,
            model_config=self.model_config | {JOINT_CRITIC: self.joint_critic},
        )

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return HAD3QNLearner


class HAD3QN(OffPolicyAlgorithm):
    """Agents' own Q-networks predict a joint one, which is maximised agent by agent."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> HAD3QNConfig:
        return HAD3QNConfig()


class HAD3QNLearner(LocalTargetsLearner):
    """[1], Algorithm 8."""

    @override(OffPolicyLearner)
    def update_on(self, batch: JointBatch) -> Iterator[GradientStep]:
        # y = r + gamma Q'(s', (argmax_a Q'^i(o'^i, a))_i)
        yield GradientStep({CRITIC: partial(self.global_loss, batch)})
        # By the critic as it is after its step:
        # y^{i_m} = Q(s, a_*^{i_1:m-1}, a_t^{i_m:n})
        agents = self._layout.team.agents
        order = arrange(agents, self.config.update_order, self.seed_of_update(0))
        targets = self.local_targets(batch, order)
        for agent in order:
            module_id = self._layout.module_of[agent]
            if self.should_module_be_updated(module_id):
                yield GradientStep({module_id: partial(self.local_loss, batch, agent, targets)})
