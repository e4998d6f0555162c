"""The replay of joint transitions: every environment's rows in order of time, drawn at random.

    replay = JointReplay(layout, capacity=1_000_000, num_columns=20)
    replay.add(fragment)                                  # whole environments, oldest rows go
    indices = uniform((seed, iteration, update), len(replay), 1000)
    batch = replay.take(indices, n_step=5, gamma=0.99)    # a JointBatch

Needs no Ray: it lives where the learner lives, and is handed fragments.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.replay.batches import JointBatch, JointSequences
from rllib_hetero.replay.files import ReplayFiles
from rllib_hetero.replay.memory import bytes_needed, check_memory, free_memory
from rllib_hetero.replay.packing import Packing
from rllib_hetero.replay.priorities import Priorities
from rllib_hetero.replay.rings import Rings
from rllib_hetero.replay.rows import GOES_ON, TERMINATED, Rows
from rllib_hetero.replay.tables import in_files
from rllib_hetero.replay.windows import Windows
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.team import Layout


class JointReplay:
    """Rings of joint transitions, one for each environment.

    A *column* is one environment of one runner, and has a ring of its own, in which rows lie in
    order of time: a row is followed by the next one, so that observations are kept once. True
    final observations of episodes that were cut are kept beside. Behind the newest row lies what
    follows it, which the column's next row overwrites with the same numbers. Failed steps are no
    rows. Where a fragment does not go on from its column's newest row (a runner was restarted, or
    a fragment was lost), that row is cut: what followed it is its true final observation.

    Indices count all rows, column before column and oldest first. They hold until the next `add`.

    Args:
        layout: Agents, modules, spaces.
        capacity: Rows, of which each column has the same whole number.
        num_columns: How many environments there are.
        individual_rewards: Keeps the agents' rewards beside the team's.
        keep_log_probs: Keeps the behaviour policy's log-probabilities.
        sequence_length: L, the steps of a stretch that `sequences` gives. None: it gives none.
        alpha: Exponent of priorities, by which rows can be drawn. None: there are none.
        folder: Keeps the rows in files there, in place of RAM.
        device: Where batches go.

    Raises:
        ValueError: If there is not a row for each column, a column has fewer rows than a sequence
            has steps, or agents act in sequence.
        TeamError: If a full replay would not fit into the memory that is free.
        OSError: If the folder cannot be written to, or its disk is too small.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        capacity: int,
        num_columns: int,
        individual_rewards: bool = False,
        keep_log_probs: bool = False,
        sequence_length: int | None = None,
        alpha: float | None = None,
        folder: str | Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < num_columns <= capacity:
            raise ValueError(
                f"A replay of {capacity} rows for {num_columns} environments has not a row for "
                "each: raise its capacity."
            )
        kept = {"individual_rewards": individual_rewards, "keep_log_probs": keep_log_probs}
        self._packing = Packing(layout, **kept)
        if folder is None:
            needed = bytes_needed(
                layout,
                capacity,
                num_columns,
                sequence_length=sequence_length,
                prioritized=alpha is not None,
                **kept,
            )
            check_memory(needed, free_memory())
        self._device = torch.device(device)
        self._rings = Rings(num_columns, capacity // num_columns)
        allocate = np.zeros if folder is None else in_files(folder)
        self._rows = Rows(self._packing, self._rings.num_slots, allocate)
        self._windows = None
        if sequence_length is not None:
            self._windows = Windows(self._rings, sequence_length, allocate)
        self._priorities = None
        if alpha is not None:
            self._priorities = Priorities(self._rings.num_slots, alpha, allocate)
        signature = {
            "agents": [str(a) for a in layout.team.agents],
            "widths": self._packing.widths,
            "sequence_length": sequence_length,
        }
        self._files = ReplayFiles(
            self._rings, self._rows, self._windows, self._priorities, signature
        )
        # Of each column's last fragment: the runner, its environment, and the rollout's number.
        self._sources = np.full((num_columns, 3), -1, np.int64)

    def __len__(self) -> int:
        """How many rows can be drawn."""
        return len(self._rings)

    @property
    def num_columns(self) -> int:
        return len(self._rings.counts)

    @property
    def capacity(self) -> int:
        """The most rows that it can hold."""
        return self.num_columns * self._rings.rows

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, used or not, and of the final observations."""
        windows = 0 if self._windows is None else self._windows.nbytes
        priorities = 0 if self._priorities is None else self._priorities.tree.nbytes
        return self._rows.nbytes + windows + priorities

    # ---- fragments in ------------------------------------------------------------------------

    def add(self, fragment: TeamFragment, first_column: int = 0) -> None:
        """Adds a fragment's rows: its environment e to column `first_column + e`.

        Raises:
            ValueError: If there are no such columns, or the fragment lacks the true final
                observation of an episode that was cut or lost.
        """
        columns = slice(first_column, first_column + fragment.num_envs)
        if first_column < 0 or columns.stop > self.num_columns:
            raise ValueError(
                f"The environments {first_column} to {columns.stop - 1} of a fragment have no "
                f"columns: there are {self.num_columns}."
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
            self._sources[columns] = -1
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
            "acted": packing.acted(fragment.actions, fragment.log_probs)[kept],
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

    # ---- batches out -------------------------------------------------------------------------

    def take(self, indices: np.ndarray, n_step: int = 1, gamma: float = 0.99) -> JointBatch:
        """The rows of these indices, with returns over up to n steps.

        Args:
            indices: (B,) int64 in [0, len).
            n_step: n, the most steps of a return.
            gamma: Discount per step.

        Raises:
            ValueError: If an index is out of range, or n steps are more than a column has rows.
        """
        if not 0 < n_step <= self._rings.rows:
            raise ValueError(
                f"Returns over {n_step} steps do not fit into a replay with {self._rings.rows} "
                "rows for each environment: lower `n_step`, or raise the replay's capacity."
            )
        _check_indices(indices, len(self))
        ring, number = self._rings.locate(indices)
        walk, ends, last = self._walk(ring, number, n_step)
        end = ends[np.arange(len(last)), last]
        powers = gamma ** np.arange(n_step + 1)
        every = self._rows.tables["rewards"].array
        weights = np.where(np.arange(n_step) <= last[:, None], powers[:-1], 0.0)
        rewards = np.einsum("bt,btk->bk", weights, every.take(walk, axis=0))
        discount = np.where(end == TERMINATED, 0.0, powers[last + 1])

        after = self._rings.place(ring, number + last + 1)
        after[end == TERMINATED] = self._rows.nothing
        places = np.stack([walk[:, 0], after])
        seen, flags = self._look(places, np.stack([np.full_like(end, GOES_ON), end]))
        acted = self._send(self._rows.tables["acted"].take(places[0]))
        sums = self._send(torch.from_numpy(rewards.astype(np.float32)))
        packing = self._packing
        return JointBatch(
            observations=packing.observations(seen[0]),
            actions=packing.actions(acted),
            active=packing.active(flags[0]),
            masks=packing.masks(flags[0]),
            state=packing.state(seen[0]),
            rewards=sums[:, 0],
            discount=self._send(torch.from_numpy(discount.astype(np.float32))),
            next_observations=packing.observations(seen[1]),
            next_active=packing.active(flags[1]),
            next_masks=packing.masks(flags[1]),
            next_state=packing.state(seen[1]),
            weights=torch.ones(len(indices), device=self._device),
            agent_rewards=sums[:, 1:] if packing.individual_rewards else None,
            log_probs=packing.log_probs(acted),
        )

    @property
    def num_sequences(self) -> int:
        """How many stretches can be drawn; their indices run as those of rows do."""
        return len(self._need_windows())

    def sequences(self, indices: np.ndarray) -> JointSequences:
        """Stretches of episodes: the steps 0 to L - 1 of an episode, L to 2 L - 1, and so on.

        A stretch whose first step has been overwritten is not given; that of an episode under
        way is given as far as it goes.

        Args:
            indices: (B,) int64 in [0, num_sequences).

        Raises:
            ValueError: If an index is out of range, or there is no `sequence_length`.
        """
        windows = self._need_windows()
        _check_indices(indices, len(windows))
        ring, number = windows.locate(indices)
        walk, ends, last = self._walk(ring, number, windows.length)
        end = ends[np.arange(len(last)), last]
        filled = np.arange(windows.length) <= last[:, None]

        after = self._rings.place(ring, number + last + 1)
        nothing = self._rows.nothing
        after[end == TERMINATED] = nothing
        inside = np.where(filled, walk, nothing)
        places = np.pad(inside, ((0, 0), (0, 1)), constant_values=nothing)
        places[np.arange(len(last)), last + 1] = after
        finals = np.full(places.shape, GOES_ON, np.int32)
        finals[np.arange(len(last)), last + 1] = end
        seen, flags = self._look(places, finals)
        acted = self._send(self._rows.tables["acted"].take(inside))
        rewards = self._send(self._rows.tables["rewards"].take(inside))
        packing = self._packing
        return JointSequences(
            observations=packing.observations(seen),
            actions=packing.actions(acted),
            active=packing.active(flags),
            masks=packing.masks(flags),
            state=packing.state(seen),
            rewards=rewards[..., 0],
            terminated=self._send(torch.from_numpy(filled & (ends == TERMINATED))),
            filled=self._send(torch.from_numpy(filled)),
            agent_rewards=rewards[..., 1:] if packing.individual_rewards else None,
            log_probs=packing.log_probs(acted),
        )

    # ---- priorities --------------------------------------------------------------------------

    @property
    def priorities(self) -> Priorities:
        """The rows' priorities by place, their sum, and the largest so far, which new rows get.

        Raises:
            ValueError: If there is no `alpha`.
        """
        if self._priorities is None:
            raise ValueError("Priorities are kept by a JointReplay(..., alpha=0.6) only.")
        return self._priorities

    def find(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows by priority.

        Args:
            sums: (B,) sums of priorities in [0, their total), as `stratified` draws them.

        Returns:
            (B,) int64 indices for `take`, and (B,) their p^alpha, for `importance_weights`.
        """
        places = self.priorities.tree.find(sums)
        return self._rings.order(places), self.priorities.tree.get(places)

    def update_priorities(self, indices: np.ndarray, errors: np.ndarray) -> None:
        """Sets the priorities of rows.

        Args:
            indices: (B,) as they were drawn: nothing may have been added since.
            errors: (B,) their TD errors.
        """
        _check_indices(indices, len(self))
        self.priorities.update(self._rings.place(*self._rings.locate(indices)), errors)

    # ---- checkpoints -------------------------------------------------------------------------

    def save(self, folder: str | Path, previous: str | Path | None = None) -> None:
        """Writes the rows to a folder, which need not exist.

        Args:
            folder: Where to.
            previous: The folder of an earlier save: of its files, those that still hold rows are
                hard-linked. What cannot be linked is written again.

        Raises:
            OSError: If not all could be written. What was is removed again, and earlier folders
                are whole.
        """
        self._files.write(Path(folder), None if previous is None else Path(previous))

    def restore(
        self, folder: str | Path, columns: range | None = None, first_column: int = 0
    ) -> None:
        """Reads rows that `save` wrote.

        Rows have the same indices as they had, and give the same batches, if the capacity is the
        same; of a smaller one, the newest rows are kept. Environments cannot be saved, so that
        every episode that was under way is cut.

        Args:
            folder: Where from.
            columns: Which of its columns; all if None.
            first_column: To which columns of this replay: these and the following.

        Raises:
            ValueError: If the folder is not whole, or of another team, or has no such columns.
                Where a file cannot be read, the columns that were to be read into are empty.
        """
        # What comes next goes on with nothing that was read.
        self._sources[self._files.read(Path(folder), columns, first_column)] = -1

    # ---- rows on their way out ---------------------------------------------------------------

    def _walk(
        self, ring: np.ndarray, number: np.ndarray, most: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From rows along their columns, to the end of the episode or the newest row.

        Returns:
            (B, most) where the rows lie, (B, most) how their steps ended, and (B,) the index of
            the last one that was reached. What lies behind it belongs to other episodes.
        """
        places = self._rings.walk(ring, number, most)
        ends = self._rows.ends.take(places)
        newest = self._rings.written[ring] - 1 - number
        stop = (ends != GOES_ON) | (np.arange(most) >= newest[:, None])
        stop[:, -1] = True
        return places, ends, stop.argmax(1)

    def _look(self, places: np.ndarray, ends: np.ndarray) -> tuple[Tensor, Tensor]:
        seen, flags = self._rows.look(places, ends)
        return self._send(seen), self._send(flags)

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device)

    def _need_windows(self) -> Windows:
        if self._windows is None:
            raise ValueError("Sequences are kept by a JointReplay(..., sequence_length=L) only.")
        return self._windows


def _check_ends(fragment: TeamFragment) -> None:
    """Makes sure that no transition can join two episodes."""
    valid, over = fragment.valid, fragment.terminated | fragment.truncated
    known = np.zeros(valid.shape, bool)
    known[fragment.finals.step, fragment.finals.env] = True
    if (valid & fragment.truncated & ~known).any():
        raise ValueError("A fragment lacks the true final observation of a truncated episode.")
    if (valid[:-1] & ~valid[1:] & ~over[:-1]).any():
        raise ValueError("A fragment does not end an episode before the step that failed.")


def _check_indices(indices: np.ndarray, total: int) -> None:
    if len(indices) and not 0 <= indices.min() <= indices.max() < total:
        raise ValueError(f"Indices must be in [0, {total}), the replay's present length.")
