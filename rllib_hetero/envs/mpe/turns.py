"""`mpe2`'s own environments, whichever scenario, one world at a time."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_hetero.envs.pettingzoo import PettingZooTeamEnv
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.team import AgentID, RewardScheme


class MPETeamEnv(PettingZooTeamEnv):
    """An MPE environment, stepped without PettingZoo's wrappers.

    Their checks and their conversion from turns to joint steps take a fifth of a step's time.
    All agents live for the whole episode, so the turns are simply taken in order. Actions outside
    the space are clipped, as mpe2's own wrapper does.

    Args:
        env: mpe2's parallel environment.
        reward_scheme: "individual", or "shared" where every agent is handed the team's reward.
    """

    def __init__(self, env: Any, reward_scheme: RewardScheme = "individual") -> None:
        # MPE's own state is exactly all observations, concatenated, and costs evaluating them a
        # second time. With None the critic concatenates the ones that are there already.
        super().__init__(env, reward_scheme=reward_scheme, state_space=None)
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


def make_turns(scenario: str, options: Mapping[str, Any]) -> MPETeamEnv:
    """Makes one of mpe2's environments.

    Args:
        scenario: Its name, without the version.
        options: For mpe2's `parallel_env`, and "reward_scheme".

    Raises:
        MissingExtraError: If `mpe2` is not installed.
        TeamError: For an unknown scenario or keyword, or a reward scheme that there is not.
    """
    options = dict(options)
    reward_scheme = options.pop("reward_scheme", "individual")
    if reward_scheme not in ("individual", "shared"):
        raise TeamError(
            f"`reward_scheme` must be 'individual' or 'shared', got {reward_scheme!r}. Mend it "
            'with config.environment("mpe", env_config={"reward_scheme": ...}).'
        )
    try:
        import mpe2
    except ImportError as error:
        raise MissingExtraError("mpe2", extra="mpe") from error
    versions = {
        m.name.rpartition("_v")[0]: m.name
        for m in pkgutil.iter_modules(mpe2.__path__)
        if "_v" in m.name
    }
    if scenario not in versions:
        raise TeamError(
            f"mpe2 has no scenario {scenario!r}. Choose one of {sorted(versions)} with "
            'config.environment("mpe", env_config={"scenario": ..., "backend": "mpe2"}).'
        )
    module = importlib.import_module(f"mpe2.{versions[scenario]}")
    accepted = list(inspect.signature(module.raw_env).parameters)
    unknown = [key for key in options if key not in accepted]
    if unknown:
        raise TeamError(
            f"The MPE scenario {scenario!r} does not know {unknown}. It accepts {accepted}. Mend "
            'it with config.environment("mpe", env_config={...}).'
        )
    return MPETeamEnv(module.parallel_env(**options), reward_scheme)
