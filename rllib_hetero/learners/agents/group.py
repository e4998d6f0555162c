"""The agents' hosts, seen from the driver: it says who does what when, and reads no parameters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.fs
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.utils.actor_manager import RemoteCallResults, ResultOrError
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.rllib.utils.typing import StateDict

from rllib_hetero.errors import TeamError
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents import files
from rllib_hetero.learners.agents.crew import Crew, host_of
from rllib_hetero.learners.agents.exchange import Mixing, Outcome, Plan, Report
from rllib_hetero.learners.agents.host import Description
from rllib_hetero.learners.agents.rounds import Rounds
from rllib_hetero.learners.agents.seats import Seat
from rllib_hetero.references import fetch
from rllib_hetero.runners.dealing import Deal

HOSTS, NUM_UPDATES, ITERATIONS, COUNTS = "hosts", "num_updates", "iterations", "counts"
_NO_WEIGHTS = (
    "Agents that learn apart take their policies from a checkpoint of all, with "
    "algo.restore_from_path(...)."
)


class AgentLearnerGroup(LearnerGroup):
    """Stands where RLlib has its learners.

    Args:
        config: `DecentralisedConfig`, validated.
        seat_class: Where hosts are. None: in actors, unless the config says in this process.

    Raises:
        TeamError: If the actor of an agent ends while it is started.

    Attributes:
        num_updates: How often the team has been updated.
    """

    # Not RLlib's constructor: it would build learners.
    def __init__(self, config: Any, seat_class: type[Seat] | None = None) -> None:
        self._is_shut_down = False
        self.config = config
        self.num_updates = self._iterations = 0
        self._mixing: list[Mixing] = [Mixing() for _ in config.hosts]
        self._saved_hosts: list[list[ModuleID]] | None = None
        self.crew = Crew(config, seat_class)
        try:
            descriptions = self._describe()
        except Exception:
            self.shutdown()
            raise
        self._rounds = Rounds(config, descriptions)
        self._policies = {m: d.policy for m, d in descriptions.items()}
        if any(d.exchanges_policies for d in descriptions.values()):
            self.crew.ask_patiently("hear", self._policies)
            self._rounds.count_policies(self._policies)

    def _describe(self) -> dict[ModuleID, Description]:
        answers = self.crew.ask_patiently("describe")
        if len(answers) < len(self.crew.seats):
            ends = [seat.end for seat in self.crew.seats if seat.end]
            raise TeamError("The actor of an agent ended while it was started.") from ends[0]
        return {m: d for answer in answers.values() for m, d in answer.items()}

    # ---- an iteration ------------------------------------------------------------------------

    @override(LearnerGroup)
    def update(self, deals: Sequence[Deal], *, env_steps: int, num_updates: int) -> StateDict:  # type: ignore[override]
        """Hands out what was sampled, and makes some updates, with the rounds that are due.

        Args:
            deals: Of this iteration.
            env_steps: Environment steps sampled so far.
            num_updates: How many; may be 0.

        Returns:
            Metrics: member to name to number, and those of all under `None`.
        """
        self.crew.revive()
        got = self.crew.ask("receive", lambda seat: (_own_parts(deals, seat.members),))
        # A runner that was lost took some of its parts with it: then nobody uses any.
        keep = frozenset(set.intersection(*got.values())) if got else frozenset()
        # Before the first update, so that it does not matter when the first round is.
        self._learn(Plan(keep=keep, env_steps=env_steps, first_update=self.num_updates))
        end = self.num_updates + num_updates
        while self.num_updates < end:
            first = self.num_updates
            stop, edges, senders = self._rounds.next(first + 1, end)
            plan = Plan(
                env_steps=env_steps,
                first_update=first,
                num_updates=stop - first,
                publish=tuple({m for e in edges for m in e}),
                send_policies=tuple(senders),
            )
            reports = self._learn(plan)
            self.num_updates = stop
            hosts = [seat.members for seat in self.crew.seats]
            self._mixing = self._rounds.decide(edges, reports, hosts)
        return self._finish(len(deals) - len(keep))

    def _learn(self, plan: Plan) -> list[Report]:
        answers = self.crew.ask("learn", lambda seat: (self._for_seat(plan, seat),))
        return [
            report
            for k, report in answers.items()
            if report.incarnation == self.crew.seats[k].incarnation
        ]

    def _for_seat(self, plan: Plan, seat: Seat) -> Plan:
        """A plan with what concerns one host: its members, its part of the last round."""
        k = self.crew.seats.index(seat)
        mixing, self._mixing[k] = self._mixing[k], Mixing()
        lost, seat.lost = seat.lost, set()
        return replace(
            plan,
            mixing=mixing,
            lost=tuple(sorted(lost)),
            publish=tuple(m for m in seat.members if m in plan.publish),
            send_policies=tuple(m for m in seat.members if m in plan.send_policies),
        )

    def _finish(self, skipped: int) -> StateDict:
        self._iterations += 1
        every = self.config.agent_snapshot_interval
        snapshot = bool(every) and self._iterations % every == 0
        answers = self.crew.ask("finish", lambda seat: (self._for_seat(Plan(), seat), snapshot))
        metrics: StateDict = {}
        for outcome in answers.values():
            metrics |= outcome.metrics
            self._policies |= outcome.policies
        metrics[None] = self._metrics_of_all(list(answers.values()))
        metrics[None]["skipped_fragments"] = skipped
        return metrics

    def _metrics_of_all(self, outcomes: list[Outcome]) -> dict[str, float]:
        log: dict[str, float] = {
            **self._rounds.counts,
            "num_updates_lifetime": self.num_updates,
            "last_edges": self._rounds.last_edges,
            "live_peers": self.crew.num_live,
            "late_answers_lifetime": self.crew.late,
            "agent_learner_restarts": self.crew.restarts,
        }
        if outcomes:
            residuals = [m["consensus_residual"] for o in outcomes for m in o.metrics.values()]
            log["consensus_residual"] = float(np.sqrt(np.mean(np.square(residuals))))
            total = np.sum([p for o in outcomes for p in o.projections.values()], axis=0)
            log["multiplier_sum"] = float(np.sqrt(np.mean(np.square(total))))
            log["replay_rows"] = min(o.rows for o in outcomes)
        return log

    # ---- policies ----------------------------------------------------------------------------

    @override(LearnerGroup)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, inference_only: bool = False,
        **kwargs: Any,
    ) -> StateDict:  # fmt: skip
        """The policies, where they are asked for; else how far the run has come.

        Args:
            components: "learner/rl_module", or "learner/rl_module/<module id>" of several: these
                policies. Else: the counters alone. Agents' states are written by themselves, see
                `save`.
            not_components: RLlib's.
            inference_only: Whether the policies are for runners: then they are references.
            **kwargs: RLlib's.
        """
        prefix = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        asked = [components] if isinstance(components, str) else list(components or ())
        asked = [c for c in asked if c == COMPONENT_LEARNER or c.startswith(prefix)]
        if not asked:
            return {
                HOSTS: self.config.hosts,
                NUM_UPDATES: self.num_updates,
                ITERATIONS: self._iterations,
                COUNTS: self._rounds.counts,
            }
        ids = {c[len(prefix) + 1 :] for c in asked}
        wanted = {m: x for m, x in self._policies.items() if "" in ids or m in ids}
        if not inference_only:
            wanted = {m: fetch(x) for m, x in wanted.items()}
        return {COMPONENT_LEARNER: {COMPONENT_RL_MODULE: wanted, WEIGHTS_SEQ_NO: self.num_updates}}

    @override(LearnerGroup)
    def foreach_learner(self, func: Any, **kwargs: Any) -> RemoteCallResults:
        """RLlib asks a learner what its modules are made of; it is given untrained ones."""
        spec = self.config.get_multi_rl_module_spec(inference_only=True)
        results = RemoteCallResults()
        made = func(SimpleNamespace(module=spec.build()), **kwargs)
        results.add_result(None, ResultOrError(result=made), None)
        return results

    # ---- checkpoints -------------------------------------------------------------------------

    def save(
        self, path: str, filesystem: Any, previous: str | None = None
    ) -> tuple[list[ModuleID], bool]:
        """Has every host write its part of a checkpoint.

        Args:
            path: The checkpoint's folder, or its URI.
            filesystem: The pyarrow filesystem of `path`. None: that of the URI, or the local one.
            previous: An earlier checkpoint of the run, whose files may be linked to.

        Returns:
            The members whose states are not in it, because their hosts are lost or late; and
            whether all replays are.
        """
        filesystem, path = _locate(path, filesystem)
        answers = self.crew.ask_patiently("save", path, filesystem, previous)
        elsewhere = [contents for contents in answers.values() if contents is not None]
        for contents in elsewhere:
            # The folder is not on those hosts' machines: the driver writes what they hand it.
            files.write_contents(contents, path, filesystem)
        seats = self.crew.seats
        there = {m for k in answers if seats[k].back for m in seats[k].members}
        whole = len(answers) == len(seats) and not elsewhere
        return [m for m in self.config.members if m not in there], whole

    def restore(self, path: str, filesystem: Any = None) -> tuple[list[ModuleID], bool]:
        """Has every host read its part of a checkpoint; the counters are RLlib's to restore.

        Returns:
            The members of which there is no state, which get a neighbour's shared part; and
            whether every host has its replay. None has, if agents shared actors otherwise.
        """
        filesystem, path = _locate(path, filesystem)
        with_replay = self._saved_hosts == self.config.hosts
        answers = self.crew.ask_patiently("restore", path, filesystem, with_replay)
        missing = [m for absent, _ in answers.values() for m in absent]
        given = [m for m in self.config.members if m not in missing]
        if missing and given:
            giver = host_of(self.crew.seats, given[0])
            copy = self.crew.ask_patiently("copies")[giver][given[0]]
            self.crew.ask_patiently("adopt", missing, {given[0]: copy})
        for policies in self.crew.ask_patiently("policies").values():
            self._policies |= policies
        self._mixing = [Mixing() for _ in self.crew.seats]
        return missing, with_replay and all(here for _, here in answers.values())

    @override(LearnerGroup)
    def set_state(self, state: StateDict) -> None:
        """Sets the counters; see `restore` for the rest.

        Raises:
            TeamError: If there are policies instead, as of `set_weights`.
        """
        if COMPONENT_LEARNER in state:
            raise TeamError(_NO_WEIGHTS)
        self.num_updates, self._iterations = state[NUM_UPDATES], state[ITERATIONS]
        self._saved_hosts, self._rounds.counts = state[HOSTS], state[COUNTS]

    @override(LearnerGroup)
    def get_checkpointable_components(self) -> list:
        """None: RLlib would save one learner's state for all."""
        return []

    @override(LearnerGroup)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        return (self.config,), {}

    @override(LearnerGroup)
    def load_module_state(self, **kwargs: Any) -> None:
        raise TeamError(
            f"{_NO_WEIGHTS} Remove `load_state_path` from config.rl_module(rl_module_spec=...)."
        )

    @override(LearnerGroup)
    def shutdown(self) -> None:
        """Ends all hosts, and removes what they kept on this machine."""
        if not self._is_shut_down:
            self._is_shut_down = True
            self.crew.close()


def _own_parts(deals: Sequence[Deal], members: Collection[ModuleID]) -> list[Deal]:
    """What is public, and these members' rewards."""
    return [replace(d, rewards={m: d.rewards[m] for m in members}) for d in deals]


def _locate(path: str, filesystem: Any) -> tuple[Any, str]:
    if filesystem is None:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(path)
    return filesystem, path.rstrip("/")
