"""All hosts: asking them, noticing who is late or lost, and starting lost ones anew."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents.seats import ActorSeat, Seat, ask_all, poll

logger = logging.getLogger(__name__)


class Crew:
    """The seats of all hosts.

    Args:
        config: `DecentralisedConfig`.
        seat_class: Where hosts are. None: in actors, unless the config says in this process.

    Attributes:
        seats: Of all hosts.
        restarts: How many were started anew.
        late: How many answers did not come in time.
        snapshots: The folder for members' states on each host's machine; None without.
    """

    def __init__(self, config: Any, seat_class: type[Seat] | None = None) -> None:
        if seat_class is None:
            seat_class = Seat if config.agents_per_learner is None else ActorSeat
        self._config = config
        self.snapshots = None
        if config.agent_snapshot_interval:
            name = f"rllib_hetero-{uuid.uuid4().hex}"
            self.snapshots = str(Path(tempfile.gettempdir()) / name)
        self.restarts = self.late = 0
        self.seats = [seat_class(config, members, self.snapshots) for members in config.hosts]

    @property
    def free(self) -> list[int]:
        """Numbers of the seats that can be asked now."""
        self._poll()
        return [k for k, seat in enumerate(self.seats) if seat.free]

    @property
    def num_live(self) -> int:
        """Members whose hosts have their state, and are not late."""
        return sum(len(seat.members) for seat in self.seats if seat.free and seat.back)

    def ask(self, method: str, arguments: Callable[[Seat], tuple[Any, ...]]) -> dict[int, Any]:
        """Calls a method of all hosts that are free; see `ask_all`.

        Args:
            method: Of `Host`.
            arguments: Of the call, by the seat.
        """
        calls = {k: arguments(self.seats[k]) for k in self.free}
        return self._ask(calls, method, self._config.peer_timeout_s)

    def ask_patiently(self, method: str, *args: Any) -> dict[int, Any]:
        """As `ask`, but waits for all: where a run begins, is saved or restored."""
        return self._ask(dict.fromkeys(self.free, args), method, None)

    def _ask(
        self, calls: dict[int, tuple[Any, ...]], method: str, patience_s: float | None
    ) -> dict[int, Any]:
        answers = ask_all(calls, self.seats, method, patience_s)
        for k in calls.keys() - answers.keys():
            if self.seats[k].alive:
                self.late += 1
            else:
                self._lose(k)
        return answers

    def _poll(self) -> None:
        for k in poll(self.seats):
            self._lose(k)

    def _lose(self, k: int) -> None:
        """All others are to forget the multipliers that they have with a lost host's members."""
        members = self.seats[k].members
        logger.warning("The actor of %s is lost; the others go on without it.", list(members))
        self.seats[k].back = False
        for seat in self.seats:
            seat.lost |= set(members) - set(seat.members)

    def revive(self) -> None:
        """Starts lost hosts anew, with a state of their own or a neighbour's shared part."""
        self._poll()
        gone = [
            seat
            for seat in self.seats
            if not seat.alive and seat.incarnation < self._config.max_agent_learner_restarts
        ]
        if not gone:
            return
        copies = self._copies_of_somebody()
        for seat in gone:
            seat.incarnation += 1
            self.restarts += 1
            seat.lost = set()
            seat.start()
            # Not waited for: it takes part again once it has answered.
            seat.ask("come_back", copies)

    def _copies_of_somebody(self) -> dict[ModuleID, Any]:
        """References to the shared parts of one host's members; empty if there is no host left."""
        for k in self.free:
            if self.seats[k].back:
                answer = self._ask({k: ()}, "copies", self._config.peer_timeout_s)
                if answer:
                    return answer[k]
        logger.warning("No agent is left that could give a lost one the shared part.")
        return {}

    def close(self) -> None:
        """Ends all hosts, and removes what they kept on this machine."""
        for seat in self.seats:
            seat.close()
        if self.snapshots is not None:
            shutil.rmtree(self.snapshots, ignore_errors=True)


def host_of(seats: Iterable[Seat], member: ModuleID) -> int:
    """The number of the seat whose host has a member."""
    return next(k for k, seat in enumerate(seats) if member in seat.members)
