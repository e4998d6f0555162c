"""When there is a round, who is in it, and what it sends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rllib_hetero.consensus.graphs import Edges, touching
from rllib_hetero.consensus.traffic import Traffic, of_policies, of_shared_parts
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents.exchange import Mixing, Report, decide, mixing_of
from rllib_hetero.learners.agents.host import Description


class Rounds:
    """The run's rounds, of which the n-th can only be after the n-th update.

    Args:
        config: `DecentralisedConfig`.
        descriptions: Of all members.

    Attributes:
        traffic: What has been sent from member to member.
        with_policies: What methods would have sent that also send policies along each edge.
        count: How many rounds there were.
        last_edges: How many edges the last one used.
    """

    def __init__(self, config: Any, descriptions: Mapping[ModuleID, Description]) -> None:
        self._topology, self._intervals = config.new_topology(), config.new_intervals()
        self._shares = config.shared != "none"
        self._policies = any(d.exchanges_policies for d in descriptions.values())
        self._shared_bytes = {m: d.shared_bytes for m, d in descriptions.items()}
        self._policy_bytes = {m: d.policy_bytes for m, d in descriptions.items()}
        self.traffic, self.with_policies = Traffic(), Traffic()
        self.count = self.last_edges = 0

    def next(self, first: int, last: int) -> tuple[int, Edges, Collection[ModuleID]]:
        """The first round among these numbers.

        Returns:
            Its number, or `last` if there is none; its edges; whose policies it needs.
        """
        for number in range(first, last + 1):
            due = self._intervals.due(number)
            edges = touching(self._topology.edges(number), due) if due and self._shares else None
            if edges or (due and self._policies):
                return number, edges or frozenset(), due if self._policies else ()
        return last, frozenset(), ()

    def decide(
        self, edges: Edges, reports: Sequence[Report], hosts: Iterable[Sequence[ModuleID]]
    ) -> list[Mixing]:
        """The first phase is over: what the second is for each host.

        Args:
            edges: Of the round.
            reports: Of the hosts that have answered.
            hosts: The members of each host.
        """
        left, copies = decide(edges, reports)
        policies = {m: policy for r in reports if r.ready for m, policy in r.policies.items()}
        sent = of_shared_parts(left, self._shared_bytes)
        self.traffic.add(sent.messages, sent.nbytes)
        both = of_shared_parts(
            left, {m: n + self._policy_bytes[m] for m, n in self._shared_bytes.items()}
        )
        self.with_policies.add(both.messages, both.nbytes)
        self.count_policies(policies)
        self.count += bool(left)
        self.last_edges = len(left)
        return [mixing_of(members, left, copies, policies) for members in hosts]

    def count_policies(self, senders: Iterable[ModuleID]) -> None:
        """Takes note of policies that were sent to all others."""
        sent = of_policies(senders, len(self._policy_bytes) - 1, self._policy_bytes)
        self.traffic.add(sent.messages, sent.nbytes)

    @property
    def counts(self) -> dict[str, int]:
        """What is logged, and saved with the run."""
        return {
            "rounds_lifetime": self.count,
            "messages_lifetime": self.traffic.messages,
            "bytes_lifetime": self.traffic.nbytes,
            "bytes_with_policies_lifetime": self.with_policies.nbytes,
        }

    @counts.setter
    def counts(self, counts: Mapping[str, int]) -> None:
        self.count = counts["rounds_lifetime"]
        self.traffic = Traffic(counts["messages_lifetime"], counts["bytes_lifetime"])
        self.with_policies = Traffic(0, counts["bytes_with_policies_lifetime"])
