"""Where a host is: in this process, or in an actor that may be late, or lost, or started anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents.host import Host

_HostActor = ray.remote(Host)


class Seat:
    """A host in this process. It answers at once, and is never lost.

    Attributes:
        members: Ids of the host's members.
        incarnation: How often the host was started before.
        back: Whether the host has a state; one that was started anew first has none.
        lost: Members of other seats that this one has yet to be told the loss of.
        end: What ended the host, if something did.
    """

    end: Exception | None = None

    def __init__(self, config: Any, members: Sequence[ModuleID], snapshots: str | None) -> None:
        self._config, self._snapshots = config, snapshots
        self.members = tuple(members)
        self.incarnation = 0
        self.back = True
        self.lost: set[ModuleID] = set()
        self._answer: Any = None
        self.start()

    def start(self) -> None:
        """Makes the host."""
        self._host = Host(self._config, self.members, self.incarnation)

    @property
    def alive(self) -> bool:
        """Whether there is a host."""
        return True

    @property
    def free(self) -> bool:
        """Whether it can be asked; one that is late still works on what it was asked before."""
        return True

    def ask(self, method: str, *args: Any) -> None:
        """Begins a call of the host."""
        self._answer = getattr(self._host, method)(*args)

    def read(self) -> Any:
        """The answer."""
        return self._answer

    def close(self) -> None:
        """Ends the host."""


class ActorSeat(Seat):
    """A host in a Ray actor."""

    def start(self) -> None:
        config = self._config
        actor = _HostActor.options(
            num_cpus=config.num_cpus_per_agent_learner,
            num_gpus=config.num_gpus_per_agent_learner,
            # The group starts a lost host anew: it must know that it did.
            max_restarts=0,
        )
        self._host = actor.remote(
            config, self.members, self.incarnation, post=ray.put, snapshots=self._snapshots
        )
        self._alive, self._pending = True, None

    @property
    def alive(self) -> bool:
        return self._alive

    @property
    def free(self) -> bool:
        return self._alive and self._pending is None

    @property
    def pending(self) -> ray.ObjectRef | None:
        """What it is yet to answer."""
        return self._pending

    def ask(self, method: str, *args: Any) -> None:
        self._pending = getattr(self._host, method).remote(*args)

    def read(self) -> Any:
        """The answer, which has come.

        Returns:
            None if the host was lost; it is not alive then.

        Raises:
            RayTaskError: If the host raised; as in this process, it ends the run.
        """
        answer, self._pending = self._pending, None
        try:
            return ray.get(answer)
        except RayActorError as error:
            self._alive, self.end = False, error
            return None

    def close(self) -> None:
        if not ray.is_initialized():
            return  # Ray ended first, and took the actor along; a call would start it anew.
        actor: Any = self._host
        with suppress(RayError):  # Lost, or late.
            ray.get(actor.close.remote(), timeout=5)
        ray.kill(actor)


def ask_all(
    calls: Mapping[int, tuple[Any, ...]],
    seats: Sequence[Seat],
    method: str,
    patience_s: float | None,
) -> dict[int, Any]:
    """Calls a method of several hosts at once.

    Args:
        calls: Number of a seat to the arguments of its call.
        seats: All seats.
        method: Of `Host`.
        patience_s: Seconds to wait for the others once half of them have answered. None: for ever.

    Returns:
        Number of a seat to its answer; those that were late or lost are missing.
    """
    for k, args in calls.items():
        seats[k].ask(method, *args)
    asked = [seats[k] for k in calls]
    _wait([seat.pending for seat in asked if isinstance(seat, ActorSeat)], patience_s)
    answers = {}
    for k in calls:
        seat = seats[k]
        if not isinstance(seat, ActorSeat) or _has_come(seat.pending):
            answer = seat.read()
            if seat.alive:
                answers[k] = answer
    return answers


def poll(seats: Sequence[Seat]) -> list[int]:
    """Takes note of late hosts that have answered by now; their answers are too old to be used.

    Returns:
        Numbers of the seats whose hosts turned out to be lost.
    """
    lost = []
    for k, seat in enumerate(seats):
        if isinstance(seat, ActorSeat) and seat.pending is not None and _has_come(seat.pending):
            seat.read()
            # What one that was started anew is asked first is to come back.
            seat.back = seat.alive
            if not seat.alive:
                lost.append(k)
    return lost


def _has_come(reference: Any) -> bool:
    return bool(ray.wait([reference], timeout=0, fetch_local=False)[0])


def _wait(references: list[Any], patience_s: float | None) -> None:
    if not references:
        return
    if patience_s is None:
        ray.wait(references, num_returns=len(references), fetch_local=False)
        return
    half = (len(references) + 1) // 2
    ray.wait(references, num_returns=half, fetch_local=False)
    ray.wait(references, num_returns=len(references), timeout=patience_s, fetch_local=False)
