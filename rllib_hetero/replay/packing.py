"""How the arrays of a joint transition lie side by side in rows of a few tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rllib_hetero.functional import Density
from rllib_hetero.runners.fragment import PerModule
from rllib_hetero.team import AgentID, Layout, ModuleID


class Packing:
    """The columns of four tables, of which each holds one row per joint transition.

    Agents lie in the team's order:

        seen     float32  observations, then the global state where there is one
        flags    bool     who is alive (n), then the action masks of masked agents
        acted    float32  actions (a choice is a number), then log-probabilities if kept
        rewards  float32  the team's, then the agents' (n) if kept

    To draw a row is then to read a few stretches of memory, however many agents there are. The
    agents' one-hots within a shared module are the same in every row: they are left out, and
    put back by `observations`.

    Args:
        layout: Agents, modules, spaces.
        individual_rewards: Whether the agents' rewards are kept beside the team's.
        keep_log_probs: Whether the behaviour policy's log-probabilities are kept, of the modules
            whose distribution has a density.

    Attributes:
        widths: Table to its number of columns.

    Raises:
        ValueError: For agents that act in sequence.
    """

    def __init__(self, layout: Layout, *, individual_rewards: bool, keep_log_probs: bool) -> None:
        if layout.autoregressive:
            raise ValueError("Agents that act in sequence learn on-policy: there is no replay.")
        self.layout = layout
        self.individual_rewards = individual_rewards
        team = layout.team
        dists = {a: layout.distribution(layout.module_of[a]) for a in team.agents}
        self._observed = _side_by_side(
            {a: team.observation_spaces[a].shape[0] for a in team.agents}
        )
        self._alive = _side_by_side(dict.fromkeys(team.agents, 1))
        self._allowed = _side_by_side(
            {a: sum(dists[a].choices) for a in team.agents if a in team.masked}, len(team.agents)
        )
        self._acted = _side_by_side({a: math.prod(d.action_shape) for a, d in dists.items()})
        dense = [a for a, d in dists.items() if keep_log_probs and isinstance(d, Density)]
        self._log_probs = _side_by_side(dict.fromkeys(dense, 1), _end(self._acted))
        self._state = slice(0, _end(self._observed))
        if team.state_space is not None:
            end = _end(self._observed)
            self._state = slice(end, end + team.state_space.shape[0])
        self.widths = {
            "seen": self._state.stop,
            "flags": max(_end(self._alive), _end(self._allowed)),
            "acted": max(_end(self._acted), _end(self._log_probs)),
            "rewards": 1 + individual_rewards * len(team.agents),
        }

    # ---- arrays in, rows out -----------------------------------------------------------------

    def seen(self, observations: PerModule, state: np.ndarray | None) -> np.ndarray:
        """Packs observations (..., n_m, d_m) and state (..., s) into (..., width)."""
        rows = self._rows("seen", np.float32, observations)
        self._fill(rows, observations, self._observed)
        if state is not None:
            rows[..., self._state] = state
        return rows

    def flags(self, active: PerModule, masks: PerModule) -> np.ndarray:
        """Packs who is alive (..., n_m) and the masks (..., n_m, p_m)."""
        rows = self._rows("flags", bool, {m: x[..., None] for m, x in active.items()})
        self._fill(rows, {m: x[..., None] for m, x in active.items()}, self._alive)
        self._fill(rows, masks, self._allowed)
        return rows

    def acted(self, actions: PerModule, log_probs: PerModule) -> np.ndarray:
        """Packs actions (..., n_m, *shape) and log-probabilities (..., n_m)."""
        flat = {m: x.reshape(*self._lead(m, x), -1) for m, x in actions.items()}
        rows = self._rows("acted", np.float32, flat)
        self._fill(rows, flat, self._acted)
        self._fill(rows, {m: x[..., None] for m, x in log_probs.items()}, self._log_probs)
        return rows

    def rewards(self, rewards: np.ndarray) -> np.ndarray:
        """Packs rewards (..., n) of the agents."""
        team = self.layout.team.team_reward(rewards)[..., None]
        return np.concatenate([team, rewards], -1) if self.individual_rewards else team

    def nobody(self) -> np.ndarray:
        """(width,) the flags after an end: nobody is alive, everything is allowed."""
        return np.arange(self.widths["flags"]) >= len(self._alive)

    def _lead(self, m: ModuleID, actions: np.ndarray) -> tuple[int, ...]:
        inner = len(self.layout.distribution(m).action_shape)
        return actions.shape[: actions.ndim - inner]

    def _rows(self, table: str, dtype: type, arrays: PerModule) -> np.ndarray:
        lead = next(iter(arrays.values())).shape[:-2]
        return np.empty((*lead, self.widths[table]), dtype)

    def _fill(self, rows: np.ndarray, arrays: PerModule, places: dict[AgentID, slice]) -> None:
        for agent, place in places.items():
            m, k = self.layout.slot_of[agent]
            if m in arrays:
                rows[..., place] = arrays[m][..., k, : place.stop - place.start]

    # ---- rows in, tensors out: views wherever a module's agents lie next to each other -------

    def observations(self, seen: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m, d_m) of each module, with the agents' one-hots."""
        out = self._by_module(seen, self._observed)
        for m, x in out.items():
            if self.layout.index_size(m):
                index = torch.eye(x.shape[-2], device=x.device).expand(*x.shape[:-1], -1)
                out[m] = torch.cat([x, index], -1)
        return out

    def state(self, seen: Tensor) -> Tensor:
        """(..., s), what the critic sees: all observations where there is no global state."""
        return seen[..., self._state]

    def active(self, flags: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m) bool of each module."""
        return {m: x.squeeze(-1) for m, x in self._by_module(flags, self._alive).items()}

    def masks(self, flags: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m, p_m) bool of each masked module."""
        return self._by_module(flags, self._allowed)

    def actions(self, acted: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m, *shape) of each module, int64 where they are choices."""
        out = self._by_module(acted, self._acted)
        for m, x in out.items():
            dist = self.layout.distribution(m)
            if dist.choices:
                x = x.long()
            out[m] = x if dist.action_shape else x.squeeze(-1)
        return out

    def log_probs(self, acted: Tensor) -> dict[ModuleID, Tensor]:
        """(..., n_m) of each module whose log-probabilities are kept."""
        return {m: x.squeeze(-1) for m, x in self._by_module(acted, self._log_probs).items()}

    def _by_module(self, rows: Tensor, places: dict[AgentID, slice]) -> dict[ModuleID, Tensor]:
        out = {}
        for m, agents in self.layout.groups.items():
            if agents[0] in places:
                out[m] = _agents(rows, [places[a] for a in agents])
        return out


def _side_by_side(sizes: dict[AgentID, int], start: int = 0) -> dict[AgentID, slice]:
    """One stretch of columns for each agent, one behind the other."""
    places = {}
    for agent, size in sizes.items():
        places[agent] = slice(start, start + size)
        start += size
    return places


def _end(places: dict[AgentID, slice]) -> int:
    return max((s.stop for s in places.values()), default=0)


def _agents(rows: Tensor, places: Sequence[slice]) -> Tensor:
    """(..., n, width): the columns of agents of one module."""
    first, last = places[0], places[-1]
    if all(a.stop == b.start for a, b in pairwise(places)):
        size = (len(places), first.stop - first.start)
        return rows[..., first.start : last.stop].unflatten(-1, size)
    return torch.stack([rows[..., s] for s in places], -2)
