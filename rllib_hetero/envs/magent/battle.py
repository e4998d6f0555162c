"""Battles as a vector environment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Box, Discrete

from rllib_hetero.envs.magent.engine import NUM_ACTIONS, OURS, THEIRS, Engine, refusal
from rllib_hetero.envs.magent.opponents import Opponent
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team

CELLS = 10
"""The state's map has so many cells along each side, on maps of all sizes."""

_CHANNELS = 4
_RED, _BLUE, _WALL = (214, 39, 40), (31, 119, 180), (127, 127, 127)


class Battle(VectorTeamEnv):
    """E battles of our team, the agents "red_0", "red_1", ..., against an opponent.

    A battle terminates when a team has nobody left, and is truncated after `max_cycles` steps.
    Every agent has a reward of its own; those that die act no more.

    The state is (400,): maps of 10 by 10 cells, in the order y, x, channel. Channels are how many
    of our agents are in the cell, how much of their health, and the same of the other team: 1 if
    all of a team were alive, in full health and spread evenly.

    Args:
        engines: E engines of one size.
        opponent: Plays the other team.
        max_cycles: Steps per episode.
        with_state: Whether there is a state; if not, it is all observations, concatenated.
        render_mode: "rgb_array" if `render` is to be called, else None.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        opponent: Opponent,
        *,
        max_cycles: int,
        with_state: bool,
        render_mode: str | None,
    ) -> None:
        self.num_envs = len(engines)
        size, width = engines[0].size, engines[0].view_size
        agents = tuple(f"red_{i}" for i in range(size))
        space = Box(0.0, 2.0, (width,), np.float32)
        state_size = CELLS * CELLS * _CHANNELS
        self.team = Team(
            agents=agents,
            observation_spaces=dict.fromkeys(agents, space),
            action_spaces={a: Discrete(NUM_ACTIONS) for a in agents},
            state_space=Box(0.0, CELLS**2, (state_size,), np.float32) if with_state else None,
            reward_scheme="individual",
        )
        self._views = np.zeros((self.num_envs, size, width), np.float32)
        self.observations = {a: self._views[:, i] for i, a in enumerate(agents)}
        self.state = np.zeros((self.num_envs, state_size), np.float32) if with_state else None
        self.active = np.ones((self.num_envs, size), bool)
        self.infos = [{} for _ in range(self.num_envs)]
        self._engines = list(engines)
        self._opponent = opponent
        self._max_cycles = max_cycles
        self._render_mode = render_mode
        self._steps = np.zeros(self.num_envs, np.int64)
        # One for each environment, so that none depends on what happens in the others.
        self._random = [np.random.default_rng() for _ in engines]

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        for e, seed in zip(envs, seeds, strict=True):
            engine = self._engines[e]
            if seed is not None:
                self._random[e] = np.random.default_rng(seed)
            engine.reset(seed)
            self.active[e] = True
            self._steps[e] = 0
            self._views[e] = engine.views(OURS)
            self._look(e)

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        self._steps += 1
        # Concatenating is a third of the time of stacking, with hundreds of agents.
        joint = np.concatenate([actions[a] for a in self.team.agents]).astype(np.int32)
        chosen = joint.reshape(len(self.team.agents), -1).T
        rewards = np.zeros(self.active.shape, np.float32)
        terminated = np.zeros(self.num_envs, bool)
        for e, engine in enumerate(self._engines):
            theirs = self._opponent.act(engine, self._random[e])
            outcome = engine.step(chosen[e, self.active[e]], theirs)
            # In the order of their ids, as the columns are.
            rewards[e, self.active[e]] = outcome.rewards
            terminated[e] = outcome.done
            if outcome.alive.all():
                self._views[e, self.active[e]] = outcome.views
            else:
                before = np.flatnonzero(self.active[e])
                self._views[e, before[~outcome.alive]] = 0.0
                self._views[e, before[outcome.alive]] = outcome.views[outcome.alive]
                self.active[e, before] = outcome.alive
            self._look(e)
        return Outcome(
            rewards,
            terminated=terminated,
            truncated=(self._steps >= self._max_cycles) & ~terminated,
            failed=np.zeros(self.num_envs, bool),
        )

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        """A battle is won by the team with more agents left at its end."""
        ours, theirs = (
            np.array([self._engines[e].left(team) for e in envs], np.float64)
            for team in (OURS, THEIRS)
        )
        return {
            "win_rate": (ours > theirs).astype(np.float64),
            "allies_left": ours,
            "enemies_left": theirs,
        }

    def render(self) -> np.ndarray:
        """A picture of environment 0, (height, width, 3) uint8, about 480 pixels high.

        Our team is red, theirs blue; the wall around the field is grey.

        Raises:
            TeamError: If the environment was made without a render mode.
        """
        if self._render_mode is None:
            why = "The environment was made without `render_mode`, so it has no pictures."
            raise refusal("render_mode", why, '"rgb_array"')
        engine = self._engines[0]
        picture = np.full((engine.map_size, engine.map_size, 3), 255, np.uint8)
        picture[[0, -1]] = picture[:, [0, -1]] = _WALL
        for team, colour in ((OURS, _RED), (THEIRS, _BLUE)):
            x, y = engine.positions(team).T
            picture[y, x] = colour
        zoom = max(2, 480 // engine.map_size)
        return picture.repeat(zoom, axis=0).repeat(zoom, axis=1)

    def close(self) -> None:
        """Gives the games up."""
        self._engines = []

    def _look(self, e: int) -> None:
        """Writes the state of environment e."""
        if self.state is None:
            return
        engine = self._engines[e]
        maps = self.state[e].reshape(-1, _CHANNELS)
        ours = engine.health(self._views[e])[self.active[e]]
        theirs = engine.health(engine.views(THEIRS))
        for channel, team, health in ((0, OURS, ours), (2, THEIRS, theirs)):
            cells = _cells(engine, team)
            maps[:, channel] = np.bincount(cells, minlength=CELLS**2)
            maps[:, channel + 1] = np.bincount(cells, health, CELLS**2)
        maps *= CELLS**2 / engine.size


def _cells(engine: Engine, team: int) -> np.ndarray:
    """(k,) the cell of the state's map that each living agent is in."""
    x, y = (engine.positions(team) * CELLS // engine.map_size).T
    return y * CELLS + x
