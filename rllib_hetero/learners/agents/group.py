"""The agents' hosts, seen from the driver: it says who does what when, and reads no parameters."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
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

from rllib_hetero.consensus.graphs import Edges, among
from rllib_hetero.consensus.traffic import Traffic, of_policies, of_shared_parts
from rllib_hetero.errors import TeamError
from rllib_hetero.learners.agents import files
from rllib_hetero.learners.agents.exchange import Mixing, Plan, Report, decide, mixing_of
from rllib_hetero.learners.agents.host import Description
from rllib_hetero.learners.agents.seats import ActorSeat, Seat, ask_all, poll
from rllib_hetero.references import fetch
from rllib_hetero.runners.dealing import Deal
from rllib_hetero.team import ModuleID

HOSTS, NUM_UPDATES, ITERATIONS = "hosts", "num_updates", "iterations"

logger = logging.getLogger(__name__)


class AgentLearnerGroup(LearnerGroup):
    """Stands where RLlib has its learners.

    Args:
        config: `DecentralisedConfig`, validated.
        seat_class: Where hosts are. None: in actors, unless the config says in this process.

    Raises:
        TeamError: If nothing is shared where something should be, or agents' shared parts differ.
    """

    # Not RLlib's constructor: it would build learners.
    def __init__(self, config: Any, seat_class: type[Seat] | None = None) -> None:
        self._is_shut_down = False
        self.config = config
        self._members: list[ModuleID] = config.members
        self._topology, self._intervals = config.new_topology(), config.new_intervals()
        self.num_updates = self._iterations = 0
        self._traffic, self._paper_traffic = Traffic(), Traffic()
        self._rounds = self._restarts = self._late = 0
        self._mixing: dict[int, Mixing] = {}
        self._saved_hosts: list[list[ModuleID]] | None = None
        self._snapshots = None
        if config.agent_snapshot_interval:
            name = f"rllib_hetero-{uuid.uuid4().hex}"
            self._snapshots = str(Path(tempfile.gettempdir()) / name)
        if seat_class is None:
            seat_class = Seat if config.agents_per_learner is None else ActorSeat
        self._seats = [seat_class(config, members, self._snapshots) for members in config.hosts]
        self._seat_of = {m: k for k, seat in enumerate(self._seats) for m in seat.members}
        try:
            self._descriptions = self._describe()
            self._check_shared_parts()
        except Exception:
            self.shutdown()
            raise
        self._exchange_policies = any(d.exchanges_policies for d in self._descriptions.values())
        self._policies = {m: d.policy for m, d in self._descriptions.items()}
        self._shared_bytes = {m: d.shared_bytes for m, d in self._descriptions.items()}
        self._policy_bytes = {m: d.policy_bytes for m, d in self._descriptions.items()}
        self._tell_policies()

    def _describe(self) -> dict[ModuleID, Description]:
        answers = self._ask(range(len(self._seats)), "describe", patience_s=None)
        if len(answers) < len(self._seats):
            raise TeamError("The actor of an agent ended while it was started; see its log.")
        return {m: d for answer in answers.values() for m, d in answer.items()}

    def _check_shared_parts(self) -> None:
        mend = "Mend it with config.consensus(shared=...)."
        first, *others = self._members
        signature = self._descriptions[first].signature
        if not signature and self.config.shared != "none":
            raise TeamError(
                f"No parameter of {first!r} is shared by {self.config.shared!r}. {mend} 'none' "
                "shares nothing."
            )
        for m in others:
            unlike = set(map(str, signature)) ^ set(map(str, self._descriptions[m].signature))
            if unlike:
                raise TeamError(
                    f"The shared parts of {first!r} and {m!r} differ, in {min(unlike)}: agents "
                    f"share what has the same names and shapes in all of them. {mend}"
                )

    def _tell_policies(self) -> None:
        if self._exchange_policies:
            self._ask(range(len(self._seats)), "hear", self._policies, patience_s=None)
            self._count_policies(self._members)

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
        self._revive()
        got = self._ask_each(
            {k: (_own_parts(deals, self._seats[k].members),) for k in self._free()}, "receive"
        )
        # A runner that was lost took some of its parts with it: then nobody uses any.
        keep = frozenset(set.intersection(*got.values())) if got else frozenset()
        plan = {"keep": keep, "env_steps": env_steps}
        if not num_updates:
            self._learn(plan | {"first_update": self.num_updates})
        end = self.num_updates + num_updates
        while self.num_updates < end:
            stop, edges, senders = self._next_round(end)
            reports = self._learn(
                plan | {"first_update": self.num_updates, "num_updates": stop - self.num_updates},
                publish={m for e in edges for m in e},
                send_policies=senders,
            )
            plan["keep"] = None
            self.num_updates = stop
            self._decide(edges, reports)
        return self._finish(len(deals) - len(keep))

    def _next_round(self, end: int) -> tuple[int, Edges, set[ModuleID]]:
        """The update after which there is a round, or the last; its edges; who sends policies."""
        for number in range(self.num_updates + 1, end + 1):
            due = self._intervals.due(number)
            edges = among(self._topology.edges(number), due) if due else frozenset()
            if self.config.shared == "none":
                edges = frozenset()
            senders = set(due) if self._exchange_policies else set()
            if edges or senders:
                return number, edges, senders
        return end, frozenset(), set()

    def _learn(
        self,
        plan: dict[str, Any],
        publish: Collection[ModuleID] = (),
        send_policies: Collection[ModuleID] = (),
    ) -> list[Report]:
        self._poll()
        calls = {}
        for k in self._free():
            seat = self._seats[k]
            calls[k] = Plan(
                **plan,
                mixing=self._mixing.pop(k, Mixing()),
                lost=tuple(sorted(seat.lost)),
                publish=tuple(m for m in seat.members if m in publish),
                send_policies=tuple(m for m in seat.members if m in send_policies),
            )
            seat.lost = set()
        self._mixing = {}
        answers = self._ask_each({k: (p,) for k, p in calls.items()}, "learn")
        return [
            report
            for k, report in answers.items()
            if report.incarnation == self._seats[k].incarnation
        ]

    def _decide(self, edges: Edges, reports: list[Report]) -> None:
        """The first phase is over: who is in, and what the second is for each host."""
        left, copies = decide(edges, reports)
        policies = {m: policy for r in reports if r.ready for m, policy in r.policies.items()}
        self._rounds += bool(left)
        for traffic in (self._traffic, self._paper_traffic):
            sent = of_shared_parts(left, self._shared_bytes)
            traffic.add(sent.messages, sent.nbytes)
        for i, j in left:
            self._paper_traffic.add(2, self._policy_bytes[i] + self._policy_bytes[j])
        self._count_policies(policies)
        self._mixing = {
            k: mixing_of(seat.members, left, copies, policies) for k, seat in enumerate(self._seats)
        }

    def _count_policies(self, senders: Any) -> None:
        if senders:
            sent = of_policies(senders, len(self._members) - 1, self._policy_bytes)
            self._traffic.add(sent.messages, sent.nbytes)

    def _finish(self, skipped: int) -> StateDict:
        self._iterations += 1
        every = self.config.agent_snapshot_interval
        snapshot = bool(every) and self._iterations % every == 0
        self._poll()
        calls = {}
        for k in self._free():
            seat = self._seats[k]
            mixing = self._mixing.pop(k, Mixing())
            calls[k] = (Plan(mixing=mixing, lost=tuple(sorted(seat.lost))), snapshot)
            seat.lost = set()
        self._mixing = {}
        answers = self._ask_each(calls, "finish")
        metrics: StateDict = {}
        for outcome in answers.values():
            metrics |= outcome.metrics
            self._policies |= outcome.policies
        metrics[None] = self._metrics_of_all(list(answers.values())) | {
            "skipped_fragments": skipped
        }
        return metrics

    def _metrics_of_all(self, outcomes: list[Any]) -> dict[str, float]:
        projections = [p for o in outcomes for p in o.projections.values()]
        residuals = [m["consensus_residual"] for o in outcomes for m in o.metrics.values()]
        log = {
            "num_updates_lifetime": self.num_updates,
            "rounds_lifetime": self._rounds,
            "live_peers": sum(len(seat.members) for seat in self._seats if seat.free and seat.back),
            "late_answers_lifetime": self._late,
            "agent_learner_restarts": self._restarts,
            "messages_lifetime": self._traffic.messages,
            "bytes_lifetime": self._traffic.nbytes,
            "bytes_with_policies_lifetime": self._paper_traffic.nbytes,
        }
        if outcomes:
            log["consensus_residual"] = float(np.sqrt(np.mean(np.square(residuals))))
            total = np.sum(projections, axis=0)
            log["multiplier_sum"] = float(np.sqrt(np.mean(np.square(total))))
            log["replay_rows"] = min(o.rows for o in outcomes)
        return log

    # ---- calls, and who is lost --------------------------------------------------------------

    def _poll(self) -> None:
        for k in poll(self._seats):
            self._lose(k)

    def _free(self) -> list[int]:
        return [k for k, seat in enumerate(self._seats) if seat.free]

    def _ask(
        self, seats: Any, method: str, *args: Any, patience_s: float | None = -1.0
    ) -> dict[int, Any]:
        return self._ask_each(dict.fromkeys(seats, args), method, patience_s)

    def _ask_each(
        self, calls: dict[int, tuple[Any, ...]], method: str, patience_s: float | None = -1.0
    ) -> dict[int, Any]:
        if patience_s == -1.0:
            patience_s = self.config.peer_timeout_s
        answers = ask_all(calls, self._seats, method, patience_s)
        for k in calls.keys() - answers.keys():
            if self._seats[k].alive:
                self._late += 1
            else:
                self._lose(k)
        return answers

    def _lose(self, k: int) -> None:
        """All others forget the multipliers that they have with a lost host's members."""
        members = self._seats[k].members
        logger.warning("The actor of %s is lost; the others go on without it.", list(members))
        self._seats[k].back = False
        for seat in self._seats:
            seat.lost |= set(members) - set(seat.members)

    def _revive(self) -> None:
        """Starts lost hosts anew, with a state of their own or a neighbour's shared part."""
        self._poll()
        gone = [
            seat
            for seat in self._seats
            if not seat.alive and seat.incarnation < self.config.max_agent_learner_restarts
        ]
        if not gone:
            return
        copies = self._copies_of_somebody()
        for seat in gone:
            seat.incarnation += 1
            self._restarts += 1
            seat.lost = set()
            seat.start()
            # Not waited for: it takes part again once it has answered.
            seat.ask("come_back", copies)

    def _copies_of_somebody(self) -> dict[ModuleID, Any]:
        """References to the shared parts of one host's members; empty if there is no host left."""
        for k in self._free():
            answer = self._ask([k], "copies").get(k)
            if answer:
                return answer
        logger.warning("No agent is left that could give a lost one the shared part.")
        return {}

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
            kwargs: RLlib's.
        """
        prefix = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        asked = [components] if isinstance(components, str) else list(components or ())
        asked = [c for c in asked if c == COMPONENT_LEARNER or c.startswith(prefix)]
        if not asked:
            return {
                HOSTS: self.config.hosts,
                NUM_UPDATES: self.num_updates,
                ITERATIONS: self._iterations,
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
        answers = self._ask(self._free(), "save", path, filesystem, previous, patience_s=None)
        elsewhere = [contents for contents in answers.values() if contents is not None]
        for contents in elsewhere:
            # The folder is not on those hosts' machines: the driver writes what they hand it.
            files.write_contents(contents, path, filesystem)
        present = [k for k in answers if self._seats[k].back]
        there = {m for k in present for m in self._seats[k].members}
        whole = len(answers) == len(self._seats) and not elsewhere
        return [m for m in self._members if m not in there], whole

    def restore(self, path: str, filesystem: Any = None) -> tuple[list[ModuleID], bool]:
        """Has every host read its part of a checkpoint; the counters are RLlib's to restore.

        Returns:
            The members of which there is no state, which get a neighbour's shared part; and
            whether every host has its replay. None has, if agents shared actors otherwise.
        """
        filesystem, path = _locate(path, filesystem)
        with_replay = self._saved_hosts == self.config.hosts
        args = (path, filesystem, with_replay)
        answers = self._ask(range(len(self._seats)), "restore", *args, patience_s=None)
        missing = [m for absent, _ in answers.values() for m in absent]
        if missing and len(missing) < len(self._members):
            given = next(m for m in self._members if m not in missing)
            copies = self._ask([self._seat_of[given]], "copies", patience_s=None)
            copy = {given: copies[self._seat_of[given]][given]}
            self._ask(range(len(self._seats)), "adopt", missing, copy, patience_s=None)
        policies = self._ask(range(len(self._seats)), "policies", patience_s=None)
        for answer in policies.values():
            self._policies |= answer
        self._mixing = {}
        return missing, with_replay and all(here for _, here in answers.values())

    @override(LearnerGroup)
    def set_state(self, state: StateDict) -> None:
        if NUM_UPDATES in state:
            self.num_updates, self._iterations = state[NUM_UPDATES], state[ITERATIONS]
            self._saved_hosts = state[HOSTS]

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
            "Agents that learn apart take their policies from a checkpoint of all: remove "
            "`load_state_path` from config.rl_module(rl_module_spec=...), and use "
            "algo.restore_from_path(...)."
        )

    @override(LearnerGroup)
    def shutdown(self) -> None:
        """Ends all hosts, and removes what they kept on this machine."""
        self._is_shut_down = True
        for seat in getattr(self, "_seats", []):
            seat.close()
        if getattr(self, "_snapshots", None):
            shutil.rmtree(self._snapshots, ignore_errors=True)


def _own_parts(deals: Sequence[Deal], members: Collection[ModuleID]) -> list[Deal]:
    """What is public, and these members' rewards."""
    return [replace(d, rewards={m: d.rewards[m] for m in members}) for d in deals]


def _locate(path: str, filesystem: Any) -> tuple[Any, str]:
    if filesystem is None:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(path)
    return filesystem, path.rstrip("/")
