"""What the driver and the agents' hosts say to each other. Vectors go by reference, unread.

A round has two phases. In the first, hosts learn and publish a report, with references to their
members' copies. The driver waits for reports, and decides who is in: an edge is used only if both
its ends have answered in time. In the second, which is the beginning of the next `learn`, every
host is told its weights in the graph that is left, and reads its neighbours' copies. No copy passes
through the driver, and no end of an edge uses it alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rllib_hetero.consensus.graphs import Edges, among, metropolis, neighbours
from rllib_hetero.layout import ModuleID

Source = tuple[int, int]


@dataclass
class Mixing:
    """The second phase of a round, for one host.

    Attributes:
        weights: Of its members that take part, the weights of their neighbours.
        copies: Reference to the copy of each of these neighbours.
        policies: Reference to the policy of each member that sent one.
    """

    weights: dict[ModuleID, dict[ModuleID, float]] = field(default_factory=dict)
    copies: dict[ModuleID, Any] = field(default_factory=dict)
    policies: dict[ModuleID, Any] = field(default_factory=dict)


@dataclass
class Plan:
    """What a host is to do in one call: mix, then learn, then publish.

    Attributes:
        mixing: Of the last round.
        lost: Members that have been lost since the last call.
        keep: Of the fragments received, those that all hosts have; None: nothing was received.
        env_steps: Environment steps sampled so far, for schedules.
        first_update: Number of the first update of the call.
        num_updates: How many.
        publish: The host's members whose copies the round after them needs.
        send_policies: The host's members whose policies it needs.
    """

    mixing: Mixing = field(default_factory=Mixing)
    lost: tuple[ModuleID, ...] = ()
    keep: frozenset[Source] | None = None
    env_steps: int = 0
    first_update: int = 0
    num_updates: int = 0
    publish: tuple[ModuleID, ...] = ()
    send_policies: tuple[ModuleID, ...] = ()


@dataclass
class Report:
    """What a host says after it has learnt.

    Attributes:
        incarnation: How often the host was started before.
        ready: Whether it has its state and made all updates; else it takes no part.
        copies: Reference to the copy of each member that was to publish.
        policies: Reference to the policy of each member that was to send it.
    """

    incarnation: int
    ready: bool
    copies: dict[ModuleID, Any] = field(default_factory=dict)
    policies: dict[ModuleID, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a host says at the end of an iteration.

    Attributes:
        metrics: Member to name to number.
        projections: Member to `Consensus.projections`.
        policies: Member to a reference to its policy.
        rows: Steps in the host's replay.
    """

    metrics: dict[ModuleID, dict[str, float]]
    projections: dict[ModuleID, list[float]]
    policies: dict[ModuleID, Any]
    rows: int


def decide(edges: Edges, reports: Iterable[Report]) -> tuple[Edges, dict[ModuleID, Any]]:
    """The graph of a round among those who have answered, and the references to their copies."""
    copies = {m: copy for r in reports if r.ready for m, copy in r.copies.items()}
    return among(edges, copies), copies


def mixing_of(
    members: Iterable[ModuleID],
    edges: Edges,
    copies: dict[ModuleID, Any],
    policies: dict[ModuleID, Any],
) -> Mixing:
    """A host's part of the second phase.

    Args:
        members: Its members.
        edges: Of the graph that is left.
        copies: Reference to the copy of each member in it.
        policies: Reference to each policy that was sent.
    """
    weights, beside = metropolis(edges), neighbours(edges)
    own = [m for m in members if m in weights]
    return Mixing(
        weights={m: weights[m] for m in own},
        copies={j: copies[j] for m in own for j in beside[m]},
        policies=policies,
    )
