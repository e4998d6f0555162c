"""The battles as a vector environment: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rllib_hetero.envs.refusal import refusal as env_refusal
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team

if TYPE_CHECKING:
    from rllib_hetero.envs.smax.simulator import Seen, Simulator

STOP = 4
"""The action that every unit may always take. 0 to 3 move, 5 + j shoots at enemy j."""

_OF_ITSELF, _OF_ANOTHER = 10, 13  # features of a unit in an observation
_IN_STATE = 12  # features of a unit in the state


class SMAXBattles(VectorTeamEnv):
    """E battles of n allies, the agents "ally_0", ..., against m scripted enemies.

    A battle terminates when one side is dead, and is truncated after `max_steps` steps. The reward
    is the team's; every ally that acted is given it.

    Args:
        map_name: jaxmarl's name of the map.
        num_allies: n.
        num_enemies: m.
        options: Settings of the battle; "max_steps" must be among them.
        render_mode: "rgb_array" if `render` is to be called, else None.
        num_envs: E.
    """

    def __init__(
        self,
        map_name: str,
        num_allies: int,
        num_enemies: int,
        *,
        options: dict[str, Any],
        render_mode: str | None,
        num_envs: int,
    ) -> None:
        n, m = num_allies, num_enemies
        agents = tuple(f"ally_{i}" for i in range(n))
        size = _OF_ITSELF + _OF_ANOTHER * (n - 1 + m)
        num_actions = STOP + 1 + m
        self.num_envs = num_envs
        self.team = Team(
            agents=agents,
            observation_spaces={a: Box(-np.inf, np.inf, (size,), np.float32) for a in agents},
            action_spaces={a: Discrete(num_actions) for a in agents},
            state_space=Box(-np.inf, np.inf, (_IN_STATE * (n + m),), np.float32),
            reward_scheme="shared",
            masked=frozenset(agents),
        )
        # One array each, of which the agents' are views: a step then copies once.
        self._observations = np.zeros((n, num_envs, size), np.float32)
        self._masks = np.ones((n, num_envs, num_actions), bool)
        self.observations = dict(zip(agents, self._observations, strict=True))
        self.masks = dict(zip(agents, self._masks, strict=True))
        self._state = np.zeros((num_envs, _IN_STATE * (n + m)), np.float32)
        self.state = self._state
        self._alive = np.ones((num_envs, n + m), bool)
        self.active = self._alive[:, :n]
        self.infos = [{} for _ in range(num_envs)]
        self._map = map_name
        self._options = options
        self._render_mode = render_mode
        self._simulator: Simulator | None = None
        # Where keys come from if a reset is given no seed.
        self._random = [np.random.default_rng() for _ in range(num_envs)]

    def compile(self) -> None:
        """Compiles the simulator, unless that is done already."""
        self._running()

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        keys = np.zeros((len(envs), 2), np.uint32)
        for key, e, seed in zip(keys, envs, seeds, strict=True):
            if seed is None:
                key[:] = self._random[e].integers(2**32, size=2)
            else:
                self._random[e] = np.random.default_rng(seed)
                key[:] = divmod(seed % 2**64, 2**32)
        for rows, seen in self._running().reset(np.asarray(envs, np.int32), keys):
            self._write(seen, rows)

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        chosen = np.stack([actions[a] for a in self.team.agents], axis=1)
        acted = self.active.copy()
        seen, rewards, done = self._running().step(np.where(acted, chosen, STOP))
        self._write(seen, slice(None))
        n = len(self.team.agents)
        allies, enemies = self._alive[:, :n], self._alive[:, n:]
        over = np.logical_not(allies.any(1) & enemies.any(1))
        return Outcome(
            np.where(acted, rewards[:, None], np.float32(0.0)),
            terminated=over,
            truncated=done & ~over,
            failed=np.zeros(self.num_envs, bool),
        )

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        """Of battles that have just ended: won or not, and the dead of both sides.

        A battle is won if all enemies are dead and an ally is not. Both sides may die in one step.
        """
        n = len(self.team.agents)
        alive = self._alive[list(envs)]
        allies, enemies = alive[:, :n], alive[:, n:]
        return {
            "win_rate": (allies.any(1) & ~enemies.any(1)).astype(np.float64),
            "dead_allies": (~allies).sum(1).astype(np.float64),
            "dead_enemies": (~enemies).sum(1).astype(np.float64),
        }

    def render(self) -> np.ndarray:
        """A picture of battle 0, (480, 480, 3) uint8.

        Raises:
            TeamError: If the environment was made without a render mode.
        """
        if self._render_mode is None:
            why = "The environment was made without `render_mode`, so it has no pictures."
            raise refusal("render_mode", why, '"rgb_array"')
        # Here, so that training does not load matplotlib.
        from rllib_hetero.envs.smax.frame import draw

        units, steps = self._running().units(0)
        title = f"{self._map}, step {steps} of {self._options['max_steps']}"
        return draw(units, len(self.team.agents), title)

    def close(self) -> None:
        self._simulator = None

    def _running(self) -> Simulator:
        if self._simulator is None:
            from rllib_hetero.envs.smax.simulator import Simulator

            self._simulator = Simulator(self._map, self._options, self.num_envs)
        return self._simulator

    def _write(self, seen: Seen, rows: np.ndarray | slice) -> None:
        self._observations[:, rows] = seen.observations
        self._masks[:, rows] = seen.masks
        self._state[rows] = seen.state
        self._alive[rows] = seen.alive


refusal = partial(env_refusal, "smax")
