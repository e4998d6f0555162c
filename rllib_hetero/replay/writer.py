"""Fragments on their way into the replay: which rows they are, and what they follow."""

from __future__ import annotations

import numpy as np

from rllib_hetero.replay.packing import Packing
from rllib_hetero.replay.priorities import Priorities
from rllib_hetero.replay.rings import Rings
from rllib_hetero.replay.rows import GOES_ON, TERMINATED, Rows
from rllib_hetero.replay.windows import Windows
from rllib_hetero.runners.fragment import TeamFragment


class FragmentWriter:
    """Writes fragments' rows into their columns' rings, and keeps episodes apart.

    Args:
        packing: How a transition's arrays lie in a row.
        rings: Which rows there are.
        rows: Their memory.
        windows: Where sequences begin, if any.
        priorities: Of the rows, if any.
    """

    def __init__(
        self,
        packing: Packing,
        rings: Rings,
        rows: Rows,
        windows: Windows | None,
        priorities: Priorities | None,
    ) -> None:
        self._packing = packing
        self._rings = rings
        self._rows = rows
        self._windows = windows
        self._priorities = priorities
        # Of each column's last fragment: the runner, its environment, and the rollout's number.
        self._sources = np.full((len(rings.counts), 3), -1, np.int64)

    def forget(self, columns: slice) -> None:
        """What comes next in these columns goes on with nothing that is there."""
        self._sources[columns] = -1

    def write(self, fragment: TeamFragment, first_column: int) -> None:
        """Writes its rows; see `JointReplay.add`."""
        columns = slice(first_column, first_column + fragment.num_envs)
        if first_column < 0 or columns.stop > len(self._rings.counts):
            raise ValueError(
                f"The environments {first_column} to {columns.stop - 1} of a fragment have no "
                f"columns: there are {len(self._rings.counts)}."
            )
        if not len(fragment.valid):
            return
        _check_ends(fragment)
        seen = self._packing.seen(fragment.observations, fragment.state)
        follows = self._follows(fragment, columns, seen[0])
        self._cut(np.arange(columns.start, columns.stop)[~follows])

        count = fragment.valid.sum(0)
        number = self._rings.written[columns] + fragment.valid.cumsum(0) - 1
        kept = fragment.valid & (number >= self._rings.written[columns] + count - self._rings.rows)
        ring = np.arange(columns.start, columns.stop)
        places = self._rings.place(ring, number)[kept]
        follow = self._rings.place(ring, self._rings.written[columns] + count)
        self._clear(np.concatenate([places, follow]))
        self._rows.write(places, self._packed(fragment, seen, kept))
        self._promise(follow, fragment)
        if self._windows is not None:
            self._windows.add(fragment, columns, follows, kept, places)
        if self._priorities is not None:
            self._priorities.renew(places)
        self._rings.push(columns, count)

    def _follows(self, fragment: TeamFragment, columns: slice, first: np.ndarray) -> np.ndarray:
        """(E,) bool: whether the columns' newest rows are followed by the fragment's first.

        Args:
            fragment: The new fragment.
            columns: Its E columns.
            first: (E, width) what is seen in its first step.
        """
        if fragment.source is None or fragment.continues is None:
            self.forget(columns)
            return np.zeros(fragment.num_envs, bool)
        worker, number = fragment.source
        now = np.empty((fragment.num_envs, 3), np.int64)
        now[:, 0] = worker
        now[:, 1] = fragment.first_env + np.arange(fragment.num_envs)
        now[:, 2] = number
        in_turn = (now - self._sources[columns] == [0, 0, 1]).all(1)
        self._sources[columns] = now
        # A runner made anew counts from 0 again: what comes must be what was said to follow.
        rings = self._rings
        promised = rings.place(np.arange(columns.start, columns.stop), rings.written[columns])
        as_promised = (self._rows.tables["seen"].array[promised] == first).all(1)
        # Failed in its first step, the episode goes on no more.
        return in_turn & as_promised & fragment.continues & fragment.valid[0]

    def _cut(self, columns: np.ndarray) -> None:
        """Ends the episodes under way in these columns, with what followed as final observation."""
        rings = self._rings
        columns = columns[rings.counts[columns] > 0]
        newest = rings.place(columns, rings.written[columns] - 1)
        self._rows.cut(newest, rings.place(columns, rings.written[columns]))

    def _clear(self, places: np.ndarray) -> None:
        """Forgets the rows that lie there."""
        self._rows.clear(places)
        if self._windows is not None:
            self._windows.clear(places)
        if self._priorities is not None:
            self._priorities.clear(places)

    def _packed(
        self, fragment: TeamFragment, seen: np.ndarray, kept: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The fragment's rows that are kept (T, E); `seen` is packed already."""
        packing, finals = self._packing, fragment.finals
        ends = np.where(fragment.terminated, TERMINATED, GOES_ON)
        ends[finals.step, finals.env] = np.arange(len(finals.step))
        ends = ends[kept]
        cut = ends[ends >= 0]
        return {
            "seen": seen[kept],
            "flags": packing.flags(fragment.active, fragment.action_masks)[kept],
            "acted": packing.acted(fragment.actions, fragment.log_probs, fragment.dist_inputs)[
                kept
            ],
            "rewards": packing.rewards(fragment.rewards)[kept],
            "ends": ends,
            "final_seen": packing.seen(finals.observations, finals.state)[cut],
            "final_flags": packing.flags(finals.active, finals.action_masks)[cut],
        }

    def _promise(self, places: np.ndarray, fragment: TeamFragment) -> None:
        """Writes there what follows the newest rows."""
        tables, packing = self._rows.tables, self._packing
        tables["seen"].array[places] = packing.seen(fragment.last_observations, fragment.last_state)
        tables["flags"].array[places] = packing.flags(
            fragment.last_active, fragment.last_action_masks
        )


def _check_ends(fragment: TeamFragment) -> None:
    """Makes sure that no transition can join two episodes."""
    valid, over = fragment.valid, fragment.terminated | fragment.truncated
    known = np.zeros(valid.shape, bool)
    known[fragment.finals.step, fragment.finals.env] = True
    if (valid & fragment.truncated & ~known).any():
        raise ValueError("A fragment lacks the true final observation of a truncated episode.")
    if (valid[:-1] & ~valid[1:] & ~over[:-1]).any():
        raise ValueError("A fragment does not end an episode before the step that failed.")
