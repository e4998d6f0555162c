"""The cooperative particle environments (MPE) of the `mpe2` package."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_hetero.envs.pettingzoo import PettingZooTeamEnv
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import AgentID

SCENARIOS = {
    "simple_spread": "simple_spread_v3",
    "simple_reference": "simple_reference_v3",
    "simple_speaker_listener": "simple_speaker_listener_v4",
}
"""Scenario to its module in `mpe2`."""


class MPETeamEnv(PettingZooTeamEnv):
    """An MPE environment, stepped without PettingZoo's wrappers.

    Their checks and their conversion from turns to joint steps take a fifth of a step's time.
    All agents of these scenarios live for the whole episode, so the turns are simply taken in
    order. Actions outside the space are clipped, as mpe2's own wrapper does.

    Args:
        env: mpe2's parallel environment.
    """

    def __init__(self, env: Any) -> None:
        # MPE's own state is exactly all observations, concatenated, and costs evaluating them a
        # second time. With None the critic concatenates the ones that are there already.
        super().__init__(env, reward_scheme="individual", state_space=None)
        self._turns = env.unwrapped
        self._clip = self._turns.continuous_actions

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[AgentID, np.ndarray], dict[AgentID, dict]]:
        """Starts an episode, see `PettingZooTeamEnv.reset`."""
        self._turns.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._observe(), dict(self._turns.infos)

    def step(
        self, action_dict: dict[AgentID, Any]
    ) -> tuple[
        dict[AgentID, np.ndarray],
        dict[AgentID, float],
        dict[AgentID, bool],
        dict[AgentID, bool],
        dict[AgentID, dict],
    ]:
        """Steps all agents, see `PettingZooTeamEnv.step`."""
        turns, agents = self._turns, self.possible_agents
        for agent in agents:
            action = action_dict[agent]
            turns.step(action.clip(0.0, 1.0) if self._clip else action)
        terminateds, truncateds = dict(turns.terminations), dict(turns.truncations)
        over = terminateds[agents[0]] or truncateds[agents[0]]
        if over:
            self.agents = []
        terminateds["__all__"] = over and terminateds[agents[0]]
        truncateds["__all__"] = over and not terminateds["__all__"]
        return self._observe(), dict(turns.rewards), terminateds, truncateds, dict(turns.infos)

    def render(self) -> Any:
        """The frame, see `PettingZooTeamEnv.render`."""
        return self._turns.render()

    def _observe(self) -> dict[AgentID, np.ndarray]:
        return {a: self._turns.observe(a) for a in self.possible_agents}


def make_mpe(env_config: Mapping[str, Any]) -> PettingZooTeamEnv:
    """Makes an MPE team.

    Every agent has a reward of its own; the team's reward is their sum.

    Args:
        env_config: "scenario", a key of `SCENARIOS`; "continuous_actions", True by default; the
            rest goes to mpe2's `parallel_env` (N, max_cycles, local_ratio, render_mode, ...).

    Raises:
        MissingExtraError: If `mpe2` is not installed.
        TeamError: For an unknown scenario or keyword.
    """
    options = {"continuous_actions": True, **env_config}
    options.pop("num_envs", None)  # meant for environments that are batched by nature
    scenario = options.pop("scenario", None)
    if scenario not in SCENARIOS:
        raise TeamError(
            f"Unknown MPE scenario {scenario!r}. Choose one of {list(SCENARIOS)} with "
            'config.environment("mpe", env_config={"scenario": ...}).'
        )
    try:
        module = importlib.import_module(f"mpe2.{SCENARIOS[scenario]}")
    except ImportError as error:
        raise MissingExtraError("mpe2", extra="mpe") from error

    accepted = list(inspect.signature(module.raw_env).parameters)
    unknown = [key for key in options if key not in accepted]
    if unknown:
        raise TeamError(
            f"The MPE scenario {scenario!r} does not know {unknown}. It accepts {accepted}. Mend "
            'it with config.environment("mpe", env_config={...}).'
        )
    return MPETeamEnv(module.parallel_env(**options))
