"""What goes on from one fragment of an environment to its next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from rllib_hetero.runners.fragment import TeamFragment

T = TypeVar("T")


class Carried(Generic[T]):
    """Keeps a value for each environment of each runner, from the end of its latest fragment.

    It is known again only where the fragment follows that one: not after a restore, nor where a
    fragment was lost or another learner had the environment, nor at the start of an episode.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], tuple[int, T]] = {}

    def before(self, fragment: TeamFragment) -> dict[int, T]:
        """Index of each environment whose first row goes on, to what was kept of it."""
        if fragment.source is None or fragment.continues is None:
            return {}
        (worker, number), found = fragment.source, {}
        for e in fragment.continues.nonzero()[0].tolist():
            kept = self._kept.get((worker, fragment.first_env + e))
            if kept is not None and kept[0] == number - 1:
                found[e] = kept[1]
        return found

    def keep(self, fragment: TeamFragment, values: Iterable[T]) -> None:
        """Keeps what there is at its end, one value for each of its environments."""
        if fragment.source is not None:
            worker, number = fragment.source
            for e, value in enumerate(values):
                self._kept[worker, fragment.first_env + e] = (number, value)
