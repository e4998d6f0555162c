"""From RLlib's `MultiAgentEpisode`s to a team fragment: the way of the stock env runner.

It is the compatibility path, and the oracle that the fast runner is tested against.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.core import Columns
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_hetero.errors import TeamError
from rllib_hetero.layout import Layout
from rllib_hetero.runners.checks import find_problem
from rllib_hetero.runners.fragment import Finals, TeamFragment
from rllib_hetero.runners.recorder import log_probs_of, one_hot_filled
from rllib_hetero.runners.stock_runner import STATE
from rllib_hetero.spaces import row_dtype
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS


def fragment_from_episodes(episodes: list[MultiAgentEpisode], layout: Layout) -> TeamFragment:
    """Lays episode chunks side by side, one column each, shorter ones padded as not valid.

    Args:
        episodes: Chunks as `MultiAgentEnvRunner.sample()` returns them.
        layout: Agents and modules.

    Raises:
        TeamError: If an agent skipped steps: teams act together until they die.
    """
    team = layout.team
    length, num = max(len(ep) for ep in episodes), len(episodes)
    shape = (length, num)
    valid = np.zeros(shape, bool)
    terminated, truncated = np.zeros(shape, bool), np.zeros(shape, bool)
    rewards = np.zeros((*shape, len(team.agents)), np.float32)
    observations, actions, dist_inputs, active, masks = {}, {}, {}, {}, {}
    ends, end_active, end_masks = {}, {}, {}
    for m, agents in layout.groups.items():
        dist = layout.distribution(m)
        lead, width = (*shape, len(agents)), layout.observation_space(m).shape[0]
        observations[m] = one_hot_filled(layout, m, lead, width)
        ends[m] = one_hot_filled(layout, m, (num, len(agents)), width)
        actions[m] = np.zeros((*lead, *dist.action_shape), dist.action_dtype)
        dist_inputs[m] = np.zeros((*lead, dist.size), np.float32)
        active[m] = np.zeros(lead, bool)
        end_active[m] = np.zeros((num, len(agents)), bool)
        if layout.masked(m):
            masks[m] = np.ones((*lead, sum(dist.choices)), bool)
            end_masks[m] = np.ones((num, len(agents), sum(dist.choices)), bool)
    state: Any = None
    end_state: Any = None
    if team.state_rows is not None:
        rows = (*team.state_rows.shape,), row_dtype(team.state_rows)
        state = np.zeros((*shape, *rows[0]), rows[1])
        end_state = np.zeros((num, *rows[0]), rows[1])

    for e, episode in enumerate(episodes):
        steps = len(episode)
        valid[:steps, e] = True
        # RLlib also calls an episode terminated in which every agent was truncated.
        truncated[steps - 1, e] = episode.is_truncated
        terminated[steps - 1, e] = episode.is_terminated and not episode.is_truncated
        for i, agent in enumerate(team.agents):
            sa = episode.agent_episodes.get(agent)
            if sa is None:
                continue
            m, k = layout.slot_of[agent]
            n = len(sa)
            if n > steps or (n < steps and not sa.is_done):
                raise TeamError(
                    f"The agent {agent!r} acted in {n} of {steps} steps without having died. "
                    "Agents of a team act in every step until they die; environments with "
                    "turns are not supported."
                )
            size = team.row_spaces[agent].shape[0]
            seen, allowed = _observations(sa, n + 1, layout.row_dtype(m))
            if m in masks:
                masks[m][:n, e, k] = allowed[:n]
            observations[m][:n, e, k, :size] = seen[:n]
            # Whoever dies in the step in which the episode is cut is no part of its final state.
            if n == steps and not sa.is_terminated and (episode.is_done or not sa.is_done):
                ends[m][e, k, :size] = seen[n]
                end_active[m][e, k] = True
                if m in masks:
                    end_masks[m][e, k] = allowed[n]
            actions[m][:n, e, k] = sa.get_actions(slice(0, n))
            dist_inputs[m][:n, e, k] = sa.get_extra_model_outputs(
                Columns.ACTION_DIST_INPUTS, slice(0, n)
            )
            rewards[:n, e, i] = sa.get_rewards(slice(0, n))
            active[m][:n, e, k] = True
            if state is not None:
                states = [info[STATE] for info in sa.get_infos(slice(0, n + 1))]
                state[:n, e] = states[:n]
                if n == steps and (episode.is_done or not sa.is_done):
                    end_state[e] = states[n]

    cut = [e for e, episode in enumerate(episodes) if truncated[len(episode) - 1, e]]
    ragged = [
        e for e, ep in enumerate(episodes) if not ep.is_done and len(ep) < length
    ]  # Ends inside the padding: the bootstrap is that of a cut episode.
    for e in ragged:
        truncated[len(episodes[e]) - 1, e] = True
    bootstrapped = cut + ragged
    fragment = TeamFragment(
        observations=observations,
        actions=actions,
        dist_inputs=dist_inputs,
        # A dead agent's policy still needs inputs that are a distribution: those of all zeros.
        log_probs=log_probs_of(layout, dist_inputs, actions),
        active=active,
        rewards=rewards,
        state=state,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        finals=Finals(
            step=np.array([len(episodes[e]) - 1 for e in bootstrapped], np.int64),
            env=np.array(bootstrapped, np.int64),
            observations={m: x[bootstrapped] for m, x in ends.items()},
            active={m: x[bootstrapped] for m, x in end_active.items()},
            state=None if end_state is None else end_state[bootstrapped],
            action_masks={m: x[bootstrapped] for m, x in end_masks.items()},
        ),
        last_observations=ends,
        last_active=end_active,
        last_state=end_state,
        action_masks=masks,
        last_action_masks=end_masks,
        continues=np.array([episode.env_t_started > 0 for episode in episodes]),
    )
    fragment.problem = find_problem(fragment, layout)
    return fragment


def _observations(episode: SingleAgentEpisode, num: int, dtype: np.dtype) -> tuple[np.ndarray, Any]:
    """The first `num` observations (num, d_i), and the action masks (num, p) that came with them.

    There are no masks where the observations are plain.
    """
    seen = episode.get_observations(slice(0, num))
    masks = None
    # Episodes that RLlib has not turned into arrays are lists of what the environment returned.
    if isinstance(seen, dict):
        seen, masks = seen[OBSERVATIONS], seen[ACTION_MASK]
    elif isinstance(seen[0], dict):
        seen, masks = ([x[key] for x in seen] for key in (OBSERVATIONS, ACTION_MASK))
    return np.asarray(seen, dtype), None if masks is None else np.asarray(masks) > 0
