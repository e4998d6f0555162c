"""The steps of one episode under way, as RLlib's own episode object tells them."""

from __future__ import annotations

import uuid
from typing import Any

import gymnasium as gym
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

from rllib_hetero.layout import Layout
from rllib_hetero.runners.recorder import Recorder
from rllib_hetero.runners.single_env import observations_of, space_with_mask
from rllib_hetero.runners.vector_env import VectorTeamEnv
from rllib_hetero.team import AgentID


class EpisodeHistory:
    """Knows where the steps of an episode are recorded; reads them only when it is asked.

    What a step costs is one entry in a list, and what is kept are the runner's own arrays.
    `episode()` writes the steps since the last call into a `MultiAgentEpisode`, so that it is
    RLlib's code that answers for indices, filling and the like.

    Args:
        layout: Agents and modules.
        env: The environments; this one has just been reset.
        env_index: Which of them.
        infos: What it told at its reset.

    Attributes:
        id_: The episode's.
    """

    def __init__(self, layout: Layout, env: VectorTeamEnv, env_index: int, infos: Any) -> None:
        self.id_ = uuid.uuid4().hex
        self._layout = layout
        self._env = env
        self._env_index = env_index
        self._first_infos = infos
        # (recorder, its step, the infos that came of it), of steps that are not yet written.
        self._steps: list[tuple[Recorder, int, Any]] = []
        self._written: MultiAgentEpisode | None = None
        self._last: dict[AgentID, Any] | None = None

    def add(self, recorder: Recorder, t: int, infos: Any) -> None:
        """Step t of the recorder was one of this episode, and these infos came of it."""
        self._steps.append((recorder, t, infos))

    def close(self) -> None:
        """The environment is about to be reset: what it shows now is this episode's last."""
        self._last = self._now()

    def episode(self) -> MultiAgentEpisode:
        """RLlib's episode of all steps so far."""
        if self._written is None:
            self._written = self._begin()
        for i, (recorder, t, infos) in enumerate(self._steps):
            self._write(self._written, recorder, t, infos, self._seen_before(i + 1))
        self._steps.clear()
        return self._written

    def _begin(self) -> MultiAgentEpisode:
        team = self._layout.team
        spaces: dict[Any, gym.Space] = dict(team.observation_spaces)
        for a in team.masked:
            spaces[a] = space_with_mask(team.observation_spaces[a], self._env.masks[a].shape[1])
        episode = MultiAgentEpisode(
            id_=self.id_,
            observation_space=spaces,
            action_space=team.action_spaces,
            agent_to_module_mapping_fn=lambda agent, _: self._layout.module_of[agent],
        )
        episode.add_env_reset(observations=self._seen_before(0), infos=self._first_infos or {})
        return episode

    def _seen_before(self, i: int) -> dict[AgentID, Any]:
        """What the living saw before the i-th of the steps to write, or see after the last."""
        if i < len(self._steps):
            recorder, t, _ = self._steps[i]
            return recorder.seen(t, self._env_index)
        return self._now() if self._last is None else self._last

    def _now(self) -> dict[AgentID, Any]:
        agents = self._layout.team.agents
        active = self._env.active[self._env_index]
        if self._steps:
            recorder, t, _ = self._steps[-1]
            e = self._env_index
            if recorder.terminated[t, e] or recorder.truncated[t, e]:
                # All who acted in the last step see the end; of those who may return, everybody,
                # as RLlib wants a last observation of whoever has acted.
                active = recorder.active[t, e] | self._layout.team.absences
        acting = [a for a, acts in zip(agents, active, strict=True) if acts]
        return observations_of(self._env, self._env_index, acting)

    def _write(
        self,
        episode: MultiAgentEpisode,
        recorder: Recorder,
        t: int,
        infos: Any,
        following: dict[AgentID, Any],
    ) -> None:
        e = self._env_index
        over = bool(recorder.terminated[t, e]), bool(recorder.truncated[t, e])
        rewards = dict(zip(self._layout.team.agents, recorder.rewards[t, e].tolist(), strict=True))
        actions = recorder.acted(t, e)
        # Who sees nothing more has died, unless it may return. What it saw in dying is not kept;
        # RLlib's rule for that is to repeat the observation before.
        may_return = self._layout.team.absences
        gone = () if may_return else actions.keys() - following.keys()
        ends = dict.fromkeys(gone, True)
        before = recorder.seen(t, e) if ends else {}
        episode.add_env_step(
            observations={**following, **{a: before[a] for a in ends}},
            actions=actions,
            rewards={a: r for a, r in rewards.items() if a in actions or (may_return and r)},
            infos=infos or {},
            terminateds={**ends, "__all__": over[0]},
            truncateds={"__all__": over[1]},
        )
