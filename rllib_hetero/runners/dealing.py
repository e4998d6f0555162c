"""A fragment in parts: what everybody may read, and each agent's rewards for itself alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.runners.fragment import TeamFragment


@dataclass
class Deal:
    """One fragment's parts, or references to them.

    Attributes:
        source: The runner's worker index and the number of this rollout of it.
        public: The `TeamFragment`, with rewards (T, E, 0).
        rewards: Module id to (T, E, n_m) float32 of its agents.
        problem: See `TeamFragment`.
    """

    source: tuple[int, int]
    public: Any
    rewards: dict[ModuleID, Any]
    problem: str | None


def deal(fragment: TeamFragment, layout: Layout, post: Callable[[Any], Any]) -> Deal:
    """Takes a fragment apart.

    Args:
        fragment: From a team env runner.
        layout: Its layout.
        post: What each part is handed through, such as `ray.put`.
    """
    assert fragment.source is not None  # The team env runner always sets it.
    columns = {agent: k for k, agent in enumerate(layout.team.agents)}
    return Deal(
        source=fragment.source,
        public=post(replace(fragment, rewards=fragment.rewards[..., :0])),
        rewards={
            m: post(fragment.rewards[..., [columns[a] for a in agents]])
            for m, agents in layout.groups.items()
        },
        problem=fragment.problem,
    )


def put_together(
    public: TeamFragment,
    rewards: dict[ModuleID, np.ndarray],
    layout: Layout,
    modules: Collection[ModuleID],
) -> TeamFragment:
    """The fragment as the agents of some modules may know it: the others' rewards are NaN.

    Args:
        public: See `Deal`.
        rewards: Of these modules, see `Deal`.
        layout: The layout.
        modules: Ids of these modules.
    """
    agents = layout.team.agents
    known = np.full((*public.valid.shape, len(agents)), np.nan, np.float32)
    for m in modules:
        known[..., [agents.index(a) for a in layout.groups[m]]] = rewards[m]
    return replace(public, rewards=known)
