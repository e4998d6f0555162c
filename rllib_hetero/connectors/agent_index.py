"""Env-to-module connector of the stock runner: tells a shared module which agent is acting."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import Columns
from ray.rllib.utils.annotations import override

from rllib_hetero.layout import Layout
from rllib_hetero.team import OBSERVATIONS


class AppendAgentIndex(ConnectorV2):
    """Appends the agent's one-hot index within its sharing group to its observation.

    Args:
        layout: Agents and modules.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        layout: Layout,
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self._one_hot = {
            agent: np.eye(len(layout.groups[m]), dtype=layout.row_dtype(m))[k]
            for agent, (m, k) in layout.slot_of.items()
            if layout.index_size(m)
        }

    @override(ConnectorV2)
    def __call__(self, *, rl_module: Any, batch: dict, episodes: list, **kwargs: Any) -> dict:
        def append(observation: Any, _: Any, agent_id: Any, __: Any) -> Any:
            one_hot = self._one_hot.get(agent_id)
            if one_hot is None:
                return observation
            if isinstance(observation, dict):  # it comes with an action mask
                longer = np.concatenate([observation[OBSERVATIONS], one_hot])
                return {**observation, OBSERVATIONS: longer}
            return np.concatenate([observation, one_hot])

        if Columns.OBS in batch:  # RLlib also comes with finished episodes, which act no more.
            self.foreach_batch_item_change_in_place(batch, Columns.OBS, append)
        return batch
