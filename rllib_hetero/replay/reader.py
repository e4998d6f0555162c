"""Rows on their way out of the replay, as batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.replay.batches import JointBatch, JointHistory, JointSequences
from rllib_hetero.replay.packing import Packing
from rllib_hetero.replay.rings import Rings
from rllib_hetero.replay.rows import GOES_ON, TERMINATED, Rows


class BatchReader:
    """Walks from rows along their columns, and gathers what it finds.

    Args:
        packing: How a transition's arrays lie in a row.
        rings: Which rows there are.
        rows: Their memory.
        device: Where batches go.
    """

    def __init__(self, packing: Packing, rings: Rings, rows: Rows, device: torch.device) -> None:
        self._packing = packing
        self._rings = rings
        self._rows = rows
        self._device = device

    def transitions(
        self, ring: np.ndarray, number: np.ndarray, n_step: int, gamma: float
    ) -> JointBatch:
        """Transitions from rows (B,), with returns over up to n steps."""
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
            weights=torch.ones(len(ring), device=self._device),
            agent_rewards=sums[:, 1:] if packing.individual_rewards else None,
            log_probs=packing.log_probs(acted),
            dist_inputs=packing.dist_inputs(acted),
        )

    def sequences(self, ring: np.ndarray, number: np.ndarray, length: int) -> JointSequences:
        """Stretches of up to L steps that begin with rows (B,)."""
        walk, ends, last = self._walk(ring, number, length)
        end = ends[np.arange(len(last)), last]
        filled = np.arange(length) <= last[:, None]

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
            dist_inputs=packing.dist_inputs(acted),
        )

    def preceding(self, ring: np.ndarray, number: np.ndarray, most: int) -> JointHistory:
        """Up to so many steps before rows (B,), of the same episode."""
        numbers = number[:, None] + np.arange(-most, 0)
        there = numbers >= (self._rings.written - self._rings.counts)[ring][:, None]
        places = self._rings.place(ring[:, None], np.where(there, numbers, number[:, None]))
        goes_on = there & (self._rows.ends.take(places) == GOES_ON)
        count = np.logical_and.accumulate(goes_on[:, ::-1], axis=1).sum(1)
        filled = np.arange(most) < count[:, None]
        shift = np.minimum(np.arange(most) + (most - count)[:, None], most - 1)
        places = np.where(filled, np.take_along_axis(places, shift, 1), self._rows.nothing)
        tables, packing = self._rows.tables, self._packing
        flags = self._send(tables["flags"].take(places))
        return JointHistory(
            observations=packing.observations(self._send(tables["seen"].take(places))),
            actions=packing.actions(self._send(tables["acted"].take(places))),
            active=packing.active(flags),
            filled=self._send(torch.from_numpy(filled)),
        )

    def run_lengths(self) -> np.ndarray:
        """(P,) the lengths of runs; see `JointReplay.run_lengths`."""
        rings, lengths = self._rings, []
        for column in np.flatnonzero(rings.counts):
            first, end = rings.written[column] - rings.counts[column], rings.written[column]
            numbers = np.arange(first, end)
            ends = self._rows.ends.take(rings.place(np.full_like(numbers, column), numbers))
            over = ends != GOES_ON
            over[-1] = True
            lengths.append(np.diff(np.flatnonzero(over), prepend=-1))
        return np.concatenate(lengths) if lengths else np.zeros(0, np.int64)

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
