"""How the arrays of a joint transition lie side by side in rows of a few tables."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rllib_hetero.functional import Density
from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.runners.fragment import PerModule
from rllib_hetero.spaces import as_dtype, row_dtype
from rllib_hetero.team import AgentID


class Packing:
    """The columns of four tables, of which each holds one row per joint transition.

    Agents lie in the team's order:

        seen     float32  observations, then the global state where there is one; uint8 where
                          some of these are pictures of bytes: the other numbers by their bytes
        flags    bool     who is alive (n), then the action masks of masked agents
        acted    float32  actions (a choice is a number), then log-probabilities and the
                          policy's parameters if kept
        rewards  float32  the team's, then the agents' (n) if kept

    To draw a row is then to read a few stretches of memory, however many agents there are. The
    agents' one-hots within a shared module are the same in every row: they are left out, and
    put back by `observations`.

    Args:
        layout: Agents, modules, spaces.
        individual_rewards: Whether the agents' rewards are kept beside the team's.
        keep_log_probs: Whether the behaviour policy's log-probabilities are kept, of the modules
            whose distribution has a density.
        keep_dist_inputs: Whether the behaviour policy's parameters are kept.
        agents: Of whom there is to be anything, whole modules; the global state is left out then.
            None: everything of everybody.

    Attributes:
        agents: Of whom there is anything, in the team's order.
        widths: Table to its number of columns.
        dtypes: Table to the dtype of its entries.

    Raises:
        ValueError: For agents that act in sequence.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        individual_rewards: bool,
        keep_log_probs: bool,
        keep_dist_inputs: bool,
        agents: Collection[AgentID] | None = None,
    ) -> None:
        if layout.autoregressive:
            raise ValueError("Agents that act in sequence learn on-policy: there is no replay.")
        self.layout = layout
        self.individual_rewards = individual_rewards
        team = layout.team
        self.agents = tuple(a for a in team.agents if agents is None or a in agents)
        self._rewarded = [team.agents.index(a) for a in self.agents]
        self._state_rows = team.state_rows if agents is None else None
        rows = [team.row_spaces[a] for a in self.agents]
        rows += [] if self._state_rows is None else [self._state_rows]
        self._seen = max(map(row_dtype, rows), key=lambda dtype: dtype == np.uint8)
        self.dtypes = {
            "seen": self._seen,
            "flags": np.dtype(bool),
            "acted": np.dtype(np.float32),
            "rewards": np.dtype(np.float32),
        }
        dists = {a: layout.distribution(layout.module_of[a]) for a in self.agents}
        sizes = {a: self._width(team.row_spaces[a]) for a in self.agents}
        self._observed = _Part(layout, sizes)
        self._alive = _Part(layout, dict.fromkeys(self.agents, 1))
        choices = {a: sum(dists[a].choices) for a in self.agents if a in team.masked}
        self._allowed = _Part(layout, choices, self._alive.end)
        self._acted = _Part(layout, {a: math.prod(d.action_shape) for a, d in dists.items()})
        dense = [a for a, d in dists.items() if keep_log_probs and isinstance(d, Density)]
        self._log_probs = _Part(layout, dict.fromkeys(dense, 1), self._acted.end)
        inputs = {a: d.size for a, d in dists.items()} if keep_dist_inputs else {}
        self._dist_inputs = _Part(layout, inputs, self._log_probs.end)
        self._state = slice(0, self._observed.end)
        if self._state_rows is not None:
            end = self._observed.end + self._width(self._state_rows)
            self._state = slice(self._observed.end, end)
        self.widths = {
            "seen": self._state.stop,
            "flags": self._allowed.end,
            "acted": self._dist_inputs.end,
            "rewards": 1 + individual_rewards * len(self.agents),
        }

    def _width(self, rows: Box) -> int:
        """Columns of the table `seen` that rows take."""
        return rows.shape[0] * row_dtype(rows).itemsize // self._seen.itemsize

    # ---- arrays in, rows out -----------------------------------------------------------------

    def seen(self, observations: PerModule, state: np.ndarray | None) -> np.ndarray:
        """Packs observations (..., n_m, d_m) and state (..., s) into (..., width)."""
        rows = self._rows("seen", self._seen, observations)
        for agent, place in self._observed.places.items():
            m, k = self.layout.slot_of[agent]
            own = observations[m][..., k, : self.layout.team.row_spaces[agent].shape[0]]
            rows[..., place] = as_dtype(own, self._seen)
        if state is not None and self._state_rows is not None:
            rows[..., self._state] = as_dtype(state, self._seen)
        return rows

    def flags(self, active: PerModule, masks: PerModule) -> np.ndarray:
        """Packs who is alive (..., n_m) and the masks (..., n_m, p_m)."""
        rows = self._rows("flags", bool, {m: x[..., None] for m, x in active.items()})
        self._fill(rows, {m: x[..., None] for m, x in active.items()}, self._alive)
        self._fill(rows, masks, self._allowed)
        return rows

    def acted(self, actions: PerModule, log_probs: PerModule, dist_inputs: PerModule) -> np.ndarray:
        """Packs actions (..., n_m, *shape), log-probabilities (..., n_m), inputs (..., n_m, p)."""
        flat = {m: x.reshape(*self._lead(m, x), -1) for m, x in actions.items()}
        rows = self._rows("acted", np.float32, flat)
        self._fill(rows, flat, self._acted)
        self._fill(rows, {m: x[..., None] for m, x in log_probs.items()}, self._log_probs)
        self._fill(rows, dist_inputs, self._dist_inputs)
        return rows

    def rewards(self, rewards: np.ndarray) -> np.ndarray:
        """Packs rewards (..., n) of the agents."""
        team = self.layout.team.team_reward(rewards)[..., None]
        if not self.individual_rewards:
            return team
        return np.concatenate([team, rewards[..., self._rewarded]], -1)

    def nobody(self) -> np.ndarray:
        """(width,) the flags after an end: nobody is alive, everything is allowed."""
        return np.arange(self.widths["flags"]) >= self._alive.end

    def _lead(self, m: ModuleID, actions: np.ndarray) -> tuple[int, ...]:
        inner = len(self.layout.distribution(m).action_shape)
        return actions.shape[: actions.ndim - inner]

    def _rows(self, table: str, dtype: Any, arrays: PerModule) -> np.ndarray:
        lead = next(iter(arrays.values())).shape[:-2]
        return np.empty((*lead, self.widths[table]), dtype)

    def _fill(self, rows: np.ndarray, arrays: PerModule, part: _Part) -> None:
        for agent, place in part.places.items():
            m, k = self.layout.slot_of[agent]
            if m in arrays:
                rows[..., place] = arrays[m][..., k, : place.stop - place.start]

    # ---- rows in, tensors out: views wherever a module's agents lie next to each other -------

    def observations(self, seen: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m, d_m) of each module, with the agents' one-hots."""
        out = {
            m: as_dtype(c.wide(seen), self.layout.row_dtype(m))
            for m, c in self._observed.columns.items()
        }
        for m, x in out.items():
            if self.layout.index_size(m):
                n = x.shape[-2]
                index = torch.eye(n, device=x.device, dtype=x.dtype).expand(*x.shape[:-1], -1)
                out[m] = torch.cat([x, index], -1)
        return out

    def state(self, seen: Tensor) -> Tensor:
        """(..., s), what the critic sees: all observations where there is no global state."""
        return as_dtype(seen[..., self._state], row_dtype(self.layout.team.critic_space))

    def active(self, flags: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m) bool of each module."""
        return {m: c.flat(flags) for m, c in self._alive.columns.items()}

    def masks(self, flags: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m, p_m) bool of each masked module."""
        return {m: c.wide(flags) for m, c in self._allowed.columns.items()}

    def actions(self, acted: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m, *shape) of each module, int64 where they are choices."""
        out = {}
        for m, c in self._acted.columns.items():
            dist = self.layout.distribution(m)
            x = c.wide(acted) if dist.action_shape else c.flat(acted)
            out[m] = x.long() if dist.action_dtype == np.int64 else x
        return out

    def log_probs(self, acted: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m) of each module whose log-probabilities are kept."""
        return {m: c.flat(acted) for m, c in self._log_probs.columns.items()}

    def dist_inputs(self, acted: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m, p_m) of each module, if they are kept."""
        return {m: c.wide(acted) for m, c in self._dist_inputs.columns.items()}


class _Part:
    """A part of a table: some columns of each of some agents, agent behind agent.

    Attributes:
        places: Agent to its columns.
        end: The column behind the last one.
        columns: Module to the columns of its agents.
    """

    def __init__(self, layout: Layout, sizes: dict[AgentID, int], start: int = 0) -> None:
        self.places: dict[AgentID, slice] = {}
        for agent, size in sizes.items():
            self.places[agent] = slice(start, start + size)
            start += size
        self.end = start
        self.columns = {
            m: _ModuleColumns([self.places[a] for a in agents])
            for m, agents in layout.groups.items()
            if agents[0] in self.places
        }


class _ModuleColumns:
    """The columns of a module's n agents, w for each."""

    def __init__(self, places: list[slice]) -> None:
        self._places = places
        self._shape = (len(places), places[0].stop - places[0].start)
        self._whole = None
        if all(a.stop == b.start for a, b in pairwise(places)):
            self._whole = slice(places[0].start, places[-1].stop)

    def flat(self, rows: Tensor) -> Tensor:
        """(..., n w) of rows (..., width)."""
        if self._whole is not None:
            return rows[..., self._whole]
        return torch.cat([rows[..., place] for place in self._places], -1)

    def wide(self, rows: Tensor) -> Tensor:
        """(..., n, w) of rows (..., width)."""
        return self.flat(rows).unflatten(-1, self._shape)
