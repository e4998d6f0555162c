"""Finds what must not be trained on in a sampled fragment, and says where it came from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

from rllib_hetero.functional.masks import nothing_allowed
from rllib_hetero.layout import Layout
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.spaces import numbers_in

_KEPT = "Nothing was trained on this data; the last checkpoint is untouched."


def find_problem(fragment: TeamFragment, layout: Layout) -> str | None:
    """The first non-finite number or empty mask in a fragment, as a sentence to act on.

    Args:
        fragment: What was sampled.
        layout: Its agents and modules.

    Returns:
        None if all observations, rewards, states and policy outputs are finite, and every agent
        that acted had an action to choose.
    """
    alive = np.stack([x.any(-1) for x in fragment.active.values()]).any(0)
    if not layout.team.absences and not (alive | ~fragment.valid).all():
        t, e = (int(i) for i in np.argwhere(~alive & fragment.valid)[0])
        return (
            f"No agent is active {_at((t, e, 0))}, and the episode is not over. Set `terminated` "
            "(or `truncated`) in the step in which the last agent's part ends. Mend the "
            f"environment set with config.environment(...). {_KEPT}"
        )
    for module_id, agents in layout.groups.items():
        seen = numbers_in(fragment.observations[module_id], layout.observation_space(module_id))
        where = _first_bad(seen, fragment.valid)
        if where is not None:
            return (
                f"The environment returned a NaN or infinite observation for agent "
                f"{agents[where[2]]!r}, {_at(where)}. Mend the environment set with "
                f"config.environment(...). {_KEPT}"
            )
        if module_id in fragment.action_masks:
            problem = _empty_mask(fragment, module_id, layout)
            if problem:
                return problem
        where = _first_bad(fragment.dist_inputs[module_id], fragment.valid)
        if where is not None:
            return (
                f"The policy of agent {agents[where[2]]!r} (module {module_id!r}) returned NaN "
                f"or infinity, {_at(where)}: its weights have diverged. Restore a checkpoint and "
                f"lower config.training(lr=...) or set config.training(grad_clip=...). {_KEPT}"
            )
    where = _first_bad(fragment.rewards[..., None], fragment.valid)
    if where is not None:
        return (
            f"The environment returned a NaN or infinite reward for agent "
            f"{layout.team.agents[where[2]]!r}, {_at(where)}. Mend the environment set with "
            f"config.environment(...). {_KEPT}"
        )
    space = layout.team.state_rows
    if fragment.state is not None and space is not None:
        where = _first_bad(numbers_in(fragment.state, space)[:, :, None], fragment.valid)
        if where is not None:
            return (
                f"The environment's state() holds NaN or infinity, {_at(where)}. Mend the "
                f"environment set with config.environment(...). {_KEPT}"
            )
    for state in (fragment.last_state, fragment.finals.state):
        if state is None or space is None:
            continue
        if not np.isfinite(numbers_in(state, space)).all():
            return (
                "The environment's state() holds NaN or infinity at the end of an episode. Mend "
                f"the environment set with config.environment(...). {_KEPT}"
            )
    for m, last in fragment.last_observations.items():
        ends = (last, fragment.finals.observations[m])
        if not all(np.isfinite(numbers_in(x, layout.observation_space(m))).all() for x in ends):
            return (
                "The environment returned a NaN or infinite final observation for an agent of "
                f"module {m!r}. Mend the environment set with config.environment(...). {_KEPT}"
            )
    return None


def find_problem_in_episodes(episodes: Iterable[MultiAgentEpisode]) -> str | None:
    """The first observation or reward in RLlib's episodes that is not finite, as a sentence."""
    for episode in episodes:
        for agent, part in episode.agent_episodes.items():
            for what, values in (
                ("observation", part.get_observations()),
                ("reward", part.get_rewards()),
            ):
                if not _is_finite(values):
                    return (
                        f"The environment returned a NaN or infinite {what} for agent {agent!r}. "
                        "Mend the environment set with config.environment(...)."
                    )
    return None


def _empty_mask(fragment: TeamFragment, module_id: str, layout: Layout) -> str | None:
    """The first agent that was to act and was allowed nothing.

    Steps in which the environment failed are looked at too: it may have failed of the action.
    """
    masks, dist = fragment.action_masks[module_id], layout.distribution(module_id)
    empty = nothing_allowed(masks, dist) & fragment.active[module_id]
    if not empty.any():
        return None
    t, e, k = (int(i) for i in np.argwhere(empty)[0])
    which = ""
    if dist.action_shape:
        parts = np.split(masks[t, e, k], np.cumsum(dist.choices)[:-1])
        which = f" in component {[bool(p.any()) for p in parts].index(False)} of its action"
    return (
        f"The action mask of agent {layout.groups[module_id][k]!r} allows nothing{which}, "
        f"{_at((t, e, k))}. A living agent needs at least one allowed choice (a no-op, say). Mend "
        f"the environment set with config.environment(...). {_KEPT}"
    )


def _is_finite(values: Any) -> bool:
    """Whether all numbers in nested dicts and lists are."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        return all(map(_is_finite, values))
    return bool(np.isfinite(values).all())


def _first_bad(array: np.ndarray, valid: np.ndarray) -> tuple[int, int, int] | None:
    """Index (t, e, agent) of the first non-finite entry of (T, E, n, d) among valid steps."""
    if np.isfinite(array).all():
        return None
    bad = ~np.isfinite(array).all(-1) & valid[:, :, None]
    if not bad.any():
        return None
    t, e, k = np.argwhere(bad)[0]
    return int(t), int(e), int(k)


def _at(where: tuple[int, int, int]) -> str:
    return f"in step {where[0]} of the fragment, sub-environment {where[1]}"
