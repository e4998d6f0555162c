"""RLlib's own env runner, with what a team needs of it."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import gymnasium as gym
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.utils.annotations import override

from rllib_hetero.errors import TeamDataError, TeamError
from rllib_hetero.runners.checks import find_problem_in_episodes
from rllib_hetero.runners.endings import Told, end_without_all
from rllib_hetero.runners.flat_env import flattened
from rllib_hetero.runners.problems import TellsProblems
from rllib_hetero.runners.returned import problem_with
from rllib_hetero.runners.single_env import make_single_env
from rllib_hetero.team import AgentID

STATE = "state"
"""Key in every agent's info under which this runner keeps the environment's state."""


class StockTeamEnvRunner(TellsProblems, MultiAgentEnvRunner):
    """`MultiAgentEnvRunner`, with the team's return as `episode_return_mean` and with states.

    Configs put it in where a user asks for `MultiAgentEnvRunner`. Environments that are batched by
    nature are made singly, and stepped one after another.
    """

    config: Any

    @override(MultiAgentEnvRunner)
    def make_env(self) -> None:
        given = self.config
        self.config = given.copy(copy_frozen=False)
        self.config.env = partial(_make_flat, given.env)
        try:
            super().make_env()
        finally:
            self.config = given
        with_state = self.config.layout.team.state_space is not None
        self.env.envs = [StockTeamEnv(e.unwrapped, with_state=with_state) for e in self.env.envs]

    @override(MultiAgentEnvRunner)
    def make_module(self) -> None:
        super().make_module()
        stateful = [m for m in self.config.layout.groups if self.module[m].is_stateful()]
        if stateful:
            raise TeamError(
                f"The modules {stateful} keep a state. Recurrent policies run on the team env "
                "runner only: remove config.env_runners(env_runner_cls=...)."
            )

    @override(MultiAgentEnvRunner)
    def sample(self, **kwargs: Any) -> list[MultiAgentEpisode]:
        episodes = super().sample(**kwargs)
        # Those of training are looked through by the algorithm.
        if self.config.in_evaluation:
            problem = find_problem_in_episodes(episodes)
            if problem:
                self._needs_initial_reset = True
                self.get_metrics()  # Gone: they are of broken data.
                raise TeamDataError(f"In evaluation: {problem}")
        return episodes

    @override(MultiAgentEnvRunner)
    def _try_env_step(self, actions: Any) -> Any:
        # Copies: environments may write into what they are given, and RLlib's episodes keep it.
        return super()._try_env_step(copy.deepcopy(actions))

    @override(MultiAgentEnvRunner)
    def _log_episode_metrics(
        self, length: int, ret: float, sec: float, agents: dict, modules: dict, agent_steps: dict
    ) -> None:
        # RLlib adds up all agents' rewards. A shared reward counts once: it is that of the agent
        # that lived longest.
        if self.config.layout.team.reward_scheme == "shared":
            ret = agents[max(agent_steps, key=agent_steps.__getitem__)]
        super()._log_episode_metrics(length, ret, sec, agents, modules, agent_steps)


def _make_flat(env: Any, context: EnvContext) -> MultiAgentEnv:
    return flattened(make_single_env(env, context))


class StockTeamEnv(gym.Wrapper):
    """Tells RLlib's episodes what they would lose of a team.

    The state is put into every agent's info, where episodes keep it. Where an episode is cut,
    agents are not said to be truncated each by itself: RLlib would call the episode, and with it
    every agent, terminated, and who died in that very step could not be told from the others.
    """

    def __init__(self, env: MultiAgentEnv, *, with_state: bool) -> None:
        super().__init__(env)
        self._with_state = with_state
        self._told = Told()
        self._living: set[AgentID] = set()

    @override(gym.Wrapper)
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        returned: Any = self.env.reset(seed=seed, options=options)
        problem = problem_with("reset()", returned)
        if problem:
            raise TeamDataError(problem)
        observations, infos = returned
        self._living = set(observations)
        return observations, self._with_state_in(observations, infos)

    @override(gym.Wrapper)
    def step(self, action: dict) -> tuple:
        step: Any = self.env.step(action)
        problem = problem_with("step()", step)
        if problem:
            raise TeamDataError(problem)
        observations, rewards, terminateds, truncateds, infos = step
        ends = terminateds.get("__all__", False), truncateds.get("__all__", False)
        if not any(ends):
            end = end_without_all(self._living, terminateds, truncateds)
            if end is not None:
                self._told.nobody_left(end)
                terminateds = {**terminateds, "__all__": end == "terminated"}
                truncateds = {**truncateds, "__all__": end == "truncated"}
        if truncateds.get("__all__", False):
            truncateds = {"__all__": not terminateds.get("__all__", False)}  # one or the other
        else:
            self._living -= {
                a for a in self._living if terminateds.get(a, False) or truncateds.get(a, False)
            }
        infos = self._with_state_in(observations, infos)
        return observations, rewards, terminateds, truncateds, infos

    def _with_state_in(self, observations: dict, infos: dict) -> dict:
        if not self._with_state:
            return infos
        env: Any = self.env
        state = env.state().copy()
        return {a: {**infos.get(a, {}), STATE: state} for a in observations}
