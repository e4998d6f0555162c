"""Learner connector: team fragments in, one flat team batch out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override

from rllib_hetero.layout import CRITIC, Layout
from rllib_hetero.modules.memory import initial_state, state_size
from rllib_hetero.runners.fragment import PerModule, TeamFragment
from rllib_hetero.spaces import as_dtype, row_dtype
from rllib_hetero.team import ACTION_MASK

ACTIVE = "active"
"""Column of active masks: (B, n_m), 1 where the agent acted."""
CHUNKS = "chunks"
"""The critic's entry (N, L): the rows of each chunk in time, -1 where a chunk is shorter."""


class FragmentsToTeamBatch(ConnectorV2):
    """Concatenates fragments over environments and time.

    Rows are ordered by fragment, then environment, then time, and steps in which an
    environment failed are left out. For B rows the batch holds, for each actor module of n_m
    agents, `OBS` (B, n_m, d_m), `ACTIONS` (B, n_m, ...), `ACTION_DIST_INPUTS` (B, n_m, p_m),
    `ACTION_LOGP` (B, n_m) and `ACTIVE` (B, n_m); for the critic, `OBS` (B, s), the states. Masked
    modules have `ACTION_MASK` (B, n_m, p_m) bool.

    If any module has a memory, the critic's part also holds `CHUNKS`: the rows cut into N
    stretches of at most L steps, none across an episode's end. A chunk begins where an episode
    does, and where the runners stored states, every L steps of a fragment. Modules with a memory
    then have `STATE_IN` (N, n_m, S), what they remembered there.

    Args:
        layout: Agents and modules.
        max_seq_len: L.
        device: Where the tensors go.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        layout: Layout,
        max_seq_len: int,
        device: Any = None,
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self._layout = layout
        self._max_seq_len = max_seq_len
        self._device = device

    @override(ConnectorV2)
    def __call__(
        self, *, rl_module: Any, batch: dict, episodes: list[TeamFragment], **kwargs: Any
    ) -> dict:
        for module_id in self._layout.groups:
            columns = {
                Columns.OBS: [f.observations[module_id] for f in episodes],
                Columns.ACTIONS: [f.actions[module_id] for f in episodes],
                Columns.ACTION_DIST_INPUTS: [f.dist_inputs[module_id] for f in episodes],
                Columns.ACTION_LOGP: [f.log_probs[module_id] for f in episodes],
                ACTIVE: [f.active[module_id].astype(np.float32) for f in episodes],
            }
            if self._layout.masked(module_id):
                columns[ACTION_MASK] = [f.action_masks[module_id] for f in episodes]
            batch[module_id] = {
                name: self._rows(arrays, episodes) for name, arrays in columns.items()
            }
        if self._layout.team.state_space is None:
            states = states_from(
                {m: batch[m][Columns.OBS] for m in self._layout.groups}, self._layout, torch.cat
            )
        else:
            states = self._rows([f.state for f in episodes], episodes)
        batch[CRITIC] = {Columns.OBS: states}
        recurrent = [m for m in (*self._layout.groups, CRITIC) if state_size(rl_module[m])]
        if recurrent:
            self._add_chunks(recurrent, rl_module, batch, episodes)
        return batch

    def _add_chunks(
        self, recurrent: list[str], rl_module: Any, batch: dict, fragments: list[TeamFragment]
    ) -> None:
        length = self._max_seq_len
        begins = [chunk_starts(f, length) for f in fragments]
        first = self._rows(begins, fragments).nonzero()[:, 0]
        ends = torch.cat([first[1:], first.new_tensor([len(batch[CRITIC][Columns.OBS])])])
        rows = first[:, None] + torch.arange(length, device=first.device)
        batch[CRITIC][CHUNKS] = torch.where(rows < ends[: len(first), None], rows, -1)
        for m in recurrent:
            if m == CRITIC:
                continue  # Runners have none: what it remembers is found with its values.
            states = []
            for f, begin in zip(fragments, begins, strict=True):
                env, step = np.nonzero(begin.T)
                stored = f.states[m][step // length, env]
                stored[step % length != 0] = initial_state(rl_module[m]).numpy()
                states.append(torch.from_numpy(stored))
            batch[m][Columns.STATE_IN] = torch.cat(states).to(self._device)

    def _rows(self, arrays: list[Any], fragments: list[TeamFragment]) -> torch.Tensor:
        rows = [x.swapaxes(0, 1)[f.valid.T] for x, f in zip(arrays, fragments, strict=True)]
        return torch.from_numpy(rows[0] if len(rows) == 1 else np.concatenate(rows)).to(
            self._device
        )


def chunk_starts(fragment: TeamFragment, length: int) -> np.ndarray:
    """(T, E) bool: the valid steps at which a chunk of at most `length` steps begins."""
    starts = np.zeros(fragment.valid.shape, bool)
    starts[::length] = True
    over = fragment.terminated | fragment.truncated | ~fragment.valid
    starts[1:] |= over[:-1]
    return starts & fragment.valid


def states_from(observations: dict[str, Any], layout: Layout, concatenate: Any) -> Any:
    """All agents' observations concatenated in agent order: the state where there is no other.

    Args:
        observations: Module id to (..., n_m, d_m), arrays or tensors.
        layout: Agents and modules.
        concatenate: `np.concatenate` or `torch.cat`.

    Returns:
        (..., sum of d_i), the agents' one-hots left out; all bytes if some agents' are.
    """
    parts, dtype = [], row_dtype(layout.team.critic_space)
    for agent in layout.team.agents:
        m, k = layout.slot_of[agent]
        size = layout.team.row_spaces[agent].shape[0]
        parts.append(as_dtype(observations[m][..., k, :size], dtype))
    return concatenate(parts, -1)


def critic_inputs(observations: PerModule, state: np.ndarray | None, layout: Layout) -> np.ndarray:
    """The critic's input (..., s) for observations outside the flat batch."""
    return states_from(observations, layout, np.concatenate) if state is None else state
