"""What every algorithm's config knows: the team, who shares a module, which runner samples."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box
from ray._common.deprecation import DEPRECATED_VALUE
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.connectors.env_to_module import AddObservationsFromEpisodesToBatch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.rllib.policy.policy import PolicySpec
from ray.rllib.utils.annotations import override
from ray.rllib.utils.schedules.scheduler import Scheduler
from typing_extensions import Self

from rllib_hetero.algorithms.arguments import check_arguments, check_evaluation_arguments
from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.checkpoint import connectors_of
from rllib_hetero.algorithms.evaluation import check_evaluation_team, global_randomness_kept
from rllib_hetero.algorithms.model_settings import check_encoder_keys, check_model_config
from rllib_hetero.algorithms.setting_types import NumberOrSchedule
from rllib_hetero.connectors.agent_index import AppendAgentIndex
from rllib_hetero.envs import ENVIRONMENTS, register_environments
from rllib_hetero.errors import TeamError
from rllib_hetero.learners.clipping import GRAD_CLIP_BY
from rllib_hetero.modules.context import CONTEXT_SIZE
from rllib_hetero.modules.own import check_actor, check_critic
from rllib_hetero.runners.env_creator import make_env
from rllib_hetero.runners.returned import check_is_team_env
from rllib_hetero.runners.stock_runner import StockTeamEnvRunner
from rllib_hetero.runners.team_env_runner import TeamEnvRunner
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.spaces import is_mixed
from rllib_hetero.team import CRITIC, AbsentMemory, Layout, ParameterSharing, Team, lay_out

logger = logging.getLogger(__name__)

WIDE = 3.0
"""From which bound of an action on a Gaussian of deviation 1 hardly reaches it."""


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
            self._refuse_specs_that_say_more()
            self._resolve_layout()
            self._resolve_evaluation()
            self._validate_overrides()
            self._warn_of_wide_actions()
        self._validate_team_settings()
        super().validate()
        if not self.in_evaluation:
            self._validate_own_modules()
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
            self.check_number("grad_clip", lambda x: x > 0, "> 0, or None")
        if self.grad_clip_by not in GRAD_CLIP_BY:
            self._value_error(
                f"`grad_clip_by` is {self.grad_clip_by!r}; use one of {GRAD_CLIP_BY}: "
                "config.training(grad_clip_by=...)."
            )
        self._validate_num_learners()

    @override(AlgorithmConfig)
    def _value_error(self, errmsg: str) -> None:
        """Raises. RLlib's own would advise to go on unchecked, without a team."""
        raise ValueError(errmsg)

    def _refuse_specs_that_say_more(self) -> None:
        for name, spec in self.policies.items() if isinstance(self.policies, dict) else ():
            if isinstance(spec, list | tuple):  # as RLlib copies it
                spec = PolicySpec(*spec)
            if isinstance(spec, PolicySpec) and (spec.config or spec.policy_class is not None):
                self._value_error(
                    f"The PolicySpec of {name!r} has a config or a class, which nothing reads. Set "
                    "what is its own with config.rl_module(algorithm_config_overrides_per_module="
                    f"{{{name!r}: {{...}}}}), or a class with config.rl_module(rl_module_spec=...)."
                )

    def _validate_overrides(self) -> None:
        """What a module has of its own is read by module, and the module is there."""
        modules = [*self.layout.groups, CRITIC]
        for m, given in self.algorithm_config_overrides_per_module.items():
            if m not in modules:
                self._value_error(
                    f"`algorithm_config_overrides_per_module` names {m!r}; the modules are "
                    f"{modules}. Mend it with config.rl_module(...)."
                )
            unread = sorted(set(given) - self.per_module)
            if unread:
                self._value_error(
                    f"{unread} cannot be overridden for the module {m!r}: of "
                    f"{self.algo_class.__name__} these can: {sorted(self.per_module)}. Set it for "
                    "all with config.training(...)."
                )
            check_arguments(self.copy(copy_frozen=False).update_from_dict(given))

    def check_number(self, name: str, good: Callable[[float], bool], wanted: str) -> None:
        """Raises unless the setting is a number in its range.

        Args:
            name: Of an argument of `training()`.
            good: Whether a number is in range.
            wanted: The range in words, for the message.
        """
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or not good(value):
            self._value_error(
                f"`{name}` is {value!r}, but must be a number {wanted}. Mend it with "
                f"config.training({name}=...)."
            )

    def check_schedule(
        self, name: str, value: Any, *, least: float, most: float = float("inf")
    ) -> None:
        """Raises unless a setting is a number in its range, or a schedule of such numbers.

        Args:
            name: Of the argument of `training()`.
            value: What it holds.
            least: The smallest number that is allowed.
            most: The largest.
        """
        points = value if isinstance(value, (list, tuple)) else [(0, value), (1, value)]
        try:
            good = len(points) > 1 and points[0][0] == 0
            good = good and all(least <= float(y) <= most for _, y in points)
        except (TypeError, ValueError, IndexError):
            good = False
        if not good:
            self._value_error(
                f"`{name}` is {value!r}, but must be a number in [{least}, {most}], or a schedule "
                "over environment steps, from 0 on, of such numbers, [[0, a], [100_000, b]]. Mend "
                f"it with config.training({name}=...)."
            )
        Scheduler.validate(fixed_value_or_schedule=value, setting_name=name, description=name)

    def check_integer(self, name: str, least: int) -> None:
        """Raises unless the setting is an integer of at least `least`.

        Args:
            name: Of an argument of `training()`.
            least: The smallest that is allowed.
        """
        value = getattr(self, name)
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            self._value_error(
                f"`{name}` is {value!r}, but must be an integer of at least {least}. Mend it with "
                f"config.training({name}=...)."
            )

    def _warn_of_wide_actions(self) -> None:
        """An untrained Gaussian draws within about 1 of 0, whatever the bounds are."""
        if self.normalize_actions or self.policy_family != "stochastic":
            return
        wide = {
            a: space
            for a, space in self._numbers_to_draw()
            if isinstance(space, Box)
            and space.is_bounded()
            and max(abs(space.low).max(), abs(space.high).max()) > WIDE
        }
        if wide:
            agent, space = next(iter(wide.items()))
            logger.warning(
                "Actions of %s reach far from 0 (%s of agent %r), and an untrained policy draws "
                "within about 1 of it: it may never see most of them. "
                "config.environment(normalize_actions=True) stretches [-1, 1] to the bounds.",
                list(wide),
                space,
                agent,
            )

    def _numbers_to_draw(self) -> Iterator[tuple[Any, Any]]:
        for agent, moves in self.layout.team.moves.items():
            for space in moves.flat.spaces if is_mixed(moves.flat) else [moves.flat]:
                yield agent, space

    def warn_of_shared_networks(self) -> None:
        """Says what becomes of updates one after another where agents share a network."""
        shared = [m for m, agents in self.layout.groups.items() if len(agents) > 1]
        if shared and not self.in_evaluation:
            logger.warning(
                "%s updates agents one after another, and the agents of %s share one network: "
                "each update then also moves the policies of the others, which it does not "
                "account for. This is the ablation of HARL's paper; its guarantees are for "
                "config.multi_agent(parameter_sharing='none').",
                self.algo_class.__name__,
                shared,
            )

    def _validate_num_learners(self) -> None:
        envs = max(1, self.num_env_runners) * self.num_envs_per_env_runner
        if self.num_learners > envs:
            self._value_error(
                f"{self.num_learners} learners share the environments, whole ones each, but there "
                f"are only {envs}. Set config.env_runners(num_envs_per_env_runner=...) higher or "
                "config.learners(num_learners=...) lower."
            )

    # ---- the team ---------------------------------------------------------------------------

    def _resolve_layout(self) -> None:
        team, self.batched_env = self._read_team()
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
            team, self.batched_evaluation_env = config._read_team()
            check_evaluation_team(self.layout.team, team)

    def _read_team(self) -> tuple[Team, bool]:
        """The team, and whether the environment is batched by nature."""
        if self.env is None:
            raise TeamError(
                "No environment is set. Use config.environment('mpe', "
                "env_config={'scenario': 'simple_spread'}) or your own."
            )
        # Ray forgets what was registered when it is shut down.
        register_environments()
        context = EnvContext(
            {**self.env_config, "num_envs": 1} if self._is_batched() else self.env_config,
            worker_index=0,
        )
        env = make_env(self.env, context, names=ENVIRONMENTS)
        try:
            if isinstance(env, VectorTeamEnv):
                return env.team, True
            check_is_team_env(env)
            return Team.from_env(env), False
        finally:
            _close(env)

    def _is_batched(self) -> bool:
        return isinstance(self.env, type) and issubclass(self.env, VectorTeamEnv)

    def _sharing(self, team: Team) -> ParameterSharing:
        if self.parameter_sharing is None:
            return self._sharing_from_policies(team)
        return self.parameter_sharing

    def _sharing_from_policies(self, team: Team) -> dict[str, list]:
        if self.policy_mapping_fn is AlgorithmConfig.DEFAULT_POLICY_MAPPING_FN:
            raise TeamError(
                "`policy_mapping_fn` is not set, and where `parameter_sharing` is None, as it is "
                "beside `policies`, nothing else says who has which module: use "
                "config.multi_agent(policies=..., policy_mapping_fn=...), or "
                "config.multi_agent(parameter_sharing='none') for a module of each agent's own."
            )
        groups: dict[str, list] = {}
        for agent in team.agents:
            try:
                name = self.policy_mapping_fn(agent, None)
            except Exception as error:
                raise TeamError(
                    f"`policy_mapping_fn` raised {type(error).__name__} for the agent {agent!r}: "
                    f"{error}. It is called once for each agent, without an episode (None): who "
                    "has which module stays for the whole run. Mend it with "
                    "config.multi_agent(policy_mapping_fn=...)."
                ) from error
            if name not in self.policies:
                raise TeamError(
                    f"`policy_mapping_fn` maps the agent {agent!r} to {name!r}, which is not "
                    f"among the policies {sorted(self.policies)}. Mend it with "
                    "config.multi_agent(policies=..., policy_mapping_fn=...)."
                )
            groups.setdefault(name, []).append(agent)
        return groups

    def _validate_team_settings(self) -> None:
        if self.env_runner_cls is MultiAgentEnvRunner:
            self.env_runner_cls = StockTeamEnvRunner
        if not issubclass(self.env_runner_cls, MultiAgentEnvRunner):
            self._value_error(
                f"`env_runner_cls` is {self.env_runner_cls.__name__}; use TeamEnvRunner (the "
                "default) or MultiAgentEnvRunner: config.env_runners(env_runner_cls=...)."
            )
        fast = issubclass(self.env_runner_cls, TeamEnvRunner)
        connectors = connectors_of(self)
        if connectors and not fast and not self.in_evaluation:
            logger.warning(
                "Checkpoints will hold the policies without your %s: `load_policies` will refuse "
                "them. Algorithm.from_checkpoint restores both.",
                " and ".join(connectors),
            )
        if connectors and fast:
            self._value_error(
                "The team env runner has no env-to-module or module-to-env connectors. Use "
                "config.env_runners(env_runner_cls=MultiAgentEnvRunner) to run yours, or put "
                "the transformation into the environment."
            )
        if self.autoregressive and not fast:
            self._value_error(
                "Agents act in sequence on the team env runner only: remove "
                "config.env_runners(env_runner_cls=...)."
            )
        if self.policy_family != "stochastic" and not fast:
            self._value_error(
                "How this algorithm explores is known to the team env runner only: remove "
                "config.env_runners(env_runner_cls=...)."
            )
        if self.env_timeout_s is not None:
            self._validate_env_timeout(fast)
        self._validate_agent_index()
        self._validate_absences(fast)
        self._validate_kinds(fast)
        self._validate_model_config()
        if not fast and self._rl_module_spec is None and self.model_config.get("recurrent"):
            self._value_error(
                "Recurrent policies run on the team env runner only: remove "
                "config.env_runners(env_runner_cls=...), or set "
                "config.rl_module(model_config={'recurrent': None})."
            )

    def _validate_env_timeout(self, fast: bool) -> None:
        seconds = self.env_timeout_s
        if (
            not isinstance(seconds, (int, float))
            or isinstance(seconds, bool)
            or not 0 < seconds < threading.TIMEOUT_MAX
        ):
            self._value_error(
                f"`env_timeout_s` must be a number of seconds above 0, or None, got {seconds!r}. "
                "Set it with config.fault_tolerance(env_timeout_s=300)."
            )
        if not fast:
            self._value_error(
                "`env_timeout_s` is kept by the team env runner only: remove "
                "config.env_runners(env_runner_cls=...), or "
                "config.fault_tolerance(env_timeout_s=...)."
            )
        # Evaluation without runners of its own is in the driver, and goes without a limit.
        if self.num_env_runners == 0 and not self.in_evaluation:
            self._value_error(
                "`env_timeout_s` ends the process of an environment that hangs, which without "
                "remote runners is the driver: set config.env_runners(num_env_runners=1) or more, "
                "or remove config.fault_tolerance(env_timeout_s=...)."
            )

    def _validate_kinds(self, fast: bool) -> None:
        """Observations and actions are of kinds that the algorithm and the runner take."""
        team = self.layout.team
        if team.pictured and not self.capabilities.pictures:
            self._value_error(
                f"{self.algo_class.__name__} has no networks for pictures, which are seen by "
                f"{', '.join(team.pictured)}. Use an algorithm that has (HAPPO, MAPPO, HASAC, "
                "QMIX), or wrap the environment so that it flattens them "
                "(supersuit.flatten_v0(supersuit.dtype_v0(env, 'float32')))."
            )
        if team.pictured and self.model_config.get("input_norm"):
            self._value_error(
                "`input_norm` keeps the statistics of vectors, and "
                f"{', '.join(map(str, team.pictured))} see pictures, which have a scale of their "
                "own: remove config.rl_module(model_config={'input_norm': True})."
            )
        mixed = [a for a, m in team.moves.items() if is_mixed(m.flat)]
        if mixed and not fast:
            self._value_error(
                f"The actions of {mixed} are both choices and numbers, which the team env runner "
                "alone draws: remove config.env_runners(env_runner_cls=...)."
            )

    def _validate_agent_index(self) -> None:
        if not isinstance(self.agent_index, bool):
            self._value_error(
                f"`agent_index` must be True or False, got {self.agent_index!r}. Set it with "
                "config.multi_agent(agent_index=...)."
            )
        num_agents, num_modules = len(self.layout.team.agents), len(self.layout.groups)
        if not self.agent_index and 1 < num_agents == num_modules:
            self._value_error(
                "`agent_index` is for agents that share a module, and here each has its own: "
                "remove config.multi_agent(agent_index=False), or share modules with "
                "config.multi_agent(parameter_sharing='full')."
            )

    @property
    def returns_end_with_lives(self) -> bool:
        """Whether an agent's return is cut where it acts no more."""
        return False

    def _validate_absences(self, fast: bool) -> None:
        if not self.layout.team.absences:
            return
        if self.returns_end_with_lives:
            self._value_error(
                "The environment says `absences = True`, and what agents learn here are returns "
                "that end where they act no more: an absence would count as a death. Use an "
                "algorithm of the team's return (HAPPO, MAPPO, HASAC, QMIX, ...), or leave "
                "`absences` out of the environment if agents never return."
            )
        if not fast:
            self._value_error(
                "The environment says `absences = True`, and agents may be absent on the team env "
                "runner only: remove config.env_runners(env_runner_cls=...)."
            )

    def _validate_model_config(self) -> None:
        if self._rl_module_spec is not None:
            # Modules of a user's own have keys of their own, and the batch has sequences.
            if not (isinstance(self.max_seq_len, int) and self.max_seq_len >= 1):
                self._value_error(
                    f"`max_seq_len` must be an integer of at least 1, got {self.max_seq_len!r}. "
                    "Set it with config.rl_module(model_config={'max_seq_len': 10})."
                )
            return
        given = self._given_model_config()
        check_model_config(given, self.model_defaults)
        check_encoder_keys(given, self.layout.team)
        if "action_projection" in given and not self.autoregressive:
            self._value_error(
                "`action_projection` is for agents that act in sequence (BPPO, ARMAPPO): remove it "
                "from config.rl_module(model_config={...})."
            )

    def _validate_own_modules(self) -> None:
        """Modules of the user's own do what is asked of modules."""
        if self._rl_module_spec is None:
            return
        own = {
            m: spec
            for m, spec in self.get_multi_rl_module_spec().rl_module_specs.items()
            if spec.module_class.__module__.split(".")[0] != "rllib_hetero"
        }
        with global_randomness_kept():
            for m, spec in own.items():
                if m != CRITIC:
                    check_actor(spec.build(), m, self.layout, attributes=self.actor_attributes)
                    continue
                if not spec.learner_only:
                    self._value_error(
                        "The critic's RLModuleSpec needs `learner_only=True`: runners have none."
                    )
                default = self.get_critic_spec().module_class
                check_critic(spec.build(), m, self.layout, default=default)

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


def _close(env: Any) -> None:
    try:
        env.close()
    except Exception as error:
        # PettingZoo's may raise where nothing has been drawn yet.
        logger.warning("Closing the environment %s raised: %s", type(env).__name__, error)
