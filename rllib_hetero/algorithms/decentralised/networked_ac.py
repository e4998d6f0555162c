"""NetworkedAC: actor-critic whose agents average their critics over a network.

[1] Zhang, Yang, Liu, Zhang, Başar: Fully Decentralized Multi-Agent Reinforcement Learning with
    Networked Agents. ICML 2018. Algorithm 1.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.decentralised.algorithm import DecentralisedAlgorithm
from rllib_hetero.algorithms.decentralised.f2a2 import F2A2Config, box
from rllib_hetero.algorithms.decentralised.f2a2_coma import F2A2COMAConfig
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.layout import ModuleID
from rllib_hetero.modules.asked_critic import NUM_AGENTS
from rllib_hetero.modules.averaged_critic import AveragedQCritic


class NetworkedACConfig(F2A2COMAConfig):
    """Configures NetworkedAC. Actions must be Discrete.

    ```python
    from rllib_hetero import NetworkedACConfig

    config = (
        NetworkedACConfig()
        .environment("cooperative_mpe", env_config={"scenario": "rover_tower"})
        .env_runners(num_envs_per_env_runner=12)
        .consensus(topology="ring")
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    ```

    ```python
    from ray import tune

    tune.Tuner("NetworkedAC", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="decentralised",
        paper="Zhang et al., ICML 2018",
        update="every agent for itself",
        correction="none: on-policy",
        step="policy gradient with a counterfactual baseline, one-step TD",
        actions=("Discrete",),
        pictures=False,
        recurrent=False,
        several_learners=False,
    )
    critics = ("joint",)

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or NetworkedAC)
        self.joint = False
        self.lambda_ = 0.0
        self.critic_lr = 1e-2
        self.critic_momentum = 0.9
        # The critic is its own target.
        self.tau = 1.0
        self.consensus_mode = "hard"
        self.other_agents_config = self.other_agents_config | {"model": False}

    @override(F2A2COMAConfig)
    def training(self, *, critic_momentum: float = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `F2A2COMAConfig.training` for those not named here.

        `joint` and its weights have no meaning here, nor has `critic`.

        Args:
            critic_momentum: Of the critic's gradient descent, in [0, 1); it is not Adam's, whose
                steps do not add up to one along the mean of the agents' gradients.
        """
        super().training(**kwargs)
        return self.set_given(critic_momentum=critic_momentum)

    @override(F2A2COMAConfig)
    def get_member_class(self) -> type[Any]:
        from rllib_hetero.learners.agents.networked import NetworkedMember

        return NetworkedMember

    @override(F2A2Config)
    def member_critic_spec(self, module_id: ModuleID) -> RLModuleSpec:
        spec = super().member_critic_spec(module_id)
        spec.module_class = AveragedQCritic
        spec.observation_space = box(self.layout.team.critic_space.shape[0])
        spec.model_config |= {NUM_AGENTS: 0}  # type: ignore[operator]
        return spec

    @override(F2A2COMAConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        check_number(self, "critic_momentum", lambda x: 0 <= x < 1, "in [0, 1)")
        if self.joint:
            self._value_error(
                f"`joint` is {self.joint!r}, but NetworkedAC's actor and critic have objectives of "
                "their own: leave it out of config.training(...). With it, this is F2A2COMA."
            )
        if self.models_others:
            self._value_error(
                "NetworkedAC's agents do not predict each other: remove "
                "config.other_agents(model=True)."
            )
        if self.consensus_mode != "hard":
            self._value_error(
                f"NetworkedAC averages its critics, and has no multipliers: remove "
                f"config.consensus(mode={self.consensus_mode!r}). With them, this is F2A2COMA."
            )


class NetworkedAC(DecentralisedAlgorithm):
    """Each agent fits its own rewards, and averages over its neighbours: all learn the team's."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> NetworkedACConfig:
        return NetworkedACConfig()
