"""What the algorithms without a central learner are configured with.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override
from torch import nn
from typing_extensions import Self

from rllib_hetero.algorithms.off_policy.config import OffPolicyConfig
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.consensus.graphs import Topology, largest_disagreement
from rllib_hetero.consensus.intervals import Intervals
from rllib_hetero.consensus.multipliers import MODES, MULTIPLIERS, STABLE, Consensus
from rllib_hetero.consensus.shared_part import SharedPart, difference_of
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents.group import AgentLearnerGroup
from rllib_hetero.replay import bytes_needed, check_memory, free_memory
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

if TYPE_CHECKING:
    from rllib_hetero.learners.agents.member import Member

SHARED_PARTS = ("critic", "attention", "actor_and_critic", "none")
"""What `config.consensus(shared=...)` may name, beside a predicate on parameters' names."""

logger = logging.getLogger(__name__)


class DecentralisedConfig(TeamConfig):
    """Settings of agents that learn apart and agree by consensus.

    A *member* is one module of the layout with all that it learns with; without parameter sharing
    each agent is a member. A *host* is the Ray actor that holds members. A *round* is one exchange
    of the shared parts; rounds count updates.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.num_learners = 0
        self.num_steps_sampled_before_learning_starts = 0
        self.consensus_mode = "pdhg_decoupled"
        self.consensus_beta = 0.01
        self.consensus_pull = 0.3
        self.topology: Any = "full"
        self.extra_edges = 0.0
        self.exchange_interval: tuple[float, float] = (1, 0)
        self.shared: str | Callable[[str], bool] = "critic"
        self.multipliers = "node"
        self.peer_timeout_s = 10.0
        self.agents_per_learner: int | None = 1
        self.num_cpus_per_agent_learner: float = 1
        self.num_gpus_per_agent_learner: float = 0
        self.max_agent_learner_restarts = 1000
        self.agent_snapshot_interval = 10

    @property
    @override(TeamConfig)
    def returns_end_with_lives(self) -> bool:
        return True

    def consensus(
        self,
        *,
        mode: str = NotProvided,
        beta: float = NotProvided,
        pull: float = NotProvided,
        topology: Any = NotProvided,
        extra_edges: float = NotProvided,
        interval: tuple[float, float] = NotProvided,
        shared: str | Callable[[str], bool] = NotProvided,
        multipliers: str = NotProvided,
        peer_timeout_s: float = NotProvided,
    ) -> Self:
        """Sets what is shared, between whom, how often, and how copies are brought together.

        Args:
            mode: "pdhg": the gradient of the shared part carries the multiplier and the pull
                towards the average, as in [1] (5.4). "pdhg_decoupled": the gradient carries the
                multiplier only, and the exchange pulls the copy: Adam would scale the pull away.
                "hard": each copy is overwritten by the average.
            beta: Step of the multipliers and, in "pdhg", weight of the penalty; > 0. Large beside
                the gradients it shakes the copies that it is to bring together.
            pull: By how much of its distance to the average a copy is pulled in an exchange, in
                (0, 1]. "pdhg_decoupled" only.
            topology: "full", "ring" (in an order drawn from the seed), "star", "none" (nobody
                exchanges), or a `networkx` graph whose nodes are module ids (the agents, unless
                they share modules).
            extra_edges: Of the edges that the topology lacks, the share that is added in each
                round, drawn anew; in [0, 1].
            interval: Mean and standard deviation of the updates from a member's exchange to its
                next, drawn by each member for itself; (1, 0) exchanges after every update,
                (float("inf"), 0) never. A member that is due exchanges with all its neighbours,
                whether they are due or not.
            shared: Which parameters are shared: "critic", "attention" (the part of an attention
                critic that all agents use), "actor_and_critic", "none", or a predicate on the
                names of the member's parameters.
            multipliers: "node" (one for each member; set to zero when a peer is lost or comes
                back) or "edge" (one for each edge: those of a lost peer go, the others stay; takes
                as much memory as there are neighbours).
            peer_timeout_s: Once half of the hosts have answered, seconds to wait for the others
                before a round goes on without them.
        """
        return self.set_given(
            consensus_mode=mode,
            consensus_beta=beta,
            consensus_pull=pull,
            topology=topology,
            extra_edges=extra_edges,
            exchange_interval=interval,
            shared=shared,
            multipliers=multipliers,
            peer_timeout_s=peer_timeout_s,
        )

    @override(AlgorithmConfig)
    def learners(
        self,
        *,
        agents_per_learner: int | None = NotProvided,
        num_cpus_per_agent_learner: float = NotProvided,
        num_gpus_per_agent_learner: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets where agents learn. RLlib's own learners have no part in it.

        Args:
            agents_per_learner: How many agents one Ray actor holds. None: all learn in the
                driver's process, without actors, with the same results; for debugging.
            num_cpus_per_agent_learner: CPUs of each Ray actor that holds agents, and its threads.
            num_gpus_per_agent_learner: GPUs of each Ray actor that holds agents.
            **kwargs: RLlib's other arguments.
        """
        super().learners(**kwargs)
        return self.set_given(
            agents_per_learner=agents_per_learner,
            num_cpus_per_agent_learner=num_cpus_per_agent_learner,
            num_gpus_per_agent_learner=num_gpus_per_agent_learner,
        )

    @override(TeamConfig)
    def fault_tolerance(
        self,
        *,
        max_agent_learner_restarts: int = NotProvided,
        agent_snapshot_interval: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets what is done when an agent's actor is lost; see `TeamConfig.fault_tolerance` too.

        Args:
            max_agent_learner_restarts: How often one actor is started anew; 0: a lost agent stays
                lost, and the others go on without it.
            agent_snapshot_interval: After how many iterations an actor keeps its members' state on
                its machine's disk, where it finds it when it is started anew; 0: never, so that it
                starts from its neighbours' shared part.
            **kwargs: `TeamConfig`'s and RLlib's other arguments.
        """
        super().fault_tolerance(**kwargs)
        return self.set_given(
            max_agent_learner_restarts=max_agent_learner_restarts,
            agent_snapshot_interval=agent_snapshot_interval,
        )

    # ---- what follows from the settings -----------------------------------------------------

    @property
    def members(self) -> list[ModuleID]:
        """Ids of all members, in the order that numbers them."""
        return list(self.layout.groups)

    @property
    def hosts(self) -> list[list[ModuleID]]:
        """The members of each host: filled in order, each with `agents_per_learner` agents."""
        if self.agents_per_learner is None:
            return [self.members]
        hosts: list[list[ModuleID]] = []
        room = 0
        for m, agents in self.layout.groups.items():
            if room < len(agents):
                hosts.append([])
                room = max(self.agents_per_learner, len(agents))
            hosts[-1].append(m)
            room -= len(agents)
        return hosts

    def new_topology(self) -> Topology:
        """The graph of each round, for all members."""
        return Topology(
            self.members, self.topology, self.extra_edges, seed=self.update_order_seed or 0
        )

    def new_intervals(self) -> Intervals:
        """Who is due in which round."""
        mean, std = self.exchange_interval
        return Intervals(self.members, mean, std, seed=self.update_order_seed or 0)

    @property
    def shared_lr(self) -> float:
        """The largest learning rate of the shared part, for the check of stability."""
        lr = self.lr if self.critic_lr is None else self.critic_lr
        return max(y for _, y in lr) if isinstance(lr, (list, tuple)) else lr

    def new_consensus(self, shared: SharedPart) -> Consensus:
        """One member's multipliers and average."""
        return Consensus(
            shared,
            mode=self.consensus_mode,
            beta=self.consensus_beta,
            pull=self.consensus_pull,
            multipliers=self.multipliers,
        )

    # ---- what a family supplies -------------------------------------------------------------

    def get_member_class(self) -> type[Member]:
        """What one agent learns with."""
        raise NotImplementedError

    def is_shared(self, name: str) -> bool:
        """Whether the parameter of this name is of the shared part."""
        raise NotImplementedError

    def parameters_of(self, module_id: ModuleID) -> Mapping[str, nn.Parameter]:
        """By name, those of a member like the one that its host will have."""
        raise NotImplementedError

    # ---- bad input --------------------------------------------------------------------------

    @override(TeamConfig)
    def validate(self) -> None:
        super().validate()
        if self.in_evaluation:
            return
        self._validate_hosts()
        self._validate_consensus()
        self._validate_graph()
        if not issubclass(self.env_runner_cls, TeamEnvRunner):
            self._value_error(
                "Only the team env runner hands each agent its own rewards: remove "
                "config.env_runners(env_runner_cls=...)."
            )
        if self.policies_to_train is not None:
            self._value_error(
                "All agents learn, each where it is: remove "
                "config.multi_agent(policies_to_train=...)."
            )

    def _validate_hosts(self) -> None:
        if self.num_learners:
            self._value_error(
                "There is no central learner: remove config.learners(num_learners=...). How many "
                "agents share an actor is config.learners(agents_per_learner=...)."
            )
        k, n = self.agents_per_learner, len(self.layout.team.agents)
        if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
            self._value_error(
                f"`agents_per_learner` must be an integer of at least 1, or None, got {k!r}: "
                "config.learners(agents_per_learner=...)."
            )
        if k is not None and k > n:
            self._value_error(
                f"`agents_per_learner` is {k}, and there are only {n} agents: lower "
                "config.learners(agents_per_learner=...)."
            )
        for name in ("num_cpus_per_agent_learner", "num_gpus_per_agent_learner"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or value < 0:
                self._value_error(
                    f"`{name}` must be a number >= 0, got {value!r}: config.learners({name}=...)."
                )
        for name in ("max_agent_learner_restarts", "agent_snapshot_interval"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                self._value_error(
                    f"`{name}` must be an integer >= 0, got {value!r}: "
                    f"config.fault_tolerance({name}=...)."
                )

    def _validate_consensus(self) -> None:
        for name, given, choices in (
            ("mode", self.consensus_mode, MODES),
            ("multipliers", self.multipliers, MULTIPLIERS),
        ):
            if given not in choices:
                self._value_error(
                    f"`{name}` is {given!r}; use one of {choices}: config.consensus({name}=...)."
                )
        if not callable(self.shared) and self.shared not in SHARED_PARTS:
            self._value_error(
                f"`shared` is {self.shared!r}; use one of {SHARED_PARTS} or a predicate on the "
                "names of parameters: config.consensus(shared=...)."
            )
        for name, value, good, wanted in (
            ("beta", self.consensus_beta, lambda x: x > 0, "> 0"),
            ("pull", self.consensus_pull, lambda x: 0 < x <= 1, "in (0, 1]"),
            ("extra_edges", self.extra_edges, lambda x: 0 <= x <= 1, "in [0, 1]"),
            ("peer_timeout_s", self.peer_timeout_s, lambda x: x > 0, "> 0"),
        ):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not good(value):
                self._value_error(
                    f"`{name}` is {value!r}, but must be a number {wanted}: "
                    f"config.consensus({name}=...)."
                )
        try:
            self.new_intervals()
        except (ValueError, TypeError):
            self._value_error(
                f"`interval` is {self.exchange_interval!r}, but must be the mean (at least 1 "
                "update) and the standard deviation (at least 0) of the updates between exchanges: "
                "config.consensus(interval=(1, 0)) for every one, (float('inf'), 0) for none."
            )

    def _validate_graph(self) -> None:
        try:
            topology = self.new_topology()
        except ValueError as error:
            self._value_error(
                f"`topology`: {error}. Mend it with config.consensus(topology=...), or "
                "topology='none' if nobody is to exchange."
            )
        if self.consensus_mode != "pdhg":
            return  # Stable for every pull up to 1, since l < 2.
        least = largest_disagreement(self.members, topology.edges(1))
        product = self.shared_lr * self.consensus_beta * least
        if product >= STABLE:
            logger.warning(
                "Copies will not agree: with steps of lr * beta = %.3g and the graph's largest "
                "eigenvalue %.3g of I - W, the product is %.3g, and must be below 4/3. Lower "
                "config.consensus(beta=...) or the learning rate, or use "
                "config.consensus(mode='pdhg_decoupled').",
                self.shared_lr * self.consensus_beta,
                least,
                product,
            )

    def _validate_shared_part(self) -> None:
        """For a family to call once it has checked what networks are made of."""
        if self.shared == "none":
            return
        with torch.random.fork_rng(devices=[]):
            self._compare_shared_parts()

    def _compare_shared_parts(self) -> None:
        first, *others = self.members
        parameters = self.parameters_of(first)
        of_first = SharedPart(parameters, self.is_shared)
        if not of_first.names:
            names = list(parameters)
            self._value_error(
                f"`shared` picks no parameter of {first!r}, which has {names[0]}, ..., "
                f"{names[-1]}: give another predicate with config.consensus(shared=...), or 'none' "
                "if nothing is to be shared."
            )
        for m in others:
            difference = difference_of(of_first, SharedPart(self.parameters_of(m), self.is_shared))
            if difference is not None:
                self._value_error(
                    f"What `shared` picks differs between {first!r} and {m!r}, in {difference}. "
                    "Agents share what has the same names and shapes in all of them: choose it "
                    "with config.consensus(shared=...)."
                )

    @override(AlgorithmConfig)
    def build_learner_group(self, *, rl_module_spec: Any = None, **kwargs: Any) -> Any:
        """The agents' own: no learner is central."""
        return AgentLearnerGroup(self.copy())


class ReplayingConfig(OffPolicyConfig, DecentralisedConfig):
    """Settings of decentralised agents that learn from replays, one in each host.

    Every host keeps what everybody may read, and the rewards of its own members only. Its
    capacity is therefore smaller than a central replay's: 100,000 by default. Members that do not
    read others have a replay each, of what is their own.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.replay_buffer_config["capacity"] = 100_000

    @property
    def reads_others(self) -> bool:
        """Whether agents learn from what others see and do."""
        return True

    def replay_settings(self) -> dict[str, Any]:
        """What the replays are to keep: arguments of `JointReplay`."""
        return {"individual_rewards": True, "keep_log_probs": True}

    @override(OffPolicyConfig)
    def _validate_replay(self) -> None:
        super()._validate_replay()
        given = self.replay_buffer_config
        if given["alpha"] is not None:
            self._value_error(
                "Agents draw each for itself, without priorities: remove "
                "config.training(replay_buffer_config={'alpha': ...})."
            )
        if given["folder"] is not None:
            self._value_error(
                "Each agent keeps a replay of its own, in memory: remove "
                "config.training(replay_buffer_config={'folder': ...})."
            )

    @override(OffPolicyConfig)
    def _check_replay_memory(self) -> None:
        machines = 1
        if ray.is_initialized():
            machines = max(1, sum(node["Alive"] for node in ray.nodes()))
        replays = len(self.hosts) if self.reads_others else len(self.members)
        needed = bytes_needed(
            self.layout,
            self.replay_buffer_config["capacity"],
            self.num_envs,
            agents=None if self.reads_others else self.layout.groups[self.members[0]],
            **self.replay_settings(),
        )
        check_memory(needed * math.ceil(replays / machines), free_memory())
