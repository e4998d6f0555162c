"""Google Research Football as an RLlib `MultiAgentEnv`."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.envs.football.behaviours import Behaviours
from rllib_hetero.envs.football.features import (
    FEATURES,
    Raw,
    global_state,
    simple115v2,
    state_size,
)
from rllib_hetero.envs.football.rewards import Checkpoints
from rllib_hetero.errors import TeamError
from rllib_hetero.team import AgentID, RewardScheme

NUM_ACTIONS = 19


class FootballTeamEnv(MultiAgentEnv):
    """The controlled players of the left team, as agents "player_0" to "player_{n-1}".

    The game is stepped below gfootball's gym wrappers, which copy the whole observation several
    times for each player in every step. Observations and rewards are the same numbers.

    Args:
        core: The library's `FootballEnvCore`.
        config: Its `Config`.
        num_agents: n.
        checkpoints: Whether bringing the ball near the goal is rewarded, too.
        reward_scheme: "shared": every agent is given the reward of player_0, as HARL does.
            "individual": every agent its own.
        max_steps: Truncates episodes earlier than the scenario does; None leaves it at that.
        render_mode: "rgb_array" if `render` is to be called.
    """

    # Of this process: those that have been rendered and are not closed.
    _rendered: ClassVar[weakref.WeakSet[FootballTeamEnv]] = weakref.WeakSet()

    def __init__(
        self,
        core: Any,
        config: Any,
        *,
        num_agents: int,
        checkpoints: bool = True,
        reward_scheme: RewardScheme = "shared",
        max_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__()
        self.possible_agents: list[AgentID] = [f"player_{i}" for i in range(num_agents)]
        self.agents: list[AgentID] = list(self.possible_agents)
        seen = Box(-np.inf, np.inf, (FEATURES,), np.float32)
        self.observation_spaces: dict[Any, gym.Space] = dict.fromkeys(self.agents, seen)
        self.action_spaces: dict[Any, gym.Space] = {a: Discrete(NUM_ACTIONS) for a in self.agents}
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_space = gym.spaces.Dict(self.action_spaces)
        self.state_space = Box(-np.inf, np.inf, (state_size(num_agents),), np.float32)
        self.reward_scheme = reward_scheme
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
        self.render_mode = render_mode
        self._core = core
        self._config = config
        self._with_checkpoints = checkpoints
        self._max_steps = max_steps
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[AgentID, np.ndarray], dict[AgentID, dict]]:
        """Starts an episode. Without a seed, its randomness goes on from the last seed's.

        Returns:
            Agent id to its observation (115,) float32, and agent id to an empty info.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        # The engine's noise; the order in which it handles the teams, which the library would
        # draw once and keep; and the number of the episode, whose parity decides the kick-off.
        self._config["game_engine_random_seed"] = int(self._rng.integers(2**31 - 1))
        self._config["reverse_team_processing"] = bool(self._rng.integers(2))
        self._config["episode_number"] = int(self._rng.integers(2))
        self._core.reset()
        self._raw: Raw = self._core.observation()
        self._steps = 0
        self._owner_team = self._raw["ball_owned_team"]
        self._behaviours = Behaviours(self._raw)
        self._checkpoints = Checkpoints(len(self.possible_agents))
        self._observations = simple115v2(self._raw)
        self.agents = list(self.possible_agents)
        return self._by_agent(self._observations), {a: {} for a in self.agents}

    def step(
        self, action_dict: dict[AgentID, Any]
    ) -> tuple[
        dict[AgentID, np.ndarray],
        dict[AgentID, float],
        dict[AgentID, bool],
        dict[AgentID, bool],
        dict[AgentID, dict],
    ]:
        """Steps the game by 0.1 s.

        Args:
            action_dict: Agent id to its action, an integer from 0 to 18.

        Returns:
            Observations as in `reset`, rewards, terminateds, truncateds and infos. Academy
            scenarios terminate with a goal, with the ball out of play and (all but the corner) with
            the loss of the ball. The end of the match truncates.
        """
        agents = self.possible_agents
        actions = [int(action_dict[a]) for a in agents]
        before = self._raw
        self._raw, scored, done, _ = self._core.step(actions)
        self._steps += 1
        self._behaviours.step(actions, self._raw)
        self._observations = simple115v2(self._raw)
        terminated = bool(done) and (self._raw["steps_left"] > 0 or self._ended_by_rule(before))
        timeout = bool(done) or self._steps == self._max_steps
        truncated = timeout and not terminated
        if terminated or truncated:
            self.agents = []
        if self._raw["ball_owned_team"] >= 0:
            self._owner_team = self._raw["ball_owned_team"]
        return (
            self._by_agent(self._observations),
            dict(zip(agents, self._rewards(float(scored)), strict=True)),
            {**dict.fromkeys(agents, terminated), "__all__": terminated},
            {**dict.fromkeys(agents, truncated), "__all__": truncated},
            {a: {} for a in agents},
        )

    def state(self) -> np.ndarray:
        """What the critic sees, (115 + 11 (n - 1),) float32: see `features.global_state`."""
        return global_state(self._observations)

    def episode_metrics(self) -> dict[str, float]:
        """Name to number, of the episode so far.

        "score_rate": 1 if the team has scored. "win_rate": 1 if it has scored more than the other.
        The others are `Behaviours.counts`.
        """
        counts = self._behaviours.counts()
        return {
            "score_rate": float(counts["goal"] > 0),
            "win_rate": float(counts["goal"] > counts["lost"]),
            **counts,
        }

    def render(self) -> np.ndarray | None:
        """The picture (height, width, 3) uint8; None without render_mode "rgb_array".

        Drawn without a screen, by the processor: a good half second at 1280x720.

        Raises:
            TeamError: If another environment of this process has been rendered and is not closed.
        """
        if self.render_mode is None:
            return None
        if any(env is not self for env in self._rendered):
            # The library checks it, too, but has thrown the game away by then.
            raise TeamError(
                "The football engine renders one environment per process, and another one has "
                "been rendered in this process. Close that one first: env.close()."
            )
        self._rendered.add(self)
        frame = self._core.render("rgb_array")
        # Otherwise every further step would draw, whether its picture is asked for or not.
        self._core.disable_render()
        return np.ascontiguousarray(frame, np.uint8)

    def close(self) -> None:
        """Ends the game. The engine lives in this process: nothing else is left running."""
        self._rendered.discard(self)
        self._core.close()

    def _rewards(self, scored: float) -> list[float]:
        n = len(self.possible_agents)
        rewards = [scored] * n
        if self._with_checkpoints:
            collected = self._checkpoints.collect(self._raw, scored)
            rewards = [scored + c for c in collected]
        return rewards[:1] * n if self.reward_scheme == "shared" else rewards

    def _ended_by_rule(self, before: Raw) -> bool:
        """Whether the last possible step also broke a rule that ends the episode."""
        rules, now = self._config.ScenarioConfig(), self._raw
        teams = (self._owner_team, now["ball_owned_team"])
        return (
            (rules.end_episode_on_score and max(now["score"]) > 0)
            or (
                rules.end_episode_on_out_of_play
                and now["game_mode"] != 0
                and before["game_mode"] == 0
            )
            or (rules.end_episode_on_possession_change and set(teams) == {0, 1})
        )

    def _by_agent(self, rows: np.ndarray) -> dict[AgentID, np.ndarray]:
        return dict(zip(self.possible_agents, rows, strict=True))
