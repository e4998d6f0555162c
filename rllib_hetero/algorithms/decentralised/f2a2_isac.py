"""F2A2-ISAC: independent soft actor-critics that agree on everything they are.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
    Section 5.1.2 and 5.5, Algorithm 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.decentralised.algorithm import DecentralisedAlgorithm
from rllib_hetero.algorithms.decentralised.f2a2_sac import F2A2SACConfig
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.modules.categorical_actor import CATEGORICAL_DEFAULTS
from rllib_hetero.modules.q_critic import Q_CRITIC_DEFAULTS
from rllib_hetero.sharing import ParameterSharing
from rllib_hetero.team import Team


class F2A2ISACConfig(F2A2SACConfig):
    """Configures F2A2-ISAC. Agents must be alike, and their actions Discrete.

    ```python
    from rllib_hetero import F2A2ISACConfig

    config = (
        F2A2ISACConfig()
        .environment(
            "mpe", env_config={"scenario": "simple_spread", "continuous_actions": False}
        )
        .env_runners(num_envs_per_env_runner=12)
        .training(agents_per_module=2)
        .consensus(topology="ring")
    )
    algo = config.build_algo()
    print(algo.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    ```

    ```python
    from ray import tune

    tune.Tuner("F2A2ISAC", param_space=config).fit()
    ```
    """

    capabilities = Capabilities(
        family="decentralised",
        paper="Li et al., JMLR 2023",
        update="every agent for itself",
        correction="none: an agent knows its own",
        step="soft policy gradient with a baseline, joint",
        actions=("Discrete",),
        pictures=False,
        recurrent=False,
        several_learners=False,
        sharing="blocks of agents",
        global_state=False,
        unequal_spaces=False,
    )
    critics: ClassVar[tuple[str, ...]] = ("own",)
    model_defaults = Q_CRITIC_DEFAULTS | CATEGORICAL_DEFAULTS | {"input_norm": False}

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or F2A2ISAC)
        self.shared = "actor_and_critic"
        self.parameter_sharing = "blocks"
        self.agent_index = False
        self.agents_per_module: int | None = None

    @override(F2A2SACConfig)
    def training(self, *, agents_per_module: int | None = NotProvided, **kwargs: Any) -> Self:
        """Sets the training settings; see `F2A2SACConfig.training` for those not named here.

        Args:
            agents_per_module: How many agents, neighbours in the environment's order, have one
                actor and critic, "agents_0", "agents_1", ...: one member of the consensus. None:
                as many as `agents_per_learner`, or 1. Applies unless `parameter_sharing` is given.
        """
        super().training(**kwargs)
        return self.set_given(agents_per_module=agents_per_module)

    @property
    def models_others(self) -> bool:
        """They do not matter to a critic of what the agent itself sees and does."""
        return False

    @override(TeamConfig)
    def _sharing(self, team: Team) -> ParameterSharing:
        if self.parameter_sharing != "blocks":
            return super()._sharing(team)
        size = self.agents_per_module or self.agents_per_learner or 1
        if not isinstance(size, int) or size < 1:
            self._value_error(
                f"`agents_per_module` must be an integer of at least 1, or None, got {size!r}: "
                "config.training(agents_per_module=...)."
            )
        if size == 1 or not team.equal_spaces:
            return "none"
        starts = range(0, len(team.agents), size)
        return {f"agents_{i}": team.agents[s : s + size] for i, s in enumerate(starts)}

    @override(TeamConfig)
    def _validate_agent_index(self) -> None:
        """Either is fine, also where every agent has a module of its own."""

    @property
    @override(TeamConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        # Statistics of inputs are not shared, and would tell apart what is to be one policy.
        return super()._model_config_auto_includes | {"input_norm": False}

    @override(F2A2SACConfig)
    def _validate_shared_part(self) -> None:
        if self.shared != "none" and not self.layout.team.equal_spaces:
            self._value_error(
                "The agents have unequal spaces, so that their networks cannot be one: use "
                "F2A2SAC, which shares a critic of the joint action, or "
                "config.consensus(shared='none')."
            )
        super()._validate_shared_part()

    @override(F2A2SACConfig)
    def get_member_class(self) -> type[Any]:
        from rllib_hetero.learners.agents.soft import SoftMember

        return SoftMember


class F2A2ISAC(DecentralisedAlgorithm):
    """Each agent, or block of them, learns from its own view; actors and critics come to agree."""

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> F2A2ISACConfig:
        return F2A2ISACConfig()
