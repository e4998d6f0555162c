"""Learner connector: team fragments in, one flat team batch out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override

from rllib_hetero.runners.fragment import PerModule, TeamFragment
from rllib_hetero.team import CRITIC, Layout

ACTIVE = "active"
"""Column of active masks: (B, n_m), 1 where the agent acted."""


class FragmentsToTeamBatch(ConnectorV2):
    """Concatenates fragments over environments and time.

    Rows are ordered by fragment, then environment, then time, and steps in which an
    environment failed are left out. For B rows the batch holds, for each actor module of n_m
    agents, `OBS` (B, n_m, d_m), `ACTIONS` (B, n_m, ...), `ACTION_DIST_INPUTS` (B, n_m, p_m),
    `ACTION_LOGP` (B, n_m) and `ACTIVE` (B, n_m); for the critic, `OBS` (B, s), the states.

    Args:
        layout: Agents and modules.
        device: Where the tensors go.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        layout: Layout,
        device: Any = None,
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self._layout = layout
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
        return batch

    def _rows(self, arrays: list[Any], fragments: list[TeamFragment]) -> torch.Tensor:
        rows = [x.swapaxes(0, 1)[f.valid.T] for x, f in zip(arrays, fragments, strict=True)]
        return torch.from_numpy(rows[0] if len(rows) == 1 else np.concatenate(rows)).to(
            self._device
        )


def states_from(observations: dict[str, Any], layout: Layout, concatenate: Any) -> Any:
    """All agents' observations concatenated in agent order: the state where there is no other.

    Args:
        observations: Module id to (..., n_m, d_m), arrays or tensors.
        layout: Agents and modules.
        concatenate: `np.concatenate` or `torch.cat`.

    Returns:
        (..., sum of d_i), the agents' one-hots left out.
    """
    parts = []
    for agent in layout.team.agents:
        m, k = layout.slot_of[agent]
        size = layout.team.observation_spaces[agent].shape[0]
        parts.append(observations[m][..., k, :size])
    return concatenate(parts, -1)


def critic_inputs(observations: PerModule, state: np.ndarray | None, layout: Layout) -> np.ndarray:
    """The critic's input (..., s) for observations outside the flat batch."""
    return states_from(observations, layout, np.concatenate) if state is None else state
