"""What a round sends: messages and bytes, and what methods that also send policies would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rllib_hetero.consensus.graphs import Edge


@dataclass
class Traffic:
    """What has been sent from peer to peer.

    Attributes:
        messages: Vectors or policies, each from one peer to one other.
        nbytes: Their bytes.
    """

    messages: int = 0
    nbytes: int = 0

    def add(self, messages: int, nbytes: int) -> None:
        self.messages += messages
        self.nbytes += nbytes


def of_shared_parts(edges: Iterable[Edge], nbytes: Mapping[str, int]) -> Traffic:
    """Each peer sends its shared part along each of its edges: sum_i deg_i |shared_i|.

    Args:
        edges: Of the round.
        nbytes: Peer to the bytes of its shared part.
    """
    traffic = Traffic()
    for i, j in edges:
        traffic.add(2, nbytes[i] + nbytes[j])
    return traffic


def of_policies(senders: Iterable[str], receivers: int, nbytes: Mapping[str, int]) -> Traffic:
    """Each sender's policy goes to all others: whom it models is nobody, so that all need it.

    Args:
        senders: Who sends.
        receivers: How many each sends to.
        nbytes: Peer to the bytes of its policy.
    """
    traffic = Traffic()
    for i in senders:
        traffic.add(receivers, receivers * nbytes[i])
    return traffic
