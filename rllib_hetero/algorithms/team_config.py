"""What every algorithm's config knows: the team, who shares a module, which runner samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from ray._common.deprecation import DEPRECATED_VALUE
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.connectors.env_to_module import AddObservationsFromEpisodesToBatch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.policy import PolicySpec
from ray.rllib.utils.annotations import override
from ray.rllib.utils.schedules.scheduler import Scheduler
from typing_extensions import Self

from rllib_hetero.algorithms.arguments import check_arguments, check_evaluation_arguments
from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.evaluation import check_evaluation_team
from rllib_hetero.algorithms.module_checks import (
    check_model,
    check_overrides,
    check_own_modules,
    check_policy_specs,
)
from rllib_hetero.algorithms.ranges import check_number
from rllib_hetero.algorithms.read_team import read_team, sharing_from_policies
from rllib_hetero.algorithms.runner_checks import check_num_learners, check_runner
from rllib_hetero.algorithms.setting_types import NumberOrSchedule
from rllib_hetero.algorithms.team_checks import (
    check_absences,
    check_agent_index,
    check_kinds,
    warn_of_wide_actions,
)
from rllib_hetero.connectors.agent_index import AppendAgentIndex
from rllib_hetero.layout import CRITIC, AbsentMemory, Layout
from rllib_hetero.learners.clipping import GRAD_CLIP_BY
from rllib_hetero.modules.context import CONTEXT_SIZE
from rllib_hetero.runners.team_env_runner import TeamEnvRunner
from rllib_hetero.sharing import ParameterSharing, lay_out
from rllib_hetero.team import Team


class AgentToModule:
    """RLlib's `policy_mapping_fn` as data, so that it can be compared and pickled."""

    def __init__(self, table: dict[Any, str]) -> None:
        self.table = table

    def __call__(self, agent_id: Any, episode: Any = None, **kwargs: Any) -> str:
        return self.table[agent_id]


class TeamConfig(AlgorithmConfig):
    """Base of all configs: reads the team from the environment and lays out its modules.

    Modules follow from the environment; no `.multi_agent()` call is needed. `validate()` makes
    one environment on the driver, reads its `Team`, and closes it, so that every mistake in the
    environment or the sharing is found before any actor starts.
    """

    capabilities: ClassVar[Capabilities]
    """What the algorithm can be used with."""
    autoregressive: ClassVar[bool] = False
    """Whether agents act one after another, each seeing the actions of those before."""

    model_defaults: ClassVar[Mapping[str, Any]]
    """Every key of `model_config` that the default modules read, with its value."""
    policy_family: ClassVar[str] = "stochastic"
    """Which distributions lie over the modules' outputs; see `functional.POLICY_FAMILIES`."""

    actor_attributes: ClassVar[tuple[str, ...]] = ()
    """What learners ask of an actor, beyond its pass: a user's own must have it."""

    per_module: ClassVar[frozenset[str]] = frozenset(
        {"lr", "critic_lr", "grad_clip", "grad_clip_by"}
    )
    """Settings that a module may have of its own: `algorithm_config_overrides_per_module`."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        # Actions as HARL's: an unbounded Gaussian, clipped to the space by the runner.
        self.normalize_actions = False
        self.clip_actions = True
        self.env_runner_cls = TeamEnvRunner
        self.exploration_config: dict = {}
        self.parameter_sharing: ParameterSharing = "none"
        self.agent_index = True
        self.absent_memory: AbsentMemory = "keep"
        self.env_timeout_s: float | None = None
        self.critic_lr: NumberOrSchedule | None = None
        self.adam_epsilon = 1e-5
        self.update_order_seed: int | None = None
        # Read from the environment by validate().
        self.layout: Layout = None  # type: ignore[assignment]
        self.batched_env = False
        self.batched_evaluation_env = False

    @override(AlgorithmConfig)
    def training(
        self,
        *,
        critic_lr: NumberOrSchedule | None = NotProvided,
        adam_epsilon: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the optimisers' settings; RLlib's own, in `kwargs`, keep their meaning.

        Args:
            critic_lr: The critic's learning rate or schedule. None: `lr`.
            adam_epsilon: Adam's epsilon.
            **kwargs: RLlib's other arguments, such as `lr` (the actors').
        """
        super().training(**kwargs)
        return self.set_given(critic_lr=critic_lr, adam_epsilon=adam_epsilon)

    def set_given(self, **settings: Any) -> Self:
        """Sets those of the settings that are not RLlib's `NotProvided`."""
        for name, value in settings.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    @override(AlgorithmConfig)
    def multi_agent(
        self,
        *,
        parameter_sharing: ParameterSharing = NotProvided,
        agent_index: bool = NotProvided,
        absent_memory: AbsentMemory = NotProvided,
        policies: Any = NotProvided,
        policy_mapping_fn: Callable = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets who shares a policy network, and RLlib's other multi-agent settings.

        Args:
            parameter_sharing: "none" (every agent its own module, named after it), "full" (one
                module, "shared"), or a dict of group names to lists of agents. Agents of one
                module need equal spaces.
            agent_index: Whether agents of one module see their one-hot index within the group.
                Without, they are interchangeable, and the module fits groups of any size (unless
                agents act in sequence: what they then see grows with the team).
            absent_memory: What recurrent policies of agents that were absent for some steps know
                on their return: "keep", what they remembered when they left, or "reset", nothing.
                For environments that say `absences = True`.
            policies: RLlib's own way, with `policy_mapping_fn`: names of modules.
            policy_mapping_fn: Called with (agent id, None), returns the module's name.
            **kwargs: RLlib's other arguments, such as `policies_to_train`.
        """
        super().multi_agent(policies=policies, policy_mapping_fn=policy_mapping_fn, **kwargs)
        if policies is not NotProvided or policy_mapping_fn is not NotProvided:
            self.parameter_sharing = None
        if parameter_sharing is not NotProvided:
            self.parameter_sharing = parameter_sharing
        if agent_index is not NotProvided:
            self.agent_index = agent_index
        if absent_memory is not NotProvided:
            self.absent_memory = absent_memory
        return self

    @override(AlgorithmConfig)
    def environment(self, env: Any = NotProvided, **kwargs: Any) -> Self:
        """Sets the environment, and RLlib's other settings of environments.

        Args:
            env: A ready-made environment's name such as "mpe", a name that was registered with
                `ray.tune.register_env`, a class, or a function of the `env_config`.
            **kwargs: RLlib's other arguments, such as `env_config`.
        """
        super().environment(env, **kwargs)
        if env is not NotProvided:
            self.layout = None  # type: ignore[assignment]
        return self

    @override(AlgorithmConfig)
    def fault_tolerance(self, *, env_timeout_s: float | None = NotProvided, **kwargs: Any) -> Self:
        """Sets what is done about environments that hang, and RLlib's other settings of faults.

        Args:
            env_timeout_s: Seconds that one step, or one reset, of all environments of a remote
                runner may take. A runner that takes longer is ended and replaced. None: for ever.
            **kwargs: RLlib's other arguments, such as `restart_failed_sub_environments`.
        """
        super().fault_tolerance(**kwargs)
        if env_timeout_s is not NotProvided:
            self.env_timeout_s = env_timeout_s
        return self

    @override(AlgorithmConfig)
    def rl_module(self, **kwargs: Any) -> Self:
        """As RLlib's. Keys of `model_config` for the default modules: see `MODEL_DEFAULTS`."""
        return super().rl_module(**kwargs)

    @override(AlgorithmConfig)
    def get_state(self) -> dict[str, Any]:
        """As RLlib's, which takes -1 for "deprecated" and would silently drop it."""
        default = vars(type(self)())
        lost = {
            name: value
            for name, value in vars(self).items()
            if type(value) is int and value == DEPRECATED_VALUE and default.get(name) != value
        }
        return super().get_state() | lost

    @override(AlgorithmConfig)
    def validate(self) -> None:
        if not self.in_evaluation:
            check_arguments(self)
            check_evaluation_arguments(self)
            check_policy_specs(self)
            self._resolve_layout()
            self._resolve_evaluation()
            check_overrides(self)
            warn_of_wide_actions(self)
        self._validate_team()
        super().validate()
        if not self.in_evaluation:
            check_own_modules(self)
        # Shared by all learners, and part of the run's record even where no seed was given.
        if self.seed is not None:
            self.update_order_seed = self.seed
        elif self.update_order_seed is None:
            self.update_order_seed = int(np.random.SeedSequence().generate_state(1)[0])
        if self.in_evaluation:
            return
        if self.critic_lr is not None:
            Scheduler.validate(
                fixed_value_or_schedule=self.critic_lr,
                setting_name="critic_lr",
                description="learning rate",
            )
        if self.grad_clip is not None:
            check_number(self, "grad_clip", lambda x: x > 0, "> 0, or None")
        if self.grad_clip_by not in GRAD_CLIP_BY:
            self._value_error(
                f"`grad_clip_by` is {self.grad_clip_by!r}; use one of {GRAD_CLIP_BY}: "
                "config.training(grad_clip_by=...)."
            )
        check_num_learners(self)

    @override(AlgorithmConfig)
    def _value_error(self, errmsg: str) -> None:
        """Raises. RLlib's own would advise to go on unchecked, without a team."""
        raise ValueError(errmsg)

    # ---- the team ---------------------------------------------------------------------------

    def _resolve_layout(self) -> None:
        team, self.batched_env = read_team(self)
        known = None if self.layout is None else self.layout.team.agents
        if known is not None and set(known) == set(team.agents):
            # Restored: an environment that lists its agents in the order of a set has another
            # one in every process.
            team = team.ordered(known)
        self.layout = lay_out(
            team,
            self._sharing(team),
            autoregressive=self.autoregressive,
            agent_index=self.agent_index,
            policy_family=self.policy_family,
            absent_memory=self.absent_memory,
        )
        self.policies = {
            m: PolicySpec(None, self.layout.observation_space(m), self.layout.action_space(m))
            for m in self.layout.groups
        }
        self.policy_mapping_fn = AgentToModule(dict(self.layout.module_of))

    def _resolve_evaluation(self) -> None:
        """Makes sure that the evaluation has the same team, where its environment is another."""
        self.batched_evaluation_env = self.batched_env
        if {"env", "env_config"} & set(self.evaluation_config or {}):
            config = self.get_evaluation_config_object()
            team, self.batched_evaluation_env = read_team(config)
            check_evaluation_team(self.layout.team, team)

    def _validate_team(self) -> None:
        """The algorithm, its runner and its modules fit the team."""
        check_runner(self)
        self._validate_agent_index()
        check_absences(self)
        check_kinds(self)
        check_model(self)

    def _validate_agent_index(self) -> None:
        check_agent_index(self)

    def _sharing(self, team: Team) -> ParameterSharing:
        if self.parameter_sharing is None:
            return sharing_from_policies(self, team)
        return self.parameter_sharing

    @property
    def returns_end_with_lives(self) -> bool:
        """Whether an agent's return is cut where it acts no more."""
        return False

    @property
    def max_seq_len(self) -> int:
        """Length of the sequences that recurrent networks are trained on; 1 where none can be."""
        return (dict(self.model_defaults) | self.model_config).get("max_seq_len", 1)

    # ---- modules and connectors -------------------------------------------------------------

    def get_critic_spec(self) -> RLModuleSpec:
        """The centralised critic. It stays with the learner; runners never build it."""
        raise NotImplementedError

    @property
    @override(AlgorithmConfig)
    def model_config(self) -> dict[str, Any]:
        return self._model_config_auto_includes | self._given_model_config()

    def _given_model_config(self) -> dict[str, Any]:
        given = self._model_config
        return dict(given) if isinstance(given, dict) else dict(vars(given))

    @property
    @override(AlgorithmConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        """What an actor must know of the team, beside its spaces."""
        if self.layout is None or not self.layout.autoregressive:
            return {}
        return {CONTEXT_SIZE: self.layout.context_size}

    @override(AlgorithmConfig)
    def get_multi_rl_module_spec(
        self, *, inference_only: bool = False, **kwargs: Any
    ) -> MultiRLModuleSpec:
        """One actor per module of the layout and, for the learner, the critic."""
        kwargs.pop("env", None)
        kwargs["spaces"] = {
            m: (self.layout.observation_space(m), self.layout.action_space(m))
            for m in self.layout.groups
        }
        spec = super().get_multi_rl_module_spec(inference_only=inference_only, **kwargs)
        if not inference_only and CRITIC not in spec:
            spec.add_modules({CRITIC: self.get_critic_spec()})
        return spec

    @override(AlgorithmConfig)
    def build_env_to_module_connector(
        self, env: Any = None, spaces: Any = None, device: Any = None
    ) -> Any:
        pipeline = super().build_env_to_module_connector(env=env, spaces=spaces, device=device)
        if any(self.layout.index_size(m) for m in self.layout.groups):
            pipeline.insert_after(
                AddObservationsFromEpisodesToBatch, AppendAgentIndex(layout=self.layout)
            )
        return pipeline

    @override(AlgorithmConfig)
    def get_evaluation_config_object(self) -> Any:
        """Evaluation acts greedily unless `evaluation_config` sets `explore` itself."""
        config = super().get_evaluation_config_object()
        if config is None:
            return None
        if "explore" not in (self.evaluation_config or {}):
            config.explore = False
        # The policies are the training's, also where `evaluation_config` is a whole config.
        for name in ("layout", "policies", "policy_mapping_fn"):
            setattr(config, name, getattr(self, name))
        config.batched_env = self.batched_evaluation_env
        return config

    @property
    @override(AlgorithmConfig)
    def is_multi_agent(self) -> bool:
        return self.layout is not None or DEFAULT_MODULE_ID not in self.policies
