"""The replay of joint transitions: every environment's rows in order of time, drawn at random.

    replay = JointReplay(layout, capacity=1_000_000, num_columns=20)
    replay.add(fragment)                                  # whole environments, oldest rows go
    indices = uniform((seed, iteration, update), len(replay), 1000)
    batch = replay.take(indices, n_step=5, gamma=0.99)    # a JointBatch

Needs no Ray: it lives where the learner lives, and is handed fragments.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from rllib_hetero.layout import Layout
from rllib_hetero.replay.batches import JointBatch, JointHistory, JointSequences
from rllib_hetero.replay.files import ReplayFiles
from rllib_hetero.replay.memory import bytes_needed, check_memory, free_memory
from rllib_hetero.replay.packing import Packing
from rllib_hetero.replay.priorities import Priorities
from rllib_hetero.replay.reader import BatchReader
from rllib_hetero.replay.rings import Rings
from rllib_hetero.replay.rows import Rows
from rllib_hetero.replay.tables import in_files
from rllib_hetero.replay.windows import Windows
from rllib_hetero.replay.writer import FragmentWriter
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.team import AgentID


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
        keep_dist_inputs: Keeps the behaviour policy's parameters.
        sequence_length: L, the steps of a stretch that `sequences` gives. None: it gives none.
        agents: Whose observations, actions and rewards are kept: whole modules. The global state
            is left out then. None: everything of everybody.
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
        keep_dist_inputs: bool = False,
        sequence_length: int | None = None,
        agents: Collection[AgentID] | None = None,
        alpha: float | None = None,
        folder: str | Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 < num_columns <= capacity:
            raise ValueError(
                f"A replay of {capacity} rows for {num_columns} environments has not a row for "
                "each: raise its capacity."
            )
        kept = {
            "individual_rewards": individual_rewards,
            "keep_log_probs": keep_log_probs,
            "keep_dist_inputs": keep_dist_inputs,
            "agents": agents,
        }
        packing = Packing(layout, **kept)  # type: ignore[arg-type]
        if folder is None:
            needed = bytes_needed(
                layout,
                capacity,
                num_columns,
                sequence_length=sequence_length,
                prioritized=alpha is not None,
                **kept,  # type: ignore[arg-type]
            )
            check_memory(needed, free_memory())
        self._packing = packing
        self._rings = Rings(num_columns, capacity // num_columns)
        allocate = np.zeros if folder is None else in_files(folder)
        self._rows = Rows(packing, self._rings.num_slots, allocate)
        self._windows = None
        if sequence_length is not None:
            self._windows = Windows(self._rings, sequence_length, allocate)
        self._priorities = None
        if alpha is not None:
            self._priorities = Priorities(self._rings.num_slots, alpha, allocate)
        self._writer = FragmentWriter(
            packing, self._rings, self._rows, self._windows, self._priorities
        )
        self._reader = BatchReader(packing, self._rings, self._rows, torch.device(device))
        signature = {
            "agents": [str(a) for a in packing.agents],
            "widths": packing.widths,
            "sequence_length": sequence_length,
        }
        self._files = ReplayFiles(
            self._rings, self._rows, self._windows, self._priorities, signature
        )

    def __len__(self) -> int:
        """How many rows can be drawn."""
        return len(self._rings)

    @property
    def agents(self) -> tuple[AgentID, ...]:
        """Whose transitions are kept, in the team's order."""
        return self._packing.agents

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
        self._writer.write(fragment, first_column)

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
        return self._reader.transitions(*self._rings.locate(indices), n_step, gamma)

    def preceding(self, indices: np.ndarray, steps: int) -> JointHistory:
        """What came before the rows of these indices in their episodes.

        Args:
            indices: (B,) int64 in [0, len).
            steps: H, the most steps that are looked back. What has been overwritten is gone.

        Raises:
            ValueError: If an index is out of range, or nothing is to be looked at.
        """
        if steps < 1:
            raise ValueError(f"At least one step must be looked back, got {steps}.")
        _check_indices(indices, len(self))
        return self._reader.preceding(*self._rings.locate(indices), steps)

    def newest(self, count: int) -> np.ndarray:
        """The indices of about so many of the newest rows, as many of each column, at least one."""
        return self._rings.newest(max(1, count // self.num_columns))

    def run_lengths(self) -> np.ndarray:
        """(P,) int64: how many rows follow each other in one episode, run by run.

        Runs put end to end are all rows in the order of their indices. The last row of a run is
        the last of its episode, or of its column.
        """
        return self._reader.run_lengths()

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
        return self._reader.sequences(*windows.locate(indices), windows.length)

    def reward_moments(self) -> np.ndarray:
        """What the mean and variance of all rows' rewards are made of.

        Returns:
            (1 + 2 k,) float64: the number of rows, sums of the rewards and of their squares, of
            k = 1 + n columns: the team's, then those of `agents` if they are kept.
        """
        table = self._rows.tables["rewards"].array
        width = table.shape[1]
        out = np.zeros(1 + 2 * width)
        out[0] = len(self)
        for places in self._rings.stretches():
            rows = table[places].astype(np.float64)
            out[1 : 1 + width] += rows.sum(0)
            out[1 + width :] += np.square(rows).sum(0)
        return out

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
        self._writer.forget(self._files.read(Path(folder), columns, first_column))

    def _need_windows(self) -> Windows:
        if self._windows is None:
            raise ValueError("Sequences are kept by a JointReplay(..., sequence_length=L) only.")
        return self._windows


def _check_indices(indices: np.ndarray, total: int) -> None:
    if len(indices) and not 0 <= indices.min() <= indices.max() < total:
        raise ValueError(f"Indices must be in [0, {total}), the replay's present length.")
