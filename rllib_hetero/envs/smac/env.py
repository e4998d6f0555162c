"""A battle of SMAC or SMACv2 as an RLlib `MultiAgentEnv`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.spaces import Dict as DictSpace
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.envs.smac.game import GameFailure, GameGuard
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID

_NO_OP = 0  # the only action of the dead, and of nobody else

Observations = dict[AgentID, dict[str, np.ndarray]]


class SMACTeamEnv(MultiAgentEnv):
    """One battle after another against the game's own bot.

    Agents are "agent_0", "agent_1", ..., in the game's order: by type of unit, then by place.
    All are given the same reward. Where a unit dies, its agent's part ends; the others go on.

    The game is started by the first `reset`. If it crashes or hangs, the call that notices raises
    a `GameFailure`, and the environment is of no further use: close it and make another. smacv2
    would start a new game by itself, and report the broken episode as a lost one.

    Args:
        env: smacv2's `StarCraft2Env` or `StarCraftCapabilityEnvWrapper`. It must have been made
            with `continuing_episode=True` and `action_mask=True`.
        agent_specific_state: What the critic sees, see `state`.
        step_timeout_s: Seconds that a step, or a reset of a running game, may take.
        launch_timeout_s: Seconds that a reset may take which starts the game.
        render_mode: "rgb_array" if `render()` is to be called.
        check_game: Called before the game is started.
    """

    reward_scheme = "shared"
    deterministic = False

    def __init__(
        self,
        env: Any,
        *,
        agent_specific_state: bool = False,
        step_timeout_s: float = 60.0,
        launch_timeout_s: float = 180.0,
        render_mode: str | None = None,
        check_game: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.env = env
        self.guard = GameGuard()
        self.render_mode = render_mode
        self._battle = getattr(env, "env", env)  # without the wrapper that draws the teams
        self._battle.full_restart = _give_up
        self._step_timeout_s = step_timeout_s
        self._launch_timeout_s = launch_timeout_s
        self._check_game = check_game
        self._running = False
        self._info: dict[str, Any] = {}

        info = env.get_env_info()
        n, k = info["n_agents"], info["n_actions"]
        self.possible_agents: list[AgentID] = [f"agent_{i}" for i in range(n)]
        self.agents: list[AgentID] = list(self.possible_agents)
        self._index = {a: i for i, a in enumerate(self.possible_agents)}
        self.observation_spaces: dict[Any, gym.Space] = {
            a: DictSpace(
                {
                    OBSERVATIONS: Box(-np.inf, np.inf, (info["obs_shape"],), np.float32),
                    ACTION_MASK: Box(0, 1, (k,), np.int8),
                }
            )
            for a in self.possible_agents
        }
        self.action_spaces: dict[Any, gym.Space] = {a: Discrete(k) for a in self.possible_agents}
        self.observation_space = DictSpace(self.observation_spaces)
        self.action_space = DictSpace(self.action_spaces)
        self._agent_specific_state = agent_specific_state
        size = n * info["obs_shape"] if agent_specific_state else info["state_shape"]
        self.state_space = Box(-np.inf, np.inf, (size,), np.float32)
        self._masks = np.ones((n, k), np.int8)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[Observations, dict[AgentID, dict]]:
        """Starts a battle, and the game if it does not run.

        Args:
            seed: Decides which units there are and where, in SMACv2. The game's own dice are
                seeded with it when the game is started, and go on from battle to battle.
            options: Not used.
        """
        seconds, setting = self._step_timeout_s, "step_timeout_s"
        launching: AbstractContextManager[None] = nullcontext()
        if not self._running:
            if self._check_game is not None:
                self._check_game()
            seconds, setting = self._launch_timeout_s, "launch_timeout_s"
            launching = self.guard.launching(seconds)
            # 0 would mean to the game that it may choose.
            self._battle._seed = None if seed is None else seed % (2**31 - 1) + 1
        elif self._battle._episode_count == 0:
            # smacv2 counts battles that have ended. At 0 it starts a game, and forgets the one
            # that runs.
            self._battle._episode_count = 1
        with self.guard.limit(seconds, setting), launching, _seeded(self.env, seed):
            # What it returns is not used: it is None where units did not appear at first.
            self.env.reset()
            self._running = True
            self.agents = list(self.possible_agents)
            observations = self._observe()
        self._info = {}
        return observations, {a: {} for a in self.agents}

    def step(
        self, action_dict: dict[AgentID, Any]
    ) -> tuple[
        Observations,
        dict[AgentID, float],
        dict[AgentID, bool],
        dict[AgentID, bool],
        dict[AgentID, dict],
    ]:
        """Steps the game.

        Args:
            action_dict: The action of every living agent.

        Returns:
            Observations, rewards, terminateds, truncateds and infos of the agents that were alive
            before the step. "__all__" is set in terminateds once one side has lost, and in
            truncateds where the battle was cut for time; observations and state are then the
            last ones of this battle. Infos hold "battle_won", "dead_allies" and "dead_enemies".

        Raises:
            GameFailure: If the game crashed, or did not answer in time.
        """
        acting = self.agents
        actions = [_NO_OP] * len(self.possible_agents)
        for a in acting:
            actions[self._index[a]] = int(action_dict[a])
        with self.guard.limit(self._step_timeout_s, "step_timeout_s"):
            reward, over, info = self.env.step(actions)
            observations = self._observe()
        self._info = info
        cut = bool(over and info.get("episode_limit", False))
        won_or_lost = bool(over and not cut)
        dead = [a for a in acting if self._masks[self._index[a], _NO_OP]]
        terminateds = dict.fromkeys(acting, won_or_lost) | dict.fromkeys(dead, True)
        truncateds = dict.fromkeys(acting, cut) | dict.fromkeys(dead, False)
        self.agents = [] if over else [a for a in acting if a not in dead]
        return (
            observations,
            dict.fromkeys(acting, float(reward)),
            {**terminateds, "__all__": won_or_lost},
            {**truncateds, "__all__": cut},
            {a: dict(info) for a in acting},
        )

    def state(self) -> np.ndarray:
        """What the critic sees, (s,) float32.

        By default smacv2's state: all units, and the agents' last actions. The agent-specific one
        holds, agent by agent, what it would observe if it saw everything: the others relative to
        itself, zeros for the dead. That is the content of the feature-pruned state of Yu et al.
        (NeurIPS 2022), who give a critic one agent's part at a time. Here one critic serves
        the team, and is given all parts.
        """
        if self._agent_specific_state:
            agents = range(len(self.possible_agents))
            parts = [self._battle.get_obs_agent(i, fully_observable=True) for i in agents]
            return np.concatenate(parts, dtype=np.float32)
        return np.array(self.env.get_state(), np.float32)

    def episode_metrics(self) -> dict[str, float]:
        """Of the battle that has just ended: whether it was won, and how many have died."""
        return {
            "win_rate": float(self._info["battle_won"]),
            "dead_allies": float(self._info["dead_allies"]),
            "dead_enemies": float(self._info["dead_enemies"]),
        }

    def render(self) -> np.ndarray | None:
        """The units from above, (480, 480, 3) uint8; None unless render_mode is "rgb_array"."""
        if self.render_mode is None:
            return None
        from rllib_hetero.envs.smac.frame import draw

        return draw(self._battle)

    def close(self) -> None:
        """Ends the game. Nothing of it is left afterwards."""
        # First, as smacv2 would say goodbye, and wait seconds for the answer of one that hangs.
        self.guard.close()
        self.env.close()
        # smacv2 keeps its environments until the interpreter exits: leave it little to keep.
        self._battle._sc2_proc = self._battle._controller = self._battle._obs = None

    def _observe(self) -> Observations:
        self._masks = np.array(self.env.get_avail_actions(), np.int8)
        seen = self.env.get_obs()
        return {
            a: {
                OBSERVATIONS: np.array(seen[self._index[a]], np.float32),
                ACTION_MASK: self._masks[self._index[a]],
            }
            for a in self.agents
        }


def _give_up() -> None:
    """In place of smacv2's `full_restart`, which it calls where the connection is lost."""
    raise GameFailure("The connection to StarCraft II was lost: the game has crashed.")


@contextmanager
def _seeded(env: Any, seed: int | None) -> Iterator[None]:
    """Within it, smacv2 draws units and places from the seed; it offers no other way.

    Its distributions have generators of their own, one within the other, and shuffle with
    Python's global one, which is put back as it was.
    """
    if seed is None:
        yield
        return
    source = np.random.default_rng(seed)
    unseen = list(getattr(env, "env_key_to_distribution_map", {}).values())
    while unseen:
        attributes = vars(unseen.pop())
        if "rng" in attributes:
            (attributes["rng"],) = source.spawn(1)
        unseen += [x for x in attributes.values() if hasattr(x, "generate")]
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
