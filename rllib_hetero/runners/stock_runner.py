"""RLlib's own env runner, with the two things that a team needs of it."""

from __future__ import annotations

import copy
from typing import Any

from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.rllib.utils.annotations import override

from rllib_hetero.errors import TeamError

STATE = "state"
"""Key in every agent's info under which this runner keeps the environment's state."""


class StockTeamEnvRunner(MultiAgentEnvRunner):
    """`MultiAgentEnvRunner`, with the team's return as `episode_return_mean` and with states.

    Configs put it in where a user asks for `MultiAgentEnvRunner`.
    """

    @override(MultiAgentEnvRunner)
    def make_env(self) -> None:
        super().make_env()
        if self.config.layout.team.state_space is not None:
            self.env.envs = [StateInInfos(e.unwrapped) for e in self.env.envs]

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


class StateInInfos(MultiAgentEnv):
    """Puts the environment's state into every agent's info, where episodes keep it."""

    def __init__(self, env: MultiAgentEnv) -> None:
        super().__init__()
        self.env = env
        self.possible_agents = env.possible_agents
        self.observation_spaces = env.observation_spaces
        self.action_spaces = env.action_spaces

    @override(MultiAgentEnv)
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        observations, infos = self.env.reset(seed=seed, options=options)
        return observations, self._with_state(observations, infos)

    @override(MultiAgentEnv)
    def step(self, action_dict: dict) -> tuple:
        observations, rewards, terminateds, truncateds, infos = self.env.step(action_dict)
        infos = self._with_state(observations, infos)
        return observations, rewards, terminateds, truncateds, infos

    def _with_state(self, observations: dict, infos: dict) -> dict:
        state = self.env.state().copy()
        return {a: {**infos.get(a, {}), STATE: state} for a in observations}

    @override(MultiAgentEnv)
    def close(self) -> None:
        self.env.close()
