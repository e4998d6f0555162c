"""A2PO: agent-by-agent policy optimisation.

[1] Wang, Tian, Wan, Wen, Wang, Zhang: Order Matters: Agent-by-agent Policy Optimization.
    ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from torch import Tensor
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.on_policy.algorithm import OnPolicyAlgorithm
from rllib_hetero.algorithms.on_policy.sequential import SequentialConfig
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.connectors.team_advantages import (
    ESTIMATES,
    standardize_over_learners,
    who_is_alive,
)
from rllib_hetero.functional import adaptive_clip, clipped_joint_surrogate
from rllib_hetero.layout import CRITIC, ModuleID
from rllib_hetero.learners.minibatch import Rows
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION, OnPolicyLearner
from rllib_hetero.learners.on_policy.policy_change import PolicyChange
from rllib_hetero.learners.on_policy.sequential import SequentialLearner
from rllib_hetero.modules.critic import NUM_CRITICS
from rllib_hetero.reductions import sum_over_learners
from rllib_hetero.team import AgentID


class A2POConfig(SequentialConfig):
    """Configures A2PO.

    ```python
    from rllib_hetero import A2POConfig

    config = (
        A2POConfig()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .training(update_order="semi_greedy", per_agent_critics=True)
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["episode_return_mean"])
    ```

    ```python
    from ray import tune

    tune.Tuner("A2PO", param_space=config).fit()
    ```
    """

    ORDERS = ("semi_greedy", "greedy", "random", "cyclic", "reverse")

    capabilities = Capabilities(
        paper="Wang et al., ICLR 2023",
        update="one agent after another, semi-greedy order",
        correction="product of predecessors' ratios, clipped; advantages re-estimated",
        step="clipped joint ratio, adaptive clip, Adam epochs",
    )

    per_module = SequentialConfig.per_module | {"adaptive_clip_coeff"}

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or A2PO)
        self.update_order = "semi_greedy"
        self.adaptive_clip_coeff = 0.5
        self.per_agent_critics = False

    @override(SequentialConfig)
    def training(
        self,
        *,
        update_order: str | list = NotProvided,
        adaptive_clip_coeff: float = NotProvided,
        per_agent_critics: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings; see `OnPolicyConfig.training` for those not named here.

        Args:
            update_order: "semi_greedy", "greedy", "random", "cyclic" (the environment's order),
                "reverse" (its reverse), or a list of all agents: see `A2POLearner.update_order`.
            adaptive_clip_coeff: c in the k-th agent's clip eps * c + eps * (1 - c) * k / n. 1
                gives every agent `clip_param`.
            per_agent_critics: Whether every agent has a value network of its own, as in the
                authors' code. It takes as long to train as the actors. Without, all agents share
                one, and "semi_greedy" and "greedy" can tell agents apart only by when they were
                alive.
        """
        super().training(update_order=update_order, **kwargs)
        return self.set_given(
            adaptive_clip_coeff=adaptive_clip_coeff, per_agent_critics=per_agent_critics
        )

    @override(SequentialConfig)
    def validate(self) -> None:
        super().validate()
        check_number(self, "adaptive_clip_coeff", lambda x: 0 <= x <= 1, "in [0, 1]")

    @override(TeamConfig)
    def get_critic_spec(self) -> RLModuleSpec:
        spec = super().get_critic_spec()
        if self.per_agent_critics:
            spec.model_config = {**spec.model_config, NUM_CRITICS: len(self.layout.team.agents)}
        return spec

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type:
        return A2POLearner


class A2PO(OnPolicyAlgorithm):
    """Agents improve one after another, on advantages of the team as it has become."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> A2POConfig:
        return A2POConfig()


class A2POLearner(SequentialLearner):
    """The sequential update with preceding-agent off-policy correction (PreOPC).

    Before each agent's turn, advantages are estimated anew for the team as updated so far; the
    critic (after all actors, as in HARL's template) is fitted to the value targets that go with
    them: its own agent's, or with one critic those of all agents.
    """

    @override(SequentialLearner)
    def update_order(self, batch: dict[ModuleID, Rows]) -> Iterator[AgentID]:
        """Estimates advantages for the team so far, then says whose turn it is.

        "semi_greedy" takes by turns a random agent and the one whose advantages promise most,
        argmax E|A| ([1], the agent selection rule R(k), k = 1, ..., n: greedy for even k). The
        authors' code begins with a greedy one, before anything has been corrected.

        With one critic A is the team's, and E|A| is the same for all agents that were alive in
        the same steps. Ties are broken at random: in a team in which nobody dies, the rule is
        then a random order. `per_agent_critics` makes it the paper's.
        """
        team, rule = batch[CRITIC], self.config.update_order
        agents = self._layout.team.agents
        estimates, alive = team[ESTIMATES], who_is_alive(batch, self._layout)
        values = estimates.to_rows(estimates.values)
        targets = torch.empty_like(alive)
        rng = np.random.default_rng((*self._iteration_seed(), 0))
        waiting = list(agents) if isinstance(rule, str) else list(rule)
        for k in range(len(agents)):
            # [1], PreOPC: A^{pi, pi_hat^{i-1}}. Nobody has moved before the first.
            advantages = estimates.advantages(team[CORRECTION] if k else None)
            team[Columns.ADVANTAGES] = advantages
            if self.config.standardize_advantages:
                team[Columns.ADVANTAGES] = standardize_over_learners(advantages, alive)

            if rule == "random" or (rule == "semi_greedy" and k % 2 == 0):  # k counts from 0.
                agent = waiting[rng.integers(len(waiting))]
            elif rule in ("semi_greedy", "greedy"):
                agent = self._most_promising(waiting, advantages, alive, rng)
            else:
                agent = waiting[-1 if rule == "reverse" else 0]
            waiting.remove(agent)

            i = agents.index(agent)
            targets[:, i] = self.of_agent(advantages + values, agent)
            yield agent
        team[Columns.VALUE_TARGETS] = targets

    def _most_promising(
        self, waiting: list[AgentID], advantages: Tensor, alive: Tensor, rng: np.random.Generator
    ) -> AgentID:
        """Argmax E|A| over the steps in which an agent was alive; of several, a random one."""
        columns = [self._layout.team.agents.index(agent) for agent in waiting]
        size = torch.stack([self.of_agent(advantages.abs(), agent) for agent in waiting], 1)
        weights = alive[:, columns]
        sums = sum_over_learners(torch.stack([(size * weights).sum(0), weights.sum(0)]).double())
        scores = (sums[0] / sums[1].clamp(min=1.0)).tolist()
        # Sums over equal columns may differ in their last digits: these are ties too. A NaN is
        # kept: the gradient step reports it.
        enough = max(scores) * (1.0 - 1e-5)
        best = [a for a, score in zip(waiting, scores, strict=True) if not score < enough]
        return best[rng.integers(len(best))]

    @override(OnPolicyLearner)
    def clip_limit(self, change: PolicyChange, config: Any) -> float:
        # [1], the adaptive clipping parameter C(eps, k).
        return adaptive_clip(
            config.clip_param, change.position, change.num_agents, config.adaptive_clip_coeff
        )

    @override(OnPolicyLearner)
    def surrogate(self, change: PolicyChange, config: Any) -> Tensor:
        # [1], the practical objective of agent i, with g clipped to 1 +- eps^i / 2.
        eps = self.clip_limit(change, config)
        return clipped_joint_surrogate(
            change.ratio, change.advantages, eps, others=change.correction, others_clip=eps / 2
        )
